"""Stages run one at a time or side by side, in processes that end with whoever started them."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import dvc_projects
import numpy as np
import processes
import pytest

from sentiflow.pipeline import recovery, repro, workers
from sentiflow.pipeline.workers import StageError, UnavailableStageError, Workers
from sentiflow.system import process_groups

TOP = Path(__file__).parents[3]
PIPELINE = """
stages:
  split:
    cmd: sh split.sh
    deps: [reviews.txt, split.sh]
    outs: [data/split.txt]
  train:
    foreach: [b, a]
    do:
      cmd: sh train.sh ${item}
      deps: [data/split.txt, train.sh]
      outs: ["models/${item}"]
"""
WATCHING = "import time; from sentiflow.system import process_groups; process_groups.die_with_starter();"
FILES = {
    "dvc.yaml": PIPELINE,
    "reviews.txt": "good\n",
    "split.sh": "mkdir -p data && cp reviews.txt data/split.txt\n",
    "train.sh": "mkdir -p models/$1; echo training $1; cp data/split.txt models/$1/weights\n",
}


@pytest.fixture(scope="module")
def finished_project(tmp_path_factory):
    yield from dvc_projects.finished(tmp_path_factory, FILES)


@pytest.fixture
def project(finished_project, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TOP / "src"))
    return dvc_projects.copy(finished_project, tmp_path, monkeypatch)


@pytest.fixture
def run(project):
    """Runs one stage with fresh workers, and gives its outcome and what was printed."""

    def one(name, *, force=False, seconds=60.0):
        lines = []
        with Workers(1) as of_one:
            return of_one.run(name, force=force, seconds=seconds, log=lines.append), lines

    return one


def sleeping(folder):
    return processes.working_in(folder, "sleep")


def begun(of_one, project):
    """A thread that waits for the stage `split`, which sleeps by now, and a list that gets the failure in which that ends."""
    failures = []

    def one():
        try:
            of_one.run("split", force=False, seconds=60, log=lambda _: None)
        except StageError as error:
            failures.append(str(error))

    thread = threading.Thread(target=one)
    thread.start()
    processes.wait_until(lambda: sleeping(project))
    return thread, failures


def test_plan_is_in_dvcs_order_and_names_what_each_stage_needs_and_makes(project):
    Path("train.sh").write_text("true\n")
    with Workers(1) as of_one:
        plan = of_one.plan()
    assert [stage.name for stage in plan] == list(recovery.lock_entries())
    needs = {stage.name: stage.needs for stage in plan}
    assert needs == {"split": (), "train@b": ("split",), "train@a": ("split",)}
    assert {stage.name: stage.makes for stage in plan}["train@a"] == ("models/a",)
    assert [stage.name for stage in plan if stage.changed] == ["train@b", "train@a"]


def test_stage_is_fresh_then_ran_then_restored(run):
    assert run("train@a")[0].how == "fresh"
    Path("train.sh").write_text(FILES["train.sh"] + "true\n")
    outcome, lines = run("train@a")
    assert outcome.how == "ran"
    assert "training a" in lines
    Path("train.sh").write_text(FILES["train.sh"])
    assert run("train@a")[0].how == "restored"
    assert run("train@a", force=True)[0].how == "ran"


def test_only_the_stage_that_was_asked_for_runs(run):
    Path("reviews.txt").write_text("bad\n")
    assert run("train@a")[0].how == "fresh"
    assert Path("data/split.txt").read_text() == "good\n"


def test_two_stages_run_at_once_and_dvc_lock_is_put_into_dvcs_order(project):
    earlier = recovery.LOCK_FILE.read_bytes()
    # each waits for the other, so one after the other they would never end
    meeting = (
        "touch $1.here; i=0; while [ ! -e a.here -o ! -e b.here ]; do sleep 0.1; i=$((i+1)); [ $i -lt 300 ] || exit 9; done\n"
    )
    slow_b = "[ $1 = a ] || sleep 1\n"
    Path("train.sh").write_text(meeting + slow_b + FILES["train.sh"])
    assert list(recovery.lock_entries()) == ["split", "train@b", "train@a"]
    entries = recovery.LOCK_FILE.read_text().partition("  train@b:")[0]
    recovery.LOCK_FILE.write_text(entries)  # as if neither had ever run
    ended = []
    with Workers(2) as of_two:

        def one(name):
            of_two.run(name, force=False, seconds=60, log=lambda _: None)
            ended.append(name)

        threads = [threading.Thread(target=one, args=(name,)) for name in ("train@b", "train@a")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ended == ["train@a", "train@b"]
        assert list(recovery.lock_entries()) == ["split", "train@a", "train@b"]
        assert of_two.ask("order") is True
        assert of_two.ask("order") is False
    assert list(recovery.lock_entries()) == ["split", "train@b", "train@a"]
    assert recovery.LOCK_FILE.read_bytes() != earlier  # the script's hash
    assert subprocess.run([sys.executable, "-m", "dvc", "status", "-q"]).returncode == 0


def test_each_of_two_gets_half_of_the_cores(project, run):
    Path("split.sh").write_text("echo threads $OMP_NUM_THREADS $TF_NUM_INTRAOP_THREADS; " + FILES["split.sh"])
    lines = []
    with Workers(2) as of_two:
        of_two.run("split", force=False, seconds=60, log=lines.append)
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert f"threads {share} {share}" in lines


def test_failed_stage_is_named_with_its_exit_status(run):
    Path("split.sh").write_text("echo half; exit 3\n")
    with pytest.raises(StageError, match=r"stage 'split' failed: .*exited with 3") as failure:
        run("split")
    assert not isinstance(failure.value, UnavailableStageError)


@pytest.mark.parametrize("command", ["kill -9 $$", "sh -c 'kill -9 $$' || exit $?", "kill -TERM $$"])
def test_stage_that_was_killed_says_by_which_signal_and_what_often_is_behind_it(run, command):
    Path("split.sh").write_text(f"{command}\n")
    with pytest.raises(StageError) as failure:
        run("split")
    number, name = (15, "SIGTERM") if "TERM" in command else (9, "SIGKILL")
    assert f"failed to run: sh split.sh, killed by signal {number} ({name})" in str(failure.value)
    assert ("because memory ran out: close other programs, or lower retrain.side_by_side" in str(failure.value)) == (number == 9)
    assert "exited with" not in str(failure.value)
    assert "is kept" not in str(failure.value)


def test_training_that_was_killed_says_which_epoch_is_kept(run):
    Path(".cache/training").mkdir(parents=True)
    for name, epochs in (("a-0123456789abcdef.npz", 2), ("b-0123456789abcdef.npz", 5)):
        np.savez(f".cache/training/{name}", history=np.array(json.dumps([{"epoch": 1}] * epochs)))
    Path("train.sh").write_text("kill -9 $$\n")
    with pytest.raises(StageError, match=r"\(SIGKILL\), .*; epoch 2 is kept, and the next run resumes after it$"):
        run("train@a")


def test_lines_that_a_refusal_lists_belong_to_the_reason(run):
    Path("split.sh").write_text("echo 'error: 3 labels are not mapped:'; echo '    labels:'; echo '      pos: pos'; exit 1\n")
    with pytest.raises(StageError) as failure:
        run("split")
    assert str(failure.value) == "stage 'split' failed: 3 labels are not mapped:\n    labels:\n      pos: pos"


def test_what_a_stage_refuses_is_the_reason_and_a_timeout_is_one_by_itself(run):
    Path("split.sh").write_text("echo 'error: no file reviews.csv; put it there'; exit 1\n")
    with pytest.raises(StageError, match=r"^stage 'split' failed: no file reviews\.csv; put it there$"):
        run("split")
    Path("split.sh").write_text("echo 'error: something'; sleep 61\n")
    with pytest.raises(StageError, match="so it was terminated"):
        run("split", seconds=2)


def test_stage_that_says_try_again_later_is_told_from_one_that_failed(run):
    Path("split.sh").write_text("exit 75\n")
    with pytest.raises(UnavailableStageError):
        run("split")


def test_unknown_stage_is_an_error_that_names_it(run):
    with pytest.raises(StageError, match="no-such-stage"):
        run("no-such-stage")


def test_stage_that_hangs_is_ended_at_its_time_limit_with_all_it_started(project, run):
    Path("split.sh").write_text("sleep 61 & sleep 62\n")
    with pytest.raises(StageError, match=r"did not finish within 0\.0333 minutes, so it was terminated"):
        run("split", seconds=2)
    assert not processes.working_in(project)


def test_worker_that_is_killed_takes_its_stage_with_it_and_the_next_request_gets_another_one(project):
    Path("split.sh").write_text("sleep 61\n")
    with Workers(1) as of_one:
        thread, failures = begun(of_one, project)
        [worker] = processes.working_in(project, "sentiflow.pipeline.dvc_worker")
        worker.kill()
        thread.join()
        assert "was interrupted" in failures[0]
        assert not processes.working_in(project)
        Path("split.sh").write_text(FILES["split.sh"])
        with recovery.dvc_at_rest():  # removes what the killed one left in DVC's list of readers and writers
            pass
        assert of_one.run("split", force=False, seconds=60, log=lambda _: None).how == "restored"


def test_leaving_ends_a_stage_that_a_thread_waits_for(project):
    Path("split.sh").write_text("sleep 61\n")
    with Workers(1) as of_one:
        thread, failures = begun(of_one, project)
    thread.join(timeout=10)
    assert failures
    assert not processes.working_in(project)
    with pytest.raises(StageError, match="the run is stopping"):
        of_one.ask("plan")


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_a_process_that_is_killed(project, sign):
    Path("split.sh").write_text("sleep 61\n")
    code = (
        "from sentiflow.pipeline.workers import Workers\n"
        "with Workers(1) as w: w.run('split', force=False, seconds=60, log=lambda _: None)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    processes.wait_until(lambda: sleeping(project))
    starter.send_signal(sign)
    starter.wait()
    processes.wait_until(lambda: not processes.working_in(project), seconds=5)


def test_stage_itself_dies_with_whoever_runs_the_pipeline(project):
    """Also where what is between the two, DVC, was killed with it."""
    code = f"{WATCHING} print('up', flush=True); time.sleep(61)"
    starts = (
        "import subprocess, sys, os; from sentiflow.system import process_groups;"
        "own = os.environ | process_groups.of_this_process();"
        "c = subprocess.Popen([sys.executable, '-c', sys.argv[1]], process_group=0, env=own);"
        "c.wait()"
    )
    starter = subprocess.Popen([sys.executable, "-c", starts, code], stdout=subprocess.PIPE, text=True)
    assert starter.stdout.readline() == "up\n"
    starter.kill()
    starter.wait()
    starter.stdout.close()
    processes.wait_until(lambda: not processes.working_in(project), seconds=5)


def test_starter_whose_id_was_given_to_another_process_counts_as_gone(project):
    code = f"{WATCHING} time.sleep(61)"
    started = subprocess.Popen(
        [sys.executable, "-c", code], process_group=0, env=os.environ | {process_groups.STARTER: f"{os.getpid()}:1.0"}
    )
    assert started.wait(timeout=20) == -signal.SIGKILL


def test_process_that_was_started_by_hand_watches_nobody(monkeypatch):
    before = threading.active_count()
    process_groups.die_with_starter({})
    assert threading.active_count() == before


def test_command_hands_on_its_lines_and_gives_its_status():
    lines = []
    assert (
        process_groups.run([sys.executable, "-c", "print('one'); print(); print('two'); raise SystemExit(4)"], lines.append) == 4
    )
    assert lines == ["one", "two"]


def test_command_is_ended_when_what_waits_for_it_ends(project):
    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process_groups.run(["sh", "-c", "echo one; sleep 61"], interrupted)
    assert not processes.working_in(project)


def test_progress_bar_is_handed_on_as_its_last_state_and_a_line_in_pieces_as_one():
    lines = []
    pieces = workers._Lines(lines.append)
    for piece in (b"read ", b"20 rows\n 10%|#\r 50%|##\r100%|###\n\n", "größer".encode()[:3], "größer".encode()[3:]):
        pieces.add(piece)
    pieces.end()
    assert lines == ["read 20 rows", "100%|###", "größer"]


def test_run_that_may_not_wait_is_refused_at_once_and_names_who_is_at_work(project):
    params = (TOP / "params.yaml").read_text()
    Path("params.yaml").write_text(params)
    code = "import time; from sentiflow.pipeline import repro\nwith repro.at_work(): print('up', flush=True); time.sleep(61)"
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "up\n"
        with pytest.raises(repro.locks.BusyError, match=f"process {other.pid} "), repro.at_work(patience=0):
            pass
    finally:
        other.kill()
        other.wait()
        other.stdout.close()

"""Stages run in worker processes, which end with the process that started them."""

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
    """Runs one stage with new workers; returns its outcome and the lines that were printed."""

    def one(name, *, force=False, seconds=60.0):
        lines = []
        with Workers(1) as pool:
            return pool.run(name, force=force, seconds=seconds, log=lines.append), lines

    return one


def sleeping(folder):
    return processes.working_in(folder, "sleep")


def started(pool, project):
    """A thread that runs the stage `split`, which is sleeping, and a list that receives its failure."""
    failures = []

    def one():
        try:
            pool.run("split", force=False, seconds=60, log=lambda _: None)
        except StageError as error:
            failures.append(str(error))

    thread = threading.Thread(target=one)
    thread.start()
    processes.wait_until(lambda: sleeping(project))
    return thread, failures


def test_plan_is_in_dvcs_order_with_needs_and_outputs(project):
    Path("train.sh").write_text("true\n")
    with Workers(1) as pool:
        plan = pool.plan()
    assert [stage.name for stage in plan] == list(recovery.lock_entries())
    needs = {stage.name: stage.needs for stage in plan}
    assert needs == {"split": (), "train@b": ("split",), "train@a": ("split",)}
    assert {stage.name: stage.makes for stage in plan}["train@a"] == ("models/a",)
    assert [stage.name for stage in plan if stage.changed] == ["train@b", "train@a"]


def test_outcome_is_fresh_ran_or_restored(run):
    assert run("train@a")[0].how == "fresh"
    Path("train.sh").write_text(FILES["train.sh"] + "true\n")
    outcome, lines = run("train@a")
    assert outcome.how == "ran"
    assert "training a" in lines
    Path("train.sh").write_text(FILES["train.sh"])
    assert run("train@a")[0].how == "restored"
    assert run("train@a", force=True)[0].how == "ran"


def test_only_the_requested_stage_runs(run):
    Path("reviews.txt").write_text("bad\n")
    assert run("train@a")[0].how == "fresh"
    assert Path("data/split.txt").read_text() == "good\n"


def test_each_pool_gets_half_of_the_cores(project, run):
    Path("split.sh").write_text("echo threads $OMP_NUM_THREADS $TF_NUM_INTRAOP_THREADS; " + FILES["split.sh"])
    lines = []
    with Workers(2) as pool:
        pool.run("split", force=False, seconds=60, log=lines.append)
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert f"threads {share} {share}" in lines


def test_failed_stage_is_named_with_its_exit_status(run):
    Path("split.sh").write_text("echo half; exit 3\n")
    with pytest.raises(StageError, match=r"stage 'split' failed: .*exited with 3") as failure:
        run("split")
    assert not isinstance(failure.value, UnavailableStageError)


@pytest.mark.parametrize("command", ["kill -9 $$", "sh -c 'kill -9 $$' || exit $?", "kill -TERM $$"])
def test_error_of_a_killed_stage_names_the_signal_and_a_likely_cause(run, command):
    Path("split.sh").write_text(f"{command}\n")
    with pytest.raises(StageError) as failure:
        run("split")
    number, name = (15, "SIGTERM") if "TERM" in command else (9, "SIGKILL")
    assert f"failed to run: sh split.sh, killed by signal {number} ({name})" in str(failure.value)
    assert ("because memory ran out: close other programs, or lower retrain.side_by_side" in str(failure.value)) == (number == 9)
    assert "exited with" not in str(failure.value)
    assert "is kept" not in str(failure.value)


def test_error_of_a_killed_training_names_the_epoch_that_is_kept(run):
    Path(".cache/training").mkdir(parents=True)
    for name, epochs in (("a-0123456789abcdef.npz", 2), ("b-0123456789abcdef.npz", 5)):
        np.savez(f".cache/training/{name}", history=np.array(json.dumps([{"epoch": 1}] * epochs)))
    Path("train.sh").write_text("kill -9 $$\n")
    with pytest.raises(StageError, match=r"\(SIGKILL\), .*; epoch 2 is kept, and the next run resumes after it$"):
        run("train@a")


def test_indented_lines_after_an_error_belong_to_the_reason(run):
    Path("split.sh").write_text("echo 'error: 3 labels are not mapped:'; echo '    labels:'; echo '      pos: pos'; exit 1\n")
    with pytest.raises(StageError) as failure:
        run("split")
    assert str(failure.value) == "stage 'split' failed: 3 labels are not mapped:\n    labels:\n      pos: pos"


def test_error_message_of_a_stage_is_the_reason_except_after_a_timeout(run):
    Path("split.sh").write_text("echo 'error: no file reviews.csv; put it there'; exit 1\n")
    with pytest.raises(StageError, match=r"^stage 'split' failed: no file reviews\.csv; put it there$"):
        run("split")
    Path("split.sh").write_text("echo 'error: something'; sleep 61\n")
    with pytest.raises(StageError, match="so it was terminated"):
        run("split", seconds=2)


def test_temporary_failure_of_a_stage_has_its_own_error(run):
    Path("split.sh").write_text("exit 75\n")
    with pytest.raises(UnavailableStageError):
        run("split")


def test_unknown_stage_is_an_error_that_names_it(run):
    with pytest.raises(StageError, match="no-such-stage"):
        run("no-such-stage")


def test_stage_is_terminated_at_its_time_limit_with_all_its_processes(project, run):
    Path("split.sh").write_text("sleep 61 & sleep 62\n")
    with pytest.raises(StageError, match=r"did not finish within 0\.0333 minutes, so it was terminated"):
        run("split", seconds=2)
    assert not processes.working_in(project)


def test_killed_worker_ends_its_stage_and_is_replaced(project):
    Path("split.sh").write_text("sleep 61\n")
    with Workers(1) as pool:
        thread, failures = started(pool, project)
        [worker] = processes.working_in(project, "sentiflow.pipeline.dvc_worker")
        worker.kill()
        thread.join()
        assert "was interrupted" in failures[0]
        assert not processes.working_in(project)
        Path("split.sh").write_text(FILES["split.sh"])
        with recovery.dvc_at_rest():  # removes what the killed one left in DVC's list of readers and writers
            pass
        assert pool.run("split", force=False, seconds=60, log=lambda _: None).how == "restored"


def test_leaving_the_context_ends_a_running_stage(project):
    Path("split.sh").write_text("sleep 61\n")
    with Workers(1) as pool:
        thread, failures = started(pool, project)
    thread.join(timeout=10)
    assert failures
    assert not processes.working_in(project)
    with pytest.raises(StageError, match="the run is stopping"):
        pool.ask("plan")


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_workers_and_stages_die_with_their_process(project, sign):
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


def test_stage_dies_with_the_process_that_runs_the_pipeline(project):
    """Even if DVC, which is between the two, was killed too."""
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


def test_parent_with_a_reused_id_counts_as_dead(project):
    code = f"{WATCHING} time.sleep(61)"
    started = subprocess.Popen(
        [sys.executable, "-c", code], process_group=0, env=os.environ | {process_groups.STARTER: f"{os.getpid()}:1.0"}
    )
    assert started.wait(timeout=20) == -signal.SIGKILL


def test_process_started_by_hand_watches_no_parent(monkeypatch):
    before = threading.active_count()
    process_groups.die_with_starter({})
    assert threading.active_count() == before


def test_command_forwards_its_lines_and_returns_its_status():
    lines = []
    assert (
        process_groups.run([sys.executable, "-c", "print('one'); print(); print('two'); raise SystemExit(4)"], lines.append) == 4
    )
    assert lines == ["one", "two"]


def test_command_ends_with_the_code_that_waits_for_it(project):
    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process_groups.run(["sh", "-c", "echo one; sleep 61"], interrupted)
    assert not processes.working_in(project)


def test_progress_bar_is_logged_as_its_last_state_and_a_split_line_as_one():
    lines = []
    pieces = workers._Lines(lines.append)
    for piece in (b"read ", b"20 rows\n 10%|#\r 50%|##\r100%|###\n\n", "größer".encode()[:3], "größer".encode()[3:]):
        pieces.add(piece)
    pieces.end()
    assert lines == ["read 20 rows", "100%|###", "größer"]


def test_run_that_must_not_wait_fails_at_once_and_names_the_other_process(project):
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

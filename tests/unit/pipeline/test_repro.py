import contextlib
import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from pathlib import Path

import dvc_projects
import guarded
import ports
import processes
import pytest

from sentiflow.pipeline import experiments, isolated_run, recovery, repro
from sentiflow.registry import decision, location, store
from sentiflow.system.errors import InputError

TOP = Path(__file__).parents[3]
PIPELINE = """
stages:
  split:
    cmd: mkdir -p data && cp reviews.txt data/split.txt
    deps: [reviews.txt]
    outs: [data/split.txt]
  train:
    foreach: ${run}
    do:
      cmd: sh train.sh ${key}
      deps: [data/split.txt, train.sh]
      outs: ["models/${key}"]
      metrics:
      - metrics/${key}.json: {cache: false}
  compare:
    cmd: mkdir -p reports && ls metrics > reports/comparison.md
    deps: [metrics]
    metrics:
    - reports/comparison.md: {cache: false}
  publish:
    cmd: mkdir -p mlartifacts && touch mlflow.db && echo again >> published.log && echo {} > mlartifacts/published.json
    deps: [reports/comparison.md]
    outs:
    - mlartifacts/published.json: {cache: false}
"""
TRAIN = "set -e; mkdir -p models/$1 metrics; cat data/split.txt > models/$1/weights; echo 1 > metrics/$1.json\n"
STATUS = [sys.executable, "-m", "dvc", "status", "--json", "train@lstm"]
FAILING = "echo half; exit 3\n"
SLEEPING = "sleep 61\n"
# each waits for the other, so one after the other they would never end
MEETING = (
    "touch $1.here; i=0; until [ -e lstm.here -a -e nb_svm.here ]; do sleep 0.1; i=$((i+1)); [ $i -lt 300 ] || exit 9; done\n"
)


@pytest.fixture(scope="module")
def finished_project(tmp_path_factory):
    """A project of our stages' shape, run once and committed."""
    params = with_run((TOP / "params.yaml").read_text(), {"nb_svm": "nb_svm", "lstm": "recurrent"})
    files = {"params.yaml": params, "dvc.yaml": PIPELINE, "train.sh": TRAIN, "reviews.txt": "good\n"}
    yield from dvc_projects.finished(tmp_path_factory, files)


@pytest.fixture
def project(finished_project, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(TOP / "src"))
    return dvc_projects.copy(finished_project, tmp_path, monkeypatch)


@pytest.fixture
def start(project):
    """Starts `sentiflow repro`'s command in a session of its own; whatever of it is left at the end of the test is killed."""
    started = []

    def begin(*arguments):
        command = [sys.executable, "-m", "sentiflow", "repro", *arguments]
        with processes.heeding_signals():
            started.append(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
            )
        return started[-1]

    yield begin
    processes.kill(processes.working_in(project))
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def run_repro(*arguments):
    return subprocess.run([sys.executable, "-m", "sentiflow", "repro", *arguments], capture_output=True, text=True)


def with_run(text, networks):
    return isolated_run.with_changes(text, {"run": networks})


def change(path, text):
    Path(path).write_text(text)


def stage_that_sleeps():
    return processes.working_in(Path.cwd(), "sleep")


def contents():
    """Every output of the project and what it holds."""
    return {
        str(f): f.read_text() for name in ("data", "models", "metrics", "reports") for f in Path(name).rglob("*") if f.is_file()
    }


def test_run_with_nothing_to_do_prints_the_comparison(project):
    ran = run_repro()
    assert ran.returncode == 0, ran.stderr
    assert "nb_svm.json" in ran.stdout
    assert ran.stdout.index("up to date") < ran.stdout.index("Report: reports/comparison.md") < ran.stdout.index("sentiflow ui")
    assert ran.stderr == ""
    assert not repro.BEFORE.exists()


def test_a_target_runs_alone_and_force_runs_it_again(project):
    change("reviews.txt", "bad\n")
    ran = run_repro("split", "--force")
    assert ran.returncode == 0
    assert "train" not in ran.stdout
    assert Path("data/split.txt").read_text() == "bad\n"


def test_python_in_a_stage_is_that_of_the_environment_even_if_it_is_not_activated(project, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    change("train.sh", TRAIN + "command -v python > models/$1/python\n")
    assert run_repro("train@lstm").returncode == 0
    assert Path("models/lstm/python").read_text().strip() == str(Path(sys.executable).parent / "python")


def test_invalid_params_are_rejected_without_a_traceback_before_any_work(project):
    change("params.yaml", Path("params.yaml").read_text().replace("seed:", "sead:"))
    change("reviews.txt", "bad\n")
    ran = run_repro()
    assert ran.returncode == 1
    assert "sead" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert Path("data/split.txt").read_text() == "good\n"


@pytest.mark.parametrize(
    ("missing", "advice"), [("dvc.yaml", "top folder"), (".dvc", "git clone"), ("params.yaml", "top folder")]
)
def test_incomplete_project_is_rejected_with_the_next_step(project, missing, advice):
    Path(missing).rename("elsewhere")
    with pytest.raises(InputError, match=advice):
        repro.run()


def test_copy_without_git_works_and_the_changed_setting_is_logged(project):
    shutil.rmtree(".git")
    change("reviews.txt", "bad\n")
    ran = run_repro()
    assert ran.returncode == 0, ran.stderr
    assert "core.no_scm" in ran.stderr
    assert Path("models/lstm/weights").read_text() == "bad\n"


def test_settings_of_the_user_stay_in_a_copy_without_git(project, caplog):
    shutil.rmtree(".git")
    change(".dvc/config.local", "['remote \"team\"']\n    url = ../../store\n    unheard_of = kept\n")
    repro._check_project()
    repro._check_project()
    settings = Path(".dvc/config.local").read_text()
    assert "url = ../../store" in settings
    assert "unheard_of = kept" in settings
    assert "no_scm = true" in settings.lower()
    assert len(caplog.records) == 1


def test_failed_stage_is_named_and_earlier_outputs_are_restored(project):
    earlier = contents()
    change("train.sh", FAILING)
    ran = run_repro()
    assert ran.returncode == 1
    assert re.search(r"error: stage 'train@\w+' failed", ran.stderr)
    assert "models/" in ran.stderr.splitlines()[-1]
    assert "sentiflow repro" in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr
    assert contents() == earlier
    assert not repro.BEFORE.exists()

    change("train.sh", TRAIN + "echo more >> models/$1/weights\n")
    assert run_repro().returncode == 0
    assert Path("models/lstm/weights").read_text() == "good\nmore\n"


def test_independent_stages_run_in_parallel_and_dvc_lock_is_in_dvcs_order(project):
    change("train.sh", MEETING + "[ $1 = lstm ] || sleep 1\n" + TRAIN)
    order = list(recovery.lock_entries())
    assert order[:3] == ["split", "train@nb_svm", "train@lstm"]
    change("dvc.lock", Path("dvc.lock").read_text().partition("  train@nb_svm:")[0])  # as if the others had never run
    ran = run_repro()
    assert ran.returncode == 0, ran.stderr
    assert list(recovery.lock_entries()) == order
    assert re.search("^train@nb_svm | > sh train.sh nb_svm$", ran.stdout, re.MULTILINE)
    assert "1 of 5 stages are up to date" in ran.stdout


def test_running_stage_completes_after_a_failure_and_no_other_starts(project):
    change("train.sh", MEETING + "[ $1 = lstm ] || exit 3; sleep 1\n" + TRAIN + "echo more >> models/$1/weights\n")
    ran = run_repro()
    assert ran.returncode == 1
    assert "still running: train@lstm" in ran.stdout
    assert "Running stage 'compare'" not in ran.stdout
    assert ran.stderr.startswith("error: stage 'train@nb_svm' failed: failed to run: sh train.sh nb_svm, exited with 3")
    assert Path("models/lstm/weights").read_text() == "good\nmore\n"
    change("train.sh", Path("train.sh").read_text().replace("exit 3", "true"))
    again = run_repro()
    assert "Running stage 'train@nb_svm'" in again.stdout
    assert Path("models/nb_svm/weights").read_text() == "good\nmore\n"


def test_progress_bar_of_a_stage_is_shown_in_a_terminal_and_only_there(project):
    change("train.sh", "[ -t 2 ] && printf ' 10%%|#\\r' >&2 && sleep 0.5 && printf ' 50%%|###\\r' >&2 && sleep 0.5\n" + TRAIN)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    run = subprocess.Popen([sys.executable, "-m", "sentiflow", "repro", "train@lstm"], stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's last process has ended
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    assert run.wait() == 0
    assert b"train@lstm | 10%|#" in shown
    assert b"train@lstm | 50%|###" in shown
    assert "%|" not in run_repro("train@nb_svm").stdout


def test_outputs_of_a_failed_stage_are_not_overwritten(project):
    change("train.sh", "mkdir -p models/$1; echo new > models/$1/weights; exit 3\n")
    with pytest.raises(repro.RunError, match=r"stage 'train@lstm' failed: .*exited with 3"):
        repro.run(["train@lstm"])
    assert Path("models/lstm/weights").read_text() == "new\n"
    assert Path("metrics/lstm.json").read_text() == "1\n"


def test_rejected_credentials_are_reported_before_anything_runs(project, monkeypatch):
    change("train.sh", TRAIN + "true\n")
    earlier = contents()
    with guarded.server() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        refused = run_repro()
        trained = run_repro("train@lstm")  # which publishes nothing
        change("train.sh", TRAIN)
        repaired = run_repro("compare")
    assert refused.returncode == 1
    assert f"MLflow's server at {address}: authentication failed" in refused.stderr
    assert "MLFLOW_TRACKING_PASSWORD" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "Running stage" not in refused.stdout
    assert trained.returncode == repaired.returncode == 0
    assert {path: text for path, text in contents().items() if not path.startswith("mlartifacts")} == earlier


@pytest.fixture(scope="module")
def made_elsewhere(tmp_path_factory):
    """The file of a store of MLflow's, of a folder that is gone."""
    folder = tmp_path_factory.mktemp("made") / "project"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        store.connect()
    file = shutil.move(folder / "mlflow.db", folder.with_name("mlflow.db"))
    folder.rmdir()
    return file, folder


def test_store_of_a_moved_project_is_updated_even_if_nothing_is_stale(project, made_elsewhere):
    file, folder = made_elsewhere
    shutil.copy(file, "mlflow.db")
    ran = run_repro()
    assert ran.returncode == 0, ran.stderr
    assert f"the MLflow store was made in {folder}; its artifact locations now point to {project}\n" in ran.stderr
    assert "Running stage" not in ran.stdout
    assert not folder.exists()
    assert run_repro().stderr == ""


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "mysql://ann:secret@127.0.0.1/mlflow"])
def test_unsupported_store_is_rejected_before_anything_runs(project, monkeypatch, uri):
    change("reviews.txt", "bad\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    ran = run_repro()
    assert ran.returncode == 1
    assert re.fullmatch(r"error: MLFLOW_TRACKING_URI: expected sqlite:///FILE, .*, got .*; unset it to use .*\n", ran.stderr)
    assert "secret" not in ran.stderr
    assert "Running stage" not in ran.stdout


def test_database_of_another_version_of_mlflow_is_rejected_before_anything_runs(project, made_elsewhere):
    shutil.copy(made_elsewhere[0], "mlflow.db")
    with contextlib.closing(sqlite3.connect("mlflow.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        database.commit()
    change("reviews.txt", "bad\n")
    ran = run_repro()
    assert ran.returncode == 1
    assert "error: MLflow's store at sqlite:///mlflow.db was written by a newer MLflow than " in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "Running stage" not in ran.stdout


def test_server_that_does_not_answer_is_logged_and_the_run_continues(project, monkeypatch):
    change("train.sh", TRAIN + "true\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{ports.free()}")
    ran = run_repro()
    assert ran.returncode == 0, ran.stderr  # the stage that publishes is a mere script here
    assert "does not answer" in ran.stderr
    assert "the run continues, and needs the store when it publishes" in ran.stderr


def test_unknown_target_is_reported_with_dvcs_message(project):
    ran = run_repro("tarin")
    assert ran.returncode == 1
    assert re.match("error: reading dvc.yaml failed: .*'tarin'", ran.stderr)
    assert "Traceback" not in ran.stderr


def test_next_run_recovers_from_a_run_that_was_killed_with_all_its_processes(project, start):
    earlier = contents()
    change("train.sh", SLEEPING)
    run = start("train@lstm")
    processes.wait_until(stage_that_sleeps)
    processes.kill(processes.working_in(project))
    run.wait()
    assert not Path("models/lstm").exists()

    change("train.sh", TRAIN)
    ran = run_repro()
    assert ran.returncode == 0, ran.stderr
    assert "restored what a killed run had removed" in ran.stderr
    assert "which has ended, from .dvc/tmp/rwlock" in ran.stderr
    assert contents() == earlier


def test_killed_worker_leaves_no_stage_running_and_the_outputs_are_restored(project, start):
    earlier = contents()
    change("train.sh", SLEEPING)
    run = start("train@lstm")
    processes.wait_until(stage_that_sleeps)
    [worker] = processes.working_in(project, "sentiflow.pipeline.dvc_worker")
    worker.kill()
    output, _ = run.communicate(timeout=20)
    assert run.returncode == 1
    assert "stage 'train@lstm' was interrupted" in output
    assert not processes.working_in(project)
    assert contents() == earlier


@pytest.mark.parametrize(("sign", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_stopped_run_leaves_no_process_and_restores_earlier_outputs(project, start, sign, status):
    earlier = contents()
    change("train.sh", SLEEPING)
    run = start("train@lstm")
    processes.wait_until(stage_that_sleeps)
    run.send_signal(sign)
    output, _ = run.communicate(timeout=20)
    assert run.returncode == status
    assert f"stopped by {sign.name}" in output
    assert "Traceback" not in output
    assert not processes.working_in(project)
    assert contents() == earlier
    with recovery.dvc_at_rest():  # DVC had the time to let its locks go
        assert json.loads(recovery.TMP.joinpath("rwlock").read_text()).get("write", {}) == {}


def test_second_ctrl_c_ends_a_stage_that_ignores_the_first(project, start):
    change("train.sh", f"trap '' INT TERM; {SLEEPING}")
    run = start("train@lstm")
    processes.wait_until(stage_that_sleeps)
    run.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert stage_that_sleeps()
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=4)
    assert run.returncode == 130
    assert not processes.working_in(project)


def test_second_run_waits_for_the_first_and_names_its_process(project, start):
    change("train.sh", "sleep 2.5; " + TRAIN)
    first = start("train@lstm")
    processes.wait_until(stage_that_sleeps)
    second = start("train@lstm")
    output, _ = second.communicate(timeout=30)
    assert second.returncode == 0
    assert f"waiting for process {first.pid}" in output
    assert "up to date" in output
    first.communicate()
    assert first.returncode == 0


def test_model_removed_from_run_is_no_longer_compared(project):
    change("params.yaml", with_run(Path("params.yaml").read_text(), {"nb_svm": "nb_svm"}))
    ran = run_repro()
    assert ran.returncode == 0, ran.stderr
    assert "removed models/lstm" in ran.stderr
    assert Path("reports/comparison.md").read_text() == "nb_svm.json\n"


def test_model_added_again_is_restored_from_dvcs_run_cache(project):
    every = Path("params.yaml").read_text()
    change("params.yaml", with_run(every, {"nb_svm": "nb_svm"}))
    with recovery.dvc_at_rest():
        recovery.remove_leftovers()
    change("params.yaml", every)
    ran = run_repro()
    assert "Stage 'train@lstm' is cached" in ran.stdout
    assert "Running stage" not in ran.stdout
    assert Path("models/lstm/weights").exists()


def test_truncated_dvc_lock_is_restored_and_nothing_runs_again(project):
    whole = Path("dvc.lock").read_bytes()
    Path("dvc.lock").write_bytes(whole[:300])
    ran = run_repro()
    assert ran.returncode == 0, ran.stderr
    assert "restored the one of git's last commit" in ran.stderr
    assert "Running stage" not in ran.stdout
    assert Path("dvc.lock").read_bytes() == whole


def test_dvc_lock_truncated_by_a_run_is_restored_from_before_the_run(project):
    """It is not git's, which may be older, and every output that DVC had removed is back too."""
    change("reviews.txt", "poor\n")
    assert run_repro().returncode == 0
    before, earlier = Path("dvc.lock").read_bytes(), contents()
    change("train.sh", ": > dvc.lock\nexit 3\n")
    ran = run_repro()
    assert ran.returncode == 1
    assert "dvc.lock was empty: restored the one from before the run" in ran.stderr
    assert Path("dvc.lock").read_bytes() == before
    assert contents() == earlier


def test_full_disk_while_dvc_caches_is_reported_and_the_run_resumes_when_there_is_space(project, tmp_path):
    """The stage ends well; what DVC takes into its cache, on another disk here, has no room there."""
    (tmp_path / "small").mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(tmp_path / "small")]
    if (mounted := subprocess.run(mounting, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"mounting a disk that can be filled is not permitted here: {mounted.stderr.strip()}")
    try:
        Path(".dvc/config.local").write_text(f"[cache]\n    dir = {tmp_path / 'small'}\n")
        change("train.sh", TRAIN + "head -c 200000 /dev/zero >> models/$1/weights\n")
        ran = run_repro("train@lstm")
        assert ran.returncode == 1
        assert "the disk is full. Free some space, then `sentiflow repro` resumes" in ran.stderr.splitlines()[-1]
        assert "Traceback" not in ran.stderr
        subprocess.run(["mount", "-o", "remount,size=10m", str(tmp_path / "small")], check=True)
        assert run_repro("train@lstm").returncode == 0
        assert json.loads(subprocess.run(STATUS, capture_output=True, check=True).stdout) == {}
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path / "small")], check=True)


def test_lost_tracking_database_makes_dvc_publish_again(project):
    Path("mlflow.db").unlink()
    ran = run_repro()
    assert ran.returncode == 0, ran.stderr
    assert "mlflow.db is missing" in ran.stderr
    assert Path("published.log").read_text() == "again\nagain\n"


def test_experiment_does_not_count_as_published(project, monkeypatch, caplog):
    assert not experiments.skip(repro.PUBLISHED[0])
    monkeypatch.setenv("DVC_EXP_NAME", "c4")
    assert experiments.skip(repro.PUBLISHED[0])
    repro.forget_publication()
    assert not any(note.exists() for note in repro.PUBLISHED)
    assert "the last results are of an experiment" in caplog.text


def test_store_is_queried_only_if_it_has_changed_since_the_last_run(project, caplog):
    Path("mlflow.db").unlink()
    store.connect()  # a store that has nothing of what the note says
    repro.PUBLISHED[0].write_text('{"keys": {"nb_svm": "a", "comparison": "b"}}')
    with repro.at_work():
        pass
    assert not repro.PUBLISHED[0].exists(), "it was written to since the run before"
    assert "were deleted in MLflow" in caplog.text

    repro.PUBLISHED[0].write_text('{"keys": {"nb_svm": "a", "comparison": "b"}}')
    repro.STORE.write_text(repro._store())
    repro.forget_publication()
    assert repro.PUBLISHED[0].exists()
    os.utime("mlflow.db")
    repro.forget_publication()
    assert not repro.PUBLISHED[0].exists()


def test_missing_default_store_does_not_matter_if_another_store_is_set(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    Path("mlflow.db").unlink()
    repro.STORE.unlink(missing_ok=True)  # as a run left it that did not know of it yet
    repro.forget_publication()
    assert repro.PUBLISHED[0].exists()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:///mlflow.db", "MLflow UI: sentiflow ui"),
        ("postgresql://user:secret@127.0.0.1/store", "MLflow UI: sentiflow ui"),
        ("https://user:secret@mlflow.example/", "MLflow UI: https://mlflow.example"),
    ],
)
def test_summary_has_the_mlflow_ui_without_credentials(project, monkeypatch, uri, expected):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    location.COMPARISON.unlink(missing_ok=True)
    assert repro.summary().splitlines()[-1] == expected
    location.COMPARISON.parent.mkdir(exist_ok=True)
    location.COMPARISON.write_text("#/compare-runs?runs=%5B%22a%22%5D&experiments=%5B%221%22%5D\n")
    server = "https://mlflow.example" if uri.startswith("https") else "http://127.0.0.1:5000"
    page = f"{server}/#/compare-runs?runs=%5B%22a%22%5D&experiments=%5B%221%22%5D"
    assert repro.summary().splitlines()[-2:] == [expected, f"Compare these models there: {page}"]


def test_decision_page_is_written_again_only_if_report_notes_or_store_have_changed(project, monkeypatch):
    for file in (location.REPORT, *repro.PUBLISHED):
        file.parent.mkdir(exist_ok=True)
        file.write_text('{"keys": {}}')
    repro.STORE.write_text(repro._store())
    written = []
    monkeypatch.setattr(decision, "write", lambda: written.append(location.DECISION.write_text("page")))

    def runs_that_write_it(at):
        """Number of times that two runs write the page, which gets this modification time."""
        before = len(written)
        for _ in range(2):
            with repro.at_work():
                pass
            os.utime(location.DECISION, (at, at))
        return len(written) - before

    assert runs_that_write_it(2e9) == 1
    for at, changed in ((3e9, location.REPORT), (4e9, repro.PUBLISHED[1])):
        os.utime(changed, (at, at))
        assert runs_that_write_it(at) == 1


def test_another_store_than_in_the_last_run_makes_dvc_publish_again(project, monkeypatch):
    assert "Running stage" not in run_repro().stdout
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:5000")
    ran = run_repro()
    assert ran.returncode == 0, ran.stderr
    assert "names another store than before" in ran.stderr
    assert Path("published.log").read_text() == "again\nagain\n"
    assert "secret" not in repro.STORE.read_text()
    assert "Running stage" not in run_repro().stdout

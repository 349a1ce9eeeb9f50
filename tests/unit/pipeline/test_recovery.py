import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import dvc_projects
import pytest
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils.serialize import parse_yaml

from sentiflow.pipeline import recovery
from sentiflow.system import locks
from sentiflow.system.errors import InputError

RWLOCK = Path(".dvc/tmp/rwlock")
PIPELINE = """
stages:
  split:
    cmd: mkdir -p data && cp reviews.txt data/split.txt
    deps: [reviews.txt]
    outs: [data/split.txt]
  train:
    foreach: [nb_svm, lstm]
    do:
      cmd: sh train.sh ${item}
      deps: [data/split.txt]
      outs: ["models/${item}"]
      metrics:
      - metrics/${item}/score.json: {cache: false}
"""
TRAIN = "mkdir -p models/$1 metrics/$1; echo $1 > models/$1/weights; echo $1 > models/$1/words; echo 1 > metrics/$1/score.json\n"


@pytest.fixture(scope="module")
def finished_project(tmp_path_factory):
    """Two models trained, everything committed."""
    yield from dvc_projects.finished(tmp_path_factory, {"dvc.yaml": PIPELINE, "train.sh": TRAIN, "reviews.txt": "good\n"})


@pytest.fixture
def project(finished_project, tmp_path, monkeypatch):
    return dvc_projects.copy(finished_project, tmp_path, monkeypatch)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "PATIENCE", 0.3)
    return tmp_path


@pytest.fixture
def start():
    """Starts processes that live until the test ends."""
    started = []

    def begin(*command, **options):
        started.append(subprocess.Popen(command, **options))
        time.sleep(0.1)
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def sleeping_python(start, **options):
    return start(sys.executable, "-c", "import time; time.sleep(60)", **options)


def entry(pid):
    return {"pid": pid, "cmd": "dvc repro"}


def put_at_rest():
    with recovery.dvc_at_rest():
        pass


@pytest.mark.parametrize("content", ["", "{", '{"write": {"a": {"pid": 1', "[]", "null", '{"write": {"a": 3}}', "\0\0\0"])
def test_empty_or_truncated_rwlock_of_a_killed_run_is_removed_and_logged(folder, content, caplog):
    RWLOCK.write_text(content)
    put_at_rest()
    assert not RWLOCK.exists()
    assert "removed .dvc/tmp/rwlock" in caplog.text


def test_broken_rwlock_stays_while_a_dvc_process_of_this_project_is_running(folder, start):
    RWLOCK.write_text("")
    start(sys.executable, "-c", "import time; time.sleep(60)", "dvc", "repro", cwd=folder)
    with pytest.raises(InputError, match="at work in this project"):
        put_at_rest()
    assert RWLOCK.exists()


def test_broken_rwlock_is_removed_while_a_dvc_process_of_another_project_is_running(folder, start, tmp_path_factory):
    RWLOCK.write_text("")
    start(sys.executable, "-c", "import time; time.sleep(60)", "dvc", "repro", cwd=tmp_path_factory.mktemp("other"))
    put_at_rest()
    assert not RWLOCK.exists()


def test_entries_of_a_dead_process_are_removed_and_the_process_is_logged(folder, caplog):
    dead = subprocess.Popen(["true"])
    dead.wait()
    RWLOCK.write_text(json.dumps({"write": {"/a": entry(dead.pid)}, "read": {"/b": [entry(dead.pid)]}}))
    put_at_rest()
    assert json.loads(RWLOCK.read_text()) == {"write": {}, "read": {}}
    assert f"process {dead.pid} (dvc repro), which has ended" in caplog.text


def test_entries_of_a_zombie_process_are_removed(folder, start):
    dead = start("true")
    RWLOCK.write_text(json.dumps({"write": {"/a": entry(dead.pid)}}))
    put_at_rest()
    assert json.loads(RWLOCK.read_text())["write"] == {}


def test_entries_with_the_reused_id_of_a_younger_process_are_removed(folder, start):
    RWLOCK.write_text(json.dumps({"write": {"/a": entry(sleeping_python(start).pid)}}))
    os.utime(RWLOCK, (time.time() - 3600,) * 2)
    put_at_rest()
    assert json.loads(RWLOCK.read_text())["write"] == {}


def test_entries_with_the_reused_id_of_another_program_are_removed(folder, start):
    RWLOCK.write_text(json.dumps({"write": {"/a": entry(start("sleep", "60").pid)}}))
    put_at_rest()
    assert json.loads(RWLOCK.read_text())["write"] == {}


def test_entries_of_a_run_in_the_folder_from_which_this_one_was_copied_are_removed(folder, start, tmp_path_factory):
    there = sleeping_python(start, cwd=tmp_path_factory.mktemp("original"))
    RWLOCK.write_text(json.dumps({"write": {"/original/a": entry(there.pid)}}))
    put_at_rest()
    assert json.loads(RWLOCK.read_text())["write"] == {}
    assert there.poll() is None


def test_entries_of_a_running_process_stay_and_the_process_is_waited_for(folder, start, caplog):
    holder = sleeping_python(start).pid
    dead = subprocess.Popen(["true"])
    dead.wait()
    RWLOCK.write_text(json.dumps({"write": {"/a": entry(holder)}, "read": {"/b": [entry(dead.pid), entry(holder)]}}))
    with pytest.raises(InputError, match=rf"process {holder} \(dvc repro\) has been at work"):
        put_at_rest()
    assert json.loads(RWLOCK.read_text()) == {"write": {"/a": entry(holder)}, "read": {"/b": [entry(holder)]}}
    assert f"waiting for process {holder}" in caplog.text


def test_the_wait_ends_with_the_process_waited_for(folder, start, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 30.0)
    holder = start(sys.executable, "-c", "import time; time.sleep(0.6)")
    RWLOCK.write_text(json.dumps({"write": {"/a": entry(holder.pid)}}))
    put_at_rest()
    assert json.loads(RWLOCK.read_text())["write"] == {}


def test_lock_held_by_another_process_is_waited_for(folder, start):
    hold = "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); time.sleep(60)"
    Path(".dvc/tmp/lock").write_text(f" {os.getpid()}\n")
    start(sys.executable, "-c", hold, ".dvc/tmp/lock")
    time.sleep(0.2)
    with pytest.raises(InputError, match=f"process {os.getpid()}"):
        put_at_rest()


def test_intact_dvc_lock_is_not_changed(project, caplog):
    before = Path("dvc.lock").read_bytes()
    recovery.repair_lock_file()
    assert Path("dvc.lock").read_bytes() == before
    assert not Path("dvc.lock.broken").exists()
    assert not caplog.records


def test_dvc_lock_truncated_at_any_byte_is_restored_or_readable_by_dvc(project):
    whole = Path("dvc.lock").read_bytes()
    for end in range(0, len(whole), 37):
        Path("dvc.lock").write_bytes(whole[:end])
        recovery.repair_lock_file()
        left = Path("dvc.lock").read_bytes()
        assert left in (whole, whole[:end])
        COMPILED_LOCKFILE_SCHEMA(parse_yaml(left.decode(), "dvc.lock"))


def test_broken_dvc_lock_is_kept_next_to_the_restored_one(project, caplog):
    conflict = "<<<<<<< ours\nstages: {}\n=======\n"
    Path("dvc.lock").write_text(conflict)
    recovery.repair_lock_file()
    assert Path("dvc.lock.broken").read_text() == conflict
    assert "git's last commit" in caplog.text


def test_broken_dvc_lock_that_is_not_in_git_is_moved_away(project, caplog):
    shutil.rmtree(".git")
    Path("dvc.lock").write_text("")
    recovery.repair_lock_file()
    assert not Path("dvc.lock").exists()
    assert Path("dvc.lock.broken").exists()
    assert "dvc.lock was empty and git has none" in caplog.text


def without_lstm():
    Path("dvc.yaml").write_text(PIPELINE.replace("[nb_svm, lstm]", "[nb_svm]"))
    recovery.remove_leftovers()


def test_nothing_is_removed_while_every_stage_is_in_the_pipeline(project):
    before = Path("dvc.lock").read_bytes()
    recovery.remove_leftovers()
    assert Path("dvc.lock").read_bytes() == before
    assert Path("models/lstm/weights").exists()


def test_outputs_of_a_removed_model_are_removed_and_those_of_the_others_stay(project, caplog):
    without_lstm()
    assert not Path("models/lstm").exists()
    assert not Path("metrics/lstm").exists()
    assert Path("models/nb_svm/weights").exists()
    assert Path("metrics/nb_svm/score.json").exists()
    assert list(recovery.lock_entries()) == ["split", "train@nb_svm"]
    assert "removed models/lstm" in caplog.text


def test_removing_leftovers_changes_no_other_byte_of_dvc_lock(project):
    whole = Path("dvc.lock").read_text()
    without_lstm()
    start = whole.index("  train@lstm:")
    end = whole.find("\n  train@nb_svm:", start) + 1 or len(whole)
    assert Path("dvc.lock").read_text() == whole[:start] + whole[end:]


def test_leftover_that_the_user_changed_is_kept_and_logged(project, caplog):
    Path("models/lstm/weights").write_text("mine")
    without_lstm()
    assert Path("models/lstm/weights").read_text() == "mine"
    assert not Path("metrics/lstm").exists()
    assert "kept models/lstm" in caplog.text


def test_output_of_a_renamed_stage_stays_with_its_new_stage(project):
    Path("dvc.yaml").write_text(PIPELINE.replace("  split:", "  divide:"))
    recovery.remove_leftovers()
    assert Path("data/split.txt").exists()
    assert "split" not in recovery.lock_entries()


def test_output_that_another_stage_still_reads_stays(project):
    Path("dvc.yaml").write_text(PIPELINE[: PIPELINE.index("  split:")] + "\n" + PIPELINE[PIPELINE.index("  train:") :])
    recovery.remove_leftovers()
    assert Path("data/split.txt").exists()


def test_invalid_dvc_yaml_removes_nothing(project):
    Path("dvc.yaml").write_text("stages:\n  split: {cmdd: no}\n")
    recovery.remove_leftovers()
    assert Path("models/lstm/weights").exists()
    assert "train@lstm" in recovery.lock_entries()

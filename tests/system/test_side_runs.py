"""A side run beside the main job, in a fresh clone, on a small sample with architectures that train in a second."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sentiflow import repair, side

PROJECT = Path(__file__).parents[2]
SIDE = """
from sentiflow import side
with side.errors_told(), side.running("two", {"run": ["nb_svm", "logistic"]}, again="this", targets=["evaluate"]):
    pass
"""


def run(command, folder, **environment):
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The project as it stands in this folder, as a git repository of its own, of whose architectures one has run."""
    folder = tmp_path_factory.mktemp("clone")
    known = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], PROJECT).stdout.splitlines()
    for name in known:
        if (PROJECT / name).is_file() and name != "dvc.lock" and not name.startswith(("metrics/", "reports/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    (folder / "data/external").mkdir(parents=True, exist_ok=True)
    change(folder, {"run": ["nb_svm"], "download.source": "package", "download.sample": 240})
    run(["git", "init", "--quiet"], folder)
    main_run(folder, "evaluate")
    run(["git", "add", "."], folder)
    run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "start"], folder)
    return folder


@pytest.fixture(scope="module")
def side_run(clone):
    return run([sys.executable, "-c", SIDE], clone, PYTHONPATH=str(clone / "src"))


def change(folder, changes):
    file = folder / "params.yaml"
    file.write_text(side.with_changes(file.read_text(encoding="utf-8"), changes), encoding="utf-8")


def main_run(folder, *targets):
    return run([sys.executable, "-m", "sentiflow.pipeline", *targets], folder, PYTHONPATH=str(folder / "src"))


def test_what_the_main_run_trained_is_restored_and_the_rest_is_trained(side_run):
    for stage in ("train", "evaluate"):
        assert f"Stage '{stage}@nb_svm' is cached - skipping run" in side_run.stdout
        assert f"Running stage '{stage}@logistic'" in side_run.stdout


def test_the_main_runs_files_are_as_they_were(side_run, clone):
    assert run(["git", "status", "--porcelain", "--untracked-files=all"], clone).stdout == ""
    assert not (clone / "models/logistic").exists()
    assert "Running stage" not in main_run(clone, "evaluate").stdout


def test_second_side_run_does_nothing(side_run, clone):
    lock = (clone / ".cache/side/two/dvc.lock").read_bytes()
    again = run([sys.executable, "-c", SIDE], clone, PYTHONPATH=str(clone / "src"))
    assert "Running stage" not in again.stdout
    assert "up to date" in again.stdout
    assert (clone / ".cache/side/two/dvc.lock").read_bytes() == lock


def test_the_main_run_restores_later_what_the_side_run_trained(side_run, clone):
    change(clone, {"run": ["nb_svm", "logistic"]})
    later = main_run(clone, "evaluate")
    for stage in ("train", "evaluate"):
        assert f"Stage '{stage}@logistic' is cached - skipping run" in later.stdout
        recorded = [repair.lock_entries(clone / top / "dvc.lock")[f"{stage}@logistic"] for top in (".", ".cache/side/two")]
        assert recorded[0] == recorded[1]

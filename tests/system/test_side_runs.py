"""A side run next to the main job, in a fresh clone, on a small sample with models that train in a second."""

import sys

import pytest
from clones import change, commit, fresh, run

from sentiflow.pipeline import recovery

pytestmark = pytest.mark.slow  # whole runs: `make test-runs`
SIDE = """
from sentiflow.pipeline import isolated_run
from sentiflow.system import entry_point
changes = {"run": {"nb_svm": "nb_svm", "logistic": "logistic"}}
with entry_point.handled(), isolated_run.running("two", changes, again="this", targets=["evaluate"]):
    pass
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone of whose models one has run, its results committed."""
    changes = {"run": {"nb_svm": "nb_svm"}, "download.source": "package", "download.sample": 240}
    folder = fresh(tmp_path_factory.mktemp("clone"), changes)
    (folder / "data/external").mkdir(parents=True, exist_ok=True)
    main_run(folder, "evaluate")
    commit(folder)
    return folder


@pytest.fixture(scope="module")
def side_run(clone):
    return run([sys.executable, "-c", SIDE], clone, PYTHONPATH=str(clone / "src"))


def main_run(folder, *targets):
    return run([sys.executable, "-m", "sentiflow", "repro", *targets], folder, PYTHONPATH=str(folder / "src"))


def test_what_the_main_run_trained_is_restored_and_the_rest_is_trained(side_run):
    for stage in ("train", "evaluate"):
        assert f"Stage '{stage}@nb_svm' is cached - skipping run" in side_run.stdout
        assert f"Running stage '{stage}@logistic'" in side_run.stdout


def test_the_main_runs_files_are_as_they_were(side_run, clone):
    assert run(["git", "status", "--porcelain", "--untracked-files=all"], clone).stdout == ""
    assert not (clone / "models/logistic").exists()
    assert "Running stage" not in main_run(clone, "evaluate").stdout


def test_second_isolated_run_does_nothing(side_run, clone):
    lock = (clone / ".cache/side/two/dvc.lock").read_bytes()
    again = run([sys.executable, "-c", SIDE], clone, PYTHONPATH=str(clone / "src"))
    assert "Running stage" not in again.stdout
    assert "up to date" in again.stdout
    assert (clone / ".cache/side/two/dvc.lock").read_bytes() == lock


def test_the_main_run_restores_later_what_the_side_run_trained(side_run, clone):
    change(clone, {"run": {"nb_svm": "nb_svm", "logistic": "logistic"}})
    later = main_run(clone, "evaluate")
    for stage in ("train", "evaluate"):
        assert f"Stage '{stage}@logistic' is cached - skipping run" in later.stdout
        recorded = [recovery.lock_entries(clone / top / "dvc.lock")[f"{stage}@logistic"] for top in (".", ".cache/side/two")]
        assert recorded[0] == recorded[1]

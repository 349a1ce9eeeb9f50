"""Fresh clones of the project in this folder, run as a user runs them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from sentiflow.pipeline import isolated_run

PROJECT = Path(__file__).parents[1]
LINEAR = {  # values of params.yaml for a run that takes a minute
    "download.source": "package",
    "download.sample": 240,
    "run": {"nb_svm": "nb_svm", "logistic": "logistic"},
    "compare.baseline": "nb_svm",
    "compare.tuned": "logistic",
    "evaluate.resamples": 200,
    "explain.reviews": 20,
}


def fresh(folder, changes):
    """A git repository with the project's files, without results, and with changed values of params.yaml (by dotted name)."""
    known = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], PROJECT).stdout.splitlines()
    for name in known:
        if (PROJECT / name).is_file() and name != "dvc.lock" and not name.startswith(("metrics/", "reports/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    change(folder, changes)
    (folder / ".venv").symlink_to(sys.prefix)
    run(["git", "init", "--quiet"], folder)
    commit(folder)
    return folder


def commit(folder):
    run(["git", "add", "."], folder)
    run(["git", "commit", "--quiet", "--message", "start"], folder)


def change(folder, changes):
    """Set values of params.yaml by dotted name."""
    file = folder / "params.yaml"
    file.write_text(isolated_run.with_changes(file.read_text(encoding="utf-8"), changes), encoding="utf-8")


def run(command, folder, **environment):
    # MLflow sets these to the store of an earlier test in this process
    own = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=own | environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


def make(folder, *words):
    # the current environment is used, so it is not installed again
    return run(["make", "--no-print-directory", "--old-file", ".venv/.ready", *words], folder, PYTHONPATH=str(folder / "src"))


def sentiflow(folder, *words):
    # the current environment is used, so the program restarts itself with the code of the clone
    return run([str(folder / ".venv/bin/sentiflow"), *words], folder, PYTHONPATH="")


def repro(folder):
    return make(folder, "repro")


def dvc(folder, *arguments):
    return run([sys.executable, "-m", "dvc", *arguments], folder, DVC_NO_ANALYTICS="1").stdout

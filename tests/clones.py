"""Fresh clones of the project as it stands in this folder, to run as a user does."""

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
    """The project's files but for results, with values of params.yaml (by dotted name) set, as a git repository of its own."""
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
    run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "start"], folder)


def change(folder, changes):
    """Sets values of params.yaml by dotted name, whatever stands there."""
    file = folder / "params.yaml"
    file.write_text(isolated_run.with_changes(file.read_text(encoding="utf-8"), changes), encoding="utf-8")


def run(command, folder, **environment):
    # MLflow writes the store that a test in this process used into its environment
    own = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=own | environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


def make(folder, *words):
    # the environment is this one, so it is not set up again
    return run(["make", "--no-print-directory", "--old-file", ".venv/.ready", *words], folder, PYTHONPATH=str(folder / "src"))


def sentiflow(folder, *words):
    # as a user does; the environment is this one, so the program finds that the code is another
    return run([str(folder / ".venv/bin/sentiflow"), *words], folder, PYTHONPATH="")


def repro(folder):
    return make(folder, "repro")


def dvc(folder, *arguments):
    return run([sys.executable, "-m", "dvc", *arguments], folder, DVC_NO_ANALYTICS="1").stdout

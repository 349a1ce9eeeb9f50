"""Every command of docs/experiments.md, in its order, on a small project; and what MLflow gets of it."""

import json
import os
import re
import sqlite3
import sys
from pathlib import Path

import pytest
from clones import LINEAR, PROJECT, commit, fresh, repro, run

from sentiflow.pipeline import experiments

pytestmark = pytest.mark.slow

PAGE = (PROJECT / "docs/experiments.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.+)$", PAGE, re.MULTILINE)
NOT_PUBLISHED = "an experiment is not published; to publish it: dvc exp apply"
NOTES = [Path("mlartifacts/published.json"), Path("mlartifacts/judged.json")]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A small project with results that are committed and published, a git remote and a DVC remote."""
    top = tmp_path_factory.mktemp("experiments")
    rules = {"promotion.floor": 0.0, "promotion.calibration_error": 1.0, "promotion.latency_ms": 10_000}
    folder = fresh(top / "project", LINEAR | rules)
    repro(folder)
    commit(folder)
    run(["git", "init", "--quiet", "--bare", str(top / "git")], top)
    run(["git", "remote", "add", "origin", str(top / "git")], folder)
    for name, value in {"user.name": "t", "user.email": "t@example.org"}.items():
        run(["git", "config", name, value], folder)
    shell(folder, f"dvc remote add --local --default shared '{top / 'remote'}'")
    return folder


def shell(folder, command):
    path = f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"
    ended = run(["bash", "-c", command], folder, PATH=path, DVC_NO_ANALYTICS="1", COLUMNS="250")
    return ended.stdout + ended.stderr


def versions(folder):
    with sqlite3.connect(folder / "mlflow.db") as store:
        [(count,)] = store.execute("select count(*) from model_versions where name = 'sentiflow'")
    return count


def regularisation(folder):
    return re.search(r"^  logistic:.*?regularisation: ([\d.]+)", (folder / "params.yaml").read_text(), re.DOTALL | re.MULTILINE)[
        1
    ]


def test_every_command_of_the_page_works_in_its_order(project):
    said = {}
    published = versions(project)
    for command in COMMANDS:
        said[command] = shell(project, command)
        if command.startswith("dvc exp run"):
            assert versions(project) == published, command
            assert ("--queue" in command) == (NOT_PUBLISHED not in said[command])
        if "--temp" in command:  # after an experiment in this folder, whose note is the one to expect
            assert json.loads((project / NOTES[0]).read_text()) == {"experiment": "c4"}
            assert regularisation(project) == "4.0"
        if command == "sentiflow repro":
            assert "Running stage 'register'" in said[command]
            assert "Running stage 'train" not in said[command]
            assert versions(project) == published + 1
            assert not any(experiments.is_note(project / note) for note in NOTES)
            assert regularisation(project) == "2.0"

    [table] = [text for command, text in said.items() if command.startswith("dvc exp show")]
    header = next(line for line in table.splitlines() if "Experiment" in line)
    assert "models.logistic.regularisation" in header
    assert "metrics/test/logistic.json:log_loss" in header
    assert not re.search(r"data/|models|reports|\.py|mlartifacts", header)
    for name in ("c4", "c2", "grid-1", "grid-2"):
        assert f"[{name}]" in table
    assert "regularisation" in said["dvc exp diff HEAD c2"]
    assert "c4" in said["dvc exp list --all-commits origin"]
    assert "regularisation-4" in run(["git", "branch"], project).stdout
    left = run(["git", "for-each-ref", "--format=%(refname)", "refs/exps"], project).stdout.split()
    assert not [ref for ref in left if not ref.startswith(("refs/exps/apply/", "refs/exps/exec/"))], "DVC's own stay"
    assert run(["git", "ls-files", "mlartifacts"], project).stdout == ""


def test_an_experiment_in_the_folder_is_published_by_the_next_run(project):
    before = versions(project)
    said = shell(project, "dvc exp run --name c16 --set-param models.logistic.regularisation=16.0")
    assert f"{NOT_PUBLISHED} c16, then sentiflow repro" in said
    assert versions(project) == before
    again = repro(project)
    assert "the last results are of an experiment" in again.stderr
    assert versions(project) == before + 1
    assert "Data and pipelines are up to date." in repro(project).stdout

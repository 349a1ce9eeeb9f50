"""Rebuilding a store, in a little project whose own `register` publishes two commits' results."""

import contextlib
import io
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import commands
import dvc_projects
import pandas as pd
import pytest
from mlflow import MlflowClient

from sentiflow.pipeline import rebuild, repro
from sentiflow.registry import champion_history, model_versions, store
from sentiflow.system.errors import InputError

pytestmark = pytest.mark.slow

PIPELINE = f"""
stages:
  train:
    cmd: cp words.txt model
    deps: [words.txt]
    outs: [model]
  register:
    cmd: {sys.executable} -m publish model mlartifacts/published.json
    deps: [model, publish.py]
    outs:
    - mlartifacts/published.json: {{cache: false}}
"""
PUBLISH = """
import sys
from pathlib import Path
from sentiflow.registry import store

model, note = map(Path, sys.argv[1:])
key = model.read_text().strip() * 64
client = store.connect()
if not client.search_registered_models("name = 'sentiflow'"):
    client.create_registered_model("sentiflow")
experiment = store.experiment_id(client)
if not client.search_runs([experiment], f"tags.`{store.KEY_TAG}` = '{key}'"):
    run = client.create_run(experiment, tags={store.KEY_TAG: key, store.COMPLETE_TAG: "true"}).info.run_id
    client.create_model_version("sentiflow", f"runs:/{run}/model", run, tags={store.KEY_TAG: key, "architecture": "nb_svm"})
note.parent.mkdir(exist_ok=True)
note.write_text(key)
"""
FILES = {"dvc.yaml": PIPELINE, "publish.py": PUBLISH, "words.txt": "a", ".gitignore": "/mlflow.db\n/mlartifacts\n/.cache\n"}


def git(*words):
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", *who, *words], check=True, capture_output=True, text=True).stdout


def commit(message):
    git("add", "-A")
    git("commit", "-qm", message)


@pytest.fixture(scope="module")
def two_commits(tmp_path_factory):
    """Results of `a` and `b`, each published once, and between them a commit of a dvc.lock that is no text."""
    for top in dvc_projects.finished(tmp_path_factory, FILES):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(top)
            patch.setenv("DVC_NO_ANALYTICS", "1")
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            whole = Path("dvc.lock").read_bytes()
            for number, damaged in enumerate([b"\xff\xfe", b"", whole[:90], b"stages: 3\n"]):
                Path("dvc.lock").write_bytes(damaged)
                commit(f"damaged {number}")
            Path("dvc.lock").write_bytes(whole)
            Path("words.txt").write_text("b")
            subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True, capture_output=True)
            commit("other words")
        yield top


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """The file of a store that holds nothing; making one takes MLflow seconds."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
        store.connect()
    return file


@pytest.fixture
def project(two_commits, empty_store, tmp_path, monkeypatch):
    """A copy of it whose store was lost; the folder."""
    folder = dvc_projects.copy(two_commits, tmp_path, monkeypatch)
    shutil.copy(empty_store, "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    return folder


def keys(folder):
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    return [version.tags["sentiflow.key"][0] for version in model_versions.versions(MlflowClient(uri, uri))]


def nothing_is_left():
    return not rebuild.TREE.exists() and len(git("worktree", "list").splitlines()) == 1


def test_commits_with_published_results_are_listed_oldest_first(project):
    assert [found.subject for found in rebuild.commits()] == ["finished", "other words"]
    assert rebuild.commits()[0].outputs == ["model"]


def test_commit_without_published_results_is_left_out(project):
    Path("dvc.lock").write_text("schema: '2.0'\nstages:\n  train:\n    cmd: cp words.txt model\n")
    commit("trained alone")
    assert [found.subject for found in rebuild.commits()] == ["finished", "other words"]


def test_shallow_clone_says_that_commits_are_missing_and_what_to_do(project, caplog, monkeypatch):
    git("clone", "-q", "--depth", "1", f"file://{project}", "../shallow")
    monkeypatch.chdir("../shallow")
    assert [found.subject for found in rebuild.commits()] == ["other words"]
    assert "This clone is shallow" in caplog.text
    assert "git fetch --unshallow" in caplog.text


def test_folder_without_git_or_history_is_rejected_with_the_next_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(InputError, match="run this in a clone of the project"):
        rebuild.commits()
    git("init", "-q")
    Path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    commit("nothing ran")
    with pytest.raises(InputError, match="nothing to rebuild from"):
        rebuild.commits()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="git is not installed"):
        rebuild.commits()


@pytest.fixture(scope="module")
def rebuilt(two_commits, empty_store, tmp_path_factory):
    """A project whose store was rebuilt, with a history of champions that names a version of no commit."""
    with pytest.MonkeyPatch.context() as patch:
        folder = dvc_projects.copy(two_commits, tmp_path_factory.mktemp("rebuilt"), patch)
        shutil.copy(empty_store, "mlflow.db")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        line = {"number": 1, "architecture": "nb_svm", "from": "2026-01-01T00:00:00+00:00", "to": "", "how": "first", "why": "w"}
        numbers = {7: "a", 9: "z", 8: "b"}
        rows = [line | {"version": number, "by": "a", "replaced": "", "key": key * 64} for number, key in numbers.items()]
        champion_history.JOURNAL.parent.mkdir()
        pd.DataFrame(rows).to_csv(champion_history.JOURNAL, index=False)
        output = io.StringIO(), io.StringIO()
        before = git("status", "--porcelain")
        log = logging.StreamHandler(output[1])
        logging.getLogger("sentiflow").addHandler(log)
        with contextlib.redirect_stdout(output[0]):
            rebuild.rebuild()
        logging.getLogger("sentiflow").removeHandler(log)
        assert git("status", "--porcelain") == before
        yield folder, output[0].getvalue(), output[1].getvalue()


def test_lost_store_is_filled_in_the_order_of_the_commits_and_nothing_else_changes(rebuilt):
    folder, output, _ = rebuilt
    assert keys(folder) == ["a", "b"]
    assert "2 of 2 commits are published: 2 versions, 2 of them new." in output
    assert (folder / "model").read_text() == "b"
    assert nothing_is_left()


def test_next_repro_publishes_and_judges_again(rebuilt):
    folder, output, _ = rebuilt
    assert not any((folder / note).exists() for note in repro.PUBLISHED)
    assert "`sentiflow repro` publishes" in output


def test_champions_are_restored_with_their_new_numbers_and_a_missing_version_is_named(rebuilt):
    folder, output, errors = rebuilt
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    assert [entry.version for entry in champion_history.history(MlflowClient(uri, uri))] == ["1", "2"]
    assert "Champion: version 2." in output
    assert "version 9 (nb_svm)" in errors


def test_rebuilding_again_adds_nothing(rebuilt, capfd):
    folder, _, _ = rebuilt
    rebuild.rebuild()
    assert keys(folder) == ["a", "b"]
    output = capfd.readouterr().out
    assert "2 versions, 0 of them new." in output
    assert "0 changes of champion entered." in output


def test_commit_with_missing_outputs_is_named_and_the_others_are_published(project, capfd, caplog):
    [lost] = [file for file in Path(".dvc/cache").rglob("*") if file.is_file() and file.read_bytes() == b"a"]
    lost.unlink()
    rebuild.rebuild()
    assert keys(project) == ["b"]
    assert "finished: its results are not all in DVC's cache (no remote is set): model" in caplog.text
    assert "1 of 2 commits are published" in capfd.readouterr().out
    assert nothing_is_left()


def test_missing_outputs_are_downloaded_from_a_remote_that_was_added_after_the_commits(project, capfd):
    subprocess.run([sys.executable, "-m", "dvc", "remote", "add", "-q", "--default", "shared", "../remote"], check=True)
    shutil.move(".dvc/cache/files", "../remote/files")  # as `dvc push` lays them there
    rebuild.rebuild()
    assert keys(project) == ["a", "b"]


def test_nothing_to_publish_is_an_error_that_names_what_to_restore(project, capfd):
    shutil.rmtree(".dvc/cache")
    Path("model").unlink()
    with pytest.raises(InputError, match="restore DVC's cache, or add a remote: dvc remote add -d NAME URL"):
        rebuild.rebuild()
    assert keys(project) == []
    assert nothing_is_left()


def test_commit_whose_own_code_fails_is_named_and_its_folder_removed(project, capfd, caplog):
    Path("publish.py").write_text("raise SystemExit('this commit cannot')\n")
    lock = Path("dvc.lock")
    lock.write_text(f"{lock.read_text()}# again\n")
    commit("broken")
    rebuild.rebuild()
    assert "this commit cannot" in capfd.readouterr().err
    assert "broken: its own `-m publish` ended with status 1; its message is above" in caplog.text
    assert keys(project) == ["a", "b"]
    assert nothing_is_left()


HOSTILE = {
    "a command that is a list": "{cmd: [rm, -rf, /], deps: [{path: model}]}",
    "no command": "{deps: [{path: model}]}",
    "an open quote": "{cmd: 'python -m \"publish', deps: [{path: model}]}",
    "a zero byte": '{cmd: "python -m publish\\0", deps: [{path: model}]}',
    "a dependency without a path": "{cmd: python -m publish, deps: [model]}",
    "no dependencies": "{cmd: python -m publish, deps: null}",
    "text in place of a stage": "publish",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_invalid_dvc_lock_in_the_history_is_skipped(project, what):
    Path("dvc.lock").write_text(f"schema: '2.0'\nstages:\n  register: {HOSTILE[what]}\n")
    commit(what)
    assert [found.subject for found in rebuild.commits()] == ["finished", "other words"]


def test_entries_of_the_history_of_champions_that_mlflow_rejects_are_skipped(project, capfd, caplog):
    line = {"number": 1, "version": "\x1b[2J", "architecture": "nb_svm", "from": "2026", "to": "", "how": "first", "by": "a"}
    rows = [
        line | {"why": "w", "replaced": "", "key": "' OR name = 'sentiflow"},
        line | {"why": "w" * 5_000_000, "replaced": "", "key": "a" * 64},
        line | {"why": "\x1b[2J", "replaced": "../..", "key": "b" * 64},
    ]
    champion_history.JOURNAL.parent.mkdir()
    pd.DataFrame(rows).to_csv(champion_history.JOURNAL, index=False)
    rebuild.rebuild()
    uri = f"sqlite:///{project / 'mlflow.db'}"
    assert [entry.why for entry in champion_history.history(MlflowClient(uri, uri))] == ["\x1b[2J"]
    assert caplog.text.count("not entered, because its version is missing: 2026") == 2
    assert "1 changes of champion entered. Champion: version 2." in capfd.readouterr().out
    assert {path.name for path in project.parent.iterdir()} <= {"project", "site"}  # DVC's own, which the tests move here


def test_rebuilding_in_a_copied_project_does_not_change_the_original_store(project, empty_store, capfd):
    before = {file: file.read_bytes() for file in empty_store.parent.rglob("*") if file.is_file()}
    rebuild.rebuild()
    assert keys(project) == ["a", "b"]
    uri = f"sqlite:///{project / 'mlflow.db'}"
    assert MlflowClient(uri, uri).get_experiment_by_name("sentiflow").artifact_location == f"{project}/mlartifacts"
    assert {file: file.read_bytes() for file in empty_store.parent.rglob("*") if file.is_file()} == before


def test_folder_of_a_commit_has_its_outputs_and_is_removed_after_an_interruption(project):
    def interrupted():
        with rebuild._checked_out(rebuild.commits()[0]) as tree:
            assert (tree / "model").read_text() == "a"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert nothing_is_left()


def test_rebuild_works_after_a_killed_rebuild(project):
    git("worktree", "add", "--detach", str(rebuild.TREE), "HEAD")
    (rebuild.TREE / "words.txt").write_text("half")
    with rebuild._checked_out(rebuild.commits()[1]) as tree:
        assert (tree / "words.txt").read_text() == (tree / "model").read_text() == "b"
    assert nothing_is_left()


def test_dry_run_lists_the_commits_and_makes_no_store(project, capsys):
    Path("mlflow.db").unlink()
    _, output, _ = commands.run(capsys, "models", "rebuild", "--dry-run")
    output = output.splitlines()
    assert [line.split(" ", 1)[1].split(":")[0] for line in output[:2]] == ["finished", "other words"]
    assert output[2] == "Dry run: 2 commits would be published, and 0 changes of champion entered. Nothing was changed."
    assert not Path("mlflow.db").exists()
    assert nothing_is_left()

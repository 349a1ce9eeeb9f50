import subprocess

import pytest

from sentiflow.system import dvc_lock, git
from sentiflow.system.errors import InputError

LOCK = """\
schema: '2.0'
stages:
  split:
    cmd: make split
    params:
      params.yaml:
        seed: 1e-05
        on: 'yes'
"""
BROKEN = {
    "empty": "",
    "truncated": LOCK[:-3],
    "another file": "a: 1\n",
    "a list": "- stages\n",
    "merge conflict markers": f"<<<<<<< ours\n{LOCK}=======\n{LOCK}>>>>>>> theirs\n",
}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: subprocess.run(["git", *words], check=True, capture_output=True)


def test_stages_are_read_with_their_values():
    assert dvc_lock.parse(LOCK) == {"split": {"cmd": "make split", "params": {"params.yaml": {"seed": 1e-05, "on": "yes"}}}}
    assert dvc_lock.parse("schema: '2.0'\nstages:\n") == {}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_lock_is_an_error_that_says_how_to_restore_it(tmp_path, name):
    file = tmp_path / "dvc.lock"
    file.write_text(BROKEN[name])
    with pytest.raises(ValueError, match=r"not a valid dvc\.lock"):
        dvc_lock.parse(BROKEN[name])
    with pytest.raises(InputError, match=f"git checkout {file}"):
        dvc_lock.read(file)


def test_a_folder_without_a_lock_has_no_stages(tmp_path):
    assert dvc_lock.read(tmp_path / "dvc.lock") == {}


def test_stages_of_a_commit_are_those_of_its_lock(repository, tmp_path):
    assert dvc_lock.of_commit("HEAD") is None, "not a git repository"
    repository("init", "-q")
    repository("commit", "-qm", "nothing yet", "--allow-empty")
    assert dvc_lock.of_commit("HEAD") is None
    (tmp_path / "dvc.lock").write_text(LOCK)
    repository("add", ".")
    repository("commit", "-qm", "results")
    (tmp_path / "dvc.lock").write_text("changed since")
    assert list(dvc_lock.of_commit("HEAD")) == ["split"]
    assert dvc_lock.of_commit("HEAD~1") is None


def test_git_runs_in_the_given_folder(repository, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    repository("init", "-q", "other")
    assert git.ask("rev-parse", "--show-prefix", folder=other) == "\n"
    assert git.ask_if_possible("rev-parse", "--git-dir") is None
    with pytest.raises(InputError, match="run this in a clone of the project"):
        git.ask("rev-parse", "--git-dir")

import re
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo
from storage import CACHE, REMOTE, flip, oids, stored

from sentiflow.sharing import check_remote, hooks, push_pull, remote_settings
from sentiflow.system.errors import InputError

TOP = Path(__file__).parents[3]


def git(*words):
    """Exit status and output."""
    ended = subprocess.run(["git", *words], capture_output=True, text=True)
    return ended.returncode, ended.stdout + ended.stderr


def commit_other_results(text):
    """Commit a dvc.lock that references files that are only in the cache."""
    Path("dvc.yaml").write_text(re.sub("sh split.sh .*", f"sh split.sh {text}", Path("dvc.yaml").read_text()))
    with Repo() as repo:
        repo.reproduce()
    assert git("commit", "-qam", text)[0] == 0


def test_reports_that_the_remote_has_every_file(project):
    assert check_remote.check(["HEAD"]).startswith("All 7 files that dvc.lock references are on the remote here")


@pytest.mark.parametrize("name", ["splits/2.txt", "splits/more/4.txt", "words.txt", "reviews.csv", "splits"])
def test_a_file_missing_on_the_remote_is_named_with_its_stage(name, project):
    stored(REMOTE, oids()[name]).unlink()
    stage = "reviews.csv.dvc" if name == "reviews.csv" else "split"
    with pytest.raises(InputError, match="lacks 1 of 7 files") as failed:
        check_remote.check(["HEAD"])
    assert f"  {stage}: {name}" in str(failed.value)


def test_files_of_a_folder_are_checked_if_the_cache_is_empty_or_damaged(project):
    listed = oids()["splits"]
    stored(REMOTE, oids()["splits/2.txt"]).unlink()
    flip(stored(CACHE, listed))
    with pytest.raises(InputError, match=r"split: splits/2.txt"):
        check_remote.check(["HEAD"])
    stored(CACHE, listed).unlink()
    with pytest.raises(InputError, match=r"split: splits/2.txt"):
        check_remote.check(["HEAD"])


def test_each_commit_is_checked_for_its_own_files(project):
    commit_other_results("poor")
    assert "All 7 files" in check_remote.check(["HEAD~1"])
    with pytest.raises(InputError, match=r"(?s)lacks 6 of 7 files.*split: words.txt, of HEAD"):
        check_remote.check(["HEAD"])
    push_pull.push()
    assert "All 7 files" in check_remote.check(["HEAD"])


def test_an_unknown_commit_is_refused(project):
    with pytest.raises(InputError, match="nothing"):
        check_remote.check(["nothing"])


def test_untracked_reviews_are_warned_about(project, caplog):
    params = "download:\n  source: csv\n  csv: {location: data/external/mine.csv}\n"
    for text, warned in ((params, True), (params.replace("data/external/mine.csv", "reviews.csv"), False)):
        Path("params.yaml").write_text(text)
        git("add", "params.yaml")
        git("commit", "-qm", "reviews")
        caplog.clear()
        check_remote.check(["HEAD"])
        assert ("data/external/mine.csv" in caplog.text and "dvc add" in caplog.text) is warned


# --- git's hook ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hooked(project, tmp_path, monkeypatch):
    """The project with the hook, and an empty git remote."""
    monkeypatch.setenv("PYTHONPATH", str(TOP / "src"))
    Path(".venv").symlink_to(sys.prefix)
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "shared.git")], check=True)
    git("remote", "add", "origin", str(tmp_path / "shared.git"))
    return hooks.install()


def test_a_git_push_without_its_data_is_refused_with_the_way_to_push_anyway(hooked):
    commit_other_results("poor")
    commit_other_results("good")  # the remote has its files
    status, output = git("push", "origin", "HEAD:main")
    assert status != 0
    assert "split: words.txt" in output
    assert "git push --no-verify" in output
    assert git("push", "--no-verify", "origin", "HEAD:main")[0] == 0


def commits(*refs):
    """Commits of a push from the first ref to a branch at the second ref; an empty ref does not exist."""
    ids = [git("rev-parse", each)[1].strip() if each else check_remote.NO_COMMIT for each in refs]
    return check_remote.pushed([f"refs/heads/main {ids[0]} refs/heads/main {ids[1]}\n"], "origin")


def test_only_commits_that_change_data_are_checked(hooked):
    Path("notes.txt").write_text("no data\n")
    git("add", "notes.txt")
    git("commit", "-qm", "notes")
    assert list(commits("HEAD", "HEAD~1").values()) == [False]
    assert list(commits("HEAD", "").values()) == [True, False]
    assert commits("", "HEAD") == {}, "the branch is deleted"
    commit_other_results("poor")
    assert list(commits("HEAD", "HEAD~2").values()) == [False, True]
    git("push", "--no-verify", "origin", "HEAD:main")
    assert commits("HEAD", "") == {}, "a new branch of existing commits"


def test_a_git_push_of_a_password_is_refused(hooked):
    remote_settings.CONFIG.write_text("['remote \"a\"']\n    url = webdav://example.org/x\n    password = hidden\n")
    git("commit", "-qam", "remote")
    with pytest.raises(InputError, match="contains password") as refused:
        check_remote.refuse_secrets(commits("HEAD", "HEAD~1"))
    assert "hidden" not in str(refused.value)


def test_the_hook_replaces_itself_but_no_other_hook(hooked):
    assert hooks.install() == hooked
    hooked.write_text("#!/bin/sh\n# foreign\n")
    with pytest.raises(InputError, match=r"was not written by sentiflow; nothing was written.*Add these lines"):
        hooks.install()
    assert "foreign" in hooked.read_text()


def test_a_shared_hooks_folder_is_not_changed(project, tmp_path):
    git("config", "core.hooksPath", str(tmp_path / "hooks"))
    with pytest.raises(InputError, match=r"core.hooksPath"):
        hooks.install()
    assert not (tmp_path / "hooks").exists()

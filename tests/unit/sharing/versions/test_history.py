"""Versions of the data, from git only."""

import re
import shutil
from pathlib import Path

import data_projects
import pytest
import sources
from data_projects import commit, git, repro, write
from dvc_projects import copy

from sentiflow.sharing.versions import diff, history
from sentiflow.system.errors import InputError

FIRST = [(f"film {i} was {('a bore', 'a joy')[i % 2]}", ("negative", "positive")[i % 2]) for i in range(60)]
MORE = [(f"another film {i}, and a joy", "positive") for i in range(7)]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A project whose history has new reviews, another split, a merged branch, and a change of code only."""
    top = tmp_path_factory.mktemp("history") / "project"
    top.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        patch.setenv("DVC_SITE_CACHE_DIR", str(top.parent / "site"))
        data_projects.start(top)
        sources.settings("csv", location=str(data_projects.FILE))
        write(FIRST)
        repro()
        commit("first")
        git("checkout", "-qb", "more")
        write(FIRST + MORE)
        repro()
        commit("more reviews")
        Path("notes.md").write_text("n")
        commit("no other data")
        git("checkout", "-q", "main")
        git("merge", "-q", "--no-ff", "-m", "merge", "more")
        sources.settings("csv", location=str(data_projects.FILE), method="hash")
        repro()
        commit("another split")
        Path("src/reader.py").write_text("# changed\n")
        real, write_back = FIRST + MORE, FIRST[1:] + MORE
        write(write_back)  # the rows that the changed reader would return
        data_projects.download.main(
            Path("made/reviews"), Path("made/data_card.json"), Path("made/data_card.md"), Path(".cache/download")
        )
        write(real)
        card = Path("made/data_card.json")
        before = Path("metrics/data_card.json").read_text()
        sha = re.search(r'"sha256_source": "(\w+)"', before)[1]
        card.write_text(re.sub(r'("sha256_source": ")\w+', rf"\g<1>{sha}", card.read_text()))
        with data_projects.Repo() as repo:
            repo.reproduce()
        commit("other code")
        yield top


@pytest.fixture
def project(grown, tmp_path, monkeypatch):
    return copy(grown, tmp_path, monkeypatch)


def shown(capsys):
    capsys.readouterr()
    history.report()
    return capsys.readouterr().out


def test_a_version_is_a_commit_of_this_branch_that_changed_reviews_or_split(project):
    shutil.rmtree(".dvc/cache")
    shutil.rmtree("data")
    found = history.read()
    assert [git("log", "-1", "--format=%s", each.commit).strip() for each in found.versions] == [
        "first",
        "merge",
        "another split",
        "other code",
    ]
    assert [each.author for each in found.versions] == ["Ann"] * 4
    assert [each.data.rows for each in found.versions] == [60, 67, 67, 66]
    assert found.versions[1].data.labels == {"negative": 30, "positive": 37}
    assert sum(found.versions[1].data.sizes.values()) == 67
    assert found.skipped == {}


def test_each_version_describes_its_change(project):
    changes = [each.change for each in history.read().versions]
    assert changes == [
        "first version",
        "+7 rows; new content at the source",
        "same reviews, new split; split.method: stratified -> hash",
        "-1 rows; only code: src/reader.py",
    ]


def test_the_list_has_one_row_per_version(project, capsys):
    output = shown(capsys)
    rows = [line for line in output.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 4
    lock = Path("dvc.lock").read_text()
    assert re.search(r"path: data/reviews\n.*\n      md5: (\w{10})", lock)[1] in rows[-1]
    assert "30 negative, 37 positive" in rows[3]
    assert "not committed" not in output
    assert "Changes that" not in output


def test_a_shallow_clone_is_reported_with_what_to_do(project, capsys, monkeypatch):
    assert "shallow" not in shown(capsys)
    git("clone", "-q", "--depth", "1", f"file://{project}", "../shallow")
    monkeypatch.chdir("../shallow")
    output = shown(capsys)
    assert len([line for line in output.splitlines() if line.startswith("| ")]) == 2 + 1
    assert "This clone is shallow, so older commits are missing: git fetch --unshallow" in output
    with pytest.raises(
        InputError, match=r"HEAD~1 is not a commit of this repository\. This clone is shallow.*git fetch --unshallow"
    ):
        diff.of_commit("HEAD~1")
    git("fetch", "-q", "--unshallow")
    assert "shallow" not in shown(capsys)


def test_commits_with_a_damaged_or_missing_lock_are_skipped_and_named(project, capsys):
    lock = Path("dvc.lock").read_bytes()
    shas = []
    for damaged in (b"\xff\xfe", lock[:90], b"<<<<<<< HEAD\n" + lock, b"stages: 3\n", b"schema: '2.0'\nstages: {}\n", b""):
        Path("dvc.lock").write_bytes(damaged)
        shas.append(commit("damaged"))
    Path("dvc.lock").unlink()
    shas.append(commit("gone"))
    Path("dvc.lock").write_bytes(lock)
    commit("back")
    found = history.read()
    assert len(found.versions) == 4
    assert list(found.skipped) == shas
    output = shown(capsys)
    assert f"Skipped {len(shas)} commits" in output
    assert f"{shas[-1][:10]}: it has no dvc.lock" in output


def test_missing_or_outdated_numbers_are_shown_as_unknown(project, capsys):
    write(FIRST)
    repro()
    Path("metrics/splits.json").unlink()
    Path("metrics/data_card.json").write_text(git("show", "HEAD:metrics/data_card.json"))  # of the previous version
    commit("outdated numbers")
    data = history.read().versions[-1].data
    assert (data.rows, data.labels, data.sizes) == (None, None, None)
    [row] = [line for line in shown(capsys).splitlines() if data.reviews[:10] in line and "| ? " in line]
    assert row.count("| ? ") == 3


def test_the_last_row_shows_uncommitted_data(project, capsys):
    write(FIRST)
    repro()
    last = shown(capsys).splitlines()[-1]
    assert last.startswith("| not committed |")
    assert "-6 rows" in last
    assert "60" in last


def test_pending_changes_are_listed(project, capsys):
    sources.settings("csv", location=str(data_projects.FILE), method="stratified")
    write(FIRST)
    output = shown(capsys)
    assert "not committed" not in output
    assert "split.method: hash -> stratified" in output
    assert "data/external/reviews.csv: its SHA-256 is now" in output


def test_a_lock_with_merge_conflict_markers_is_reported_below_the_list(project, capsys):
    lock = Path("dvc.lock").read_text()
    Path("dvc.lock").write_text(lock.replace("stages:\n", "stages:\n<<<<<<< HEAD\n"))
    assert "This folder: its dvc.lock is damaged or has merge conflict markers" in shown(capsys)


def test_a_folder_without_git_commits_or_data_is_an_error_that_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(InputError, match="run this in a clone of the project"):
        history.report()
    git("init", "-q")
    with pytest.raises(InputError, match="no commit yet; run `sentiflow repro`"):
        history.report()
    Path("notes.md").write_text("n")
    commit("start")
    history.report()
    assert "No commit has data yet" in capsys.readouterr().out
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="git is not installed"):
        history.report()


def test_a_change_of_source_hides_the_settings_of_both_sources(project):
    before = history.in_folder()
    after = history.relevant(
        {"seed": 7, "download": {"source": "package", "package": {"part": "imdb"}}, "clean": {}, "split": {}}
    )
    changed = history.changed_params(before.params, after)
    assert ("download.source", "csv", "package") in changed
    assert not [name for name, _, _ in changed if name.startswith(("download.csv", "download.package"))]

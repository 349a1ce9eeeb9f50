"""Differences between two versions of the data, read from DVC's cache or remote."""

import io
import re
import shutil
from pathlib import Path

import data_projects
import pandas as pd
import pytest
import sources
from data_projects import commit, dvc, git, repro, write
from dvc_projects import copy

from sentiflow.data import splits
from sentiflow.sharing.versions import diff, recorded
from sentiflow.system.errors import InputError

FORMULA = "=1+1 adds up to a bore"
FIRST = [(f"film {i} was {('a bore', 'a joy')[i % 2]}", ("negative", "positive")[i % 2]) for i in range(60)]
AFTER = [(FIRST[0][0], "positive"), *FIRST[2:], (FIRST[3][0].upper(), "positive"), (FORMULA, "negative")]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """Three pushed tags: `drawn` has FIRST with a stratified split, `first` FIRST and `after` AFTER with a hash split."""
    top = tmp_path_factory.mktemp("difference") / "project"
    top.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        patch.setenv("DVC_SITE_CACHE_DIR", str(top.parent / "site"))
        data_projects.start(top)
        for rows, method, name in ((FIRST, "stratified", "drawn"), (FIRST, "hash", "first"), (AFTER, "hash", "after")):
            sources.settings("csv", location=str(data_projects.FILE), method=method)
            write(rows)
            repro()
            commit(name)
            git("tag", name)
        with data_projects.Repo() as repo:
            repo.push(all_tags=True)
        yield top


@pytest.fixture
def project(grown, tmp_path, monkeypatch):
    return copy(grown, tmp_path, monkeypatch)


@pytest.fixture
def changes(project):
    return diff.between(diff.of_commit("first"), diff.of_commit("after"))


def of_kind(table, kind):
    return table[table["change"].str.split(", ").map(lambda kinds: kind in kinds)]


def test_added_removed_and_relabelled_texts_are_found(changes):
    [added] = of_kind(changes, diff.ADDED).to_dict("records")
    assert (added["text"], added["label_after"], added["rows_before"], added["rows_after"]) == (FORMULA, "negative", 0, 1)
    [removed] = of_kind(changes, diff.REMOVED).to_dict("records")
    assert (removed["text"], removed["label_before"]) == FIRST[1]
    [relabelled] = of_kind(changes, diff.RELABELLED).to_dict("records")
    assert (relabelled["text"], relabelled["label_before"], relabelled["label_after"]) == (FIRST[0][0], "negative", "positive")
    assert of_kind(changes, diff.MOVED).empty


def test_a_copy_with_other_spelling_is_the_same_text(changes):
    [copied] = of_kind(changes, diff.COPIES).to_dict("records")
    assert (copied["rows_before"], copied["rows_after"]) == (1, 2)
    assert len(changes) == 4


def test_moved_texts_are_those_in_another_split_file(project, capsys):
    moved = of_kind(diff.between(diff.of_commit("drawn"), diff.of_commit("first")), diff.MOVED)
    git("checkout", "-q", "first")
    dvc("checkout", "--quiet")
    now = {split: set(pd.read_parquet(f"data/splits/{split}.parquet")["text"]) for split in splits.SPLITS}
    git("checkout", "-q", "drawn")
    dvc("checkout", "--quiet")
    before = {split: set(pd.read_parquet(f"data/splits/{split}.parquet")["text"]) for split in splits.SPLITS}
    expected = {(one, other): len(before[one] & now[other]) for one in before for other in now if one != other}
    found = moved.groupby(["split_before", "split_after"]).size().to_dict()
    assert found == {way: count for way, count in expected.items() if count}
    assert found[("test", "train")] > 0
    diff.report(a="drawn", b="first")
    first_line = capsys.readouterr().out.splitlines()[0]
    assert first_line.startswith("TEST SET CONTAMINATED: ")
    assert f"{found[('test', 'train')]:,} texts moved from test to train" in first_line


def test_texts_that_left_test_are_listed_first(project, capsys):
    diff.report(a="drawn", b="after")
    [_, listed] = re.split(r"^\| change .*\n.*\n", capsys.readouterr().out, flags=re.MULTILINE)
    ways = re.findall(r"\| (train|valid|test) -> (train|valid|test) ", listed)
    out_of_test = [way[0] == "test" and way[1] != "test" for way in ways]
    assert any(out_of_test)
    assert out_of_test == sorted(out_of_test, reverse=True)


def test_there_is_no_warning_if_no_text_left_test(project, capsys):
    diff.report(a="first", b="after")
    output = capsys.readouterr().out
    assert "CONTAMINATED" not in output
    assert re.search(r"^before: first \(\w{10}\): 60 rows, 60 distinct texts$", output, re.MULTILINE)
    assert re.search(r"^after:  after \(\w{10}\): 61 rows, 60 distinct texts$", output, re.MULTILINE)
    for kind, rows in ((diff.ADDED, r"\+1"), (diff.REMOVED, "-1"), (diff.RELABELLED, "1")):
        assert re.search(rf"^\| {kind} +\| 1 +\| {rows} ", output, re.MULTILINE), kind


def test_without_arguments_the_folder_is_compared_with_the_last_commit(project, capsys):
    diff.report()
    assert "No difference" in capsys.readouterr().out
    git("checkout", "-q", "first")  # the data files stay unchanged
    diff.report()
    output = capsys.readouterr().out
    assert "before: HEAD" in output
    assert "after:  this folder: 61 rows" in output


def test_a_long_list_is_shortened_and_written_in_full_to_a_spreadsheet_safe_file(project, capsys, monkeypatch):
    monkeypatch.setattr(diff, "SHOWN", 2)
    diff.report(a="first", b="after", out=Path("changes.csv"))
    output = capsys.readouterr().out
    assert "and 2 more; --out changes.csv writes all of them" in output
    assert "All 4: changes.csv" in output
    text = Path("changes.csv").read_text()
    assert f'"\'{FORMULA}"' in text
    table = pd.read_csv(io.StringIO(text), keep_default_na=False)
    assert set(table["text"].str.removeprefix("'")) >= {FORMULA, FIRST[0][0], FIRST[1][0]}
    with pytest.raises(InputError, match="got the folder data"):
        diff.report(out=Path("data"))


def test_only_files_of_the_data_missing_in_the_cache_are_downloaded(project, changes):
    shutil.rmtree(".dvc/cache")
    again = diff.between(diff.of_commit("first"), diff.of_commit("after"))
    pd.testing.assert_frame_equal(again, changes)
    clean = re.search(r"path: data/clean.parquet\n *hash: md5\n *md5: (\w+)", git("show", "first:dvc.lock"))[1]
    assert not Path(f".dvc/cache/files/md5/{clean[:2]}/{clean[2:]}").exists()


def test_data_missing_in_cache_and_remote_are_an_error_that_says_what_to_do(project):
    shutil.rmtree(".dvc/cache")
    data_projects.configure("store", project.parent / "empty")
    with pytest.raises(
        InputError,
        match=r"data/reviews of \w{10} is not in DVC's cache, or damaged there, nor is it on the remote store .*remote push",
    ):
        diff.of_commit("first")


def test_a_damaged_file_in_the_cache_is_downloaded_again(project):
    [file] = recorded.files(git("rev-parse", "first").strip(), ["data/reviews/reviews.parquet"])
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1])
    diff.of_commit("first")
    assert recorded.files(git("rev-parse", "first").strip(), ["data/reviews/reviews.parquet"]) == [file]
    file.chmod(0o644)
    file.write_bytes(b"")
    with data_projects.Repo() as repo, repo.config.edit() as config:
        del config["core"]["remote"]
    with pytest.raises(
        InputError, match=r"data/reviews/reviews\.parquet of \w{10} is not in DVC's cache, or damaged there, and no remote is set"
    ):
        diff.of_commit("first")


def test_unknown_commits_and_commits_without_data_are_refused(project):
    with pytest.raises(InputError, match="nowhere is not a commit of this repository"):
        diff.of_commit("nowhere")
    with pytest.raises(InputError, match="is not a commit"):
        diff.of_commit("--all")
    git("rm", "-q", "dvc.lock")
    commit("no data")
    with pytest.raises(
        InputError, match=r"DVC does not track data/reviews/reviews\.parquet in \w{10}; `sentiflow data versions`"
    ):
        diff.of_commit("HEAD")
    shutil.rmtree("data/splits")
    with pytest.raises(InputError, match=r"lacks data/splits/train\.parquet.*`sentiflow remote pull`"):
        diff.of_folder()

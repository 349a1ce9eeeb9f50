"""The command that adds reviews, in a small project tracked by DVC."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import data_projects
import pytest
import sources
from data_projects import FILE, commit, git, write
from dvc_projects import copy

from sentiflow.pipeline import recovery
from sentiflow.sharing.versions import add
from sentiflow.system import locks
from sentiflow.system.errors import InputError

ROWS = [(f"film {i} was {('a bore', 'a joy')[i % 2]}", ("negative", "positive")[i % 2]) for i in range(20)]
NEW = Path("new.csv")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A project with one addition to its reviews file, committed with its .dvc file."""
    top = tmp_path_factory.mktemp("add") / "project"
    top.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        patch.setenv("DVC_SITE_CACHE_DIR", str(top.parent / "site"))
        data_projects.start(top)
        sources.settings("csv", location=str(FILE))
        write(ROWS)
        NEW.write_text("review,sentiment\nThe first that came.,positive\n")
        add.run(file=NEW)
        commit("tracked")
        yield top


@pytest.fixture
def project(tracked, tmp_path, monkeypatch):
    return copy(tracked, tmp_path, monkeypatch)


def tracked_md5():
    return re.search(r"md5: (\w+)", Path(f"{FILE}.dvc").read_text())[1]


def md5(file):
    return hashlib.md5(file.read_bytes()).hexdigest()


def test_dvc_tracks_the_new_version_and_git_only_its_dvc_file(project, capsys):
    before = tracked_md5()
    NEW.write_text("review,sentiment\nThe next that came.,negative\nThe first that came.,positive\n")
    add.run(file=NEW)
    assert tracked_md5() == md5(FILE) != before
    assert git("status", "--porcelain", "--", "data").split() == ["M", f"{FILE}.dvc"]
    output = capsys.readouterr().out
    assert "added 1 reviews to data/external/reviews.csv, which now has 22" in output
    assert "left out 1 copies of existing reviews" in output
    assert "split.method is stratified" in output
    assert "git add data/external params.yaml dvc.lock metrics reports && git commit" in output


def test_rows_added_by_a_killed_command_are_tracked_by_the_next(project):
    with FILE.open("a") as file:  # killed before DVC tracked it
        file.write("The next that came.,negative\n")
    NEW.write_text("review,sentiment\nThe next that came.,negative\n")
    add.run(file=NEW)
    assert tracked_md5() == md5(FILE)


def test_rows_of_a_commit_are_read_from_dvcs_cache(project, capsys):
    NEW.write_text("review,sentiment\nOne of our side.,negative\n")
    add.run(file=NEW)
    commit("ours")
    git("checkout", "-q", "HEAD~1", "--", f"{FILE}.dvc")
    data_projects.dvc("checkout", "--quiet", f"{FILE}.dvc")
    NEW.write_text("review,sentiment\nOne of their side.,negative\n")
    add.run(file=NEW)
    add.run(commit="HEAD")
    assert FILE.read_text().splitlines()[-2:] == ["One of their side.,negative", "One of our side.,negative"]
    assert tracked_md5() == md5(FILE)
    with pytest.raises(InputError, match="nowhere is not a commit"):
        add.run(commit="nowhere")


def test_a_link_into_the_cache_is_replaced_and_the_cache_is_unchanged(project):
    data_projects.dvc("config", "cache.type", "symlink")
    data_projects.dvc("checkout", "--quiet", "--relink", f"{FILE}.dvc")
    kept = FILE.resolve()
    assert FILE.is_symlink()
    NEW.write_text("review,sentiment\nThe next that came.,negative\n")
    add.run(file=NEW)
    assert md5(kept) == kept.parent.name + kept.name
    assert FILE.read_text().endswith("The next that came.,negative\n")
    assert tracked_md5() == md5(FILE)


def test_refused_rows_leave_the_file_and_its_dvc_file_unchanged(project):
    before = FILE.read_bytes(), tracked_md5()
    NEW.write_text("review,sentiment\nThe next that came.,posotive\n")
    with pytest.raises(InputError, match="unknown label"):
        add.run(file=NEW)
    assert (FILE.read_bytes(), tracked_md5()) == before
    assert [path.name for path in FILE.parent.iterdir() if path.name.endswith(".partial")] == []


def test_nothing_is_added_during_a_run(project, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    before = FILE.read_bytes()
    NEW.write_text("review,sentiment\nThe next that came.,negative\n")
    with locks.locked(recovery.TMP / "sentiflow.lock"), pytest.raises(locks.BusyError, match="is still running in this project"):
        add.run(file=NEW)
    assert FILE.read_bytes() == before


@pytest.mark.parametrize("given", [{}, {"file": NEW, "commit": "HEAD"}], ids=["nothing", "both"])
def test_exactly_one_of_file_and_commit_is_required(given):
    with pytest.raises(InputError, match="either a file or --commit"):
        add.run(**given)


@pytest.mark.slow
def test_two_concurrent_commands_both_add_their_rows(project):
    files = [Path(f"{name}.csv") for name in ("one", "two")]
    for file in files:
        file.write_text("review,sentiment\n" + "".join(f"Film {i} of {file.stem}.,positive\n" for i in range(50)))
    command = [sys.executable, "-m", "sentiflow", "data", "add"]
    environment = os.environ | {"PYTHONPATH": str(sources.TOP / "src")}
    running = [subprocess.Popen([*command, str(file)], env=environment) for file in files]
    assert [each.wait() for each in running] == [0, 0]
    lines = FILE.read_text().splitlines()
    assert len(lines) == 1 + 21 + 100
    assert len(set(lines)) == len(lines)
    assert tracked_md5() == md5(FILE)

import os
import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo
from storage import CACHE, REMOTE, flip, oids, stored

from sentiflow.pipeline import objects, recovery
from sentiflow.sharing import check_data, remote_settings
from sentiflow.system import locks
from sentiflow.system.errors import InputError

NAMES = ["splits", "splits/2.txt", "splits/more/4.txt", "words.txt", "reviews.csv"]


def truncate(file):
    file.chmod(0o644)
    os.truncate(file, 2)


DAMAGES = {"damaged": flip, "truncated": truncate, "missing": Path.unlink}


def contents(top):
    return {file.relative_to(top): file.read_bytes() for file in sorted(top.rglob("*")) if file.is_file()}


def stage_of(name):
    return "reviews.csv.dvc" if name == "reviews.csv" else "split"


def test_reports_that_all_files_are_intact(project):
    assert check_data.check(repair=True).startswith("Checked 7 files in the cache and on the remote here")


@pytest.mark.parametrize("place", [CACHE, REMOTE], ids=["cache", "remote"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_in_one_place_is_reported_and_repaired_from_the_other(damage, place, project, capsys):
    before, named = (contents(CACHE), contents(REMOTE)), oids()
    shutil.rmtree("splits")  # so that only the other place has a copy
    for file in ("words.txt", "reviews.csv"):
        Path(file).unlink()
    for name in NAMES:
        DAMAGES[damage](stored(place, named[name]))
    with pytest.raises(InputError, match=f"{len(NAMES)} of 7 files that dvc.lock references are damaged or missing"):
        check_data.check(repair=False)
    what = f"{'missing' if damage == 'missing' else 'damaged'} {'in the cache' if place == CACHE else 'on the remote'}"
    output = capsys.readouterr().out.splitlines()
    for name in NAMES:
        [line] = [
            line for line in output if line.startswith((f"{stage_of(name)}: {name}:", f"{stage_of(name)}: {name} (the list"))
        ]
        assert line.endswith(what)
    assert check_data.check(repair=True).endswith(f": {len(NAMES)} repaired.")
    assert (contents(CACHE), contents(REMOTE)) == before
    assert check_data.check(repair=False).endswith(": all intact.")


def test_dvc_detects_no_flipped_byte(project):
    """Control: this is why the check exists."""
    for place in (CACHE, REMOTE):
        for name in ("splits/2.txt", "words.txt", "reviews.csv"):
            flip(stored(place, oids()[name]))
    with Repo() as repo:
        assert repo.status() == {}
        assert repo.status(cloud=True) == {}
        assert repo.push() == repo.fetch() == 0


def test_a_corrupted_file_of_the_folder_is_repaired_and_an_edited_one_is_kept(project, capsys):
    before = Path("splits/2.txt").read_bytes()
    flip(Path("splits/2.txt"))
    Path("words.txt").write_text("my own\n")
    with Repo() as repo:
        assert list(repo.status()) == ["split"], "words.txt alone"
    check_data.check(repair=True)
    assert "split: splits/2.txt: damaged in this folder (splits/2.txt); repaired splits/2.txt" in capsys.readouterr().out
    assert Path("splits/2.txt").read_bytes() == before
    assert Path("words.txt").read_text() == "my own\n"


def test_cache_and_remote_are_repaired_from_the_folder(project):
    before, named = (contents(CACHE), contents(REMOTE)), oids()
    for name in NAMES:
        for place in (CACHE, REMOTE):
            flip(stored(place, named[name]))
    check_data.check(repair=True)
    assert (contents(CACHE), contents(REMOTE)) == before


@pytest.mark.parametrize("link", ["hardlink", "symlink"])
def test_a_link_into_the_cache_is_repaired_with_it(link, project):
    before = Path("splits/2.txt").read_bytes()
    with Repo(config={"cache": {"type": [link]}}) as repo:
        repo.checkout(force=True, relink=True)
    flip(stored(CACHE, oids()["splits/2.txt"]))
    assert Path("splits/2.txt").read_bytes() != before
    check_data.check(repair=True)
    assert Path("splits/2.txt").read_bytes() == before


def test_a_file_without_an_intact_copy_is_moved_away_and_rebuilt(project, capsys):
    before, named = (contents(CACHE), contents(REMOTE)), oids()
    for file in (stored(CACHE, named["splits/2.txt"]), stored(REMOTE, named["splits/2.txt"]), Path("splits/2.txt")):
        flip(file)
    with Repo() as repo:
        assert repo.status() == {}, "DVC would not rebuild it"
    with pytest.raises(InputError, match=r"1 of 7 files .* are damaged or missing; the lines above say what to do"):
        check_data.check(repair=True)
    assert "no intact copy: run `sentiflow repro`, which runs split again" in capsys.readouterr().out
    assert (check_data.DAMAGED / named["splits/2.txt"]).exists()
    with Repo() as repo:
        repo.reproduce()
    check_data.check(repair=True)
    assert (contents(CACHE), contents(REMOTE)) == before


def test_own_data_without_an_intact_copy_are_not_moved(project, capsys):
    oid = oids()["reviews.csv"]
    files = [stored(CACHE, oid), stored(REMOTE, oid), Path("reviews.csv")]
    for file in files:
        flip(file)
    left = [file.read_bytes() for file in files]
    with pytest.raises(InputError, match="1 of 7 files"):
        check_data.check(repair=True)
    assert "restore reviews.csv from its original source, then `dvc add reviews.csv`" in capsys.readouterr().out
    assert [file.read_bytes() for file in files] == left


def test_without_a_remote_only_the_cache_is_checked(project, capsys):
    remote_settings.OWN_CONFIG.unlink()
    flip(stored(CACHE, oids()["words.txt"]))
    assert check_data.check(repair=True) == "Checked 7 files in the cache (no remote is set): 1 repaired."
    assert "repaired the cache from this folder (words.txt)" in capsys.readouterr().out


def test_nothing_is_repaired_during_a_run(project, monkeypatch):
    flip(stored(CACHE, oids()["words.txt"]))
    monkeypatch.setattr(locks, "PATIENCE", 0.0)
    with locks.locked(recovery.TMP / "sentiflow.lock"), pytest.raises(locks.BusyError):
        check_data.check(repair=True)
    with objects.opened() as opened:
        assert not opened.cache.is_right(oids()["words.txt"])

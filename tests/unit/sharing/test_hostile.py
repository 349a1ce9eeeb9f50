"""What anyone can put on a shared remote, or into a commit's dvc.lock, to have it written outside another one's project."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from storage import CACHE, REMOTE, oids, stored

from sentiflow.pipeline import confined, objects
from sentiflow.pipeline.confined import UnsafeError
from sentiflow.pipeline.workers import StageError, Workers
from sentiflow.sharing import check_data, check_remote, push_pull, remote_settings
from sentiflow.system.errors import InputError

LISTS = {
    "out of the project": [{"md5": "EVIL", "relpath": "../../marker"}],
    "git's hooks": [{"md5": "EVIL", "relpath": "../.git/hooks/post-checkout"}],
    "a repository of its own": [{"md5": "EVIL", "relpath": "sub/.GIT/config"}],
    "DVC's settings": [{"md5": "EVIL", "relpath": ".dvc/config"}],
    "absolute": [{"md5": "EVIL", "relpath": "/tmp/marker"}],
    "empty part": [{"md5": "EVIL", "relpath": "a//b"}],
    "NUL": [{"md5": "EVIL", "relpath": "a\0b"}],
    "backslash": [{"md5": "EVIL", "relpath": "..\\..\\marker"}],
    "drive": [{"md5": "EVIL", "relpath": "C:marker"}],
    "twice": [{"md5": "EVIL", "relpath": "a"}, {"md5": "EVIL", "relpath": "a"}],
    "hash that is a path": [{"md5": "aab/../../../../../../marker", "relpath": "a"}],
    "hash of a list": [{"md5": "EVIL.dir", "relpath": "a"}],
    "no hash": [{"relpath": "a"}],
    "no text": [{"md5": "EVIL", "relpath": 1}],
    "no list": {"relpath": "a"},
    "no entries": ["a"],
}


def put(content, place, oid=None):
    """Stores bytes under their own hash, or under another one."""
    oid = oid or hashlib.md5(content).hexdigest()
    file = stored(place, oid)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.write_bytes(content)
    return oid


def list_of(kind, place=REMOTE):
    evil = put(b"evil", place)
    return json.dumps(LISTS[kind]).replace("EVIL", evil).encode()


def name_in_lock(content, place=REMOTE):
    """Stores a list as DVC would, and has dvc.lock name it."""
    oid = put(content, place, f"{hashlib.md5(content).hexdigest()}.dir")
    before = yaml.safe_load(Path("dvc.lock").read_text())["stages"]["split"]["outs"]
    [old] = [out["md5"] for out in before if out["path"] == "splits"]
    Path("dvc.lock").write_text(Path("dvc.lock").read_text().replace(old, oid))
    return oid


def track(path, oid):
    """Writes a .dvc file as a hostile commit has it."""
    Path("x.dvc").write_text(yaml.safe_dump({"outs": [{"md5": oid, "size": 4, "hash": "md5", "path": path}]}))


def everything(top):
    """All files and links but DVC's caches."""
    found = (path for path in top.rglob("*") if path.is_symlink() or path.is_file())
    kept = [path for path in found if not {"cache", "tmp", "site"} & set(path.relative_to(top).parts)]
    return {path: path.read_bytes() if path.is_file() else b"" for path in kept}


@pytest.mark.parametrize("kind", LISTS)
def test_list_of_a_hostile_commit_is_refused_by_name_and_nothing_is_written(kind, other, tmp_path):
    oid = name_in_lock(list_of(kind))
    before = everything(tmp_path)
    with pytest.raises(UnsafeError, match=rf"split: splits: the list of files {oid} in the remote here .*nothing was written"):
        push_pull.pull()
    assert everything(tmp_path) == before
    assert not stored(CACHE, oid).exists()


@pytest.mark.parametrize("kind", ["out of the project", "git's hooks", "hash that is a path", "no list"])
@pytest.mark.parametrize("verify", ["true", "false"])
def test_list_that_was_replaced_on_the_remote_is_refused_by_name_and_nothing_is_written(verify, kind, project, other, tmp_path):
    oid = oids(project)["splits"]
    put(list_of(kind), REMOTE, oid)
    remote_settings.OWN_CONFIG.write_text(remote_settings.OWN_CONFIG.read_text().replace("verify = true", f"verify = {verify}"))
    before = everything(tmp_path)
    with pytest.raises(InputError, match=rf"(?s)split: splits \(the list of its files\), object {oid}\nNothing was written"):
        push_pull.pull()
    assert everything(tmp_path) == before
    put(stored(project / CACHE, oid).read_bytes(), CACHE, oid)
    with pytest.raises(InputError, match="Nothing was written"):
        push_pull.pull()  # though the cache has the right list, DVC may read the remote's
    assert {path: content for path, content in everything(tmp_path).items() if path in before} == before


def test_list_that_was_replaced_on_the_remote_is_healed_by_who_has_it(project, tmp_path):
    put(list_of("out of the project"), REMOTE, oids()["splits"])
    check_data.check(heal=True)
    push_pull.pull()
    assert not list(tmp_path.rglob("marker"))


def test_huge_list_is_not_read_to_its_end(other, monkeypatch):
    monkeypatch.setattr(confined, "MAX_LIST_BYTES", 1000)
    name_in_lock(json.dumps([{"md5": put(b"evil", REMOTE), "relpath": f"{number}"} for number in range(100)]).encode())
    with pytest.raises(UnsafeError, match="splits: the list of files"):
        push_pull.pull()


def test_deeply_nested_list_is_refused(other):
    name_in_lock(b"[" * 100_000)
    with pytest.raises(UnsafeError, match="it is not JSON"):
        push_pull.pull()


@pytest.mark.parametrize("command", ["fetch", "plan"])
def test_run_refuses_it_too(command, other, tmp_path):
    place = REMOTE if command == "fetch" else CACHE  # where some plain `dvc fetch` put it
    name_in_lock(list_of("out of the project", place), place)
    before = everything(tmp_path)
    with Workers(1) as workers, pytest.raises(StageError, match=r"split: splits: .*'../../marker' .*nothing was written"):
        workers.ask(command, {"targets": []} if command == "plan" else {})
    assert everything(tmp_path) == before


def test_checks_of_data_and_remote_refuse_it_too(other, tmp_path):
    oid = name_in_lock(list_of("git's hooks"))
    before = everything(tmp_path)
    with pytest.raises(UnsafeError, match="split: splits"):
        check_data.check(heal=True)
    assert everything(tmp_path) == before
    assert not stored(CACHE, oid).exists(), "a later checkout would follow it"
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qam", "hostile"], check=True)
    with pytest.raises(UnsafeError, match="split: splits"):
        check_remote.check(["HEAD"])
    with pytest.raises(UnsafeError, match="split: splits"), objects.opened() as opened:
        opened.fetch("HEAD")
    assert not stored(CACHE, oid).exists()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../../marker", "is not a plain relative path"),
        ("/tmp/marker", "is not a plain relative path"),
        (".git/hooks/post-checkout", r"\.git"),
        (".dvc/config", r"\.dvc"),
        ("link/marker", "passes through the symbolic link 'link'"),
        ("link", "passes through the symbolic link 'link'"),
    ],
)
def test_output_that_lies_elsewhere_is_refused_by_name(path, said, project, other, tmp_path):
    (tmp_path / "outside").mkdir()
    Path("link").symlink_to(tmp_path / "outside")
    track(path, oids(project)["splits"] if path == "link" else put(b"evil", REMOTE))
    before = everything(tmp_path)
    with pytest.raises(InputError, match=said) as failed:
        push_pull.pull()
    assert path in str(failed.value)
    assert everything(tmp_path) == before


def test_output_whose_hash_is_a_path_is_refused(other, tmp_path):
    track("a", "aab/../../../../../../marker")
    (tmp_path / "marker").write_text("mine\n")
    with pytest.raises(UnsafeError, match=r"x\.dvc: a: .* is not an MD5 hash"):
        push_pull.pull()
    assert (tmp_path / "marker").read_text() == "mine\n"


def test_entries_within_a_dvc_file_are_refused_too(other, tmp_path):
    files = [{"md5": put(b"evil", REMOTE), "size": 4, "relpath": "../../marker"}]
    out = {"md5": "0" * 32 + ".dir", "size": 4, "nfiles": 1, "hash": "md5", "path": "a", "files": files}
    Path("x.dvc").write_text(yaml.safe_dump({"outs": [out]}))
    with pytest.raises(InputError, match=r"x\.dvc: a: '../../marker' is not a plain relative path"):
        push_pull.pull()
    assert not list(tmp_path.parent.glob("marker"))


def test_link_that_git_tracks_within_a_folder_output_is_refused(other, tmp_path):
    (tmp_path / "outside").mkdir()
    Path("splits").mkdir()
    Path("splits/more").symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafeError, match=r"split: splits: 'splits/more' passes through the symbolic link"):
        push_pull.pull()
    assert not list((tmp_path / "outside").iterdir())


def test_file_that_is_a_link_itself_is_replaced_and_not_followed(other, tmp_path):
    Path("words.txt").symlink_to(tmp_path / "marker")
    push_pull.pull()
    assert Path("words.txt").read_text() == "good words\n"
    assert not (tmp_path / "marker").exists()


def test_entry_of_the_run_cache_on_the_remote_restores_nothing(project, other):
    """Were it pulled, the next run would take other data for the stage's output, and say that the stage is cached."""
    runs = REMOTE / "runs"
    shutil.copytree(project / ".dvc/cache/runs", runs)
    [entry] = [file for file in runs.rglob("*") if file.is_file()]
    recorded = yaml.safe_load(entry.read_text())
    outs = [out for out in recorded["outs"] if out["path"] != "counts.json"]
    for out in outs:
        out["md5"] = oids(project)["reviews.csv"] if out["path"] == "words.txt" else out["md5"]
    entry.write_text(yaml.safe_dump(recorded | {"outs": outs}))
    push_pull.pull()
    with Workers(1) as workers:
        workers.ask("fetch")
        Path("dvc.lock").unlink()
        Path("words.txt").unlink()
        assert workers.run("split", force=False, log=lambda line: None).how == "ran"
    assert Path("words.txt").read_text() == "good words\n"


def test_import_from_a_project_whose_remote_is_hostile_writes_nothing(project, tmp_path, monkeypatch):
    def run(*words):
        subprocess.run(words, check=True, capture_output=True)

    def commit():
        run("git", "add", "-A")
        run("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "x")

    dvc = (sys.executable, "-m", "dvc")
    run(*dvc, "remote", "add", "-q", "-d", "s", str(tmp_path / "project-remote"))
    commit()
    importing = tmp_path / "importing"
    importing.mkdir()
    monkeypatch.chdir(importing)
    run("git", "init", "-q")
    run(*dvc, "init", "-q")
    run(*dvc, "import", "-q", str(project), "splits")
    run(*dvc, "remote", "add", "-q", "-d", "s", str(tmp_path / "own"))
    commit()
    clone = tmp_path / "clone"
    run("git", "clone", "-q", str(importing), str(clone))
    monkeypatch.chdir(clone)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "other_site"))
    shutil.rmtree(project / ".dvc/cache")
    there = tmp_path / "project-remote/files/md5"
    put(list_of("out of the project", there), there, "89c647da2d6b207da3d3e617bfefbff4.dir")
    before = everything(clone)
    with pytest.raises(InputError):
        push_pull.pull()
    assert everything(clone) == before
    assert not list(tmp_path.rglob("marker"))


def test_dvcs_indexes_are_this_users_alone(other, monkeypatch):
    monkeypatch.delenv("DVC_SITE_CACHE_DIR")
    push_pull.pull()
    folder = Path(f".dvc/tmp/site-{os.getuid()}")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.rglob("cache.db"))


@pytest.mark.parametrize("planted", ["open", "link"])
def test_folder_of_indexes_that_others_could_write_to_is_made_anew(planted, other, tmp_path, monkeypatch):
    monkeypatch.delenv("DVC_SITE_CACHE_DIR")
    folder = Path(f".dvc/tmp/site-{os.getuid()}")
    planted_in = folder if planted == "open" else tmp_path / "theirs"
    (planted_in / "repo").mkdir(parents=True)
    (planted_in / "repo/planted").touch()
    planted_in.chmod(0o777)
    if planted == "link":
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(planted_in)
    push_pull.pull()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not (folder / "repo/planted").exists()
    if planted == "link":
        assert (planted_in / "repo/planted").exists(), "what a link leads to is not ours to remove"

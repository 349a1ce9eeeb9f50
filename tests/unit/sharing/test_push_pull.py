import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import full_disks
import posting
import processes
import pytest
from dvc.repo import Repo
from storage import CACHE, REMOTE, flip, oids, stored

from sentiflow.sharing import push_pull, remote_settings
from sentiflow.system.errors import InputError


def test_push_and_pull_bring_everything_to_another_clone_where_nothing_is_left_to_run(project, other):
    assert "Pulled 7 files" in push_pull.pull()
    for name in ("splits/1.txt", "splits/more/4.txt", "words.txt", "reviews.csv"):
        assert Path(name).read_bytes() == (project / name).read_bytes()
    with Repo() as repo:
        assert repo.status() == {}
    assert not Path(".dvc/cache/runs").exists(), "nothing in git says which entries of a run cache are right"
    assert not Path("../project-remote/files/md5/runs").exists()


def test_a_remote_over_plain_http_which_can_list_nothing_takes_and_gives_everything_too(project, other):
    def said(folder, *words):  # in a process of its own, since DVC does not close what it opened
        return subprocess.run([sys.executable, "-m", *words], cwd=folder, check=True, capture_output=True, text=True).stdout

    site = posting.Site()
    try:
        for folder in (project, other):
            said(folder, "dvc", "remote", "add", "--local", "--default", "web", site.url)
        assert said(project, "sentiflow", "remote", "push").startswith("Pushed 7 files to the remote web")
        assert said(project, "sentiflow", "remote", "push").startswith("Pushed 0 files to the remote web")
        assert said(other, "sentiflow", "remote", "pull").startswith("Pulled 7 files from the remote web")
    finally:
        site.stop()
    for name in ("splits/more/4.txt", "words.txt", "reviews.csv"):
        assert (other / name).read_bytes() == (project / name).read_bytes()


def test_push_and_pull_again_have_nothing_to_do(project):
    assert push_pull.push().startswith("Pushed 0 files to the remote here")
    assert push_pull.pull().startswith("Pulled 0 files from the remote here")


@pytest.mark.parametrize("name", ["splits/2.txt", "words.txt", "reviews.csv", "splits"])
def test_push_hands_over_what_the_remote_lost_whatever_dvc_believes(name, project):
    there = stored(REMOTE, oids()[name])
    there.unlink()
    assert push_pull.push().startswith("Pushed 1 file to")
    assert there.exists()


def test_push_replaces_a_file_that_was_cut_on_its_way(project):
    there = stored(REMOTE, oids()["words.txt"])
    whole = there.read_bytes()
    there.chmod(0o644)
    there.write_bytes(whole[:3])
    push_pull.push()
    assert there.read_bytes() == whole


def test_push_of_what_is_damaged_or_gone_here_is_an_error_that_names_stage_and_file(project):
    for name in ("splits/2.txt", "words.txt"):
        stored(REMOTE, oids()[name]).unlink()
    flip(stored(CACHE, oids()["splits/2.txt"]))
    stored(CACHE, oids()["words.txt"]).unlink()
    with pytest.raises(InputError, match="2 of 7 files could not be pushed") as failed:
        push_pull.push()
    assert "split: splits/2.txt" in str(failed.value)
    assert "split: words.txt" in str(failed.value)


@pytest.mark.parametrize("damage", [Path.unlink, flip])
def test_pull_of_what_is_missing_or_damaged_there_is_an_error_that_names_stage_and_file(damage, project, other):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        damage(stored(REMOTE, oids()["splits/more/4.txt"]))
    with pytest.raises(InputError, match=r"(?s)1 of 7 files are missing or damaged on the remote here.*split: splits/more/4.txt"):
        push_pull.pull()


def test_push_replaces_a_damaged_list_of_a_folders_files(project):
    there = stored(REMOTE, oids()["splits"])
    whole = there.read_bytes()
    flip(there)
    assert push_pull.push().startswith("Pushed 1 file to")
    assert there.read_bytes() == whole


def test_damaged_list_of_a_folders_files_is_an_error_that_says_what_heals_it(project, other):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        oid = oids()["splits"]
        for store in (CACHE, REMOTE):
            flip(stored(store, oid))
        with pytest.raises(InputError, match=r"a list of files is damaged.*sentiflow remote repair"):
            push_pull.push()
    with pytest.raises(InputError, match=r"(?s)do not match their hash:.*split: splits \(the list of its files\)"):
        push_pull.pull()


def test_pull_keeps_a_file_of_the_users_that_is_in_the_way(project, other):
    Path("words.txt").write_text("my own\n")
    with pytest.raises(InputError, match=r"words.txt"):
        push_pull.pull()
    assert Path("words.txt").read_text() == "my own\n"


def test_without_a_remote_it_says_how_to_set_one(project):
    remote_settings.OWN_CONFIG.unlink()
    with pytest.raises(InputError, match="no remote is set; set one with `sentiflow remote set"):
        push_pull.push()


@contextlib.contextmanager
def small_disk(folder, options):
    """A disk of its own in place of a folder, with what is in the folder."""
    aside = folder.with_name(f"{folder.name}.aside")
    folder.rename(aside)
    try:
        with full_disks.mounted(folder, "2m"):
            shutil.copytree(aside, folder, dirs_exist_ok=True)
            subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
            yield
    except full_disks.CannotMountError as error:
        pytest.skip(str(error))
    finally:
        aside.rename(folder)


def said_by(command):
    """The one line that a command refuses with; in a process of its own, as DVC keeps files open."""
    ended = subprocess.run([sys.executable, "-m", "sentiflow", "remote", command], capture_output=True, text=True, check=False)
    assert ended.returncode == 75, ended.stderr
    [line] = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in ended.stderr
    return line


@pytest.mark.parametrize("options", ["size=60k", "ro"], ids=["full", "read-only"])
def test_push_to_a_disk_that_takes_nothing_is_one_line_and_goes_on_afterwards(project, options):
    Path("split.sh").write_text(f"{Path('split.sh').read_text()}head -c 500000 /dev/urandom > splits/large.bin\n")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], check=True)
    remote = project.parent / "project-remote"
    with small_disk(remote, options):
        line = said_by("push")
        assert ("No space left" if "size" in options else "Read-only file system") in line
    assert push_pull.push().startswith("Pushed ")
    assert push_pull.push().startswith("Pushed 0 files")


def test_push_that_was_killed_is_completed_by_the_next_one(project, other):
    remote = project.parent / "project-remote"
    shutil.rmtree(remote / "files")
    with subprocess.Popen([sys.executable, "-m", "sentiflow", "remote", "push"], cwd=project) as started:
        processes.wait_until(lambda: any(each.is_file() for each in remote.rglob("*")), glance=0.001)
        started.kill()
    for command in ("push", "pull"):
        folder = project if command == "push" else other
        subprocess.run([sys.executable, "-m", "sentiflow", "remote", command], cwd=folder, check=True)
    for name in ("splits/1.txt", "splits/more/4.txt", "words.txt", "reviews.csv"):
        assert (other / name).read_bytes() == (project / name).read_bytes()

"""Backups of the services: plain files only, signed, complete or absent."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import full_disks
import processes
import pytest
from clones import PROJECT
from teams import fresh_secrets

from sentiflow.system.errors import InputError
from services import backup, postgresql
from services.postgresql import Cluster
from services.secrets import Secrets

CONTENT = b"outside the backup"
PLANTED = "artifacts/mlflow/1/planted"


def write_storages(folder):
    for name in ("artifacts/mlflow/1/run/artifacts/model", "remote/dvc/note"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(name)


@pytest.fixture
def secrets():
    return fresh_secrets()


@pytest.fixture
def made(tmp_path, secrets):
    """A signed backup with dummy dumps."""
    folder = tmp_path / "made"
    write_storages(folder)
    for role in postgresql.ROLES:
        (folder / f"{role}.dump").write_bytes(b"dump")
    backup.seal(folder, {role: {} for role in postgresql.ROLES}, secrets)
    return folder


def refusal(folder, secrets):
    """Why a backup is not restored. Nothing of it may be left."""
    services = folder.parent / "services"
    with pytest.raises(InputError) as refused:
        backup.restore(folder, services, secrets)
    assert not services.exists()
    assert not services.with_name("services.partial").exists()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def plant(kind, path):
    outside = path.parents[3].parent / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(CONTENT)
    match kind:
        case "link to a file":
            path.symlink_to(outside / "secret")
        case "link to a folder":
            path.symlink_to(outside)
        case "dangling link":
            path.symlink_to(outside / "missing")
        case "hard link":
            os.link(outside / "secret", path)
        case "pipe":
            os.mkfifo(path)
        case "socket":
            os.chdir(path.parent)  # the path of a socket is short
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(path.name)
        case "device":
            if os.geteuid():
                pytest.skip("only root makes devices")
            os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))


KINDS = ["link to a file", "link to a folder", "dangling link", "hard link", "pipe", "socket", "device"]


@pytest.mark.parametrize("kind", KINDS)
def test_restore_refuses_all_but_plain_files(made, secrets, kind, monkeypatch):
    monkeypatch.chdir(made)
    plant(kind, made / PLANTED)
    assert f"{made / PLANTED} {'has a hard link' if kind == 'hard link' else 'is a link'}" in refusal(made, secrets)


@pytest.mark.parametrize("kind", KINDS)
def test_backup_refuses_all_but_plain_files(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_storages(tmp_path / "services")
    plant(kind, tmp_path / "services" / PLANTED)
    with pytest.raises(InputError, match="expected only plain files and folders"):
        backup.copy(tmp_path / "services", tmp_path / "to")


@pytest.mark.parametrize("name", ["manifest.json", "manifest.hmac"])
def test_manifest_that_is_a_link_is_refused(made, secrets, name):
    (made / name).rename(made.parent / name)
    (made / name).symlink_to(made.parent / name)
    assert f"{made / name} is a link" in refusal(made, secrets)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_link_that_replaces_a_file_after_the_listing_is_not_followed(tmp_path, what):
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    for each in (folder, outside):
        (each / "b").mkdir(parents=True)
        (each / "b/c").write_text(each.name)
    (folder / "a").write_text("first")
    (folder / "d").write_text("last")
    listing = backup._plain_files(folder)
    name, _ = next(listing)
    assert name == "a"
    if what == "file":
        (folder / "d").unlink()
        (folder / "d").symlink_to(outside / "b/c")
        with pytest.raises(InputError, match="is a link"):
            list(listing)
    else:
        assert next(listing)[0] == "d"  # after `b` was listed as a folder
        shutil.rmtree(folder / "b")
        (folder / "b").symlink_to(outside / "b")
        assert list(listing) == []  # so `b/c` is missing


def test_changed_file_is_refused(made, secrets):
    (made / "remote/dvc/note").write_text("changed")
    assert "remote/dvc/note was changed" in refusal(made, secrets)


def test_missing_file_is_refused(made, secrets):
    (made / "mlflow.dump").unlink()
    assert "mlflow.dump is missing" in refusal(made, secrets)


def test_file_that_is_not_in_the_manifest_is_refused(made, secrets):
    (made / PLANTED).write_text("x")
    assert f"{PLANTED} is not in its manifest" in refusal(made, secrets)


def test_file_and_manifest_that_were_changed_together_are_refused(made, secrets):
    signature = (made / "manifest.hmac").read_text()
    (made / "mlflow.dump").write_bytes(b"\\! touch planted")
    (made / "manifest.json").unlink()
    (made / "manifest.hmac").unlink()
    backup.seal(made, {}, fresh_secrets())  # a correct manifest with another signature
    assert "is not signed with the SERVICES_BACKUP_KEY" in refusal(made, secrets)
    (made / "manifest.hmac").write_text(signature)
    assert "is not signed with the SERVICES_BACKUP_KEY" in refusal(made, secrets)
    (made / "manifest.hmac").unlink()
    assert "has no manifest.hmac" in refusal(made, secrets)


def test_backup_is_restored_on_another_machine_with_only_its_backup_key(made, secrets):
    other = fresh_secrets()
    with pytest.raises(InputError, match="set the key of the machine that wrote it"):
        backup.checked(made, other)
    with_key = Secrets({**other.values, "SERVICES_BACKUP_KEY": secrets["BACKUP_KEY"]})
    assert backup.checked(made, with_key)["files"].keys() == {
        "artifacts/mlflow/1/run/artifacts/model",
        "mlflow.dump",
        "prefect.dump",
        "remote/dvc/note",
    }


def test_folder_that_is_not_a_backup_is_refused(made, secrets):
    (made / "manifest.json").unlink()
    assert "has no manifest.json" in refusal(made, secrets)
    assert "is not a folder" in refusal(made.parent / "missing", secrets)


# --- with a running database ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running():
    """A services folder with a running PostgreSQL and two storages, and its secrets."""
    secrets = fresh_secrets()
    with tempfile.TemporaryDirectory(prefix="backup-", dir="/tmp") as name:
        services = Path(name) / "services"
        services.mkdir()
        Path(name).chmod(0o711)
        postgresql.set_folder_mode(services)
        write_storages(services)
        (services / "artifacts/mlflow/large").write_bytes(os.urandom(8 << 20))
        cluster = Cluster(services)
        postgresql.create(cluster)
        with postgresql.running(cluster, secrets):
            yield services, secrets


@pytest.mark.slow
def test_killed_backup_leaves_none_and_the_next_one_is_whole(running, tmp_path):
    services, secrets = running
    for number in range(1000):  # to make it slow
        (services / f"remote/dvc/{number}").write_bytes(os.urandom(1 << 10))
    code = (
        "from pathlib import Path; from services import backup; from services.secrets import Secrets; "
        f"backup.write(Path({str(services)!r}), Secrets({dict(secrets.values)!r}), Path({str(tmp_path / 'first')!r}))"
    )
    writing = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, stdout=subprocess.DEVNULL)
    partial = tmp_path / backup.PARTIAL
    processes.wait_until(lambda: (partial / "artifacts/mlflow/large").exists(), 120, glance=0.001)
    writing.send_signal(signal.SIGKILL)
    writing.wait()
    assert not (tmp_path / "first").exists()
    assert partial.exists()
    assert not (partial / "manifest.json").exists()
    backup.write(services, secrets, tmp_path / "second")
    assert [each.name for each in tmp_path.iterdir()] == ["second"]
    assert len(backup.checked(tmp_path / "second", secrets)["files"]) == 1005


@pytest.mark.slow
def test_concurrent_backup_is_refused(running, tmp_path):
    services, secrets = running
    with backup.locks.locked(services / "backup.lock"), pytest.raises(InputError, match="is still running"):
        backup.write(services, secrets, tmp_path / "made")


@pytest.fixture
def disk(tmp_path):
    try:
        with full_disks.mounted(tmp_path / "disk") as folder:
            yield folder
    except full_disks.CannotMountError as error:
        pytest.skip(str(error))


def failure(running, to):
    services, secrets = running
    with pytest.raises(InputError) as refused:
        backup.write(services, secrets, to)
    assert "\n" not in str(refused.value)
    assert [each for each in to.parent.iterdir() if each.name != ".filler"] == []
    return str(refused.value)


@pytest.mark.slow
def test_read_only_folder_is_a_one_line_error(running, disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert f"the backup {disk / 'made'} cannot be written: Read-only file system" in failure(running, disk / "made")


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 1 << 20])  # too little for the databases; too little for the files
def test_full_disk_is_one_message_and_leaves_nothing(running, disk, room):
    with full_disks.full(disk, room):
        assert "No space left on device" in failure(running, disk / "made")
    backup.write(*running, disk / "made")
    assert backup.checked(disk / "made", running[1])["files"]

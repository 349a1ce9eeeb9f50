"""DVC remotes of each kind, with real servers on the loopback address: a folder, S3, SSH, WebDAV."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import ports
import processes
import pytest

KINDS = ("folder", "s3", "ssh", "webdav")
PATIENCE = 60.0  # timeout in seconds for a server to respond
KEY, SECRET = "team", "a long secret of the test"
BUCKET = "models"


@dataclass(frozen=True)
class Remote:
    """A remote and its credentials.

    Attributes:
        objects: the folder on the server.
        url: argument of `sentiflow remote set`.
        environment: credentials as environment variables.
        settings: credentials as options of `dvc remote modify --local`.
        wrong_environment, wrong_settings: invalid credentials.
        look_again: call it after files in `objects` were changed without the server.
    """

    kind: str
    objects: Path
    url: str
    endpoint: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    wrong_environment: dict[str, str] = field(default_factory=dict)
    wrong_settings: dict[str, str] = field(default_factory=dict)
    look_again: Callable[[], None] = lambda: None

    @property
    def words(self):
        """Arguments of `sentiflow remote set`."""
        return [self.url, *(["--endpoint", self.endpoint] if self.endpoint else []), "--shared"]

    def stored(self, oid):
        return self.objects / "files/md5" / oid[:2] / oid[2:]


@contextlib.contextmanager
def serving(kind, folder):
    """An empty remote of a kind, with its files and log in a folder. Its server runs within the block."""
    folder.mkdir(parents=True)
    made = {"folder": _folder, "s3": _s3, "ssh": _ssh, "webdav": _webdav}[kind]
    with contextlib.contextmanager(made)(folder) as remote:
        yield remote


def _folder(folder):
    place = folder / "remote"
    yield Remote("folder", place, str(place))


def _s3(folder):
    (folder / "buckets" / BUCKET).mkdir(parents=True)
    with s3(folder / "buckets", folder / "log") as (address, look_again):
        yield Remote(
            "s3",
            folder / "buckets" / BUCKET / "sentiflow",
            f"s3://{BUCKET}/sentiflow",
            endpoint=address,
            look_again=look_again,
            environment={"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET},
            wrong_environment={"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": "another"},
        )


@contextlib.contextmanager
def s3(buckets, log):
    """An S3-compatible server over a folder of buckets, with the credentials KEY and SECRET.

    Yields its URL, and a function to call after files were changed without the server.
    """
    port = ports.free()
    # a quoted list of values, since rclone reads it as CSV
    own = {"RCLONE_AUTH_KEY": f'"{KEY},{SECRET}"'}
    with _rclone(["s3", "--addr", f"127.0.0.1:{port}", str(buckets)], port, log, own) as look_again:
        yield f"http://127.0.0.1:{port}", look_again


def _webdav(folder):
    place = folder / "files"
    (place / "sentiflow").mkdir(parents=True)  # DVC does not create parents of the folder in the URL
    port = ports.free()
    own = {"RCLONE_USER": KEY, "RCLONE_PASS": SECRET}
    with _rclone(["webdav", "--addr", f"127.0.0.1:{port}", str(place)], port, folder / "log", own) as look_again:
        yield Remote(
            "webdav",
            place / "sentiflow",
            f"webdav://127.0.0.1:{port}/sentiflow",
            look_again=look_again,
            settings={"user": KEY, "password": SECRET},
            wrong_settings={"user": KEY, "password": "another"},
        )


@contextlib.contextmanager
def _rclone(words, port, log, own):
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("rclone is not installed: no rclone")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")}
    environment |= own | {"RCLONE_CONFIG": os.devnull}
    with _started([program, "serve", *words], port, log, environment) as server:
        yield lambda: server.send_signal(signal.SIGHUP)  # clears its cache of folders


def _ssh(folder):
    program = shutil.which("sshd") or "/usr/sbin/sshd"  # Debian does not put it into the PATH of ordinary users
    if not Path(program).exists():
        pytest.skip("OpenSSH's server is not installed: no sshd")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # required if started by root
    for name in ("host", "person", "stranger"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True, capture_output=True)
    shutil.copyfile(folder / "person.pub", folder / "authorized_keys")
    port = ports.free()
    settings = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    user = pwd.getpwuid(os.geteuid()).pw_name
    with _started([program, "-D", "-e", "-f", str(folder / "config")], port, folder / "log", dict(os.environ)):
        yield Remote(
            "ssh",
            folder / "remote",
            f"ssh://{user}@127.0.0.1:{port}{folder / 'remote'}",
            settings={"user": user, "keyfile": str(folder / "person")},
            wrong_settings={"user": user, "keyfile": str(folder / "stranger")},
        )


def _responds(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


@contextlib.contextmanager
def _started(command, port, log, environment):
    with log.open("w") as said:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment, process_group=0)
    try:
        processes.wait_until(lambda: _responds(port) or server.poll() is not None, PATIENCE, message=log.read_text)
        assert server.poll() is None, log.read_text()
        yield server
    finally:
        server.kill()
        server.wait()

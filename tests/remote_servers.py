"""What a DVC remote can lie on, each a real server on this machine alone: a folder, S3, SSH, WebDAV."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import ports
import pytest

KINDS = ("folder", "s3", "ssh", "webdav")
PATIENCE = 60.0  # seconds for a server to answer, on a busy machine
KEY, SECRET = "team", "a long secret of the test"
BUCKET = "models"


@dataclass(frozen=True)
class Remote:
    """Where a remote lies, and what its users must know.

    Attributes:
        objects: the folder that holds what was pushed, as the server sees it.
        url: as `sentiflow remote set` takes it; empty for the default.
        environment: variables that hold its credentials.
        settings: credentials as options of `dvc remote modify --local`.
        wrong_environment, wrong_settings: the same with a password or key that is not the right one.
        look_again: to be called when files in `objects` were changed behind the server's back.
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
        """Of `sentiflow remote set`, shared by git although a server on this machine alone means another one elsewhere."""
        return [self.url, *(["--endpoint", self.endpoint] if self.endpoint else []), "--shared"]

    def stored(self, oid):
        """The file of an object."""
        return self.objects / "files/md5" / oid[:2] / oid[2:]


@contextlib.contextmanager
def serving(kind, folder):
    """A remote of a kind, empty, whose files and log lie in the folder; its server ends with the block."""
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
    """An S3-compatible server over a folder, whose top folders are the buckets. Key and secret: KEY, SECRET.

    Gives its URL, and what has it look at the folder again after files were changed there.
    """
    port = ports.free()
    # a quoted list of values, since rclone reads it as CSV
    own = {"RCLONE_AUTH_KEY": f'"{KEY},{SECRET}"'}
    with _rclone(["s3", "--addr", f"127.0.0.1:{port}", str(buckets)], port, log, own) as look_again:
        yield f"http://127.0.0.1:{port}", look_again


def _webdav(folder):
    place = folder / "files"
    (place / "sentiflow").mkdir(parents=True)  # DVC makes no folder above that of the URL
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
        yield lambda: server.send_signal(signal.SIGHUP)  # by which it forgets what it knows of its folders


def _ssh(folder):
    program = shutil.which("sshd") or "/usr/sbin/sshd"  # Debian keeps it off the PATH of ordinary users
    if not Path(program).exists():
        pytest.skip("OpenSSH's server is not installed: no sshd")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it locks itself up when root starts it
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


@contextlib.contextmanager
def _started(command, port, log, environment):
    with log.open("w") as said:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment, process_group=0)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
                break
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until, f"no answer within {PATIENCE:.0f} s: {log.read_text()}"
            time.sleep(0.05)
        yield server
    finally:
        server.kill()
        server.wait()

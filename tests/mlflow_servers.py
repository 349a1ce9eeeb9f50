"""Real MLflow servers on the loopback address, with SQLite or PostgreSQL, which also serve the artifacts."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import ports
import processes
import psycopg
import pytest
import requests

KINDS = ("sqlite", "postgresql")
PATIENCE = 300.0  # timeout in seconds for a server to create its tables and respond
SAFE = {
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
    "MLFLOW_SERVER_X_FRAME_OPTIONS": "DENY",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": "^(mlflow-artifacts:/|models:/|runs:/)",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # not needed, and three more processes
}


@contextlib.contextmanager
def databases(kind, folder):
    """Yield a function that creates an empty database of a given name and returns its SQLAlchemy URL.

    Args:
        kind: sqlite | postgresql.
        folder: folder of the SQLite files. PostgreSQL's files are in a temporary folder of its own user.
    """
    if kind == "sqlite":
        yield lambda name: f"sqlite:///{folder / name}.db"
        return
    with _postgresql() as socket_folder:

        def made(name):
            with psycopg.connect(host=socket_folder, user="postgres", dbname="postgres", autocommit=True) as connection:
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
            return f"postgresql+psycopg://postgres@/{name}?host={socket_folder}"

        yield made


@contextlib.contextmanager
def _postgresql():
    """The private socket folder of a temporary cluster, which listens on no port."""
    programs = {name: _program(name) for name in ("initdb", "postgres")}
    if not all(programs.values()):
        pytest.skip(f"PostgreSQL is not installed: no {' and no '.join(name for name, path in programs.items() if not path)}")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # socket paths are limited in length
    try:
        who = _ordinary_user(folder)
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        started = {"cwd": folder, "env": environment, **who}
        data = ["--pgdata", str(folder / "data")]
        init = [programs["initdb"], *data, "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        made = subprocess.run(init, capture_output=True, text=True, **started)
        assert made.returncode == 0, made.stdout + made.stderr
        settings = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off", "max_connections": "50"}
        given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                [programs["postgres"], "-D", str(folder / "data"), *given], stdout=log, stderr=log, process_group=0, **started
            )
        try:
            _wait(lambda: psycopg.connect(host=str(folder), user="postgres", dbname="postgres").close(), server, folder / "log")
            yield str(folder)
        finally:
            server.send_signal(signal.SIGINT)  # "fast" shutdown, which disconnects clients
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(20)
            _kill(server)
    finally:
        shutil.rmtree(folder)


def _program(name):
    """Path of a program of PostgreSQL's server, which Debian does not put into PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(debian[-1]) if debian else None)


def _ordinary_user(folder):
    """Give the folder to a user that is not root, as PostgreSQL requires. Returns arguments of Popen for that user."""
    if os.geteuid() != 0:
        return {}
    known = {each.pw_name: each for each in pwd.getpwall()}
    user = known.get("postgres") or known["nobody"]
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Server:
    """An MLflow server that can be killed and restarted with the same store and port."""

    def __init__(self, database, artifacts, log):
        self.database, self.artifacts, self.log = database, artifacts, log
        self.host = f"127.0.0.1:{ports.free()}"
        self.uri = f"http://{self.host}"
        self._process = None

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", self.host.partition(":")[2]]
        command += ["--workers", "1", "--allowed-hosts", self.host, "--backend-store-uri", self.database]
        command += ["--serve-artifacts", "--artifacts-destination", str(self.artifacts)]
        own = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "_MLFLOW_"))}
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.log.parent,
                env=own | SAFE,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        _wait(lambda: requests.get(f"{self.uri}/health", timeout=5).raise_for_status(), self._process, self.log)

    def kill(self):
        """Kill all of its processes with SIGKILL, as in a power failure."""
        if self._process is not None:
            _kill(self._process)


@contextlib.contextmanager
def serving(database, folder):
    """A running server with this database, and with its artifacts in this folder."""
    folder.mkdir(parents=True)
    server = Server(database, folder / "artifacts", folder / "log")
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _wait(answers, process, log):
    def responds():
        with contextlib.suppress(requests.RequestException, psycopg.OperationalError):
            answers()
            return True
        assert process.poll() is None, log.read_text()
        return False

    processes.wait_until(responds, PATIENCE, message=log.read_text)


def _kill(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

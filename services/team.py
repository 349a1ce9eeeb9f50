"""The services of a team, in one terminal: PostgreSQL, storage as S3 has it, MLflow's server and Prefect's.

All of them listen on this machine alone and ask for a password. When one dies all end, so that whoever watches over this starts
them again (`Restart=always`), in their order; what lies in `.services` is whole after whatever ended them.
"""

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import typer

from sentiflow.system import entry_point, locks, markdown, terminal
from sentiflow.system.errors import InputError
from services import health, members, postgresql, safe, supervise
from services import secrets as secrets_file
from services.health import BUCKETS
from services.postgresql import Cluster
from services.secrets import Secrets
from services.supervise import Ending

FOLDER = Path(".services")
LOCKS = {name: FOLDER / f"{name}.lock" for name in ("postgresql", "artifacts", "remote", "mlflow", "prefect", "health")}
BEFORE = 15.0  # seconds that one waits for those who use it
SERVICES = {
    # "fast": it cuts off whoever is connected, and writes down what it has
    "postgresql": Ending(30.0, LOCKS["postgresql"], (LOCKS["mlflow"], LOCKS["prefect"]), BEFORE, interrupt=True),
    "artifacts": Ending(5.0, LOCKS["artifacts"], (LOCKS["mlflow"],), BEFORE),
    "remote": Ending(5.0, LOCKS["remote"]),
    "mlflow": Ending(10.0, LOCKS["mlflow"]),
    "prefect": Ending(10.0, LOCKS["prefect"]),
    "health": Ending(1.0, LOCKS["health"]),
}
LISTENING = {"mlflow": "MLflow's server", "prefect": "Prefect's server", "remote": "DVC's remote", "artifacts": "the artifacts"}
# Settings in the user's environment are for other servers than these.
FOREIGN = ("MLFLOW_", "_MLFLOW_", "PREFECT_", "AWS_", "RCLONE_", "PG", "SERVICES_")
MIDDLEWARE = "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE"
REMOTE = f"s3://{BUCKETS['remote']}/sentiflow"
ON = ("true", "1", "yes", "on")
STARTING = 300.0  # seconds until all have made their tables and answer, on a busy machine
EVERY = 60.0  # seconds between two looks at whether all is well

log = logging.getLogger("sentiflow")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


def main() -> None:
    terminal.show_log("%(message)s")
    os.umask(0o077)  # nothing that is written here is for others
    with entry_point.handled():
        app()


def write_secrets() -> None:
    """Writes a fresh `.env` with generated secrets; never over one that is there."""
    secrets_file.write()
    print(f"wrote {secrets_file.FILE}, which only you can read; keep a copy where passwords are kept: no backup holds it")


def up() -> None:
    """Starts all services, and ends them all when one ends or a signal comes."""
    if os.environ.get(MIDDLEWARE, "").lower() in ON:
        raise InputError(
            f"{MIDDLEWARE} is {os.environ[MIDDLEWARE]!r}, so MLflow would let in any host and page; unset it, and start again"
        )
    secrets = secrets_file.read()
    FOLDER.mkdir(exist_ok=True)
    postgresql.let_through(FOLDER)
    try:
        with locks.locked(LOCKS["postgresql"], patience=supervise.LEFT_OVER):  # the last to end
            for name, what in LISTENING.items():
                place = f"{secrets_file.FILE}: SERVICES_{name.upper()}_PORT"
                supervise.require_free_port("127.0.0.1", secrets.port(name), place, what)
            cluster = _cluster()
            postgresql.settle(cluster)
            postgresql.prepare(cluster)
            for service, bucket in BUCKETS.items():
                (FOLDER / service / bucket).mkdir(parents=True, exist_ok=True)
    except locks.BusyError as error:
        raise InputError(f"the services run already, or are being restored: {error}") from None
    services = supervise.Services(_environment())
    for name, ending in SERVICES.items():
        command = "watch" if name == "health" else f"launch {name}"
        services.add(name, [sys.executable, "-m", "services.team", *command.split()], ending)
    services.run()


def status() -> None:
    """Asks each service with its password, without one and with a wrong one.

    Raises:
        InputError: if one is ill.
    """
    found = health.checks(secrets_file.read(), _cluster())
    rows = [[check.service, check.who, check.found, "well" if check.is_well else f"ILL: expected that it {check.expected}"]
            for check in found]  # fmt: skip
    print("\n".join(markdown.markdown(["service", "asked with", "found", ""], rows)))
    if ill := sorted({check.service for check in found if not check.is_well}):
        raise InputError(f"{', '.join(ill)} ill; start them with `sentiflow services up`, or read what it says")


def member(name: str, *, reset: bool = False, remove: bool = False) -> None:
    """Makes an account that may retrain and promote, and prints once what its owner needs."""
    secrets = secrets_file.read()
    if remove:
        members.remove(secrets, name)
        print(f"removed {name}; what {name} published stays. Prefect's password and the keys of DVC's remote are shared:")
        print(f"change SERVICES_PREFECT_PASSWORD and SERVICES_REMOTE_SECRET in {secrets_file.FILE}, and start again")
        return
    password = members.add(secrets, _cluster(), name, reset=reset)
    print(f"# For {name} alone, shown this once; it goes into the shell, or a file that only {name} can read:")
    for variable, value in members.environment(secrets, name, password).items():
        print(f"export {variable}={value}")
    print(f"# And once in the project's folder: sentiflow remote set {REMOTE} --endpoint {secrets.address('remote')}")


def backup(to: Path | None = None) -> None:
    """Writes databases, artifacts and DVC's remote into a folder, while all goes on."""
    from services import backup as backups  # here: what it imports takes seconds, which every service would wait for

    backups.write(FOLDER.resolve(), secrets_file.read(), to or Path("backups") / time.strftime("%Y%m%d-%H%M%S"))


def restore(source: Path) -> None:
    """Brings a backup back where there is nothing yet, and proves that all is there."""
    from services import backup as backups  # here: as above

    backups.restore(source, FOLDER.resolve(), secrets_file.read())
    backups.prove(FOLDER.resolve(), secrets_file.read())


@app.command()
def launch(name: str) -> None:
    """Become one of the services."""
    LAUNCHES[name](secrets_file.read())


@app.command()
def watch() -> None:
    """Wait until all answer, make what members share, say where all is; then tell of every one that becomes ill or well."""
    secrets, cluster = secrets_file.read(), _cluster()
    until = time.monotonic() + STARTING
    while health.ill(secrets, cluster):
        if time.monotonic() > until:
            raise InputError(f"not all services answer after {STARTING:.0f} s; what they say above tells why")
        time.sleep(1)
    members.keep(cluster, secrets, members.ADMIN, secrets["MLFLOW_ADMIN_PASSWORD"])
    members.share(secrets)
    for name in ("mlflow", "prefect", "remote"):
        print(f"{LISTENING[name]}: {secrets.address(name)}")
    print("All services answer. Accounts: sentiflow services member anna. Checks: sentiflow services status.", flush=True)
    ill: set[str] = set()
    while True:
        time.sleep(EVERY)
        now = health.ill(secrets, cluster)
        for name in sorted(now ^ ill):
            log.warning("%s is %s", name, "ILL: sentiflow services status" if name in now else "well again")
        ill = now


def _cluster() -> Cluster:
    return Cluster(FOLDER.resolve())


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}


def _launch_postgresql(secrets: Secrets) -> None:
    postgresql.settle(_cluster())
    postgresql.set_passwords(_cluster(), secrets)
    postgresql.become(_cluster())


def _launch_storage(name: str) -> Callable[[Secrets], None]:
    def launched(secrets: Secrets) -> None:
        key, secret = secrets[f"{name.upper()}_KEY_ID"], secrets[f"{name.upper()}_SECRET"]
        environment = _environment() | safe.RCLONE | {"RCLONE_AUTH_KEY": f'"{key},{secret}"'}  # quoted, or it is two of a list
        rclone = Path(sys.executable).with_name("rclone")
        command = [str(rclone), "serve", "s3", "--addr", f"127.0.0.1:{secrets.port(name)}", str(FOLDER.resolve() / name)]
        os.execve(rclone, command, environment)

    return launched


def _launch_mlflow(secrets: Secrets) -> None:
    cluster = _cluster()
    postgresql.wait(cluster, "mlflow", secrets)
    url = cluster.url("postgresql+psycopg", "mlflow", secrets)
    accounts = FOLDER / "mlflow.ini"
    settings = safe.MLFLOW_ACCOUNTS | {"database_uri": url, "admin_username": members.ADMIN}
    partial = accounts.with_suffix(".partial")
    partial.write_text("[mlflow]\n" + "".join(f"{name} = {value.replace('%', '%%')}\n" for name, value in settings.items()))
    partial.replace(accounts)  # which only its owner reads: see `main`
    environment = _environment() | safe.MLFLOW_TEAM | {
        "MLFLOW_BACKEND_STORE_URI": url,
        "MLFLOW_AUTH_CONFIG_PATH": str(accounts.resolve()),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets["MLFLOW_SECRET_KEY"],
        "MLFLOW_S3_ENDPOINT_URL": secrets.local("artifacts"),
        "AWS_ACCESS_KEY_ID": secrets["ARTIFACTS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": secrets["ARTIFACTS_SECRET"],
        # By itself MLflow lets in every host whose name begins as a private address does, such as 10.evil.com.
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(secrets.hosts("mlflow")),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(secrets.origins("mlflow")),
    }  # fmt: skip
    # What .env says holds at every start. A server is told it only while there is no admin, to make one.
    if not members.keep(cluster, secrets, members.ADMIN, secrets["MLFLOW_ADMIN_PASSWORD"]):
        environment |= {
            "MLFLOW_AUTH_ADMIN_USERNAME": members.ADMIN,
            "MLFLOW_AUTH_ADMIN_PASSWORD": secrets["MLFLOW_ADMIN_PASSWORD"],
        }
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(secrets.port("mlflow"))]
    command += ["--app-name", "sentiflow-team", "--workers", "1"]
    # nobody but this server needs the keys of the storage
    command += ["--serve-artifacts", "--artifacts-destination", f"s3://{BUCKETS['artifacts']}"]
    os.execve(sys.executable, command, environment)


def _launch_prefect(secrets: Secrets) -> None:
    cluster = _cluster()
    postgresql.wait(cluster, "prefect", secrets)
    local, address = secrets.local("prefect"), secrets.address("prefect")
    environment = _environment() | safe.PREFECT | {
        "PREFECT_HOME": str(FOLDER.resolve() / "prefect"),  # with the leases of slots, so that a restart knows who holds one
        "PREFECT_API_URL": f"{local}/api",
        "PREFECT_API_DATABASE_CONNECTION_URL": cluster.url("postgresql+asyncpg", "prefect", secrets),
        "PREFECT_SERVER_API_PORT": str(secrets.port("prefect")),
        # Off by default. Even on this machine: any page in a browser can reach it.
        "PREFECT_SERVER_API_AUTH_STRING": f"admin:{secrets['PREFECT_PASSWORD']}",
        "PREFECT_API_AUTH_STRING": f"admin:{secrets['PREFECT_PASSWORD']}",
        # The origins from which a browser may ask; by default all.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(secrets.origins("prefect")),
        "PREFECT_SERVER_UI_API_URL": f"{address}/api",
    }  # fmt: skip
    os.execve(sys.executable, [sys.executable, "-m", "prefect", "server", "start"], environment)


LAUNCHES: dict[str, Callable[[Secrets], None]] = {
    "postgresql": _launch_postgresql,
    "artifacts": _launch_storage("artifacts"),
    "remote": _launch_storage("remote"),
    "mlflow": _launch_mlflow,
    "prefect": _launch_prefect,
}

if __name__ == "__main__":
    main()

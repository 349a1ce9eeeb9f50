"""Servers of `sentiflow schedule` and `sentiflow ui`, in one terminal: Prefect's server, a worker, MLflow's UI.

A signal stops all of them, the worker first, so that its runs can still report their end to the server.
"""

import asyncio
import logging
import os
import platform
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from flows import access, checkout
from sentiflow.pipeline import repro
from sentiflow.registry import location
from sentiflow.system import entry_point, locks, terminal
from sentiflow.system.errors import InputError
from services import supervise
from services.server_settings import MLFLOW, PREFECT
from services.supervise import Shutdown

WORKER_LOCK = Path(".prefect/worker.lock")
UI_LOCK = Path(".prefect/ui.lock")
WORKER = Shutdown(timeout=60, lock=WORKER_LOCK, children_first=True)  # a retraining has to stop its stages
PREFECT_PORT, MLFLOW_PORT = 4200, 5000  # the first to try

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    terminal.show_log("%(message)s")
    with entry_point.handled():
        app()


def schedule(prefect_port: int | None = None, *, take_over: bool = False) -> None:
    """Serves the deployments of prefect.yaml: runs a worker, and a Prefect server unless one answers already."""
    try:
        with locks.locked(WORKER_LOCK, patience=supervise.LEFTOVERS):
            pass
    except locks.BusyError as error:
        raise InputError(f"the deployments are served already: {error}") from None
    services = _Services(prefect_port)
    services.add_prefect(Shutdown(lock=access.LOCK, after=(WORKER_LOCK,), after_timeout=WORKER.timeout))
    command = [sys.executable, "-m", "flows.local_servers", "work", *["--take-over"] * take_over]
    services.add("worker", command, WORKER)
    services.run()


def ui(port: int | None = None, prefect_port: int | None = None) -> None:
    """Serves MLflow's UI on the project's store, and Prefect's. Servers of a team are not replaced, only named."""
    team_mlflow = repro.mlflow_server()
    if team_mlflow is None:
        location.check(repro.tracking_uri())
    mlflow_port = None if team_mlflow else _mlflow_port(port)
    services = _Services(prefect_port)
    services.add_prefect(Shutdown(lock=access.LOCK))
    if mlflow_port:
        services.add_mlflow(mlflow_port)
        location.UI.parent.mkdir(exist_ok=True)
        location.UI.write_text(f"http://127.0.0.1:{mlflow_port}\n", encoding="utf-8")
    print(f"MLflow:  {team_mlflow or f'{location.ui_address()}/#/experiments/1/runs?workflowType=machine_learning'}")
    if page := location.comparison(team_mlflow):
        print(f"Compare: {page}")
    print(f"Prefect: {services.address.removesuffix('/api')}")
    if access.is_generated(services.environment.get("PREFECT_API_AUTH_STRING")):
        print(f"         asks for a password, once: paste the line in {access.PASSWORD}")
    sys.stdout.flush()
    if services.has_any():
        services.run()


def _mlflow_port(given: int | None) -> int:
    if not supervise.is_free(UI_LOCK):
        raise InputError(f"MLflow's UI of this project is served already: {location.ui_address()}")
    if given is None:
        last = urlsplit(location.ui_address()).port or MLFLOW_PORT
        return supervise.next_free_port("127.0.0.1", last, "--port", "MLflow's UI")
    supervise.require_free_port("127.0.0.1", given, "--port", "MLflow's UI")
    return given


@app.command()
def serve() -> None:
    """Record the address in PREFECT_API_URL, then become the Prefect server at it."""
    access.record_address(os.environ["PREFECT_API_URL"])
    os.execv(sys.executable, [sys.executable, "-m", "prefect", "server", "start"])


@app.command()
def work(take_over: Annotated[bool, typer.Option("--take-over")] = False) -> None:
    """Deploy prefect.yaml to the server at PREFECT_API_URL, then become the worker that runs it."""
    from flows import deploying  # here: it loads Prefect, which the other commands need not wait for

    logging.getLogger("httpx").setLevel(logging.WARNING)  # by default it logs every request
    worker = f"{platform.node()}-{Path.cwd().name}"  # the same at every start, so that the UI shows one worker
    asyncio.run(deploying.prepare(worker, take_over))
    os.execv(sys.executable, [sys.executable, "-m", "prefect", "worker", "start", "--pool", checkout.pool(), "--name", worker])


class _Services(supervise.Services):
    """Services that use one Prefect server: this checkout's, or that of PREFECT_API_URL.

    running: address of this checkout's server, if it runs.
    external: address of another server to use, if PREFECT_API_URL names one.
    address: of the server that is used, or is to be started.
    """

    def __init__(self, prefect_port: int | None) -> None:
        self.host = (PREFECT | os.environ)["PREFECT_SERVER_API_HOST"]
        self.running = access.own_server()
        self.external = self._external(prefect_port)
        self.address = self.external or self._running_address(prefect_port) or self._new_address(prefect_port)
        parts = urlsplit(self.address)
        environment = {
            # by default every origin is allowed
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{parts.hostname}:{parts.port},http://localhost:{parts.port}",
            "PREFECT_SERVER_UI_API_URL": self.address,
            **PREFECT,
            **os.environ,
            "PREFECT_SERVER_API_PORT": str(parts.port),
            "PREFECT_API_URL": self.address,
        }
        super().__init__(environment)

    def _url(self, port: int) -> str:
        return f"http://{'127.0.0.1' if self.host == '0.0.0.0' else self.host}:{port}/api"

    def _external(self, port: int | None) -> str | None:
        """PREFECT_API_URL; None if this checkout's server answers there, or is to be started there."""
        address = access.configured_address()
        if address in ("", self.running):
            return None
        if access.answers(address):
            access.require_protected(address)
            return address
        if self.running or address != self._url(port or access.last_port(PREFECT_PORT)):
            raise access.unreachable(address)
        return None

    def _running_address(self, port: int | None) -> str | None:
        if self.running and port and self._url(port) != self.running:
            raise InputError(f"the Prefect server of this project runs at {self.running}; end it, or leave out --prefect-port")
        return self.running

    def _new_address(self, port: int | None) -> str:
        if port is None:
            first = access.last_port(PREFECT_PORT)
            return self._url(supervise.next_free_port(self.host, first, "--prefect-port", "Prefect's server"))
        if access.answers(address := self._url(port)):
            raise InputError(
                f"another Prefect server answers at {address}; to use it, set PREFECT_API_URL={address} and its password in "
                f"PREFECT_API_AUTH_STRING, else choose another port: --prefect-port={port + 1}"
            )
        supervise.require_free_port(self.host, port, "--prefect-port", "Prefect's server")
        return address

    def add_prefect(self, shutdown: Shutdown) -> None:
        """Adds a Prefect server, unless one answers already."""
        if self.external or self.running:
            print(f"Prefect's server answers at {self.address} already.", flush=True)
        if self.external:
            return
        password = os.environ.get("PREFECT_SERVER_API_AUTH_STRING") or access.password()
        if self.running:
            password = access.password_of(self.running, os.environ.get("PREFECT_API_AUTH_STRING"), password) or ""
        else:
            self.add("server", [sys.executable, "-m", "flows.local_servers", "serve"], shutdown)
        # in the environment, since everyone can read command lines
        self.environment |= {"PREFECT_SERVER_API_AUTH_STRING": password, "PREFECT_API_AUTH_STRING": password}

    def add_mlflow(self, port: int) -> None:
        """Adds MLflow's server on the project's store."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        command += ["--default-artifact-root", "mlartifacts"]
        command += ["--app-name", "sentiflow"]  # services/mlflow_app.py
        hosts = [f"{host}:{port}" for host in ("127.0.0.1", "localhost")]
        self.environment = MLFLOW | self.environment | {
            # in the environment: the URL of a database has its password, and everyone can read command lines
            "MLFLOW_BACKEND_STORE_URI": repro.tracking_uri(),
            # by default MLflow accepts every host whose name begins like a private address, such as 10.evil.com
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{host}" for host in hosts),
        }  # fmt: skip
        self.add("mlflow", command, Shutdown(lock=UI_LOCK))


if __name__ == "__main__":
    main()

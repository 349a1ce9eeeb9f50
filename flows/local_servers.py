"""What serves the deployments and the pages on this machine, in one terminal: Prefect's server, a worker, MLflow's UI.

A signal ends all of it, the worker first, so that a run which is ended can still tell the server.
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
from services.safe import MLFLOW, PREFECT
from services.supervise import Ending

LOCK = Path(".prefect/worker.lock")
UI_LOCK = Path(".prefect/ui.lock")
WORKER = Ending(patience=60.0, lock=LOCK, children_first=True)  # a retraining has stages to end

PREFECT_PORT = 4200  # the first to try, where none is given

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
TakeOver = Annotated[bool, typer.Option("--take-over", help="where another checkout serves them, move the deployments here")]


def main() -> None:
    terminal.show_log("%(message)s")
    _no_line_per_request()
    with entry_point.handled():
        app()


def schedule(prefect_port: int | None = None, *, take_over: bool = False) -> None:
    """Serves the deployments of prefect.yaml: a Prefect server, unless one answers already, and a worker."""
    try:
        with locks.locked(LOCK, patience=supervise.LEFT_OVER):
            pass
    except locks.BusyError as error:
        raise InputError(f"the deployments are served already: {error}") from None
    services = _Services(prefect_port)
    services.add_prefect(after_worker=True)
    command = [sys.executable, "-m", "flows.local_servers", "work", *["--take-over"] * take_over]
    services.add("worker", command, WORKER)
    services.run()


def ui(port: int | None = None, prefect_port: int | None = None) -> None:
    """Serves MLflow's UI on the project's store, and Prefect's; where servers of a team do so already, say where."""
    server = repro.mlflow_server()
    if server is None:
        location.check(repro.tracking_uri())
    mlflow_port = None if server else _mlflow_port(port)
    services = _Services(prefect_port)
    services.add_prefect()
    if mlflow_port:
        services.add_mlflow(mlflow_port)
        location.UI.parent.mkdir(exist_ok=True)
        location.UI.write_text(f"http://127.0.0.1:{mlflow_port}\n", encoding="utf-8")
    runs = f"{location.ui_address()}/#/experiments/1/runs?workflowType=machine_learning"
    print(f"MLflow:  {server or runs}")
    if page := location.comparison(server):
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
        last = urlsplit(location.ui_address()).port or 5000
        return supervise.next_free_port("127.0.0.1", last, "--port", "MLflow's UI")
    supervise.require_free_port("127.0.0.1", given, "--port", "MLflow's UI")
    return given


@app.command()
def serve() -> None:
    """Record the address of PREFECT_API_URL, then become the Prefect server that answers there."""
    access.record_address(os.environ["PREFECT_API_URL"])
    os.execv(sys.executable, [sys.executable, "-m", "prefect", "server", "start"])


@app.command()
def work(take_over: TakeOver = False) -> None:
    """Put the deployments on the server at PREFECT_API_URL, then become the worker that runs them."""
    from flows import deploying  # here: it loads Prefect, which the other commands need not wait for

    worker = f"{platform.node()}-{Path.cwd().name}"  # the same at every start, so that it stays one worker in the UI
    asyncio.run(deploying.prepare(worker, take_over))
    os.execv(sys.executable, [sys.executable, "-m", "prefect", "worker", "start", "--pool", checkout.pool(), "--name", worker])


def _no_line_per_request() -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)


class _Services(supervise.Services):
    """What runs here, around one Prefect server: ours, or the one that PREFECT_API_URL names."""

    def __init__(self, prefect_port: int | None) -> None:
        _no_line_per_request()
        self.host = (PREFECT | os.environ)["PREFECT_SERVER_API_HOST"]
        self.running = access.own_server()
        self.named = self._named(prefect_port)
        self.address = self.named or self._running_address(prefect_port) or self._new_address(prefect_port)
        ours = urlsplit(self.address)
        # The origins from which a browser may ask; by default all.
        origins = ",".join(f"http://{host}:{ours.port}" for host in (ours.hostname, "localhost"))
        environment = {
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins,
            "PREFECT_SERVER_UI_API_URL": self.address,
            **PREFECT,
            **os.environ,
            "PREFECT_SERVER_API_PORT": str(ours.port),
            "PREFECT_API_URL": self.address,
        }
        super().__init__(environment)

    def _at(self, port: int) -> str:
        reached = "127.0.0.1" if self.host == "0.0.0.0" else self.host
        return f"http://{reached}:{port}/api"

    def _named(self, port: int | None) -> str | None:
        """Address of PREFECT_API_URL; None if a server of this checkout answers there, or is to be started there."""
        address = access.named()
        if address in ("", self.running):
            return None
        if access.answers(address):
            access.require_protected(address)
            return address
        if self.running or address != self._at(port or access.last_port(PREFECT_PORT)):
            raise access.no_answer(address)
        return None

    def _running_address(self, port: int | None) -> str | None:
        if self.running and port and self._at(port) != self.running:
            raise InputError(f"the Prefect server of this project runs at {self.running}; end it, or leave out --prefect-port")
        return self.running

    def _new_address(self, port: int | None) -> str:
        if port is None:
            first = access.last_port(PREFECT_PORT)
            return self._at(supervise.next_free_port(self.host, first, "--prefect-port", "Prefect's server"))
        if access.answers(address := self._at(port)):
            raise InputError(
                f"another Prefect server answers at {address}; to use it, set PREFECT_API_URL={address} and its password in "
                f"PREFECT_API_AUTH_STRING, else choose another port: --prefect-port={port + 1}"
            )
        supervise.require_free_port(self.host, port, "--prefect-port", "Prefect's server")
        return address

    def add_prefect(self, after_worker: bool = False) -> None:
        """Adds a Prefect server unless one answers.

        Args:
            after_worker: end it only when the worker has ended.
        """
        if self.named or self.running:
            print(f"Prefect's server answers at {self.address} already.", flush=True)
        if self.named:
            return
        password = os.environ.get("PREFECT_SERVER_API_AUTH_STRING") or access.password()
        if self.running:
            password = access.password_of(self.running, os.environ.get("PREFECT_API_AUTH_STRING"), password) or ""
        else:
            ending = Ending(lock=access.LOCK)
            if after_worker:
                ending = Ending(lock=access.LOCK, after=(LOCK,), wait=WORKER.patience)
            self.add("server", [sys.executable, "-m", "flows.local_servers", "serve"], ending)
        # variables, not options: everybody can read command lines
        self.environment |= {"PREFECT_SERVER_API_AUTH_STRING": password, "PREFECT_API_AUTH_STRING": password}

    def add_mlflow(self, port: int) -> None:
        """Adds MLflow's server on the store that the project publishes to."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        command += ["--default-artifact-root", "mlartifacts"]
        command += ["--app-name", "sentiflow"]  # services/mlflow_app.py
        addresses = [f"{host}:{port}" for host in ("127.0.0.1", "localhost")]
        # not options: the address of a database has its password, and everybody can read command lines
        self.environment = MLFLOW | self.environment | {
            "MLFLOW_BACKEND_STORE_URI": repro.tracking_uri(),
            # By default MLflow accepts every host whose name begins like a private address, such as 10.evil.com.
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(addresses),
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{address}" for address in addresses),
        }  # fmt: skip
        self.add("mlflow", command, Ending(lock=UI_LOCK))


if __name__ == "__main__":
    main()

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

import typer

from flows import access
from sentiflow import locks, pipeline, terminal
from sentiflow.errors import InputError
from sentiflow.tracking import location
from services import supervise
from services.safe import MLFLOW, PREFECT
from services.supervise import Ending

LOCK = Path(".prefect/worker.lock")
WORKER = Ending(patience=60.0, lock=LOCK, children_first=True)  # a retraining has stages to end

PREFECT_PORT = 4200

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Port = Annotated[int, typer.Option(min=1, max=65535)]


def main() -> None:
    terminal.show_log("%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every request to the server
    with pipeline.errors_told():
        app()


@app.command()
def schedule(prefect_port: Port = PREFECT_PORT) -> None:
    """Serve the deployments of prefect.yaml: a Prefect server, unless one answers already, and a worker."""
    try:
        with locks.locked(LOCK, patience=supervise.LEFT_OVER):
            pass
    except locks.BusyError as error:
        raise InputError(f"the deployments are served already: {error}") from None
    services = _Services(prefect_port)
    services.add_prefect(after_worker=True)
    services.add("worker", [sys.executable, "-m", "flows.local_servers", "work"], WORKER)
    services.run()


@app.command()
def ui(port: Port = 5000, prefect_port: Port = PREFECT_PORT) -> None:
    """Serve MLflow's UI on the project's store, and Prefect's; where servers of a team do so already, say where."""
    server = pipeline.mlflow_server()
    if server is None:
        location.check(pipeline.tracking_uri())
        supervise.require_free_port("127.0.0.1", port, "PORT", "MLflow's UI")
    services = _Services(prefect_port)
    services.add_prefect()
    if server is None:
        services.add_mlflow(port)
    runs = f"http://127.0.0.1:{port}/#/experiments/1/runs?workflowType=machine_learning"
    print(f"MLflow:  {server or runs}")
    print(f"Prefect: {services.address.removesuffix('/api')}")
    if services.environment.get("PREFECT_API_AUTH_STRING") == access.generated():
        print(f"         asks for a password, once: paste the line in {access.PASSWORD}")
    sys.stdout.flush()
    if services.has_any():
        services.run()


@app.command(hidden=True)
def work() -> None:
    """Put the deployments on the server at PREFECT_API_URL, then become the worker that runs them."""
    from flows import deploying  # here: it loads Prefect, which the other commands need not wait for

    worker = f"{platform.node()}-{Path.cwd().name}"  # the same at every start, so that it stays one worker in the UI
    asyncio.run(deploying.prepare(worker))
    os.execv(sys.executable, [sys.executable, "-m", "prefect", "worker", "start", "--pool", deploying.POOL, "--name", worker])


class _Services(supervise.Services):
    """What runs here, around one Prefect server: ours, or one that answers already."""

    def __init__(self, prefect_port: int) -> None:
        settings = PREFECT | {"PREFECT_SERVER_API_PORT": str(prefect_port)} | os.environ
        self.host, self.port = settings["PREFECT_SERVER_API_HOST"], prefect_port
        reached = "127.0.0.1" if self.host == "0.0.0.0" else self.host
        ours = f"http://{reached}:{prefect_port}/api"
        given = os.environ.get("PREFECT_API_URL", ours).rstrip("/")
        self.address = ours if given == ours.replace("127.0.0.1", "localhost") else given
        self.is_ours = self.address == ours
        # The origins from which a browser may ask; by default all.
        origins = ",".join(f"http://{host}:{prefect_port}" for host in (reached, "localhost"))
        environment = {
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins,
            "PREFECT_SERVER_UI_API_URL": ours,
            **settings,
            "PREFECT_API_URL": self.address,
        }
        super().__init__(environment)

    def add_prefect(self, after_worker: bool = False) -> None:
        """Adds a Prefect server unless one answers.

        Args:
            after_worker: end it only when the worker has ended.

        Raises:
            InputError: if none answers where the user says, something else is at its port, or it asks for no password.
        """
        answers = access.answers(self.address)
        if answers:
            print(f"Prefect's server answers at {self.address} already.", flush=True)
        if not self.is_ours:
            if not answers:
                raise access.no_answer(self.address)
            return
        password = os.environ.get("PREFECT_SERVER_API_AUTH_STRING") or access.password()
        if answers:
            password = access.password_of(self.address, os.environ.get("PREFECT_API_AUTH_STRING"), password) or ""
        else:
            supervise.require_free_port(self.host, self.port, "PREFECT_PORT", "Prefect's server")
            ending = Ending(after=(LOCK,), wait=WORKER.patience) if after_worker else Ending()
            self.add("server", [sys.executable, "-m", "prefect", "server", "start"], ending)
        # variables, not options: everybody can read command lines
        self.environment |= {"PREFECT_SERVER_API_AUTH_STRING": password, "PREFECT_API_AUTH_STRING": password}

    def add_mlflow(self, port: int) -> None:
        """Adds MLflow's server on the store that the project publishes to."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        command += ["--default-artifact-root", "mlartifacts"]
        command += ["--app-name", "sentiflow"]  # services/mlflow_app.py
        # not an option: the address of a database has its password, and everybody can read command lines
        addresses = [f"{host}:{port}" for host in ("127.0.0.1", "localhost")]
        self.environment = MLFLOW | self.environment | {
            "MLFLOW_BACKEND_STORE_URI": pipeline.tracking_uri(),
            # By default MLflow accepts every host whose name begins like a private address, such as 10.evil.com.
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(addresses),
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{address}" for address in addresses),
        }  # fmt: skip
        self.add("mlflow", command, Ending())


if __name__ == "__main__":
    main()

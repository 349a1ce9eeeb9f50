"""What serves the deployments and the pages on this machine, in one terminal: Prefect's server, a worker, MLflow's UI.

A signal ends all of it, the worker first, so that a run which is ended can still tell the server. Nothing outlives this process,
however it ended: each service stands under a holder, which ends the service when this process is gone.
"""

import asyncio
import contextlib
import logging
import os
import platform
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import psutil
import requests
import typer
from honcho import manager

from sentiflow import locks, pipeline, process_groups
from sentiflow.errors import InputError

LOCK = Path(".prefect/worker.lock")
MARK = "SENTIFLOW_HOLDER"  # environment variable of all that a holder started, directly or not

ENDING = {"worker": 60.0, "server": 5.0, "mlflow": 5.0}  # seconds to end by itself; a retraining has stages to end
LEFT_OVER = 30.0  # seconds to wait for the worker of a `make schedule` that was killed
GLANCE = 0.3  # seconds between two looks at whether anything ended

# What Prefect's server and the runs go by, unless the environment says otherwise.
SETTINGS = {
    # Only this machine reaches the server.
    "PREFECT_SERVER_API_HOST": "127.0.0.1",
    # Off by default, and then any page that is open in the same browser may start and delete runs.
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    # In memory, the default, a server that starts again forgets who holds a slot, and the slot is never free again.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    # Nothing reports home.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Even so Prefect's newer pages (V2) ask a tracking service on the internet for its settings; the older ones ask nobody.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # Seconds between two signs of life of a run; the least that Prefect takes, so that silence is noticed in minutes.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
}

PREFECT_PORT = 4200

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Port = Annotated[int, typer.Option(min=1, max=65535)]


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every request to the server
    with pipeline.errors_told():
        app()


@app.command()
def schedule(prefect_port: Port = PREFECT_PORT) -> None:
    """Serve the deployments of prefect.yaml: a Prefect server, unless one answers already, and a worker."""
    try:
        with locks.locked(LOCK, patience=LEFT_OVER):
            pass
    except locks.BusyError as error:
        raise InputError(f"the deployments are served already: {error}") from None
    services = _Services(prefect_port)
    services.add_prefect(after_worker=True)
    services.add("worker", [sys.executable, "-m", "flows.services", "work"])
    services.run()


@app.command()
def ui(port: Port = 5000, prefect_port: Port = PREFECT_PORT) -> None:
    """Serve MLflow's UI on the project's store, and Prefect's, unless its server answers already."""
    _require_free("127.0.0.1", port, "PORT", "MLflow's UI")
    services = _Services(prefect_port)
    services.add_prefect()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", "sqlite:///mlflow.db", "--default-artifact-root", "mlartifacts"]
    # By itself MLflow lets in every host whose name begins as a private address does, such as 10.evil.com.
    command += ["--allowed-hosts", f"127.0.0.1:{port},localhost:{port}", "--x-frame-options", "DENY"]
    services.add("mlflow", command)
    print(f"MLflow:  http://127.0.0.1:{port}/#/experiments/1/runs?workflowType=machine_learning")
    print(f"Prefect: {services.address.removesuffix('/api')}", flush=True)
    services.run()


@app.command(hidden=True)
def work() -> None:
    """Put the deployments on the server at PREFECT_API_URL, then become the worker that runs them."""
    from flows import deploying  # here: it loads Prefect, which the other commands need not wait for

    worker = f"{platform.node()}-{Path.cwd().name}"  # the same at every start, so that it stays one worker in the UI
    asyncio.run(deploying.prepare(worker))
    os.execv(sys.executable, [sys.executable, "-m", "prefect", "worker", "start", "--pool", deploying.POOL, "--name", worker])


@app.command(hidden=True)
def hold(name: str, supervisor: int, command: list[str], after_worker: bool = False) -> None:
    """Run one service until it ends, a signal comes or the supervisor is gone; then end all that it started."""
    received: list[int] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(process_groups.signals_to(lambda number, _: received.append(number)))
        if name == "worker":
            stack.enter_context(locks.locked(LOCK, patience=0))
        mark = f"{os.getpid()}:{time.time_ns()}"
        service = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=os.environ | {MARK: mark}, process_group=0)
        stack.callback(_kill_marked, mark)
        _wait(lambda: service.poll() is not None or bool(received) or not _is_alive(supervisor))
        if after_worker and service.poll() is None:
            _wait(_worker_has_ended, ENDING["worker"])
        if name == "worker":  # while it is there to tell the server how they ended; by itself it leaves them behind
            for run in (runs := _children(service.pid)):
                run.terminate()
            _wait(lambda: not any(run.is_running() for run in runs) or len(received) > 1, ENDING[name])
        if service.poll() is None:
            service.terminate()
            _wait(lambda: service.poll() is not None or len(received) > 1, ENDING[name])
    status = service.wait()
    sys.exit(status if status >= 0 else 128 - status)  # as a shell tells of a signal


class _Services(manager.Manager):  # type: ignore[misc]  # honcho has no types
    """Runs holders side by side until one ends or a signal comes, their output in one stream, each line with its service."""

    def __init__(self, prefect_port: int) -> None:
        super().__init__()
        settings = SETTINGS | {"PREFECT_SERVER_API_PORT": str(prefect_port)} | os.environ
        self.host, self.port = settings["PREFECT_SERVER_API_HOST"], prefect_port
        reached = "127.0.0.1" if self.host == "0.0.0.0" else self.host
        ours = f"http://{reached}:{prefect_port}/api"
        given = os.environ.get("PREFECT_API_URL", ours).rstrip("/")
        self.address = ours if given == ours.replace("127.0.0.1", "localhost") else given
        self.is_ours = self.address == ours
        # The origins from which a browser may ask; by default all.
        origins = ",".join(f"http://{host}:{prefect_port}" for host in (reached, "localhost"))
        self.environment = {
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins,
            "PREFECT_SERVER_UI_API_URL": ours,
            "PREFECT_API_AUTH_STRING": os.environ.get("PREFECT_SERVER_API_AUTH_STRING", ""),
            **settings,
            "PREFECT_API_URL": self.address,
            "PYTHONUNBUFFERED": "1",  # else the lines come when the buffer is full
        }
        if not self.environment["PREFECT_API_AUTH_STRING"]:
            del self.environment["PREFECT_API_AUTH_STRING"]

    def add_prefect(self, after_worker: bool = False) -> None:
        """Adds a Prefect server unless one answers.

        Args:
            after_worker: end it only when the worker has ended.

        Raises:
            InputError: if none answers where the user says, or something else is at its port.
        """
        if answers(self.address):
            print(f"Prefect's server answers at {self.address} already.", flush=True)
        elif not self.is_ours:
            raise InputError(
                f"no Prefect server answers at {self.address}, where PREFECT_API_URL points; start it, correct the address, or "
                "`unset PREFECT_API_URL` so that one is started here"
            )
        else:
            _require_free(self.host, self.port, "PREFECT_PORT", "Prefect's server")
            self.add("server", [sys.executable, "-m", "prefect", "server", "start"], *["--after-worker"] * after_worker)

    def add(self, name: str, command: list[str], *options: str) -> None:
        holder = [sys.executable, "-m", "flows.services", "hold", *options, name, str(os.getpid()), "--", *command]
        self.add_process(name, f"exec {shlex.join(holder)}", env=self.environment)

    def run(self) -> None:
        """Raises SystemExit, when all of them have ended, with a status that is not 0: none of them ends of its own accord."""
        manager.KILL_WAIT = sum(ENDING.values())  # holders kill in time, and what they hold as well
        self.loop()
        sys.exit(self.returncode or 1)


def answers(address: str) -> bool:
    """Whether a Prefect server answers there."""
    try:
        return bool(requests.get(f"{address}/health", timeout=10).json() is True)
    except requests.RequestException:
        return False


def _require_free(host: str, port: int, variable: str, what: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"{what} cannot use port {port} of {host}: {error.strerror}; end what uses it, "
                f"or choose another: {variable}={port + 1}"
            ) from None


def _wait(done: Callable[[], bool], patience: float = float("inf")) -> None:
    until = time.monotonic() + patience
    while not done() and time.monotonic() < until:
        time.sleep(GLANCE)


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def _worker_has_ended() -> bool:
    try:
        with locks.locked(LOCK, patience=0):
            return True
    except locks.BusyError:
        return False


def _kill_marked(mark: str) -> None:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark:
                process.send_signal(signal.SIGKILL)


if __name__ == "__main__":
    main()

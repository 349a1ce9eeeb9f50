"""Real Prefect servers and workers on the loopback address, each in its own process group, to kill and restart."""

import contextlib
import os
import signal
import subprocess
import sys

import ports
import processes
import psutil
import requests
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_SERVER_API_AUTH_STRING, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from services.secrets import generated

PATIENCE = 180.0  # timeout in seconds for a server to create its tables and respond
SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_API_HOST": "127.0.0.1",
    # otherwise a killed server loses its concurrency leases
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_WORKER_QUERY_SECONDS": "2",  # the default is 10 seconds
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "3",  # the default is one minute
    "DO_NOT_TRACK": "1",
}


class Program:
    """A program of Prefect that runs until it is stopped."""

    def __init__(self, arguments, folder, environment, log):
        self.command = [sys.executable, "-m", "prefect", *arguments]
        self.folder, self.environment, self.log = folder, environment, log
        self._process = None

    def start(self):
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def require_running(self):
        assert self._process.poll() is None, self.log.read_text()[-3000:]

    def stop(self):
        """Stop it as Ctrl-C does."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
            self.kill()

    def kill(self):
        """Kill it and its descendants with SIGKILL, as in a power failure."""
        if self._process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.kill(psutil.Process(self._process.pid).children(recursive=True))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Server(Program):
    """A Prefect server on a free port, with its own home, or with the database of `url`."""

    def __init__(self, home, url=None):
        home.mkdir(parents=True, exist_ok=True)
        port = ports.free()
        self.api = f"http://127.0.0.1:{port}/api"
        self.password = f"admin:{generated()}"
        own = SETTINGS | {"PREFECT_HOME": str(home), "PREFECT_API_URL": self.api}
        own |= {"PREFECT_SERVER_API_AUTH_STRING": self.password, "PREFECT_API_AUTH_STRING": self.password}
        if url is not None:
            own["PREFECT_API_DATABASE_CONNECTION_URL"] = url
        super().__init__(["server", "start", "--port", str(port)], home, clean() | own, home / "server.log")

    def start(self):
        super().start()
        processes.wait_until(self._responds, PATIENCE, message=lambda: self.log.read_text()[-3000:])

    def _responds(self):
        self.require_running()
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{self.api}/health", timeout=5).json() is True
        return False


@contextlib.contextmanager
def harness():
    """Prefect's server for tests, with a password."""
    password = f"admin:{generated()}"
    settings = {PREFECT_SERVER_API_AUTH_STRING: password, PREFECT_API_AUTH_STRING: password}
    with temporary_settings(settings), prefect_test_harness(server_startup_timeout=int(PATIENCE)):
        yield


def clean():
    """Environment variables without settings of Prefect and MLflow."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_", "_MLFLOW_"))}

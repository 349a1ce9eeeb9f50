"""A PostgreSQL server that is stopped during a run and restarted."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import faults
import full_disks
import mlflow_servers
import processes
import psutil
import psycopg
from mlflow import MlflowClient

BEFORE = "report"  # the last stage before those below
# Stages that write to the store, each with a query that counts their first writes.
MOMENTS = {
    "register": "SELECT count(*) FROM runs",
    "judge": "SELECT count(*) FROM registered_model_aliases WHERE alias = 'challenger'",
}


@contextlib.contextmanager
def database(folder):
    """A database for MLflow's store."""
    with mlflow_servers.databases("postgresql", folder) as made:
        one = Database(made("store"))
        try:
            yield one
        finally:
            one.end()


class Database:
    def __init__(self, url):
        self.url = url
        self.socket = Path(url.partition("?host=")[2])
        pid = int((self.socket / "data/postmaster.pid").read_text().split()[0])
        self._server = psutil.Process(pid)
        self._command = self._server.cmdline()
        uid, gid = self._server.uids().real, self._server.gids().real
        self._as_user = {} if os.geteuid() else {"user": uid, "group": gid, "extra_groups": []}  # PostgreSQL refuses root
        self._begun = None

    def stop(self):
        """Stop immediately, as in a power failure."""
        self._server.send_signal(signal.SIGQUIT)
        if self._begun is None:
            psutil.wait_procs([self._server], timeout=60)
        else:
            self._begun.wait(60)

    def start(self):
        (self.socket / "data/postmaster.pid").unlink(missing_ok=True)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._begun = subprocess.Popen(self._command, cwd=self.socket, process_group=0, **quiet, **self._as_user)
        self._server = psutil.Process(self._begun.pid)
        processes.wait_until(self._answers, 120)

    def end(self):
        """Stop a server that was started here."""
        if self._begun is not None:
            self._begun.send_signal(signal.SIGINT)
            self._begun.wait(60)

    def _answers(self):
        with contextlib.suppress(psycopg.OperationalError):
            self.counted("SELECT 1")
            return True
        return False

    def counted(self, query):
        """Result of a count query; 0 if the table does not exist."""
        connection = psycopg.connect(host=str(self.socket), user="postgres", dbname="store")
        with connection, contextlib.suppress(psycopg.errors.UndefinedTable):
            return int(connection.execute(query).fetchone()[0])
        return 0


class Project(faults.Project):
    """A project whose MLflow store is this database."""

    database = None

    def environment(self, **more):
        return super().environment(MLFLOW_TRACKING_URI=self.database.url, **more)

    def client(self):
        return MlflowClient(self.database.url, self.database.url)


def repro_while_stopped(project, stage, query):
    """Exit status and output of `sentiflow repro`, with the database stopped after the first write of the stage."""
    run = full_disks.begin(project)
    processes.wait_until(lambda: run.poll() is not None or project.stage(stage), full_disks.SECONDS, glance=0.01)
    before = project.database.counted(query)
    processes.wait_until(
        lambda: run.poll() is not None or project.database.counted(query) > before, full_disks.SECONDS, glance=0.01
    )
    assert run.poll() is None, run.communicate()[0]
    project.database.stop()
    output, _ = run.communicate(timeout=full_disks.SECONDS)
    return run.returncode, output

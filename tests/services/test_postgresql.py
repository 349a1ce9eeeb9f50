"""PostgreSQL of the services alone: recovery after a crash, changed passwords, rights of the roles."""

import contextlib
import subprocess
import tempfile
import threading
from pathlib import Path

import psycopg
import pytest
from teams import fresh_secrets

from services import postgresql
from services.postgresql import Cluster

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster():
    """A new cluster that was never started, in a folder that PostgreSQL's user can reach."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as name:
        postgresql.set_folder_mode(Path(name))
        made = Cluster(Path(name))
        postgresql.create(made)
        yield made
        postgresql.stop_leftovers(made)


def start_without_supervisor(cluster):
    quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(postgresql._server(cluster), cwd="/", **quiet, **postgresql._as_user())
    threading.Thread(target=server.wait, daemon=True).start()  # as init does with orphans
    return server


def test_next_start_shuts_down_a_server_of_an_earlier_run(cluster):
    secrets = fresh_secrets()
    postgresql.set_passwords(cluster, secrets)
    server = start_without_supervisor(cluster)
    postgresql.wait(cluster, "mlflow", secrets)
    postgresql.stop_leftovers(cluster)
    assert server.poll() == 0
    with postgresql.running(cluster, secrets):
        pass


def test_pid_file_of_a_dead_server_is_ignored_even_if_another_process_has_its_pid(cluster):
    pid_file = cluster.data / "postmaster.pid"
    with subprocess.Popen(["sleep", "600"]) as other:
        pid_file.write_text(f"{other.pid}\n{cluster.data}\n")
        with postgresql.running(cluster, fresh_secrets()):
            assert other.poll() is None
        other.kill()


def test_changed_password_replaces_the_old_one_at_the_next_start(cluster):
    first, second = fresh_secrets(), fresh_secrets()
    with (
        postgresql.running(cluster, first),
        contextlib.closing(cluster.connect("mlflow", first["MLFLOW_DATABASE_PASSWORD"])) as connection,
    ):
        connection.execute("CREATE TABLE kept (x int)")
        connection.commit()
    with postgresql.running(cluster, second):
        with contextlib.closing(cluster.connect("mlflow", second["MLFLOW_DATABASE_PASSWORD"])) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            cluster.connect("mlflow", first["MLFLOW_DATABASE_PASSWORD"])


def test_role_without_superuser_rights_can_create_the_extension_that_prefect_needs(cluster):
    secrets = fresh_secrets()
    with (
        postgresql.running(cluster, secrets),
        contextlib.closing(cluster.connect("prefect", secrets["PREFECT_DATABASE_PASSWORD"])) as connection,
    ):
        connection.execute("CREATE EXTENSION pg_trgm")
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)

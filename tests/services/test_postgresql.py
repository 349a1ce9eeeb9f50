"""PostgreSQL of the services by itself: what a crash leaves, and passwords that change."""

import contextlib
import subprocess
import tempfile
import threading
from pathlib import Path

import psycopg
import pytest

from services import postgresql
from services.postgresql import Cluster
from services.secrets import ADDRESSES, PORTS, SECRETS, Secrets, generated

pytestmark = pytest.mark.slow


def fresh_secrets():
    return Secrets({**{name: generated() for name in SECRETS}, **PORTS, **dict.fromkeys(ADDRESSES, "")})


@pytest.fixture
def cluster():
    """Made, and never started; where its user can reach it."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as name:
        postgresql.set_folder_mode(Path(name))
        made = Cluster(Path(name))
        postgresql.create(made)
        yield made
        postgresql.stop_leftovers(made)


def left_over(cluster):
    """A server that nobody holds."""
    quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(postgresql._server(cluster), cwd="/", **quiet, **postgresql._as_user())
    threading.Thread(target=server.wait, daemon=True).start()  # as the first process of a system does with orphans
    return server


def test_server_that_was_left_over_is_ended_in_good_order_by_the_next_start(cluster):
    secrets = fresh_secrets()
    postgresql.set_passwords(cluster, secrets)
    server = left_over(cluster)
    postgresql.wait(cluster, "mlflow", secrets)
    postgresql.stop_leftovers(cluster)
    assert server.poll() == 0
    with postgresql.running(cluster, secrets):
        pass


def test_note_of_a_dead_server_whose_number_another_process_has_is_in_nobodys_way(cluster):
    note = cluster.data / "postmaster.pid"
    with subprocess.Popen(["sleep", "600"]) as other:
        note.write_text(f"{other.pid}\n{cluster.data}\n")
        with postgresql.running(cluster, fresh_secrets()):
            assert other.poll() is None
        other.kill()


def test_password_that_changed_holds_from_the_next_start_and_the_old_one_no_longer(cluster):
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


def test_role_that_is_no_superuser_makes_the_extension_that_prefect_needs(cluster):
    secrets = fresh_secrets()
    with (
        postgresql.running(cluster, secrets),
        contextlib.closing(cluster.connect("prefect", secrets["PREFECT_DATABASE_PASSWORD"])) as connection,
    ):
        connection.execute("CREATE EXTENSION pg_trgm")
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)

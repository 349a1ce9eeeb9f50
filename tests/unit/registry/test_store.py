import contextlib
import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import guarded
import pytest
from mlflow.entities import Dataset, DatasetInput
from mlflow.exceptions import MlflowException

from sentiflow.registry import store as stores
from sentiflow.system.errors import InputError, UnavailableError


@pytest.mark.parametrize(
    ("uri", "address", "user", "password"),
    [
        ("https://ann:p%40ss@example.org:5000/mlflow", "https://example.org:5000/mlflow", "ann", "p@ss"),
        ("http://ann@127.0.0.1:5000", "http://127.0.0.1:5000", "ann", ""),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000", None, None),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db", None, None),
        ("postgresql://ann:word@example.org/mlflow", "postgresql://ann:word@example.org/mlflow", None, None),
    ],
)
def test_credentials_are_removed_from_a_servers_url(uri, address, user, password, monkeypatch):
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "of before")
        monkeypatch.delenv(name)
    assert stores._without_credentials(uri) == address
    assert os.environ.get("MLFLOW_TRACKING_USERNAME") == user
    assert os.environ.get("MLFLOW_TRACKING_PASSWORD") == password


@pytest.mark.parametrize(("status", "why"), [(401, "authentication failed"), (403, "this account may not read the models")])
def test_denied_access_and_an_outage_are_different_errors(monkeypatch, status, why):
    with guarded.server(status) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(InputError, match=f"MLflow's server at .*: {why}.*MLFLOW_TRACKING_PASSWORD") as refused:
            stores.connect()
    assert not isinstance(refused.value, UnavailableError)  # trying again would not help
    with pytest.raises(UnavailableError, match="does not answer"):
        stores.connect()


@pytest.mark.parametrize("what", ["the reviews that a run has read", "an alias", "a tag of a version"])
def test_simultaneous_writes_of_the_same_both_succeed(store, what):
    """Without the retries MLflow rejects one of the two in a third of the rounds."""
    rounds, together = 20, threading.Barrier(2)
    runs = [store.create_run(stores.experiment_id(store)).info.run_id for _ in range(2)]
    with contextlib.suppress(MlflowException):  # it is there
        store.create_registered_model(stores.MODEL)
    version = store.create_model_version(stores.MODEL, "anywhere", runs[0]).version

    def writes(run, number):
        if what == "an alias":
            return store.set_registered_model_alias, stores.MODEL, f"alias{number}", version
        if what == "a tag of a version":
            return store.set_model_version_tag, stores.MODEL, version, f"tag{number}", "true"
        return store.log_inputs, run, [DatasetInput(Dataset("reviews", f"{number}", "local", "{}"), [])]

    def write_one_after_another(run):
        for number in range(rounds):
            together.wait(60)
            stores.write(*writes(run, number))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write_one_after_another, runs))
    found = store.get_model_version(stores.MODEL, version)
    if what == "an alias":
        assert {f"alias{number}" for number in range(rounds)} <= set(found.aliases)
    elif what == "a tag of a version":
        assert {f"tag{number}" for number in range(rounds)} <= found.tags.keys()
    else:
        assert [len(store.get_run(run).inputs.dataset_inputs) for run in runs] == [rounds, rounds]


def test_write_that_is_rejected_for_another_reason_raises(store):
    with pytest.raises(MlflowException, match="nobody"):
        stores.write(store.set_registered_model_alias, "nobody", "champion", "1")


def test_deleted_experiment_is_restored_with_its_runs(store, caplog):
    run = store.create_run(stores.experiment_id(store)).info.run_id
    store.delete_experiment(stores.experiment_id(store))
    with pytest.raises(MlflowException):
        store.create_run(stores.experiment_id(store))
    again = stores.connect()
    assert "restored MLflow's experiment 'sentiflow', which was deleted" in caplog.text
    assert again.get_run(run).info.lifecycle_stage == "active"
    again.create_run(stores.experiment_id(again))


@contextlib.contextmanager
def revision(name):
    """The store with the schema revision of another version of MLflow."""
    with contextlib.closing(sqlite3.connect("mlflow.db")) as database:
        [(before,)] = database.execute("SELECT version_num FROM alembic_version").fetchall()
        database.execute("UPDATE alembic_version SET version_num = ?", (name,))
        database.commit()
        try:
            yield
        finally:
            database.execute("UPDATE alembic_version SET version_num = ?", (before,))
            database.commit()


@pytest.fixture
def another_name(store, monkeypatch):
    """The same store under another address: MLflow checks the schema when it opens a store for the first time in a process."""

    def set_address(query):
        uri = f"{os.environ['MLFLOW_TRACKING_URI']}?{query}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        return uri

    return set_address


def test_database_of_an_older_mlflow_is_refused_with_the_upgrade_command(another_name):
    uri = another_name("timeout=5")
    with revision("75868b020152"), pytest.raises(InputError) as refused:
        stores.connect()
    said = str(refused.value)
    assert "was written by an older MLflow than the installed version 3." in said
    assert said.endswith(f"back it up, then upgrade it: .venv/bin/mlflow db upgrade '{uri}'")
    assert "move it away" not in said
    assert "\n" not in said


def test_database_of_a_newer_mlflow_is_refused_with_the_command_that_prints_its_version(another_name):
    another_name("timeout=6")
    with revision("ffffffffffff"), pytest.raises(InputError, match="was written by a newer MLflow than") as refused:
        stores.connect()
    said = str(refused.value)
    assert "(schema ffffffffffff)" in said
    assert "grep -rh ^mlflow_version mlartifacts --include=MLmodel" in said
    assert "move it away" not in said
    assert "\n" not in said


def test_database_that_becomes_locked_is_reported_as_locked(store):
    with contextlib.closing(sqlite3.connect("mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UnavailableError, match="is locked: another process is writing to it"), stores.errors_handled():
            store.create_run(stores.experiment_id(store))

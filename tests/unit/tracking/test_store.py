import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import guarded
import pytest
from mlflow.entities import Dataset, DatasetInput
from mlflow.exceptions import MlflowException

from sentiflow.errors import InputError, UnavailableError
from sentiflow.tracking import store as stores


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
def test_a_password_does_not_stay_in_a_servers_address(uri, address, user, password, monkeypatch):
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "of before")
        monkeypatch.delenv(name)
    assert stores._address(uri) == address
    assert os.environ.get("MLFLOW_TRACKING_USERNAME") == user
    assert os.environ.get("MLFLOW_TRACKING_PASSWORD") == password


@pytest.mark.parametrize(("status", "why"), [(401, "got none or a wrong one"), (403, "knows this account, which may not see")])
def test_server_that_lets_nobody_in_is_told_apart_from_one_that_is_away(monkeypatch, status, why):
    with guarded.server(status) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(InputError, match=f"does not let this user in: it .*{why}.*MLFLOW_TRACKING_PASSWORD") as refused:
            stores.connect()
    assert not isinstance(refused.value, UnavailableError)  # asking again would not help
    with pytest.raises(UnavailableError, match="does not answer"):
        stores.connect()


@pytest.mark.parametrize("what", ["the reviews that a run has read", "an alias", "a tag of a version"])
def test_of_two_that_write_the_same_at_one_moment_neither_is_refused(store, what):
    """By itself MLflow refuses one of the two in a third of the rounds."""
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


def test_what_is_refused_for_another_reason_is_told(store):
    with pytest.raises(MlflowException, match="nobody"):
        stores.write(store.set_registered_model_alias, "nobody", "champion", "1")

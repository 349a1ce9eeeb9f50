import os

import guarded
import pytest

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

import os

import pytest

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

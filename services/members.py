"""Accounts of the team's MLflow server: what all members share, and the account of each."""

import contextlib
import os
import re
from typing import Any

import requests
from werkzeug.security import generate_password_hash

from sentiflow.system.errors import InputError, UnavailableError
from services import health
from services.postgresql import Cluster
from services.secrets import Secrets, generated

ROLE = "retraining"
WORKSPACE = "default"  # MLflow's only one, unless more are configured
EXPERIMENT, MODEL, HISTORY = "sentiflow", "sentiflow", "sentiflow-champions"  # as in `sentiflow.registry`, which loads MLflow
ADMIN = "admin"
# Resource type, pattern, permission. MLflow requires MANAGE for removing an interrupted publication; it also covers what members
# must not do, which `authorization.py` refuses.
GRANTS = (
    ("experiment", "{experiment}", "EDIT"),
    ("run", "*", "MANAGE"),  # only in experiments that they may read
    ("logged_model", "*", "MANAGE"),
    ("registered_model", MODEL, "MANAGE"),
    ("registered_model", HISTORY, "EDIT"),
)
# A cheap hash for generated passwords. MLflow's own takes 0.1 s of CPU three times per request, to protect passwords that people
# choose; 256 random bits cannot be guessed from any hash.
HASH = "pbkdf2:sha256:1000"


def share(secrets: Secrets) -> None:
    """Creates what members share, as far as it is missing: experiment, registered models, and the role with its permissions."""
    experiment = _find(secrets, "2.0/mlflow/experiments/get-by-name", experiment_name=EXPERIMENT)
    models = [_find(secrets, "2.0/mlflow/registered-models/get", name=name) for name in (MODEL, HISTORY)]
    if experiment is None or None in models:
        _create_shared(secrets)
        experiment = _request(secrets, "GET", "2.0/mlflow/experiments/get-by-name", experiment_name=EXPERIMENT)
    _grant(secrets, str(experiment["experiment"]["experiment_id"]))


def _create_shared(secrets: Secrets) -> None:
    os.environ |= {
        "MLFLOW_TRACKING_URI": secrets.local("mlflow"),
        "MLFLOW_TRACKING_USERNAME": ADMIN,
        "MLFLOW_TRACKING_PASSWORD": secrets["MLFLOW_ADMIN_PASSWORD"],
    }
    # imported here since it loads MLflow, which takes seconds and is needed at the first start only
    from sentiflow.registry import champion_history, publishing, store

    client = store.connect()  # creates the experiment
    store.create_model(client, MODEL, publishing.MODEL_DESCRIPTION)
    store.create_model(client, HISTORY, champion_history.HISTORY_DESCRIPTION)


def _grant(secrets: Secrets, experiment: str) -> None:
    missing = {(kind, pattern.format(experiment=experiment)): level for kind, pattern, level in GRANTS}
    role = _role(secrets)
    if role is None:
        content: dict[str, Any] = {"workspace": WORKSPACE, "name": ROLE, "description": "retrains and promotes"}
        role = _request(secrets, "POST", "3.0/mlflow/roles/create", **content)["role"]["id"]
    for each in _request(secrets, "GET", "3.0/mlflow/roles/permissions/list", role_id=role)["role_permissions"]:
        key = (each["resource_type"], each["resource_pattern"])
        if missing.get(key) == each["permission"]:
            del missing[key]
        else:
            _request(secrets, "DELETE", "3.0/mlflow/roles/permissions/remove", role_permission_id=each["id"])
    for (kind, pattern), level in missing.items():
        content = {"role_id": role, "resource_type": kind, "resource_pattern": pattern, "permission": level}
        _request(secrets, "POST", "3.0/mlflow/roles/permissions/add", **content)


def _role(secrets: Secrets) -> int | None:
    roles = _request(secrets, "GET", "3.0/mlflow/roles/list", workspace=WORKSPACE)["roles"]
    return next((role["id"] for role in roles if role["name"] == ROLE), None)


def set_password(cluster: Cluster, secrets: Secrets, name: str, password: str) -> bool:
    """Sets the generated password of an account; False if there is no such account."""
    with contextlib.closing(cluster.connect("mlflow", secrets.database("mlflow"))) as connection, connection:
        [has_accounts] = connection.execute("SELECT to_regclass('users') IS NOT NULL").fetchone() or (False,)
        if not has_accounts:
            return False
        change = "UPDATE users SET password_hash = %s WHERE username = %s"
        return connection.execute(change, (generate_password_hash(password, HASH), name)).rowcount == 1


def add(secrets: Secrets, cluster: Cluster, name: str, *, reset: bool = False) -> str:
    """Creates a member's account, or resets its password. Returns the password, which is stored nowhere in plain text."""
    _require_name(name)
    password = generated()
    exists = _find(secrets, "2.0/mlflow/users/get", username=name) is not None
    if exists and not reset:
        raise InputError(f"there is an account {name} already, and nothing was changed; to give it a new password, add --reset")
    if reset and not exists:
        raise InputError(f"received --reset for {name}, which is not an account; to create it, leave out --reset")
    if not exists:
        _request(secrets, "POST", "2.0/mlflow/users/create", username=name, password=password)
    set_password(cluster, secrets, name, password)
    role = _role(secrets)
    if role is None:
        raise InputError("MLflow has no role for members; `sentiflow services up` creates it when it starts")
    roles = _request(secrets, "GET", "3.0/mlflow/users/roles/list", username=name)["roles"]
    if role not in [each["id"] for each in roles]:
        _request(secrets, "POST", "3.0/mlflow/roles/assign", username=name, role_id=role)
    return password


def remove(secrets: Secrets, name: str) -> None:
    """Removes an account; what it published stays."""
    _require_name(name)
    if _find(secrets, "2.0/mlflow/users/get", username=name) is None:
        raise InputError(f"there is no account {name} to remove")
    _request(secrets, "DELETE", "2.0/mlflow/users/delete", username=name)


def environment(secrets: Secrets, name: str, password: str) -> dict[str, str]:
    """Environment variables with which a member uses the services."""
    return {
        "MLFLOW_TRACKING_URI": secrets.address("mlflow"),
        "MLFLOW_TRACKING_USERNAME": name,
        "MLFLOW_TRACKING_PASSWORD": password,
        # by default MLflow sends its clients to the storage, which only its server can reach
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
        "PREFECT_API_URL": f"{secrets.address('prefect')}/api",
        "PREFECT_API_AUTH_STRING": f"admin:{secrets['PREFECT_PASSWORD']}",
        "AWS_ACCESS_KEY_ID": secrets["REMOTE_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": secrets["REMOTE_SECRET"],
    }


def _require_name(name: str) -> None:
    if name == ADMIN or not re.fullmatch(r"[a-z][a-z0-9._-]{1,39}", name):
        raise InputError(
            f"received the name {name!r}, expected 2 to 40 lower-case letters, digits and ._-, beginning with a letter, "
            f"and not {ADMIN}: sentiflow services member anna"
        )


def _find(secrets: Secrets, path: str, **content: Any) -> Any:
    """MLflow's response to a GET request of its admin; None if there is no such thing."""
    return _request(secrets, "GET", path, optional=True, **content)


def _request(secrets: Secrets, method: str, path: str, *, optional: bool = False, **content: Any) -> Any:
    server = secrets.local("mlflow")
    options: dict[str, Any] = {"params" if method == "GET" else "json": content}
    try:
        response = health.request(method, f"{server}/api/{path}", secrets["MLFLOW_ADMIN_PASSWORD"], **options)
    except requests.RequestException:
        raise UnavailableError(f"MLflow does not answer at {server}; start the services: sentiflow services up") from None
    if optional and response.status_code == requests.codes.not_found:
        return None
    if not response.ok:
        raise InputError(f"MLflow refused {path} with {response.status_code}: {response.text.strip()[:300]}")
    return response.json() if response.content else {}

"""Who may do what at the team's MLflow server: what all share, and the accounts of those who retrain."""

import contextlib
import os
import re
from typing import Any

import requests
from werkzeug.security import generate_password_hash

from sentiflow.system.errors import InputError, UnavailableError
from services.postgresql import Cluster
from services.secrets import Secrets, generated

ROLE = "retraining"
WORKSPACE = "default"  # the only one where there are none
EXPERIMENT, MODEL, HISTORY = "sentiflow", "sentiflow", "sentiflow-champions"
TIMEOUT = 60.0  # seconds for an answer, on a busy machine
ADMIN = "admin"
# What a member needs of MLflow's permissions. MANAGE is what MLflow requires for removing an interrupted publication; it also
# covers what members must not do, which `authorization.py` refuses.
GRANTS = (
    ("experiment", "{experiment}", "EDIT"),
    ("run", "*", "MANAGE"),  # only in experiments that they may read
    ("logged_model", "*", "MANAGE"),
    ("registered_model", MODEL, "MANAGE"),
    ("registered_model", HISTORY, "EDIT"),
)
SHORTEST, LONGEST = 2, 40  # characters of a name
# How MLflow's database keeps the passwords that are made here. MLflow's own way takes 0.1 s of a processor, three times a
# request, so that what people think up cannot be guessed from a stolen table; 256 random bits cannot be guessed anyway.
KEPT = "pbkdf2:sha256:1000"


def share(secrets: Secrets) -> None:
    """Makes what members share, as far as it is not there: experiment, models, and the role by which they may use them."""
    experiment = _ask(secrets, "GET", "2.0/mlflow/experiments/get-by-name", missing=True, experiment_name=EXPERIMENT)
    models = [_ask(secrets, "GET", "2.0/mlflow/registered-models/get", missing=True, name=name) for name in (MODEL, HISTORY)]
    if experiment is None or None in models:
        _make(secrets)
        experiment = _ask(secrets, "GET", "2.0/mlflow/experiments/get-by-name", experiment_name=EXPERIMENT)
    assert experiment is not None
    _grant(secrets, str(experiment["experiment"]["experiment_id"]))


def _make(secrets: Secrets) -> None:
    os.environ |= {
        "MLFLOW_TRACKING_URI": secrets.local("mlflow"),
        "MLFLOW_TRACKING_USERNAME": ADMIN,
        "MLFLOW_TRACKING_PASSWORD": secrets["MLFLOW_ADMIN_PASSWORD"],
    }
    # here: it loads MLflow, which every other start need not wait for
    from sentiflow.registry import champion_history, publishing, store

    client = store.connect()  # which makes the experiment
    store.create_model(client, MODEL, publishing.MODEL_DESCRIPTION)
    store.create_model(client, HISTORY, champion_history.HISTORY_DESCRIPTION)


def _grant(secrets: Secrets, experiment: str) -> None:
    wanted = {(kind, pattern.format(experiment=experiment)): level for kind, pattern, level in GRANTS}
    role = _role(secrets)
    if role is None:
        made = _ask(
            secrets, "POST", "3.0/mlflow/roles/create", workspace=WORKSPACE, name=ROLE, description="retrains and promotes"
        )
        role = made["role"]["id"]
    listed = _ask(secrets, "GET", "3.0/mlflow/roles/permissions/list", role_id=role)["role_permissions"]
    for each in listed:
        key = (each["resource_type"], each["resource_pattern"])
        if wanted.get(key) == each["permission"]:
            del wanted[key]
        else:
            _ask(secrets, "DELETE", "3.0/mlflow/roles/permissions/remove", role_permission_id=each["id"])
    for (kind, pattern), level in wanted.items():
        _ask(
            secrets, "POST", "3.0/mlflow/roles/permissions/add",
            role_id=role, resource_type=kind, resource_pattern=pattern, permission=level,
        )  # fmt: skip


def _role(secrets: Secrets) -> int | None:
    roles = _ask(secrets, "GET", "3.0/mlflow/roles/list", workspace=WORKSPACE)["roles"]
    return next((role["id"] for role in roles if role["name"] == ROLE), None)


def keep(cluster: Cluster, secrets: Secrets, name: str, password: str) -> bool:
    """Gives an account a generated password; whether there is such an account."""
    with contextlib.closing(cluster.connect("mlflow", secrets["MLFLOW_DATABASE_PASSWORD"])) as connection, connection:
        [has_accounts] = connection.execute("SELECT to_regclass('users') IS NOT NULL").fetchone() or (False,)
        if not has_accounts:
            return False
        change = "UPDATE users SET password_hash = %s WHERE username = %s"
        return connection.execute(change, (generate_password_hash(password, KEPT), name)).rowcount == 1


def add(secrets: Secrets, cluster: Cluster, name: str, *, reset: bool = False) -> str:
    """Makes an account that may retrain, or gives one another password; the password, which is kept nowhere."""
    _require_name(name)
    password = generated()
    known = _ask(secrets, "GET", "2.0/mlflow/users/get", missing=True, username=name) is not None
    if known and not reset:
        raise InputError(f"there is an account {name} already, and nothing was changed; to give it a new password: --reset")
    if reset and not known:
        raise InputError(f"received --reset for {name}, which is no account; to make it leave out --reset")
    if not known:
        _ask(secrets, "POST", "2.0/mlflow/users/create", username=name, password=password)
    keep(cluster, secrets, name, password)
    role = _role(secrets)
    if role is None:
        raise InputError("MLflow has no role for members; `sentiflow services up` makes it when it starts")
    roles = _ask(secrets, "GET", "3.0/mlflow/users/roles/list", username=name)["roles"]
    if role not in [each["id"] for each in roles]:
        _ask(secrets, "POST", "3.0/mlflow/roles/assign", username=name, role_id=role)
    return password


def remove(secrets: Secrets, name: str) -> None:
    """Removes an account; what it published stays."""
    _require_name(name)
    if _ask(secrets, "GET", "2.0/mlflow/users/get", missing=True, username=name) is None:
        raise InputError(f"there is no account {name} to remove")
    _ask(secrets, "DELETE", "2.0/mlflow/users/delete", username=name)


def environment(secrets: Secrets, name: str, password: str) -> dict[str, str]:
    """By which everything of the project uses the services, as this member."""
    return {
        "MLFLOW_TRACKING_URI": secrets.address("mlflow"),
        "MLFLOW_TRACKING_USERNAME": name,
        "MLFLOW_TRACKING_PASSWORD": password,
        # Else MLflow sends its clients past its server, to a storage that only the server reaches.
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
        "PREFECT_API_URL": f"{secrets.address('prefect')}/api",
        "PREFECT_API_AUTH_STRING": f"admin:{secrets['PREFECT_PASSWORD']}",
        "AWS_ACCESS_KEY_ID": secrets["REMOTE_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": secrets["REMOTE_SECRET"],
    }


def _require_name(name: str) -> None:
    if name == ADMIN or not re.fullmatch(rf"[a-z][a-z0-9._-]{{{SHORTEST - 1},{LONGEST - 1}}}", name):
        raise InputError(
            f"received the name {name!r}, expected {SHORTEST} to {LONGEST} small letters, digits and ._- beginning with a "
            f"letter, and not {ADMIN}: sentiflow services member anna"
        )


def _ask(secrets: Secrets, method: str, path: str, *, missing: bool = False, **content: Any) -> Any:
    """What MLflow answers its admin; None where there is no such thing and that may be."""
    where: dict[str, Any] = {"params": content} if method == "GET" else {"json": content}
    try:
        with requests.Session() as session:
            session.trust_env = False  # no password of the user's own, and no proxy to this machine
            answer = session.request(
                method,
                f"{secrets.local('mlflow')}/api/{path}",
                auth=(ADMIN, secrets["MLFLOW_ADMIN_PASSWORD"]),
                timeout=TIMEOUT,
                **where,
            )
    except requests.RequestException:
        raise UnavailableError(
            f"MLflow does not answer at {secrets.local('mlflow')}; start the services: sentiflow services up"
        ) from None
    if missing and answer.status_code == requests.codes.not_found:
        return None
    if not answer.ok:
        raise InputError(f"MLflow refused {path} with {answer.status_code}: {answer.text.strip()[:300]}")
    return answer.json() if answer.content else {}

"""MLflow's store: where it is, whether it answers, and the names of what this project keeps there."""

import getpass
import logging
import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# MLflow reads these while it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
# A server that goes away is waited for a quarter of a minute a request; by default it were four minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")

import mlflow
import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sentiflow.registry import location
from sentiflow.system import urls
from sentiflow.system.errors import InputError, UnavailableError

log = logging.getLogger("sentiflow")

DEFAULT_STORE, EXPERIMENT = location.DEFAULT_STORE, location.EXPERIMENT
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # of trained models, not of prompts
MODEL = "sentiflow"
KEY_TAG = "sentiflow.key"
COMPLETE_TAG = "sentiflow.complete"  # set last, so that a publication that was cut short is told from a whole one
DIGEST_TAG = "sentiflow.sha256"  # of a version's model directory, as `model_directory.digest` gives it
COMMIT_TAG = "mlflow.source.git.commit"
NO_ENTRY = {
    "UNAUTHENTICATED": "asks for a password, and got none or a wrong one",
    "PERMISSION_DENIED": "knows this account, which may not see the models here",
}
ATTEMPTS = 5  # to write what others may write at the same moment
# What SQLite says, and what to do.
SQLITE_ADVICE = {
    "disk is full": "free some space on its disk, then run the same command again",
    "readonly database": "make it writable for this user, then run the same command again",
    "unable to open": "check that its folder exists and is writable for this user, then run the same command again",
}
SCHEMA = re.compile(r"database schema \(found version (?P<found>\w+)")  # what MLflow says of a database of another version
NO_ANSWER = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")  # what MLflow calls it; all else is an answer


def connect() -> MlflowClient:
    """A client of the store that MLFLOW_TRACKING_URI names, by default a SQLite file in this folder.

    Raises:
        UnavailableError: if the store does not answer now.
        InputError: if there is none, or it does not let this user in.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    uri = _address(os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    location.check(uri)
    try:
        _knock(uri)
        client = MlflowClient()
        _open_experiment(client, uri)
    except (MlflowException, SQLAlchemyError, requests.RequestException, ImportError) as error:
        raise _no_connection(uri, error) from None
    return client


def _no_connection(uri: str, error: Exception) -> InputError:
    shown, reason = urls.without_user(uri), urls.without_user(str(error).splitlines()[0])
    if isinstance(error, MlflowException) and error.error_code in NO_ENTRY:
        return InputError(
            f"MLflow's server at {shown} does not let this user in: it {NO_ENTRY[error.error_code]}; put "
            "an account's name and password into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, as "
            "`sentiflow services member` of its services prints them"
        )
    if location.is_locked(error):
        return location.locked(uri)
    if revision := SCHEMA.search(reason):
        return InputError(_of_another_version(uri, revision["found"]))
    # a file that is no store, or an address of an unknown kind, is not there later either
    is_away = isinstance(error, (requests.RequestException, DBAPIError)) and not uri.startswith("sqlite:")
    advice = _advice(uri, reason) or f"start it, or unset MLFLOW_TRACKING_URI to use {DEFAULT_STORE}"
    return (UnavailableError if is_away else InputError)(f"MLflow's store at {shown} does not answer ({reason}); {advice}")


def _of_another_version(uri: str, revision: str) -> str:
    shown, installed = urls.without_user(uri), f"the installed version {mlflow.__version__}"
    known = (Path(mlflow.__file__).parent / "store/db_migrations/versions").glob(f"{revision}_*.py")
    if any(known):
        named = '"$MLFLOW_TRACKING_URI"' if shown != uri else shlex.quote(shown)
        return (
            f"MLflow's store at {shown} was written by an older MLflow than {installed}; "
            f"back it up, then upgrade it: .venv/bin/mlflow db upgrade {named}"
        )
    return (
        f"MLflow's store at {shown} was written by a newer MLflow than {installed} (schema {revision}); install that "
        "version, which its models name (grep -rh ^mlflow_version mlartifacts --include=MLmodel | sort -u), "
        "or set MLFLOW_TRACKING_URI to another store"
    )


@contextmanager
def failures_told() -> Iterator[None]:
    """Within the block a store that stops answering ends in one message. As a decorator, the function is the block.

    Raises:
        UnavailableError: saying what was asked last, and what to do.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
        if isinstance(error, MlflowException) and error.error_code not in NO_ANSWER:
            raise
        uri, reason = mlflow.get_tracking_uri(), urls.without_user(str(error).splitlines()[0][:300])
        if location.is_locked(error):
            raise location.locked(uri) from None
        advice = _advice(uri, reason) or "when it is up again, run the same command again: what is there already is kept"
        raise UnavailableError(f"MLflow's store at {urls.without_user(uri)} stopped answering ({reason}); {advice}") from None


def _advice(uri: str, reason: str) -> str | None:
    """What to do about an error of SQLite; None of another store."""
    if not uri.startswith("sqlite:"):
        return None
    known = (advice for said, advice in SQLITE_ADVICE.items() if said in reason)
    return next(known, "if the file is damaged, move it away, and `sentiflow models rebuild` publishes everything again")


def write(call: Callable[..., None], *arguments: Any) -> None:
    """Has a client write something that others may write as well: of two that do so at one moment, MLflow refuses one."""
    for attempts_left in reversed(range(ATTEMPTS)):
        try:
            call(*arguments)
            return
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST" or not attempts_left:
                raise


def _address(uri: str) -> str:
    """A server's address without user and password: MLflow prints it with links to runs, and takes the two from elsewhere too."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.username:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return urls.without_user(uri)


def _open_experiment(client: MlflowClient, uri: str) -> None:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        _create_experiment(client, uri)
        return
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        client.restore_experiment(experiment.experiment_id)
        log.warning("restored MLflow's experiment %r, which was deleted", EXPERIMENT)
    if uri.startswith("http") and not location.is_remote(experiment.artifact_location):
        raise InputError(
            f"MLflow's store at {urls.without_user(uri)} has the artifacts of experiment {EXPERIMENT!r} at "
            f"{experiment.artifact_location}; expected shared storage ({', '.join(location.REMOTE)}); start the server with "
            "--artifacts-destination and an empty database, then run the same command again"
        )


def _create_experiment(client: MlflowClient, uri: str) -> None:
    file = location.database(uri)
    artifacts = None if file is None else location.of_path(file.absolute().parent.resolve() / location.ARTIFACTS)
    with _unless_there():
        client.create_experiment(EXPERIMENT, artifact_location=artifacts, tags=EXPERIMENT_TAGS)


def create_model(client: MlflowClient, name: str, description: str) -> None:
    """Creates a registered model, unless it exists."""
    with _unless_there():
        client.create_registered_model(name, description=description)


@contextmanager
def _unless_there() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process may have been first
            raise


def _knock(uri: str) -> None:
    """Asks the store once: MLflow itself tries for minutes before it says that nobody is there."""
    if uri.startswith(("http://", "https://")):
        requests.get(f"{uri.rstrip('/')}/health", timeout=10)
    else:
        engine = sqlalchemy.create_engine(uri)
        try:
            sqlalchemy.inspect(engine).get_table_names()
        finally:
            engine.dispose()


def user() -> str:
    """The account at the server, or the user of this machine."""
    if account := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return account
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "unknown"


def run_of(version: ModelVersion) -> str:
    """The id of the run that a version was published with."""
    if not version.run_id:
        raise InputError(
            f"version {version.version} of {version.name} belongs to no run, so it was not registered by this project; "
            "register it with `sentiflow repro`"
        )
    return version.run_id


def experiment_id(client: MlflowClient) -> str:
    """The id of this project's experiment."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:  # `connect` made it, so somebody deleted it since
        raise InputError(f"MLflow's store has no experiment {EXPERIMENT!r} any more; run again to make it")
    return str(experiment.experiment_id)

"""Connection to MLflow's store, its error messages, and the names that this project uses in it."""

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

# MLflow reads these when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
# With 3 retries a request to a server that is down fails after 15 seconds; with MLflow's default after 4 minutes.
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
from sentiflow.registry.location import DEFAULT_STORE, EXPERIMENT
from sentiflow.system import urls
from sentiflow.system.errors import InputError, UnavailableError

log = logging.getLogger("sentiflow")

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # of trained models, not of prompts
MODEL = "sentiflow"
# Tags of a version: for people to filter by
ARCHITECTURE_TAG = "architecture"
COMMIT_TAG = "git.commit"
UNCOMMITTED_TAG = "git.uncommitted_changes"  # "true"; missing if there were none
DATA_TAG = "dvc.reviews"  # hash of the reviews in dvc.lock
VERDICT_TAG = "verdict"
NOT_JUDGED = "not judged"
# Tags that this project searches by or relies on
KEY_TAG = "sentiflow.key"
COMPLETE_TAG = "sentiflow.complete"  # of a run, set last: a run without it is an interrupted publication
DIGEST_TAG = "sentiflow.sha256"  # of a version's model directory, see `model_directory.digest`
ACCESS_DENIED = {
    "UNAUTHENTICATED": "authentication failed: missing or wrong password",
    "PERMISSION_DENIED": "this account may not read the models",
}
WRITE_ATTEMPTS = 5
SQLITE_ADVICE = {  # by a part of SQLite's message
    "disk is full": "free some space on its disk, then run the same command again",
    "readonly database": "make it writable for this user, then run the same command again",
    "unable to open": "check that its folder exists and is writable for this user, then run the same command again",
}
SCHEMA = re.compile(r"database schema \(found version (?P<found>\w+)")  # in MLflow's message about a database of another version
OUTAGES = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")  # MLflow's error codes if the store did not answer


def connect() -> MlflowClient:
    """A client of the store at MLFLOW_TRACKING_URI, by default a SQLite file in the working folder.

    Raises:
        UnavailableError: if the store does not answer.
        InputError: if it is no store, or denies access.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    uri = _without_credentials(os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    location.check(uri)
    try:
        _ping(uri)
        client = MlflowClient()
        _open_experiment(client, uri)
    except (MlflowException, SQLAlchemyError, requests.RequestException, ImportError) as error:
        raise _connection_error(uri, error) from None
    return client


def _connection_error(uri: str, error: Exception) -> InputError:
    shown, reason = urls.without_user(uri), urls.without_user(str(error).splitlines()[0])
    if isinstance(error, MlflowException) and error.error_code in ACCESS_DENIED:
        return InputError(
            f"MLflow's server at {shown}: {ACCESS_DENIED[error.error_code]}; set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD as printed by `sentiflow services member`"
        )
    if location.is_locked(error):
        return location.locked(uri)
    if revision := SCHEMA.search(reason):
        return _version_error(uri, revision["found"])
    # a file that is no store, or a URI of an unknown kind, will not work later either
    is_outage = isinstance(error, (requests.RequestException, DBAPIError)) and not uri.startswith("sqlite:")
    advice = _sqlite_advice(uri, reason) or f"start it, or unset MLFLOW_TRACKING_URI to use {DEFAULT_STORE}"
    return (UnavailableError if is_outage else InputError)(f"MLflow's store at {shown} does not answer ({reason}); {advice}")


def _version_error(uri: str, revision: str) -> InputError:
    shown, installed = urls.without_user(uri), f"the installed version {mlflow.__version__}"
    if any((Path(mlflow.__file__).parent / "store/db_migrations/versions").glob(f"{revision}_*.py")):
        argument = '"$MLFLOW_TRACKING_URI"' if shown != uri else shlex.quote(shown)
        return InputError(
            f"MLflow's store at {shown} was written by an older MLflow than {installed}; "
            f"back it up, then upgrade it: .venv/bin/mlflow db upgrade {argument}"
        )
    return InputError(
        f"MLflow's store at {shown} was written by a newer MLflow than {installed} (schema {revision}); install the version "
        "that its models name (grep -rh ^mlflow_version mlartifacts --include=MLmodel | sort -u), "
        "or set MLFLOW_TRACKING_URI to another store"
    )


@contextmanager
def errors_handled() -> Iterator[None]:
    """Context manager or decorator that turns an outage of the store into one message.

    Raises:
        UnavailableError: if the store stops answering.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
        if isinstance(error, MlflowException) and error.error_code not in OUTAGES:
            raise
        uri, reason = mlflow.get_tracking_uri(), urls.without_user(str(error).splitlines()[0][:300])
        if location.is_locked(error):
            raise location.locked(uri) from None
        advice = _sqlite_advice(uri, reason) or "when it is up again, run the same command again; it resumes where it stopped"
        raise UnavailableError(f"MLflow's store at {urls.without_user(uri)} stopped answering ({reason}); {advice}") from None


def _sqlite_advice(uri: str, reason: str) -> str | None:
    if not uri.startswith("sqlite:"):
        return None
    known = (advice for part, advice in SQLITE_ADVICE.items() if part in reason)
    return next(known, "if the file is damaged, move it away, and `sentiflow models rebuild` publishes everything again")


def write(call: Callable[..., None], *arguments: Any) -> None:
    """Calls a client's method that may conflict with another process: MLflow rejects one of two simultaneous writes."""
    for attempts_left in reversed(range(WRITE_ATTEMPTS)):
        try:
            call(*arguments)
            return
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST" or not attempts_left:
                raise


def _without_credentials(uri: str) -> str:
    """A server's URL without user and password, which go to environment variables: MLflow prints the URL with links to runs."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.username:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return urls.without_user(uri)


def _open_experiment(client: MlflowClient, uri: str) -> None:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        file = location.database(uri)
        artifacts = None if file is None else location.of_path(file.absolute().parent.resolve() / location.ARTIFACTS)
        with _existing_accepted():
            client.create_experiment(EXPERIMENT, artifact_location=artifacts, tags=EXPERIMENT_TAGS)
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


def create_model(client: MlflowClient, name: str, description: str) -> None:
    """Creates a registered model unless it exists."""
    with _existing_accepted():
        client.create_registered_model(name, description=description)


@contextmanager
def _existing_accepted() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _ping(uri: str) -> None:
    """Contacts the store once, since MLflow retries for minutes."""
    if uri.startswith(("http://", "https://")):
        requests.get(f"{uri.rstrip('/')}/health", timeout=10)
    else:
        engine = sqlalchemy.create_engine(uri)
        try:
            sqlalchemy.inspect(engine).get_table_names()
        finally:
            engine.dispose()


def user() -> str:
    """The account on the server, or the user of this machine."""
    if account := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return account
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # in a container whose user id has no name
        return "unknown"


def run_of(version: ModelVersion) -> str:
    """Id of the run that a version was published with."""
    if not version.run_id:
        raise InputError(
            f"version {version.version} of {version.name} has no run, so it was not registered by this project; "
            "register it with `sentiflow repro`"
        )
    return version.run_id


def experiment_id(client: MlflowClient) -> str:
    """Id of this project's experiment."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:  # deleted after `connect` created it
        raise InputError(f"MLflow's store has no experiment {EXPERIMENT!r} any more; run again to create it")
    return str(experiment.experiment_id)

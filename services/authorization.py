"""Authorization of accounts other than `admin` at MLflow's server.

MLflow's own permissions apply as well, but are too coarse for a team: an account that may remove an interrupted publication may
also remove any other and rename the registered models. MLflow calls `authenticate` for every request (`authorization_function`
of its basic-auth app). A request that is not listed here is refused, so endpoints that a later MLflow adds stay closed.
"""

import posixpath
import re
from collections.abc import Callable
from typing import Any

from flask import Response, g, request
from mlflow.exceptions import MlflowException
from mlflow.protos import model_registry_pb2 as registry
from mlflow.protos import service_pb2 as tracking
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.server import auth, handlers
from mlflow.utils.mlflow_tags import MLFLOW_USER
from mlflow.utils.uri import validate_path_is_safe
from werkzeug.datastructures import Authorization

from sentiflow.registry.champion_history import APPLIED_TAG, HISTORY
from sentiflow.registry.judging import VERDICTS
from sentiflow.registry.publishing import LATENCY, PREDICTIONS, REFERENCE, SEEN
from sentiflow.registry.store import COMPLETE_TAG, MODEL

API = re.compile(r"^/(ajax-)?api/[23]\.0/")
READABLE = re.compile(
    r"/|/version|/graphql|/get-artifact|/model-versions/get-artifact|mlflow-artifacts/artifacts(/.*)?|mlflow/users/current(/.*)?|"
    r"mlflow/(artifacts|experiments|logged-models|metrics|model-versions|registered-models|runs)/.*|"
    r"mlflow/gateway-proxy"  # without it the page of runs shows an error; no gateway is configured
)
SEARCHES = {
    "/graphql",  # has no mutations that write
    "mlflow/experiments/search",
    "mlflow/experiments/search-datasets",
    "mlflow/logged-models/search",
    "mlflow/registered-models/get-latest-versions",
    "mlflow/runs/search",
}
VERDICT_TAGS = re.compile(r"verdict|decision\..+")  # tags of a version, written by `judging.record`
# May be added to a published run: predictions on a new test set, and files that versions of earlier code lack.
ADDABLE = tuple(f"{folder}/" for folder in (PREDICTIONS, posixpath.dirname(REFERENCE), posixpath.dirname(SEEN)))
ARTIFACT = re.compile(r"\d+/(models/(?P<model>[^/]+)|(?P<run>[0-9a-f]{32}))/artifacts/(?P<name>.+)")

Check = Callable[[str], None]  # takes the account's name; raises MlflowException if the request is refused


def authenticate() -> Authorization | Response:
    """Account of the current request, if its password is correct and the request is allowed."""
    if "authorization" not in g:  # MLflow calls this several times per request
        credentials = auth.authenticate_request_basic_auth()
        if isinstance(credentials, Response):
            return credentials
        account = str(credentials.username)
        if not auth.store.get_user(account).is_admin:
            _require_allowed(account)
        g.authorization = credentials
    authorization: Authorization = g.authorization
    return authorization


def _require_allowed(account: str) -> None:
    rule = API.sub("", request.url_rule.rule) if request.url_rule else ""
    if request.method in ("GET", "HEAD") and READABLE.fullmatch(rule):
        return
    if request.method == "POST" and rule in SEARCHES:
        return
    check = WRITES.get((request.method, rule))
    if check is None:
        raise _refusal(f"{request.method} {request.path} is reserved for admin")
    check(account)


def _refusal(reason: str) -> MlflowException:
    return MlflowException(f"Permission denied: {reason}", PERMISSION_DENIED)


def _body(message: type[Any]) -> Any:
    """Body of the request, parsed like MLflow's own handler does."""
    return handlers._get_request_message(message())


def _is_published(run_id: str) -> bool:
    return COMPLETE_TAG in handlers._get_tracking_store().get_run(run_id).data.tags


def _require_unpublished(run_id: str) -> None:
    if run_id and _is_published(run_id):
        raise _refusal(f"run {run_id} is published")


def _require_deletable(run_id: str, account: str) -> None:
    """When two accounts publish the same at once, the later one removes its own publication."""
    run = handlers._get_tracking_store().get_run(run_id)
    if COMPLETE_TAG in run.data.tags and run.data.tags.get(MLFLOW_USER) != account:
        raise _refusal(f"run {run_id} was published by another account")


def _require_name(name: str, *allowed: str) -> None:
    if name not in allowed:
        raise _refusal(f"the registered model {name!r} is reserved for admin")


def _require_own_user_tag(tags: Any, account: str) -> None:
    if any(tag.key == MLFLOW_USER and tag.value != account for tag in tags):
        raise _refusal(f"the tag {MLFLOW_USER} must be {account}")


def _run_write(message: type[Any]) -> Check:
    def check(account: str) -> None:
        body = _body(message)
        _require_unpublished(body.run_id or getattr(body, "run_uuid", ""))
        _require_own_user_tag([body] if message is tracking.SetTag else getattr(body, "tags", ()), account)
        for metric in [body] if message is tracking.LogMetric else getattr(body, "metrics", ()):
            if metric.model_id:  # MLflow stores the metric with that model as well
                _require_unpublished(_source_run(metric.model_id))

    return check


def _metric_log(account: str) -> None:
    body = _body(tracking.LogMetric)
    if body.key != LATENCY or body.model_id:  # logged by `judging.record` to a published run
        _run_write(tracking.LogMetric)(account)


def _run_update(_: str) -> None:
    body = _body(tracking.UpdateRun)
    is_end = body.status == tracking.FINISHED and not body.run_name  # MLflow's client sends it after the last tag
    if not is_end:
        _require_unpublished(body.run_id or body.run_uuid)


def _logged_model_write(_: str) -> None:
    _require_unpublished(_source_run(_model_id()))


def _logged_model_deletion(account: str) -> None:
    if run_id := _source_run(_model_id()):
        _require_deletable(run_id, account)


def _model_id() -> str:
    return str((request.view_args or {})["model_id"])


def _source_run(model_id: str) -> str:
    return handlers._get_tracking_store().get_logged_model(model_id).source_run_id or ""


def _version_creation(account: str) -> None:
    body = _body(registry.CreateModelVersion)
    _require_name(body.name, MODEL, HISTORY)
    if body.name == HISTORY and {tag.value for tag in body.tags if tag.key == "by"} != {account}:
        raise _refusal(f"an entry of {HISTORY} must have the tag by={account}")


def _version_tag(_: str) -> None:
    body = _body(registry.SetModelVersionTag)
    _require_name(body.name, MODEL, HISTORY)
    if not (body.key == APPLIED_TAG if body.name == HISTORY else VERDICT_TAGS.fullmatch(body.key)):
        raise _refusal(f"the tag {body.key} of a version is reserved for admin")


def _version_deletion(account: str) -> None:
    body = _body(registry.DeleteModelVersion)
    _require_name(body.name, MODEL)
    version = handlers._get_model_registry_store().get_model_version(body.name, body.version)
    if not version.run_id:
        raise _refusal(f"version {body.version} of {body.name} has no run")
    _require_deletable(version.run_id, account)


def _model_request(message: type[Any], *allowed: str) -> Check:
    return lambda _: _require_name(_body(message).name, *allowed)


def _artifact_upload(_: str) -> None:
    path = validate_path_is_safe((request.view_args or {})["artifact_path"])  # decoded, like in MLflow's handler
    found = ARTIFACT.fullmatch(path)
    if found is None or posixpath.normpath(path) != path:
        raise _refusal(f"{path} is not an artifact of a run or a model")
    run_id = found["run"] or _source_run(found["model"])
    if not run_id or not _is_published(run_id):
        return
    is_verdict = found["run"] and found["name"].startswith(f"{VERDICTS}/")
    is_addition = found["run"] and found["name"].startswith(ADDABLE) and not _exists(path)
    if not (is_verdict or is_addition):
        raise _refusal(f"run {run_id} is published")


def _exists(path: str) -> bool:
    listed = handlers._get_artifact_repo_mlflow_artifacts().list_artifacts(posixpath.dirname(path))
    return path in {file.path for file in listed}


WRITES: dict[tuple[str, str], Check] = {
    ("POST", "mlflow/runs/create"): lambda account: _require_own_user_tag(_body(tracking.CreateRun).tags, account),
    ("POST", "mlflow/runs/update"): _run_update,
    ("POST", "mlflow/runs/log-batch"): _run_write(tracking.LogBatch),
    ("POST", "mlflow/runs/log-inputs"): _run_write(tracking.LogInputs),
    ("POST", "mlflow/runs/log-metric"): _metric_log,
    ("POST", "mlflow/runs/log-model"): _run_write(tracking.LogModel),
    ("POST", "mlflow/runs/log-parameter"): _run_write(tracking.LogParam),
    ("POST", "mlflow/runs/outputs"): _run_write(tracking.LogOutputs),
    ("POST", "mlflow/runs/set-tag"): _run_write(tracking.SetTag),
    ("POST", "mlflow/runs/delete"): lambda account: _require_deletable(_body(tracking.DeleteRun).run_id, account),
    ("POST", "mlflow/logged-models"): lambda _: _require_unpublished(_body(tracking.CreateLoggedModel).source_run_id),
    ("PATCH", "mlflow/logged-models/<model_id>"): _logged_model_write,
    ("PATCH", "mlflow/logged-models/<model_id>/tags"): _logged_model_write,
    ("POST", "mlflow/logged-models/<model_id>/params"): _logged_model_write,
    ("DELETE", "mlflow/logged-models/<model_id>"): _logged_model_deletion,
    # both exist already, which is MLflow's response to a member
    ("POST", "mlflow/registered-models/create"): _model_request(registry.CreateRegisteredModel, MODEL, HISTORY),
    ("POST", "mlflow/registered-models/alias"): _model_request(registry.SetRegisteredModelAlias, MODEL),
    ("DELETE", "mlflow/registered-models/alias"): _model_request(registry.DeleteRegisteredModelAlias, MODEL),
    ("POST", "mlflow/model-versions/create"): _version_creation,
    ("PATCH", "mlflow/model-versions/update"): _model_request(registry.UpdateModelVersion, MODEL),
    ("POST", "mlflow/model-versions/set-tag"): _version_tag,
    ("DELETE", "mlflow/model-versions/delete"): _version_deletion,
    ("PUT", "mlflow-artifacts/artifacts/<path:artifact_path>"): _artifact_upload,
}

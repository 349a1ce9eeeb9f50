"""What an account other than `admin` may ask of MLflow's server.

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
    r"mlflow/gateway-proxy"  # the page of runs shows an error otherwise; no gateway is set that it would forward to
)
SEARCHES = {
    "/graphql",  # it has no mutation that writes
    "mlflow/experiments/search",
    "mlflow/experiments/search-datasets",
    "mlflow/logged-models/search",
    "mlflow/registered-models/get-latest-versions",
    "mlflow/runs/search",
}
JUDGED_TAGS = re.compile(r"verdict|decision\..+")  # of a version, written by `judging.record`
# To a published run: answers on each new test set, and what versions published by earlier code lack.
ADDED_LATER = tuple(f"{folder}/" for folder in (PREDICTIONS, posixpath.dirname(REFERENCE), posixpath.dirname(SEEN)))
ARTIFACT = re.compile(r"\d+/(models/(?P<model>[^/]+)|(?P<run>[0-9a-f]{32}))/artifacts/(?P<name>.+)")

Check = Callable[[str], None]  # of the account's name; raises MlflowException if it may not


def authenticate() -> Authorization | Response:
    """The account that a request comes from, if its password is right and it may do this."""
    if "authorization" not in g:  # MLflow asks several times per request
        found = auth.authenticate_request_basic_auth()
        if isinstance(found, Response):
            return found
        account = str(found.username)
        if not auth.store.get_user(account).is_admin:
            _require_allowed(account)
        g.authorization = found
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
        raise _refusal(f"{request.method} {request.path} is for admin")
    check(account)


def _refusal(reason: str) -> MlflowException:
    return MlflowException(f"Permission denied: {reason}", PERMISSION_DENIED)


def _sent(message: type[Any]) -> Any:
    """The content of the request, parsed as MLflow's handler parses it."""
    return handlers._get_request_message(message())


def _is_published(run_id: str) -> bool:
    return COMPLETE_TAG in handlers._get_tracking_store().get_run(run_id).data.tags


def _require_unpublished(run_id: str) -> None:
    if run_id and _is_published(run_id):
        raise _refusal(f"run {run_id} is published")


def _require_removable(run_id: str, account: str) -> None:
    """Of two accounts that publish the same at the same time, the later one removes its own again."""
    run = handlers._get_tracking_store().get_run(run_id)
    if COMPLETE_TAG in run.data.tags and run.data.tags.get(MLFLOW_USER) != account:
        raise _refusal(f"run {run_id} was published by another account")


def _require_name(name: str, *allowed: str) -> None:
    if name not in allowed:
        raise _refusal(f"the registered model {name!r} is for admin")


def _require_own_name(tags: Any, account: str) -> None:
    if any(tag.key == MLFLOW_USER and tag.value != account for tag in tags):
        raise _refusal(f"the tag {MLFLOW_USER} must be {account}")


def _written_run(message: type[Any]) -> Check:
    def check(account: str) -> None:
        sent = _sent(message)
        _require_unpublished(sent.run_id or getattr(sent, "run_uuid", ""))
        _require_own_name([sent] if message is tracking.SetTag else getattr(sent, "tags", ()), account)
        for metric in [sent] if message is tracking.LogMetric else getattr(sent, "metrics", ()):
            if metric.model_id:  # it becomes a metric of that model too
                _require_unpublished(_source_run(metric.model_id))

    return check


def _logged_metric(account: str) -> None:
    sent = _sent(tracking.LogMetric)
    if sent.key != LATENCY or sent.model_id:  # logged by `judging.record` to a published run
        _written_run(tracking.LogMetric)(account)


def _updated_run(_: str) -> None:
    sent = _sent(tracking.UpdateRun)
    is_end = sent.status == tracking.FINISHED and not sent.run_name  # which MLflow's client sends after the last tag
    if not is_end:
        _require_unpublished(sent.run_id or sent.run_uuid)


def _written_logged_model(_: str) -> None:
    _require_unpublished(_source_run(_model_id()))


def _deleted_logged_model(account: str) -> None:
    if run_id := _source_run(_model_id()):
        _require_removable(run_id, account)


def _model_id() -> str:
    return str((request.view_args or {})["model_id"])


def _source_run(model_id: str) -> str:
    return handlers._get_tracking_store().get_logged_model(model_id).source_run_id or ""


def _created_version(account: str) -> None:
    sent = _sent(registry.CreateModelVersion)
    _require_name(sent.name, MODEL, HISTORY)
    if sent.name == HISTORY and {tag.value for tag in sent.tags if tag.key == "by"} != {account}:
        raise _refusal(f"an entry of {HISTORY} must be by {account}")


def _tagged_version(_: str) -> None:
    sent = _sent(registry.SetModelVersionTag)
    _require_name(sent.name, MODEL, HISTORY)
    if not (sent.key == APPLIED_TAG if sent.name == HISTORY else JUDGED_TAGS.fullmatch(sent.key)):
        raise _refusal(f"the tag {sent.key} of a version is for admin")


def _deleted_version(account: str) -> None:
    sent = _sent(registry.DeleteModelVersion)
    _require_name(sent.name, MODEL)
    version = handlers._get_model_registry_store().get_model_version(sent.name, sent.version)
    if not version.run_id:
        raise _refusal(f"version {sent.version} of {sent.name} belongs to no run")
    _require_removable(version.run_id, account)


def _named(message: type[Any], *allowed: str) -> Check:
    return lambda _: _require_name(_sent(message).name, *allowed)


def _uploaded_artifact(_: str) -> None:
    path = validate_path_is_safe((request.view_args or {})["artifact_path"])  # decoded, as MLflow uses it
    place = ARTIFACT.fullmatch(path)
    if place is None or posixpath.normpath(path) != path:
        raise _refusal(f"{path} is not an artifact of a run or a model")
    run_id = place["run"] or _source_run(place["model"])
    if not run_id or not _is_published(run_id):
        return
    is_new = place["run"] and place["name"].startswith(ADDED_LATER) and not _exists(path)
    if not (is_new or (place["run"] and place["name"].startswith(f"{VERDICTS}/"))):
        raise _refusal(f"run {run_id} is published")


def _exists(path: str) -> bool:
    listed = handlers._get_artifact_repo_mlflow_artifacts().list_artifacts(posixpath.dirname(path))
    return path in {file.path for file in listed}


WRITES: dict[tuple[str, str], Check] = {
    ("POST", "mlflow/runs/create"): lambda account: _require_own_name(_sent(tracking.CreateRun).tags, account),
    ("POST", "mlflow/runs/update"): _updated_run,
    ("POST", "mlflow/runs/log-batch"): _written_run(tracking.LogBatch),
    ("POST", "mlflow/runs/log-inputs"): _written_run(tracking.LogInputs),
    ("POST", "mlflow/runs/log-metric"): _logged_metric,
    ("POST", "mlflow/runs/log-model"): _written_run(tracking.LogModel),
    ("POST", "mlflow/runs/log-parameter"): _written_run(tracking.LogParam),
    ("POST", "mlflow/runs/outputs"): _written_run(tracking.LogOutputs),
    ("POST", "mlflow/runs/set-tag"): _written_run(tracking.SetTag),
    ("POST", "mlflow/runs/delete"): lambda account: _require_removable(_sent(tracking.DeleteRun).run_id, account),
    ("POST", "mlflow/logged-models"): lambda _: _require_unpublished(_sent(tracking.CreateLoggedModel).source_run_id),
    ("PATCH", "mlflow/logged-models/<model_id>"): _written_logged_model,
    ("PATCH", "mlflow/logged-models/<model_id>/tags"): _written_logged_model,
    ("POST", "mlflow/logged-models/<model_id>/params"): _written_logged_model,
    ("DELETE", "mlflow/logged-models/<model_id>"): _deleted_logged_model,
    # both exist; MLflow answers so
    ("POST", "mlflow/registered-models/create"): _named(registry.CreateRegisteredModel, MODEL, HISTORY),
    ("POST", "mlflow/registered-models/alias"): _named(registry.SetRegisteredModelAlias, MODEL),
    ("DELETE", "mlflow/registered-models/alias"): _named(registry.DeleteRegisteredModelAlias, MODEL),
    ("POST", "mlflow/model-versions/create"): _created_version,
    ("PATCH", "mlflow/model-versions/update"): _named(registry.UpdateModelVersion, MODEL),
    ("POST", "mlflow/model-versions/set-tag"): _tagged_version,
    ("DELETE", "mlflow/model-versions/delete"): _deleted_version,
    ("PUT", "mlflow-artifacts/artifacts/<path:artifact_path>"): _uploaded_artifact,
}

"""MLflow: publish each trained architecture once, register it, and name a first champion.

A publication is keyed by what DVC recorded of the stages behind it, so publishing the same result again finds what is there.
"""

import logging
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

# MLflow reads these while it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.types.schema import ColSpec, DataType, Schema
from sqlalchemy.exc import SQLAlchemyError

from sentiflow import serving
from sentiflow.errors import InputError
from sentiflow.scoring import SCORES

log = logging.getLogger("sentiflow")

DEFAULT_STORE = "sqlite:///mlflow.db"
DEFAULT_ARTIFACTS = Path("mlartifacts")
EXPERIMENT = "sentiflow"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # so that the UI opens on runs, not on prompts
MODEL = "sentiflow"
CHAMPION = "champion"
KEY_TAG = "sentiflow.key"
COMPLETE_TAG = "sentiflow.complete"  # set last, so that a publication that was cut short is told from a whole one

# What the registered model imports; pinned in it to the versions it was trained with.
REQUIREMENTS = (
    "dask", "keras", "nltk", "numpy", "pandas", "pyarrow", "pydantic", "ruamel.yaml", "scikit-learn", "scipy", "tensorflow",
    "tqdm",
)  # fmt: skip
EXAMPLE = ["A wonderful film, moving and funny.", "Two hours I will never get back."]


@dataclass(frozen=True)
class Publication:
    """One trained and evaluated architecture."""

    architecture: str
    key: str  # hash of what DVC recorded of its stages
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    history: pd.DataFrame  # one row an epoch
    seconds: Sequence[float] | None  # that each epoch took; None where the model came from DVC's cache
    scores: Mapping[str, Mapping[str, float]]  # by split
    weights: int  # number of them
    environment: Mapping[str, Any]  # what the model was trained on, as `environment.describe` gives it
    artifacts: Mapping[str, Path]  # folder or file, by the name it gets
    model_dir: Path
    tokens_dir: Path
    keep_negations: bool
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """What belongs to no single architecture: the comparison and the pages about all of them."""

    key: str  # hash of what DVC recorded of the stages behind it
    best: str
    scores: Mapping[str, Mapping[str, float]]  # on test, by architecture
    artifacts: Sequence[Path]  # folders and files, under their own names


def connect() -> MlflowClient:
    """A client of the store that MLFLOW_TRACKING_URI names, by default a SQLite file in this folder.

    Raises:
        InputError: if the store does not answer.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        _knock(uri)
        client = MlflowClient()
        if client.get_experiment_by_name(EXPERIMENT) is None:
            beside = Path(uri.removeprefix("sqlite:///")).parent
            location = str((beside / DEFAULT_ARTIFACTS).resolve()) if uri.startswith("sqlite:") else None
            client.create_experiment(EXPERIMENT, artifact_location=location, tags=EXPERIMENT_TAGS)
    except (MlflowException, SQLAlchemyError, requests.RequestException, ImportError) as error:
        reason = str(error).splitlines()[0]
        damaged = "; if the file is damaged, move it away, and everything is published anew" if uri.startswith("sqlite:") else ""
        raise InputError(
            f"MLflow's store at {_without_password(uri)} does not answer ({_without_password(reason)}); "
            f"start it, or unset MLFLOW_TRACKING_URI to use {DEFAULT_STORE}{damaged}"
        ) from None
    return client


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


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]+@", "//***@", text)


def _experiment_id(client: MlflowClient) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:  # `connect` made it, so somebody deleted it since
        raise InputError(f"MLflow's store has no experiment {EXPERIMENT!r} any more; run again to make it")
    return str(experiment.experiment_id)


def publish_summary(client: MlflowClient, summary: Summary) -> None:
    """A run named `comparison` with the pages about all architectures; made if it is not there as a whole."""
    for run in _runs_of(client, summary.key):
        if COMPLETE_TAG in run.data.tags:
            log.info("the comparison is published already")
            return
        client.delete_run(run.info.run_id)
    with mlflow.start_run(
        experiment_id=_experiment_id(client), run_name="comparison", tags={KEY_TAG: summary.key, "best": summary.best}
    ) as run:
        metrics = [
            Metric(f"{architecture}_{name}", float(scores[name]), run.info.start_time, 0)
            for architecture, scores in summary.scores.items()
            for name in SCORES
        ]
        client.log_batch(run.info.run_id, metrics=metrics)
        for path in summary.artifacts:
            _log_artifact(path, path.name)
        client.log_batch(run.info.run_id, tags=[RunTag(COMPLETE_TAG, "true")])
    log.info("published the comparison of %s", ", ".join(summary.scores))


def publish(client: MlflowClient, publication: Publication) -> ModelVersion:
    """The registered version of a publication; made, with its run, if it is not there as a whole."""
    for run in _runs_of(client, publication.key):
        versions = client.search_model_versions(f"run_id = '{run.info.run_id}'")
        if COMPLETE_TAG in run.data.tags and versions:
            log.info("%s is published already, as version %s", publication.architecture, versions[0].version)
            return versions[0]
        for version in versions:
            client.delete_model_version(version.name, version.version)
        client.delete_run(run.info.run_id)
        log.info("removed a publication of %s that was cut short", publication.architecture)
    return _publish_anew(client, publication)


def _runs_of(client: MlflowClient, key: str) -> list[Run]:
    return list(client.search_runs([_experiment_id(client)], f"tags.`{KEY_TAG}` = '{key}'"))


def _publish_anew(client: MlflowClient, publication: Publication) -> ModelVersion:
    told = publication.environment
    tags = {
        **publication.tags,
        KEY_TAG: publication.key,
        "architecture": publication.architecture,
        "environment.processor": f"{told['processor']}, {told['cores']} cores",
        "environment.gpus": ", ".join(told["gpus"]) or "none",
        "environment.python": told["python"],
        **{f"environment.{name}": version for name, version in told["libraries"].items()},
    }
    with mlflow.start_run(experiment_id=_experiment_id(client), run_name=publication.architecture, tags=tags) as run:
        client.log_batch(
            run.info.run_id,
            metrics=_metrics(publication, run.info.start_time),
            params=[Param(name, str(value)) for name, value in sorted(publication.params.items())],
        )
        mlflow.log_dict(dict(publication.environment), "environment.json")
        for name, path in publication.artifacts.items():
            _log_artifact(path, name)
        model = _log_model(publication)
        version = _register(client, publication, model.model_uri, run.info.run_id)
        client.log_batch(run.info.run_id, tags=[RunTag(COMPLETE_TAG, "true")])
    log.info("published %s as version %s of %s", publication.architecture, version.version, MODEL)
    return version


def _log_artifact(path: Path, name: str) -> None:
    if path.is_dir():
        mlflow.log_artifacts(str(path), name)
    else:
        mlflow.log_artifact(str(path))


def _metrics(publication: Publication, timestamp: int) -> list[Metric]:
    epochs = [
        Metric(str(name), float(value), timestamp, int(row["epoch"]))
        for row in publication.history.to_dict("records")
        for name, value in row.items()
        if name != "epoch"
    ]
    final = [
        # under train_ and valid_ stand the epochs
        Metric(f"test_{name}" if split == "test" else f"best_{split}_{name}", value, timestamp, 0)
        for split, scores in publication.scores.items()
        for name, value in scores.items()
    ]
    timed = [Metric("epoch_seconds", took, timestamp, epoch) for epoch, took in enumerate(publication.seconds or (), start=1)]
    return [*epochs, *timed, *final, Metric("weights", float(publication.weights), timestamp, 0)]


def _log_model(publication: Publication) -> Any:
    probabilities = [ColSpec(DataType.double, f"p_{name}") for name in publication.classes]
    package = Path(serving.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        serving.bundle(
            bundle,
            model_dir=publication.model_dir,
            tokens_dir=publication.tokens_dir,
            keep_negations=publication.keep_negations,
        )
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(package / "registered_model.py"),
            code_paths=[str(package)],
            artifacts={"bundle": str(bundle)},
            signature=ModelSignature(
                Schema([ColSpec(DataType.string)]), Schema([ColSpec(DataType.string, "label"), *probabilities])
            ),
            input_example=EXAMPLE,
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in ("mlflow", *REQUIREMENTS)],
        )


def _register(client: MlflowClient, publication: Publication, uri: str, run_id: str) -> ModelVersion:
    try:
        client.create_registered_model(MODEL, description="Sentiment of a review: raw text in, label and probabilities out.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    test = publication.scores["test"]
    return client.create_model_version(
        MODEL,
        uri,
        run_id,
        tags={"architecture": publication.architecture, KEY_TAG: publication.key, **publication.tags},
        description=f"{publication.architecture}: accuracy {test['accuracy_score']:.4f} on test "
        f"(interval {test['accuracy_score_low']:.4f} to {test['accuracy_score_high']:.4f})",
    )


def champion(client: MlflowClient) -> ModelVersion | None:
    """The version with the alias `champion`, or None if there is none."""
    try:
        return client.get_model_version_by_alias(MODEL, CHAMPION)
    except MlflowException as error:
        if error.error_code in (ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), "INVALID_PARAMETER_VALUE"):
            return None
        raise


def crown_if_none(client: MlflowClient, version: ModelVersion) -> None:
    """Makes a version the champion if there is none; a champion that is there stays."""
    current = champion(client)
    if current is None:
        client.set_registered_model_alias(MODEL, CHAMPION, version.version)
        log.info("version %s is the first champion", version.version)
    else:
        log.info("the champion stays version %s", current.version)

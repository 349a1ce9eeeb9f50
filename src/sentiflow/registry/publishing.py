"""Publish each trained architecture to MLflow once, as a run and a registered version.

A publication is keyed by what DVC recorded of the stages behind it, so publishing the same result again finds what is there.
"""

import json
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import psutil
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, DataType, Schema
from mlflow.utils.mlflow_tags import MLFLOW_USER

from sentiflow.data.stopwords import Stopwords
from sentiflow.evaluation.metrics import tracked
from sentiflow.models import sentiment_model
from sentiflow.models.training_record import Record
from sentiflow.registry import model_directory
from sentiflow.registry.drift_baseline import Reference
from sentiflow.registry.store import (
    COMPLETE_TAG,
    DIGEST_TAG,
    KEY_TAG,
    MODEL,
    create_model,
    experiment_id,
    failures_told,
    run_of,
    user,
    write,
)
from sentiflow.system import terminal

log = logging.getLogger("sentiflow")

PARENT_TAG = "mlflow.parentRunId"
SOURCE = {"mlflow.source.name": "dvc repro", "mlflow.source.type": "LOCAL"}  # MLflow would name the script with its whole path
PREDICTIONS = "predictions"  # folder of a run's artifacts
REFERENCE = "drift/reference.parquet"  # in a run's artifacts
SEEN = "training/texts.parquet"  # the same: hashes, as `seen_texts` gives them
METRICS_A_BATCH = 500  # MLflow takes a thousand
ANOTHER_MACHINES = 3600.0  # seconds within which a publication that another machine began is left alone
LINK_TAG = "run."  # and the name of an architecture: the id of its run
PUBLISHER_TAG = "sentiflow.publisher"  # the process that publishes, so that no other takes its run for one that was cut short
MODEL_DESCRIPTION = """\
Sentiment of a review: raw text in, label and probabilities out.

The alias `champion` is the version that answers, `previous` the one before it, `challenger` the best of the last run.
A version becomes champion only if it passes every rule of `params.yaml: promotion`, or by force with a reason. The tags `rule.*`
of a version and `verdicts/` in its run say which it passed; who was champion when, and why, is in `sentiflow-champions`.
"""

# What the registered model imports; pinned in it to the versions it was trained with.
REQUIREMENTS = (
    "dask", "ftfy", "keras", "numpy", "pandas", "pyarrow", "pydantic", "regex", "ruamel.yaml", "scikit-learn", "scipy",
    "tensorflow", "tqdm",
)  # fmt: skip


@dataclass(frozen=True)
class Split:
    """The reviews of one split, as MLflow's UI shows what a run has read."""

    name: str  # train | valid | test
    uri: str  # where they lie
    digest: str
    reviews: int


@dataclass(frozen=True)
class Publication:
    """One trained and evaluated architecture."""

    architecture: str
    key: str  # hash of what DVC recorded of its stages
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    history: pd.DataFrame  # one row an epoch
    record: Record | None  # how the training went; None where the model came from DVC's cache
    scores: Mapping[str, Mapping[str, float]]  # by split
    temperature: float
    weights: int  # number of them
    environment: Mapping[str, Any]  # what the model was trained on, as `environment.describe` gives it
    artifacts: Mapping[str, Path]  # folder or file, by the name it gets
    splits: Sequence[Split]
    test_set: str  # hash of the test reviews, as `held_out.HeldOut` gives it
    predictions_file: Path  # of test, as `evaluation.predictions` gives them
    model_dir: Path
    tokens_dir: Path
    seen: pd.DataFrame  # hashes of the texts of train and valid, as `seen_texts.of_training` gives them
    stopwords: Stopwords
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """What belongs to no single architecture: the comparison and the pages about all of them."""

    best: str
    scores: Mapping[str, Mapping[str, float]]  # on test, by architecture
    artifacts: Sequence[Path]  # folders and files, under their own names


@failures_told()
def retraining(client: MlflowClient, key: str) -> str:
    """The id of the run that holds the runs of one retraining; made if it is not there.

    Args:
        key: hash of what DVC recorded of the stages behind it.
    """
    for run in _oldest_first(_runs_of(client, key)):
        return str(run.info.run_id)
    tags = {KEY_TAG: key, PUBLISHER_TAG: _this_process(), MLFLOW_USER: user()}
    made = client.create_run(experiment_id(client), run_name="retraining", tags=tags)
    first = _oldest_first(_runs_of(client, key))[0]
    if first.info.run_id != made.info.run_id:  # somebody else published the same meanwhile
        client.delete_run(made.info.run_id)
    return str(first.info.run_id)


def _oldest_first(runs: Sequence[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))


@failures_told()
def finish(client: MlflowClient, run_id: str, summary: Summary, versions: Mapping[str, ModelVersion]) -> None:
    """Puts the comparison and the pages about all into the run of a retraining, if they are not there as a whole.

    Args:
        run_id: as `retraining` gives it.
        versions: by architecture. A model that an earlier retraining published lies in that one; a tag leads to its run.
    """
    run = client.get_run(run_id)
    if COMPLETE_TAG in run.data.tags:
        log.info("the comparison is published already")
        return
    with mlflow.start_run(run_id=run_id):
        metrics = [
            Metric(f"{architecture}_{name}", float(scores[name]), run.info.start_time, 0)
            for architecture, scores in summary.scores.items()
            for name in tracked()
        ]
        links = [RunTag(f"{LINK_TAG}{name}", run_of(version)) for name, version in versions.items()]
        client.log_batch(run_id, metrics=metrics, tags=[RunTag("best", summary.best), *links])
        for path in summary.artifacts:
            _log_artifact(path, path.name)
        client.log_batch(run_id, tags=[RunTag(COMPLETE_TAG, "true")])
    log.info("published the comparison of %s", ", ".join(summary.scores))


@failures_told()
def runs(client: MlflowClient, key: str) -> tuple[str, dict[str, str]] | None:
    """The ids of a retraining's run and of the run of each architecture in it; None if it is not published as a whole.

    Args:
        key: hash of what DVC recorded of the stages behind it.
    """
    for run in _oldest_first(_runs_of(client, key)):
        if COMPLETE_TAG in run.data.tags:
            links = {tag.removeprefix(LINK_TAG): run_id for tag, run_id in run.data.tags.items() if tag.startswith(LINK_TAG)}
            return str(run.info.run_id), links
    return None


@failures_told()
def publish(client: MlflowClient, publication: Publication, *, parent: str) -> ModelVersion:
    """The registered version of a publication; made, with its run, if it is not there as a whole.

    Args:
        parent: id of the run of the retraining that a new run becomes a part of.
    """
    if found := _published(client, publication.key):
        log.info("%s is published already, as version %s", publication.architecture, found.version)
        return found
    for run in _runs_of(client, publication.key):
        if not _is_being_published(run):
            _remove(client, run)
            log.info("removed a publication of %s that was cut short", publication.architecture)
    made = _publish_anew(client, publication, parent)
    first = _published(client, publication.key)
    if first is not None and first.version != made.version:  # somebody else published the same meanwhile
        _remove(client, client.get_run(run_of(made)))
        log.info("%s was published by another process meanwhile, as version %s", publication.architecture, first.version)
        return first
    log.info("published %s as version %s of %s", publication.architecture, made.version, MODEL)
    return made


@failures_told()
def are_published(client: MlflowClient, keys: Mapping[str, str]) -> bool:
    """Whether the store still has everything of a retraining, as `register` noted it: versions, runs and the comparison."""
    comparison = [run for run in _runs_of(client, keys["comparison"]) if COMPLETE_TAG in run.data.tags]
    return bool(comparison) and all(_published(client, key) for name, key in keys.items() if name != "comparison")


def _published(client: MlflowClient, key: str) -> ModelVersion | None:
    """The first version whose publication is complete."""
    whole = [
        version
        for run in _runs_of(client, key)
        if COMPLETE_TAG in run.data.tags
        for version in client.search_model_versions(f"name = '{MODEL}' and run_id = '{run.info.run_id}'")
    ]
    return min(whole, key=lambda version: int(version.version), default=None)


def _runs_of(client: MlflowClient, key: str) -> list[Run]:
    return list(client.search_runs([experiment_id(client)], f"tags.`{KEY_TAG}` = '{key}'"))


def _this_process() -> str:
    process = psutil.Process()
    return f"{platform.node()} {process.pid} {process.create_time():.0f}"


def _is_being_published(run: Run) -> bool:
    """Whether the process that began a publication may still be at it; of another machine's nobody knows, so for an hour."""
    machine, pid, started = (run.data.tags.get(PUBLISHER_TAG, "") + "   ").split(" ")[:3]
    if machine != platform.node() or not pid.isdigit():
        return bool(machine) and time.time() - run.info.start_time / 1000 < ANOTHER_MACHINES
    try:
        process = psutil.Process(int(pid))
    except psutil.Error:
        return False
    return process.pid != os.getpid() and f"{process.create_time():.0f}" == started


def _remove(client: MlflowClient, run: Run) -> None:
    for version in client.search_model_versions(f"run_id = '{run.info.run_id}'"):
        client.delete_model_version(version.name, version.version)
    for model in client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"):
        client.delete_logged_model(model.model_id)
    client.delete_run(run.info.run_id)


def _publish_anew(client: MlflowClient, publication: Publication, parent: str) -> ModelVersion:
    told = publication.environment
    tags = {
        **publication.tags,
        KEY_TAG: publication.key,
        PARENT_TAG: parent,
        PUBLISHER_TAG: _this_process(),
        MLFLOW_USER: user(),
        **SOURCE,
        "mlflow.note.content": _description(publication),
        "architecture": publication.architecture,
        "test_set": publication.test_set,
        "environment.processor": f"{told['processor']}, {told['cores']} cores",
        "environment.processor_model": told["processor_model"] or "unknown",
        "environment.instruction_sets": ", ".join(told["instruction_sets"]) or "unknown",
        "environment.threads": str(told["threads"]),
        "environment.gpus": ", ".join(told["gpus"]) or "none",
        "environment.python": told["python"],
        **{f"environment.{name}": version for name, version in told["libraries"].items()},
    }
    # not as the active run: its parent is another one, and MLflow would then watch the machine while nothing trains
    run = client.create_run(experiment_id(client), run_name=publication.architecture, tags=tags)
    with mlflow.start_run(run_id=run.info.run_id, log_system_metrics=False):
        client.log_batch(
            run.info.run_id,
            metrics=_metrics(publication, run.info.start_time),
            params=[Param(name, str(value)) for name, value in sorted(publication.params.items())],
        )
        if publication.record is not None:
            _log_system_metrics(client, run.info.run_id, publication.record)
        write(client.log_inputs, run.info.run_id, [_dataset(split) for split in publication.splits])
        mlflow.log_dict(dict(publication.environment), "environment.json")
        for name, path in publication.artifacts.items():
            _log_artifact(path, name)
        log_predictions(client, run.info.run_id, publication.test_set, publication.predictions_file)
        model = _log_model(publication)
        version = _register(client, publication, model.model_id, run.info.run_id)
        client.log_batch(run.info.run_id, tags=[RunTag(COMPLETE_TAG, "true")])
    return version


def log_predictions(client: MlflowClient, run_id: str, test_set: str, predictions_file: Path) -> None:
    """Keeps what a version answers on the reviews of a test set with its run, where `registry.predictions` finds it."""
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / predictions_name(test_set)
        shutil.copyfile(predictions_file, named)
        client.log_artifact(run_id, str(named), PREDICTIONS)


@failures_told()
def keep_artifacts(client: MlflowClient, version: ModelVersion, publication: Publication) -> None:
    """Stores what `registry.reference` and `registry.seen_texts` read in the run of a version, unless it is there already."""
    of_model = publication.model_dir, publication.tokens_dir, publication.predictions_file
    writers: dict[str, Callable[[Path], None]] = {  # called only where the file is missing: a reference takes time
        REFERENCE: lambda file: Reference.of_model(*of_model).write(file),
        SEEN: lambda file: publication.seen.to_parquet(file, index=False),
    }
    run = run_of(version)
    for artifact, write_file in writers.items():
        place = Path(artifact)
        if artifact in {item.path for item in client.list_artifacts(run, str(place.parent))}:
            continue
        with tempfile.TemporaryDirectory() as folder:
            write_file(Path(folder) / place.name)
            client.log_artifact(run, str(Path(folder) / place.name), str(place.parent))


def predictions_name(test_set: str) -> str:
    """The name of the file with a version's answers on a test set."""
    return f"test-{test_set[:16]}.parquet"


def _log_artifact(path: Path, name: str) -> None:
    if path.is_dir():
        mlflow.log_artifacts(str(path), name)
    else:
        mlflow.log_artifact(str(path))


def _dataset(split: Split) -> DatasetInput:
    dataset = Dataset(
        name=f"reviews, {split.name}",
        digest=split.digest[:36],
        source_type="local",
        source=json.dumps({"uri": split.uri}),
        profile=json.dumps({"reviews": split.reviews}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", split.name)])


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
    seconds = publication.record.seconds if publication.record else ()
    timed = [Metric("epoch_seconds", took, timestamp, epoch) for epoch, took in enumerate(seconds, start=1)]
    single = {"weights": float(publication.weights), "temperature": publication.temperature}
    return [*epochs, *timed, *final, *(Metric(name, value, timestamp, 0) for name, value in single.items())]


def _log_system_metrics(client: MlflowClient, run_id: str, record: Record) -> None:
    metrics = [
        Metric(name, value, int(sample["time"] * 1000), step)
        for step, sample in enumerate(record.system)
        for name, value in sample.items()
        if name != "time"
    ]
    for start in range(0, len(metrics), METRICS_A_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_BATCH])


def _log_model(publication: Publication) -> Any:
    probabilities = [ColSpec(DataType.double, f"p_{name}") for name in publication.classes]
    with tempfile.TemporaryDirectory() as folder:
        package, bundle = _copy_of_the_code(Path(folder)), Path(folder) / "bundle"
        sentiment_model.bundle(
            bundle,
            model_dir=publication.model_dir,
            tokens_dir=publication.tokens_dir,
            stopwords=publication.stopwords,
        )
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(package / "registry/registered_model.py"),
            code_paths=[str(package)],
            artifacts={"bundle": str(bundle)},
            signature=ModelSignature(
                Schema([ColSpec(DataType.string)]), Schema([ColSpec(DataType.string, "label"), *probabilities])
            ),
            input_example=list(sentiment_model.PROBE),
            tags=SOURCE,
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in ("mlflow", *REQUIREMENTS)],
        )


def _copy_of_the_code(folder: Path) -> Path:
    """This package without what tools leave beside its files; so the model does not tell where it was published either."""
    package = Path(sentiment_model.__file__).parents[1]
    for file in package.rglob("*"):
        name = f"{package.name}/{file.relative_to(package)}"
        if file.is_file() and model_directory.CODE.fullmatch(f"code/{name}"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / name)
    return folder / package.name


def _register(client: MlflowClient, publication: Publication, model_id: str, run_id: str) -> ModelVersion:
    create_model(client, MODEL, MODEL_DESCRIPTION)
    with tempfile.TemporaryDirectory() as folder:  # as it lies in the store, so that what arrives there is checked too
        location = client.get_logged_model(model_id).artifact_location
        stored = Path(mlflow.artifacts.download_artifacts(artifact_uri=location, dst_path=folder))
        model_directory.check(stored)
        digest = model_directory.digest(stored)
    tags = {"architecture": publication.architecture, KEY_TAG: publication.key, DIGEST_TAG: digest, **publication.tags}
    return client.create_model_version(
        MODEL, f"models:/{model_id}", run_id, tags=tags, description=_description(publication), model_id=model_id
    )


def _description(publication: Publication) -> str:
    test = publication.scores["test"]
    reviews = {split.name: split.reviews for split in publication.splits}
    return (
        f"{publication.architecture}: accuracy {test['accuracy_score']:.4f} on {reviews['test']:,} test reviews "
        f"(interval {test['accuracy_score_low']:.4f} to {test['accuracy_score_high']:.4f}), "
        f"calibration error {test['calibration_error']:.4f} (before temperature {test['uncalibrated_error']:.4f}). "
        f"Trained on {reviews['train']:,} reviews; classes {terminal.some(publication.classes)}."
    )

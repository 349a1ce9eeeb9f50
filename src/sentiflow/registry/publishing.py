"""Publish each trained model to MLflow once, as a run and a registered version.

The key of a publication is a hash of what DVC recorded for the stages behind it, so publishing is idempotent.
"""

import json
import logging
import os
import platform
import shutil
import tempfile
import time
import urllib.parse
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
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_GIT_DIRTY, MLFLOW_GIT_REPO_URL, MLFLOW_PARENT_RUN_ID, MLFLOW_USER

from sentiflow.data.stopwords import Stopwords
from sentiflow.evaluation.metrics import METRICS
from sentiflow.models import sentiment_model
from sentiflow.models.training_record import Record
from sentiflow.registry import model_directory
from sentiflow.registry.drift_baseline import Reference
from sentiflow.registry.store import (
    ARCHITECTURE_TAG,
    COMMIT_TAG,
    COMPLETE_TAG,
    DATA_TAG,
    DIGEST_TAG,
    KEY_TAG,
    MODEL,
    NOT_JUDGED,
    UNCOMMITTED_TAG,
    VERDICT_TAG,
    create_model,
    errors_handled,
    experiment_id,
    run_of,
    user,
    write,
)
from sentiflow.system import terminal

log = logging.getLogger("sentiflow")

SOURCE = {
    "mlflow.source.name": "dvc repro",
    "mlflow.source.type": "LOCAL",
}  # MLflow's default is the script's absolute path
PREDICTIONS = "predictions"  # folder of a run's artifacts
REFERENCE = "drift/reference.parquet"  # in a run's artifacts
SEEN = "training/texts.parquet"  # in a run's artifacts: hashes of the texts of train and valid
METRICS_PER_BATCH = 500  # MLflow's limit is 1000
FOREIGN_TIMEOUT = 3600.0  # seconds after which an incomplete publication of another machine counts as interrupted
LINK_TAG = "run."  # prefix of the tags of a retraining's run that hold the id of each model's run
PUBLISHER_TAG = "sentiflow.publisher"  # host, process id and start time of the publishing process
CURVES = (
    "accuracy_score",
    "f1_score",
    "log_loss",
)  # metrics with a value per epoch; the artifact `history` has all
LATENCY = "usage/latency_ms"  # metric of a run, logged when its version is judged
MODEL_DESCRIPTION = """\
Sentiment of a review: raw text in, label and probabilities out.

The alias `champion` is the version in use, `previous` the champion before it, `challenger` the best model of the last run.
A version becomes champion only if it passes every rule of `params.yaml: promotion`, or by force with a reason. The tag `verdict`
of a version and `verdicts/` in its run say which rules it passed; `sentiflow-champions` has the history of champions.
"""

# What the registered model imports; pinned in it to the versions it was trained with.
REQUIREMENTS = (
    "dask", "ftfy", "keras", "numpy", "pandas", "pyarrow", "pydantic", "regex", "ruamel.yaml", "scikit-learn", "scipy",
    "tensorflow", "tqdm",
)  # fmt: skip


@dataclass(frozen=True)
class Publication:
    """One trained and evaluated model."""

    architecture: str
    key: str  # hash of what DVC recorded of its stages
    params: Mapping[str, Any]
    provenance: Mapping[str, str]  # hashes and git commit, see `provenance.of_model`
    history: pd.DataFrame  # one row per epoch
    record: Record | None  # time and system metrics of the training; None if the model came from DVC's cache
    scores: Mapping[str, Mapping[str, float]]  # by split, then by metric
    weights: int  # number of them
    environment: Mapping[str, Any]  # that the model was trained in, see `environment.describe`
    artifacts: Mapping[str, Path]  # folder or file by name
    reviews: Mapping[str, int]  # number of reviews by split
    test_set: str  # hash of the test reviews, see `test_set.HeldOut`
    predictions_file: Path  # on test, see `evaluation.predictions`
    model_dir: Path
    tokens_dir: Path
    seen: pd.DataFrame  # hashes of the texts of train and valid, see `seen_texts.of_training`
    stopwords: Stopwords
    classes: tuple[str, ...]


@errors_handled()
def retraining(client: MlflowClient, key: str) -> str:
    """Id of the parent run of all runs of one retraining; created if it is missing.

    Args:
        key: hash of what DVC recorded for the stages behind it.
    """
    if existing := _runs_of(client, key):
        return str(existing[0].info.run_id)
    tags = {KEY_TAG: key, PUBLISHER_TAG: _this_process(), MLFLOW_USER: user()}
    created = client.create_run(experiment_id(client), run_name="retraining", tags=tags)
    first = _runs_of(client, key)[0]
    if first.info.run_id != created.info.run_id:  # another process created it at the same time
        client.delete_run(created.info.run_id)
    return str(first.info.run_id)


@errors_handled()
def finish(
    client: MlflowClient,
    run_id: str,
    versions: Mapping[str, ModelVersion],
    *,
    best: str,
    scores: Mapping[str, float],
    pages: Sequence[Path],
) -> None:
    """Publishes the comparison to the run of a retraining, unless it is complete.

    Args:
        run_id: as `retraining` returns it.
        versions: by model. The run of a model that an earlier retraining published is a child of that retraining.
        best: model with the best score on valid.
        scores: of the best model on test.
        pages: files and folders about all models, logged under their own names.
    """
    run = client.get_run(run_id)
    if COMPLETE_TAG in run.data.tags:
        log.info("the comparison is already published")
        return
    with mlflow.start_run(run_id=run_id):
        metrics = [Metric(name, value, run.info.start_time, 0) for name, value in _test_metrics(scores).items()]
        links = [RunTag(f"{LINK_TAG}{name}", run_of(version)) for name, version in versions.items()]
        client.log_batch(run_id, metrics=metrics, tags=[RunTag("best", best), *links])
        for path in pages:
            _log_artifact(path, path.name)
        client.log_batch(run_id, tags=[RunTag(COMPLETE_TAG, "true")])
    log.info("published the comparison of %s", ", ".join(versions))


@errors_handled()
def runs(client: MlflowClient, key: str) -> tuple[str, dict[str, str]] | None:
    """Ids of a retraining's run and of the run of each of its models; None unless the retraining is completely published.

    Args:
        key: hash of what DVC recorded for the stages behind it.
    """
    for run in _runs_of(client, key):
        if COMPLETE_TAG in run.data.tags:
            links = {tag.removeprefix(LINK_TAG): run_id for tag, run_id in run.data.tags.items() if tag.startswith(LINK_TAG)}
            return str(run.info.run_id), links
    return None


def comparison_page(client: MlflowClient, versions: Sequence[ModelVersion]) -> str:
    """Fragment of the URL of MLflow's page that compares the runs of versions, to append to the address of the UI."""
    lists = {"runs": [run_of(version) for version in versions], "experiments": [experiment_id(client)]}
    query = "&".join(f"{name}={urllib.parse.quote(json.dumps(ids, separators=(',', ':')))}" for name, ids in lists.items())
    return f"#/compare-runs?{query}"


@errors_handled()
def publish(client: MlflowClient, publication: Publication, *, parent: str) -> ModelVersion:
    """Registered version of a publication; created, with its run, unless it is complete.

    Args:
        parent: id of the run of the retraining, parent of a new run.
    """
    if found := _published(client, publication.key):
        log.info("%s is already published, as version %s", publication.architecture, found.version)
        return found
    for run in _runs_of(client, publication.key):
        if not _is_being_published(run):
            _remove(client, run)
            log.info("removed an interrupted publication of %s", publication.architecture)
    created = _create(client, publication, parent)
    first = _published(client, publication.key)
    if first is not None and first.version != created.version:
        _remove(client, client.get_run(run_of(created)))
        log.info("another process has published %s, as version %s", publication.architecture, first.version)
        return first
    log.info("published %s as version %s of %s", publication.architecture, created.version, MODEL)
    return created


@errors_handled()
def are_published(client: MlflowClient, keys: Mapping[str, str]) -> bool:
    """Whether the store has everything of a retraining: versions, runs and the comparison.

    Args:
        keys: as the stage `register` writes them.
    """
    models = {name: key for name, key in keys.items() if name != "comparison"}
    return runs(client, keys["comparison"]) is not None and all(_published(client, key) for key in models.values())


def _published(client: MlflowClient, key: str) -> ModelVersion | None:
    """The first version whose publication is complete."""
    complete = [
        version
        for run in _runs_of(client, key)
        if COMPLETE_TAG in run.data.tags
        for version in client.search_model_versions(f"name = '{MODEL}' and run_id = '{run.info.run_id}'")
    ]
    return min(complete, key=lambda version: int(version.version), default=None)


def _runs_of(client: MlflowClient, key: str) -> list[Run]:
    """Runs with a key, oldest first."""
    found = client.search_runs([experiment_id(client)], f"tags.`{KEY_TAG}` = '{key}'")
    return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))


def _this_process() -> str:
    process = psutil.Process()
    return f"{platform.node()} {process.pid} {process.create_time():.0f}"


def _is_being_published(run: Run) -> bool:
    """Whether another process may still be publishing a run: it is alive, or on another machine and the run is recent."""
    machine, pid, started = (run.data.tags.get(PUBLISHER_TAG, "") + "   ").split(" ")[:3]
    if machine != platform.node() or not pid.isdigit():
        return bool(machine) and time.time() - run.info.start_time / 1000 < FOREIGN_TIMEOUT
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


def _create(client: MlflowClient, publication: Publication, parent: str) -> ModelVersion:
    origin = publication.provenance
    git = {MLFLOW_GIT_COMMIT: "commit", MLFLOW_GIT_DIRTY: "dirty", MLFLOW_GIT_REPO_URL: "repository"}
    tags = {
        KEY_TAG: publication.key,
        MLFLOW_PARENT_RUN_ID: parent,
        PUBLISHER_TAG: _this_process(),
        MLFLOW_USER: user(),
        **SOURCE,
        "mlflow.note.content": _description(publication),
        ARCHITECTURE_TAG: publication.architecture,
        **{tag: origin[name] for tag, name in git.items() if name in origin},
    }
    run = client.create_run(experiment_id(client), run_name=publication.architecture, tags=tags)
    run_id = run.info.run_id
    # `create_run` and not `start_run`: another run is the parent, and nothing trains here that system metrics would describe
    with mlflow.start_run(run_id=run_id, log_system_metrics=False):
        model_id = _log_model(publication).model_id
        params = [Param(name, str(value)) for name, value in sorted(publication.params.items())]
        client.log_batch(run_id, metrics=_metrics(publication, run.info.start_time, model_id), params=params)
        if publication.record is not None:
            _log_system_metrics(client, run_id, publication.record)
        write(client.log_inputs, run_id, [_dataset(publication, split) for split in publication.reviews])
        mlflow.log_dict(dict(publication.environment), "environment.json")
        mlflow.log_dict({**origin, "test_set": publication.test_set}, "provenance.json")
        for name, path in publication.artifacts.items():
            _log_artifact(path, name)
        with tempfile.TemporaryDirectory() as folder:
            named = Path(folder) / predictions_name(publication.test_set)
            shutil.copyfile(publication.predictions_file, named)
            client.log_artifact(run_id, str(named), PREDICTIONS)
        version = _register(client, publication, model_id, run_id)
        client.log_batch(run_id, tags=[RunTag(COMPLETE_TAG, "true")])
    return version


@errors_handled()
def keep_artifacts(client: MlflowClient, version: ModelVersion, publication: Publication) -> None:
    """Adds the drift reference and the hashes of the seen texts to the run of a version, where they are missing."""
    writers: dict[str, Callable[[Path], None]] = {  # a reference takes time, so it is computed only if it is missing
        REFERENCE: lambda file: Reference.of_model(
            publication.model_dir, publication.tokens_dir, publication.predictions_file
        ).write(file),
        SEEN: lambda file: publication.seen.to_parquet(file, index=False),
    }
    run_id = run_of(version)
    for artifact, write_file in writers.items():
        folder, _, name = artifact.rpartition("/")
        if artifact in {item.path for item in client.list_artifacts(run_id, folder)}:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            write_file(Path(temporary) / name)
            client.log_artifact(run_id, str(Path(temporary) / name), folder)


def predictions_name(test_set: str) -> str:
    """File name of a version's predictions on a test set."""
    return f"test-{test_set[:16]}.parquet"


def _log_artifact(path: Path, name: str) -> None:
    if path.is_dir():
        mlflow.log_artifacts(str(path), name)
    else:
        mlflow.log_artifact(str(path))


def _dataset(publication: Publication, split: str) -> DatasetInput:
    dataset = Dataset(
        name=f"reviews, {split}",
        digest=publication.provenance["tokens"][:36],
        source_type="local",
        source=json.dumps({"uri": f"{publication.tokens_dir}/{split}.parquet"}),
        profile=json.dumps({"reviews": publication.reviews[split]}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", split)])


def _test_metrics(scores: Mapping[str, float]) -> dict[str, float]:
    return {f"test/{name}": scores[name] for name in sorted(METRICS)}  # a plot of MLflow starts with the first logged metric


def _metrics(publication: Publication, timestamp: int, model_id: str) -> list[Metric]:
    """The metrics that people compare; intervals and averages are in the artifacts `report/scores.json` and `history`.

    MLflow sorts them by name, and charts them in a section per prefix: test/, train/, usage/, valid/. Those with a model id are
    also the columns of its table of models.
    """
    test = [
        Metric(name, value, timestamp, 0, model_id=model_id) for name, value in _test_metrics(publication.scores["test"]).items()
    ]
    single = {f"valid/best_{name}": publication.scores["valid"][name] for name in CURVES}
    single["usage/weights"] = float(publication.weights)
    seconds = publication.record.seconds if publication.record else ()
    if seconds:
        single["usage/training_seconds"] = sum(seconds)
    curves = [
        Metric(f"{split}/{name}", float(row[f"{split}_{name}"]), timestamp, int(row["epoch"]))
        for row in publication.history.to_dict("records")
        for split in ("train", "valid")
        for name in CURVES
    ]
    timed = [Metric("usage/epoch_seconds", value, timestamp, epoch) for epoch, value in enumerate(seconds, start=1)]
    return [*test, *(Metric(name, value, timestamp, 0) for name, value in single.items()), *curves, *timed]


def _log_system_metrics(client: MlflowClient, run_id: str, record: Record) -> None:
    metrics = [
        Metric(name, value, int(sample["time"] * 1000), step)
        for step, sample in enumerate(record.system)
        for name, value in sample.items()
        if name != "time"
    ]
    for start in range(0, len(metrics), METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_BATCH])


def _log_model(publication: Publication) -> Any:
    probabilities = [ColSpec(DataType.double, f"p_{name}") for name in publication.classes]
    with tempfile.TemporaryDirectory() as folder:
        package, bundle = _copy_of_package(Path(folder)), Path(folder) / "bundle"
        sentiment_model.bundle(
            bundle,
            model_dir=publication.model_dir,
            tokens_dir=publication.tokens_dir,
            stopwords=publication.stopwords,
        )
        return mlflow.pyfunc.log_model(
            name=publication.architecture,
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


def _copy_of_package(folder: Path) -> Path:
    """This package without caches and other files of tools, so that the model does not depend on where it was published."""
    package = Path(sentiment_model.__file__).parents[1]
    for file in package.rglob("*"):
        name = f"{package.name}/{file.relative_to(package)}"
        if file.is_file() and model_directory.CODE.fullmatch(f"code/{name}"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / name)
    return folder / package.name


def _register(client: MlflowClient, publication: Publication, model_id: str, run_id: str) -> ModelVersion:
    create_model(client, MODEL, MODEL_DESCRIPTION)
    with tempfile.TemporaryDirectory() as folder:  # checks the copy in the store, not the local files
        location = client.get_logged_model(model_id).artifact_location
        stored = Path(mlflow.artifacts.download_artifacts(artifact_uri=location, dst_path=folder))
        model_directory.check(stored)
        digest = model_directory.digest(stored)
        client.log_metric(run_id, "usage/size_mb", model_directory.size_mb(stored))
    origin = publication.provenance
    tags = {
        ARCHITECTURE_TAG: publication.architecture,
        DATA_TAG: origin["reviews"],
        VERDICT_TAG: NOT_JUDGED,
        KEY_TAG: publication.key,
        DIGEST_TAG: digest,
        **({COMMIT_TAG: origin["commit"]} if "commit" in origin else {}),
        **({UNCOMMITTED_TAG: "true"} if origin.get("dirty") == "true" else {}),
    }
    return client.create_model_version(
        MODEL, f"models:/{model_id}", run_id, tags=tags, description=_description(publication), model_id=model_id
    )


def _description(publication: Publication) -> str:
    test = publication.scores["test"]
    return (
        f"{publication.architecture}: accuracy {test['accuracy_score']:.4f} on {publication.reviews['test']:,} test reviews "
        f"(interval {test['accuracy_score_low']:.4f} to {test['accuracy_score_high']:.4f}), "
        f"calibration error {test['calibration_error']:.4f} (before temperature {test['uncalibrated_error']:.4f}). "
        f"Trained on {publication.reviews['train']:,} reviews; classes {terminal.some(publication.classes)}."
    )

"""Versions of the registered model: find them, set aliases, read their artifacts, and open one safely."""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from sentiflow.evaluation import evaluation
from sentiflow.models.sentiment_model import SentimentModel
from sentiflow.registry import location, model_directory, publishing
from sentiflow.registry.drift_baseline import Reference
from sentiflow.registry.store import ARCHITECTURE_TAG, COMPLETE_TAG, DIGEST_TAG, KEY_TAG, MODEL, run_of, write
from sentiflow.registry.test_set import HeldOut
from sentiflow.system import artifacts, terminal
from sentiflow.system.errors import InputError

CHAMPION = "champion"
PREVIOUS = "previous"
CHALLENGER = "challenger"
SUBPATH = re.compile(r"[\w-]+(?:/[\w-]+)*", re.ASCII)  # below the artifact location: no dots, no escapes
KEY = re.compile(r"\w+", re.ASCII)
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # MLflow's error codes
PUBLISH_AGAIN = "rm -f mlartifacts/published.json, then sentiflow repro"


@dataclass(frozen=True)
class Opened:
    """A version that was downloaded, checked and loaded without running code of its directory."""

    version: str
    architecture: str
    model: SentimentModel
    metadata: Model  # MLflow's description: signature etc.
    size_mb: float  # of its directory


def versions(client: MlflowClient, condition: str = "") -> list[ModelVersion]:
    """All versions of the model, oldest first.

    Args:
        condition: in MLflow's search language.
    """
    return search(client, f"name = '{MODEL}'" + (f" and {condition}" if condition else ""))


def search(client: MlflowClient, condition: str) -> list[ModelVersion]:
    """Versions of any model that meet a condition in MLflow's search language, oldest first."""
    found: list[ModelVersion] = []
    token: str | None = None
    while token is None or token:
        page = client.search_model_versions(condition, page_token=token)
        found += page
        token = page.token or ""
    return sorted(found, key=lambda version: int(version.version))


def version(client: MlflowClient, number: str) -> ModelVersion:
    """One version by its number."""
    try:
        found = client.get_model_version(MODEL, number)
    except MlflowException as error:
        if error.error_code not in MISSING:
            raise
        existing = ", ".join(str(each.version) for each in versions(client)[-20:]) or "none; create some: sentiflow repro"
        raise InputError(f"received version {number!r}, but {MODEL} has no such version; it has {existing}") from None
    check_complete(client, found)
    return found


def check_complete(client: MlflowClient, found: ModelVersion) -> None:
    """Refuses a version whose publication is incomplete."""
    tags = _tags_of_run(client, found)
    if tags is None:
        raise InputError(
            f"version {found.version} has lost its run {found.run_id}, which `mlflow gc` may have removed; "
            f"publish it again as a new version: {PUBLISH_AGAIN} (of an earlier commit: sentiflow models rebuild)"
        )
    if COMPLETE_TAG not in tags:
        raise InputError(
            f"the publication of version {found.version} is incomplete (its run has no tag {COMPLETE_TAG}); "
            "`sentiflow repro` publishes what is missing"
        )


def has_run(client: MlflowClient, found: ModelVersion) -> bool:
    """Whether the run of a version still exists; `mlflow gc` removes deleted runs."""
    return not found.run_id or _tags_of_run(client, found) is not None


def _tags_of_run(client: MlflowClient, found: ModelVersion) -> Mapping[str, str] | None:
    try:
        tags: Mapping[str, str] = client.get_run(run_of(found)).data.tags
    except MlflowException as error:
        if error.error_code not in MISSING:
            raise
        return None
    return tags


def with_alias(client: MlflowClient, alias: str) -> ModelVersion | None:
    """The version with an alias, or None."""
    try:
        return client.get_model_version_by_alias(MODEL, alias)
    except MlflowException as error:
        if error.error_code in MISSING:
            return None
        raise


def champion(client: MlflowClient) -> ModelVersion | None:
    """The version with the alias `champion`, or None."""
    return with_alias(client, CHAMPION)


def published(client: MlflowClient, key: str) -> ModelVersion:
    """The version of a publication, by its key."""
    for found in versions(client, f"tags.`{KEY_TAG}` = '{key}'") if KEY.fullmatch(key) else ():
        if COMPLETE_TAG in (_tags_of_run(client, found) or ()):
            return found
    raise InputError(f"MLflow's store has no version published with the key {key[:12]}…; publish it again: {PUBLISH_AGAIN}")


def set_alias(client: MlflowClient, alias: str, number: str | None) -> None:
    """Sets an alias to a version, or removes it if `number` is None; writes nothing if there is nothing to change."""
    current = with_alias(client, alias)
    if number is None and current is not None:
        client.delete_registered_model_alias(MODEL, alias)
    elif number is not None and (current is None or str(current.version) != number):
        write(client.set_registered_model_alias, MODEL, alias, number)


def opened(client: MlflowClient, chosen: ModelVersion) -> Opened:
    """Downloads a version into a private folder, checks the folder, and loads the model with this project's code.

    Nothing in the folder is run: MLflow's loaders would run whatever the `MLmodel` names.
    """
    name = f"version {chosen.version} of {MODEL}"
    registered = chosen.tags.get(DIGEST_TAG)
    if registered is None:
        raise InputError(
            f"{name} has no tag {DIGEST_TAG}, so it was not registered by this project, and a model directory can run any code; "
            "register it with `sentiflow repro`"
        )
    with tempfile.TemporaryDirectory(prefix="sentiflow-") as folder:  # private, so it cannot change between check and load
        place = _downloaded(client, chosen, Path(folder))
        try:
            model_directory.check(place)
            found = model_directory.digest(place)
            if found != registered:
                raise InputError(f"its files have changed: hash {found[:12]}…, registered {registered[:12]}…")
            model = SentimentModel.load(place / "artifacts/bundle")
            model.prove(place / "artifacts/bundle")
        except InputError as error:
            raise InputError(f"{name} is refused: {error}") from None
        return Opened(
            version=str(chosen.version),
            architecture=chosen.tags[ARCHITECTURE_TAG],
            model=model,
            metadata=Model.load(str(place)),
            size_mb=model_directory.size_mb(place),
        )


def _downloaded(client: MlflowClient, chosen: ModelVersion, folder: Path) -> Path:
    uri = client.get_model_version_download_uri(MODEL, str(chosen.version))
    experiment = client.get_experiment_by_name(location.EXPERIMENT)
    root = experiment.artifact_location.rstrip("/") if experiment else ""
    # before any read or request: a version may name any file or URL
    if not (uri.startswith(f"{root}/") and SUBPATH.fullmatch(uri.removeprefix(f"{root}/"))):
        raise InputError(
            f"version {chosen.version} of {MODEL} is refused: its files are at {uri}, expected a folder below {root}; "
            "choose another version, see `sentiflow models list`"
        )
    local, allowed = location.local_path(uri), location.local_path(root)
    try:
        if local is None or allowed is None:
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
        if not location.is_within(local, allowed):
            raise InputError(f"version {chosen.version} of {MODEL} is refused: {local} is a link that leads out of {allowed}")
        return Path(shutil.copytree(local, folder / "model", symlinks=True))  # MLflow would follow links
    except (MlflowException, shutil.Error, OSError) as error:
        # `copytree` and MLflow keep only the message of the original error
        if any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
            raise InputError(
                f"no space left to copy version {chosen.version} of {MODEL} to {tempfile.gettempdir()} for its check; "
                "free some space, or set TMPDIR to a folder on another disk, then run again"
            ) from None
        raise InputError(
            f"the files of version {chosen.version} of {MODEL} cannot be copied from {uri}: {error}; "
            "`sentiflow models rebuild` fills an empty store from DVC's cache"
        ) from None


def predictions(client: MlflowClient, chosen: ModelVersion, held_out: HeldOut) -> pd.DataFrame:
    """Predictions of a version on the test reviews, see `evaluation.predictions`.

    They are read from the version's run. If the run has none for this test set, the version is opened and scored.
    """
    with _artifact(client, chosen, f"{publishing.PREDICTIONS}/{publishing.predictions_name(held_out.digest)}") as file:
        if file is None:
            return _scored(opened(client, chosen), held_out)
        table = artifacts.read_frame(file)
    columns = [f"p_{name}" for name in held_out.classes]
    is_valid = {"label", *columns} <= set(table) and table["label"].tolist() == held_out.labels.tolist()
    if is_valid:
        probabilities = table[columns].to_numpy("float64")
        # float32 sums differ a little from 1; comparisons with NaN are false
        is_valid = bool((probabilities >= 0).all() and (abs(probabilities.sum(axis=1) - 1) < 1e-3).all())
    if not is_valid:
        raise InputError(
            f"the predictions of version {chosen.version} on this test set are damaged; remove them from the artifacts of its "
            f"run {chosen.run_id}, so that they are computed again"
        )
    return table.assign(row=held_out.labels.index)  # row numbers may differ for the same reviews


def reference(client: MlflowClient, chosen: ModelVersion) -> Reference | None:
    """Drift reference of a version; None if its run has none."""
    with _artifact(client, chosen, publishing.REFERENCE) as file:
        try:
            return None if file is None else Reference.read(file)
        except InputError as error:
            raise InputError(
                f"the drift reference of version {chosen.version} is invalid ({error}); remove {publishing.REFERENCE} from the "
                f"artifacts of its run {chosen.run_id}; then: {PUBLISH_AGAIN}"
            ) from None


def seen_texts(client: MlflowClient, chosen: ModelVersion) -> pd.DataFrame | None:
    """Hashes of the texts that a version was trained or chosen on; None if its run has none."""
    with _artifact(client, chosen, publishing.SEEN) as file:
        if file is None:
            return None
        table = artifacts.read_frame(file)
    if list(table) != ["hash"] or table["hash"].dtype != "uint64":
        raise InputError(
            f"{publishing.SEEN} in run {chosen.run_id} of version {chosen.version} is not a table of hashes; remove it, then "
            f"publish it again: {PUBLISH_AGAIN}"
        )
    return table


@contextlib.contextmanager
def _artifact(client: MlflowClient, chosen: ModelVersion, path: str) -> Iterator[Path | None]:
    """A copy of an artifact of a version's run; None if it is missing."""
    run_id = run_of(chosen)
    with tempfile.TemporaryDirectory() as folder:
        if path in {item.path for item in client.list_artifacts(run_id, str(Path(path).parent))}:
            yield Path(client.download_artifacts(run_id, path, folder))
        else:
            yield None


def _scored(version: Opened, held_out: HeldOut) -> pd.DataFrame:
    classes: Sequence[str] = version.model.classifier.config.classes
    if tuple(classes) != tuple(held_out.classes):
        raise InputError(
            f"version {version.version} has the classes {terminal.some(classes)}, but the test reviews have "
            f"{terminal.some(held_out.classes)}, so the two cannot be compared; to change the classes, promote by force: "
            'sentiflow models promote ... --force --reason "..."'
        )
    answers = version.model.predict(held_out.texts.tolist())
    labels = held_out.labels.map({name: index for index, name in enumerate(classes)}).to_numpy()
    probabilities = answers[[f"p_{name}" for name in classes]].to_numpy()
    return evaluation.predictions(held_out.labels.index.to_numpy(), labels, probabilities, classes)

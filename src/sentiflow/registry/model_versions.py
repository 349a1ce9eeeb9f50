"""The versions of the model: which is champion, what each answers, and opening one safely."""

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
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from sentiflow.evaluation import evaluation
from sentiflow.models.sentiment_model import SentimentModel
from sentiflow.registry import location, model_directory, publishing
from sentiflow.registry.drift_baseline import Reference
from sentiflow.registry.store import COMPLETE_TAG, DIGEST_TAG, EXPERIMENT, KEY_TAG, MODEL, run_of, write
from sentiflow.registry.test_set import HeldOut
from sentiflow.system import artifacts, terminal
from sentiflow.system.errors import InputError

CHAMPION = "champion"
PREVIOUS = "previous"
CHALLENGER = "challenger"
MEGABYTE = 1e6
BELOW = re.compile(r"[\w-]+(?:/[\w-]+)*", re.ASCII)  # in an artifact location: no dots, no escapes
KEY = re.compile(r"\w+", re.ASCII)
MISSING = (ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class Opened:
    """A version that was downloaded, checked and read; no code of its directory ran."""

    version: str
    architecture: str
    model: SentimentModel
    metadata: Model  # MLflow's description of it: signature, and so on
    size_mb: float  # megabytes of its directory


def versions(client: MlflowClient, where: str = "") -> list[ModelVersion]:
    """All versions, oldest first; `where` adds a condition in MLflow's search language."""
    return search(client, f"name = '{MODEL}'" + (f" and {where}" if where else ""))


def search(client: MlflowClient, condition: str) -> list[ModelVersion]:
    """The versions of any model that meet a condition in MLflow's search language, oldest first."""
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
        there = ", ".join(str(each.version) for each in versions(client)[-20:]) or "none; make some: sentiflow repro"
        raise InputError(f"received version {number!r}, but {MODEL} has no such version; it has {there}") from None
    check_complete(client, found)
    return found


def check_complete(client: MlflowClient, found: ModelVersion) -> None:
    """Refuses a version whose publication is not whole."""
    tags = _tags_of_run(client, found)
    if tags is None:
        raise InputError(
            f"version {found.version} has lost its run {found.run_id}, which `mlflow gc` may have removed; "
            "publish it again as a new version: rm -f mlartifacts/published.json, then sentiflow repro (of an earlier commit: "
            "sentiflow models rebuild)"
        )
    if COMPLETE_TAG not in tags:
        raise InputError(
            f"version {found.version} was not published as a whole (its run has no tag {COMPLETE_TAG}); "
            "`sentiflow repro` publishes what is missing"
        )


def has_run(client: MlflowClient, found: ModelVersion) -> bool:
    """Whether the run of a version is still there; `mlflow gc` removes deleted ones for good."""
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
    """The version that an alias names, or None if it names none."""
    try:
        return client.get_model_version_by_alias(MODEL, alias)
    except MlflowException as error:
        if error.error_code in MISSING:
            return None
        raise


def champion(client: MlflowClient) -> ModelVersion | None:
    """The version with the alias `champion`, or None if there is none."""
    return with_alias(client, CHAMPION)


def published(client: MlflowClient, key: str) -> ModelVersion:
    """The version of a publication, by its key."""
    for found in versions(client, f"tags.`{KEY_TAG}` = '{key}'") if KEY.fullmatch(key) else ():
        if COMPLETE_TAG in (_tags_of_run(client, found) or ()):
            return found
    raise InputError(
        f"MLflow's store has no version published under {key[:12]}…; publish what it lacks: rm -f mlartifacts/published.json, "
        "then sentiflow repro"
    )


def set_alias(client: MlflowClient, alias: str, number: str | None) -> None:
    """Points an alias at a version; at none where `number` is None. What is so already is not touched."""
    current = with_alias(client, alias)
    if number is None and current is not None:
        client.delete_registered_model_alias(MODEL, alias)
    elif number is not None and (current is None or str(current.version) != number):
        write(client.set_registered_model_alias, MODEL, alias, number)


def opened(client: MlflowClient, chosen: ModelVersion) -> Opened:
    """Downloads a version into a private folder, checks the folder, and reads the model in it with this code.

    Nothing that stands in the folder is run: MLflow's loaders would run what an `MLmodel` names.
    """
    told = f"version {chosen.version} of {MODEL}"
    registered = chosen.tags.get(DIGEST_TAG)
    if registered is None:
        raise InputError(
            f"{told} has no tag {DIGEST_TAG}, so it was not registered by this project, and a model directory can run any code; "
            "register it with `sentiflow repro`"
        )
    with tempfile.TemporaryDirectory(prefix="sentiflow-") as folder:  # a copy, so that nobody changes it between check and use
        place = _downloaded(client, chosen, Path(folder))
        try:
            model_directory.check(place)
            found = model_directory.digest(place)
            if found != registered:
                raise InputError(
                    f"its files hash to {found[:12]}…, but {registered[:12]}… was registered, so they were changed since"
                )
            model = SentimentModel.load(place / "artifacts/bundle")
            model.prove(place / "artifacts/bundle")
        except InputError as error:
            raise InputError(f"{told} is refused: {error}") from None
        size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        return Opened(
            version=str(chosen.version),
            architecture=chosen.tags["architecture"],
            model=model,
            metadata=Model.load(str(place)),
            size_mb=size / MEGABYTE,
        )


def _downloaded(client: MlflowClient, chosen: ModelVersion, folder: Path) -> Path:
    uri = client.get_model_version_download_uri(MODEL, str(chosen.version))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    root = experiment.artifact_location.rstrip("/") if experiment else ""
    # before anything is read or asked: a version may name any file or address
    if not (uri.startswith(f"{root}/") and BELOW.fullmatch(uri.removeprefix(f"{root}/"))):
        raise InputError(
            f"version {chosen.version} of {MODEL} is refused: its files are at {uri}, expected a folder below {root}; "
            "promote or name another version, see `sentiflow models list`"
        )
    local, allowed = location.local_path(uri), location.local_path(root)
    try:
        if local is None or allowed is None:
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
        if not location.is_within(local, allowed):
            raise InputError(f"version {chosen.version} of {MODEL} is refused: {local} is a link that leads out of {allowed}")
        return Path(shutil.copytree(local, folder / "model", symlinks=True))  # MLflow would follow links
    except (MlflowException, shutil.Error, OSError) as error:
        _check_space(error, chosen)
        raise InputError(
            f"the files of version {chosen.version} of {MODEL} cannot be copied from {uri}: {error}; "
            "`sentiflow models rebuild` fills an empty store from DVC's cache"
        ) from None


def _check_space(error: Exception, chosen: ModelVersion) -> None:
    """Raises InputError if copying failed for lack of space, of which `copytree` and MLflow keep no more than the text."""
    if any(os.strerror(each) in str(error) for each in (errno.ENOSPC, errno.EDQUOT)):
        raise InputError(
            f"version {chosen.version} of {MODEL} is copied to {tempfile.gettempdir()} to be checked, and that disk is full; "
            "free some space, or set TMPDIR to a folder on another disk, then run again"
        ) from None


def predictions(client: MlflowClient, chosen: ModelVersion, held_out: HeldOut) -> pd.DataFrame:
    """What a version answers on the test reviews, as `evaluation.predictions` gives it.

    It is read from the version's run. Where that holds no answers on just these reviews, because the test set has changed
    since, the version is opened and scored again.
    """
    with _kept(client, chosen, f"{publishing.PREDICTIONS}/{publishing.predictions_name(held_out.digest)}") as file:
        if file is None:
            return _scored(opened(client, chosen), held_out)
        table = artifacts.read_frame(file)
    if table["label"].tolist() != held_out.labels.tolist():
        raise InputError(
            f"the predictions of version {chosen.version} on this test set were changed; publish them anew: sentiflow repro"
        )
    return table.assign(row=held_out.labels.index)  # the numbers of the rows may differ where the reviews are the same


def reference(client: MlflowClient, chosen: ModelVersion) -> Reference | None:
    """What a version was trained and tested on, to compare incoming reviews with; None where its run does not keep it."""
    with _kept(client, chosen, publishing.REFERENCE) as file:
        try:
            return None if file is None else Reference.read(file)
        except InputError as error:
            raise InputError(
                f"the reference of version {chosen.version} was changed ({error}); remove {publishing.REFERENCE} from the "
                f"artifacts of its run {chosen.run_id}; then: rm -f mlartifacts/published.json, then sentiflow repro"
            ) from None


def seen_texts(client: MlflowClient, chosen: ModelVersion) -> pd.DataFrame | None:
    """Hashes of the texts that a version was trained or chosen on; None if they are not recorded."""
    with _kept(client, chosen, publishing.SEEN) as file:
        if file is None:
            return None
        table = artifacts.read_frame(file)
    if list(table) != ["hash"] or table["hash"].dtype != "uint64":
        raise InputError(
            f"{publishing.SEEN} in run {chosen.run_id} of version {chosen.version} is not a table of hashes; remove it, then "
            "publish it again: rm -f mlartifacts/published.json, then sentiflow repro"
        )
    return table


@contextlib.contextmanager
def _kept(client: MlflowClient, chosen: ModelVersion, artifact: str) -> Iterator[Path | None]:
    """A copy of an artifact of a version's run; None if the run does not have it."""
    run = run_of(chosen)
    with tempfile.TemporaryDirectory() as folder:
        if artifact in {item.path for item in client.list_artifacts(run, str(Path(artifact).parent))}:
            yield Path(client.download_artifacts(run, artifact, folder))
        else:
            yield None


def _scored(version: Opened, held_out: HeldOut) -> pd.DataFrame:
    classes: Sequence[str] = version.model.classifier.config.classes
    if tuple(classes) != tuple(held_out.classes):
        raise InputError(
            f"version {version.version} knows the classes {terminal.some(classes)}, the test reviews are of "
            f"{terminal.some(held_out.classes)}: the two cannot be compared; to change the classes, promote by force: "
            'sentiflow models promote ... --force --reason "..."'
        )
    answers = version.model.predict(held_out.texts.tolist())
    labels = held_out.labels.map({name: index for index, name in enumerate(classes)}).to_numpy()
    probabilities = answers[[f"p_{name}" for name in classes]].to_numpy()
    return evaluation.predictions(held_out.labels.index.to_numpy(), labels, probabilities, classes)

"""Opening a version: locations of its files, and that the loaded files are the checked ones."""

import contextlib
import http.server
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
from mlflow.cli import gc
from publications import held_out, publication, worse

from sentiflow.models.sentiment_model import SentimentModel
from sentiflow.registry import model_directory, model_versions, publishing
from sentiflow.system.errors import InputError

KEYS = {"good": "a" * 64, "worse": "b" * 64}


@pytest.fixture(scope="module")
def versions(store, trained, tmp_path_factory):
    parent = publishing.retraining(store, "f" * 64)
    made = {}
    for name, key in KEYS.items():
        folder = tmp_path_factory.mktemp(name)
        of = worse(trained, folder, share=0.5) if name == "worse" else trained
        made[name] = publishing.publish(store, publication(of, folder, key=key), parent=parent)
    return made


def files_of(store, version):
    return Path(store.get_model_version_download_uri("sentiflow", version.version))


@pytest.fixture
def pointed(store, versions):
    """Changes the location of the good version's files."""
    version = versions["good"].version
    before = str(files_of(store, versions["good"]))

    def point(place):
        with contextlib.closing(sqlite3.connect("mlflow.db")) as database:
            database.execute(
                "UPDATE model_versions SET source = ?, storage_location = ? WHERE name = 'sentiflow' AND version = ?",
                (place, place, int(version)),
            )
            database.commit()

    yield point
    point(before)


class Asked(http.server.BaseHTTPRequestHandler):
    seen: ClassVar[list[str]] = []

    def do_GET(self):
        self.seen.append(self.path)
        self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    "place",
    [
        "/etc",
        "../..",
        "mlartifacts",
        "file:///etc",
        "file://",
        "{server}/latest/meta-data",
        "http://169.254.169.254/latest/meta-data",
        "s3://bucket/model",
        "runs:/../..",
        "runs:/0123456789abcdef0123456789abcdef/model",
        "models:/sentiflow@champion",
        "mlflow-artifacts:/1/models/m-1/artifacts",
        "{here}",
        "{here}/../..",
        "{here}/models/../../../etc",
        "{here}/models/%2e%2e/%2e%2e/%2e%2e/etc",
        "{here}2/models/m-1/artifacts",
        "{here}/link",
        "{here}/link/models",
        "",
    ],
)
def test_version_with_files_elsewhere_is_refused_before_any_read_or_request(store, versions, pointed, monkeypatch, place):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Asked) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here, link = Path("mlartifacts").absolute(), Path("mlartifacts/link")
        if not link.is_symlink():
            link.symlink_to("/etc")
        pointed(place.format(here=here, server=f"http://127.0.0.1:{server.server_port}"))
        monkeypatch.setattr(shutil, "copytree", lambda *_, **__: pytest.fail("it was read"))
        monkeypatch.setattr(model_versions.mlflow.artifacts, "download_artifacts", lambda *_, **__: pytest.fail("it was asked"))
        with pytest.raises(InputError, match=f"version {versions['good'].version} of sentiflow is refused: ") as refused:
            model_versions.opened(store, versions["good"])
        server.shutdown()
    assert "\n" not in str(refused.value)
    assert not Asked.seen


def answers(opened, texts):
    return opened.model.predict(texts).to_dict("records")


def test_loaded_files_are_the_checked_ones_even_if_the_store_changes_in_between(store, versions, trained, monkeypatch):
    texts = trained[2].tolist()
    good, worse_ones = (answers(model_versions.opened(store, versions[name]), texts) for name in KEYS)
    assert good != worse_ones
    place, other = (files_of(store, versions[name]) for name in KEYS)
    kept = place.with_name("kept")
    shutil.copytree(place, kept)

    def swap(of_module, name):
        real = getattr(of_module, name)

        def swapping(*given, **named):
            made = real(*given, **named)
            shutil.rmtree(place)
            shutil.copytree(other, place)
            return made

        return swapping

    for of_module, name in ((model_directory, "check"), (model_directory, "digest"), (SentimentModel, "load")):
        with monkeypatch.context() as patch:
            patch.setattr(of_module, name, swap(of_module, name))
            assert answers(model_versions.opened(store, versions["good"]), texts) == good
        with pytest.raises(InputError, match="its files have changed"):
            model_versions.opened(store, versions["good"])
        shutil.rmtree(place)
        shutil.copytree(kept, place)
    shutil.rmtree(kept)


SWAPS = """
import itertools, os, shutil, sys
from pathlib import Path

place, other, kept = map(Path, sys.argv[1:])
weights = "artifacts/bundle/model/weights.npz"
print("ready", flush=True)
for turn in itertools.count():
    source = (other, kept)[turn % 2]
    shutil.copyfile(source / weights, place / f"{weights}.new")
    os.replace(place / f"{weights}.new", place / weights)
    os.rename(place, place.with_name("aside"))
    os.symlink(other, place)
    os.unlink(place)
    os.rename(place.with_name("aside"), place)
"""


def test_process_that_keeps_swapping_files_gets_none_of_them_loaded(store, versions, trained, tmp_path):
    texts = trained[2].tolist()
    good = answers(model_versions.opened(store, versions["good"]), texts)
    place, other = (files_of(store, versions[name]) for name in KEYS)
    kept = shutil.copytree(place, tmp_path / "kept")
    swapping = subprocess.Popen([sys.executable, "-c", SWAPS, place, other, kept], stdout=subprocess.PIPE)
    outcomes = []
    try:
        assert swapping.stdout.readline() == b"ready\n"
        for _ in range(30):
            try:
                outcomes.append(answers(model_versions.opened(store, versions["good"]), texts) == good)
            except InputError:
                outcomes.append(None)
    finally:
        swapping.send_signal(signal.SIGKILL)
        swapping.wait()
        swapping.stdout.close()
        for each in (place, place.with_name("aside")):
            each.unlink() if each.is_symlink() else shutil.rmtree(each, ignore_errors=True)
        shutil.copytree(kept, place)
    assert False not in outcomes
    assert None in outcomes, "at least one swap was detected"


def test_version_without_its_run_is_refused_with_what_to_do(store, versions, trained, tmp_path):
    parent, given = versions["good"].run_id, publication(trained, tmp_path, key="c" * 64)
    lost = publishing.publish(store, given, parent=parent)
    store.delete_run(lost.run_id)
    gc.main(["--backend-store-uri", os.environ["MLFLOW_TRACKING_URI"], "--run-ids", lost.run_id], standalone_mode=False)
    with pytest.raises(InputError, match=f"version {lost.version} has lost its run {lost.run_id}.*rm -f .*then sentiflow repro"):
        model_versions.version(store, lost.version)
    with pytest.raises(InputError, match="has no version published with the key"):
        model_versions.published(store, given.key)
    again = publishing.publish(store, given, parent=parent)
    assert model_versions.published(store, given.key).version == again.version
    assert model_versions.opened(store, model_versions.version(store, again.version))


@pytest.mark.parametrize(
    "damage",
    [
        lambda table: table[1:],
        lambda table: table.assign(label="positive"),
        lambda table: table.drop(columns="p_negative"),
        lambda table: table.assign(p_negative=math.nan),
        lambda table: table.assign(p_negative=math.inf),
        lambda table: table.assign(p_negative=-0.5, p_positive=1.5),
        lambda table: table.assign(p_negative=0.4, p_positive=0.5),
    ],
)
def test_damaged_predictions_are_refused(store, versions, trained, damage):
    reviews, version = held_out(trained[2]), versions["good"]
    name = f"{publishing.PREDICTIONS}/{publishing.predictions_name(reviews.digest)}"
    file = Path(store.get_run(version.run_id).info.artifact_uri.removeprefix("file://")) / name
    valid = file.read_bytes()
    try:
        damage(pd.read_parquet(file)).to_parquet(file, index=False)
        with pytest.raises(InputError, match=f"the predictions of version {version.version} on this test set are damaged"):
            model_versions.predictions(store, version, reviews)
    finally:
        file.write_bytes(valid)


@pytest.mark.parametrize("key", ["", "' OR name = 'sentiflow", "a`b", "\x1b[2J"])
def test_invalid_key_is_not_found(store, versions, key):
    with pytest.raises(InputError, match="has no version published with the key"):
        model_versions.published(store, key)

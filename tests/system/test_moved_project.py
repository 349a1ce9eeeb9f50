"""A project that was copied, renamed or moved, with the store it has by default, through its own commands."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import ports
import pytest
import requests
from publications import publication, train

from sentiflow.registry import champion_history, publishing, store

pytestmark = pytest.mark.slow

TOP = Path(__file__).parents[2]
PATIENCE = 300
PUBLISH = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from publications import publication, train
from sentiflow.registry import publishing, store

folder = Path(sys.argv[2])
client = store.connect()
version = publishing.publish(client, publication(train(folder), folder, key=sys.argv[3] * 64), parent=sys.argv[4])
print("published", version.version)
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with a store of two versions, of which the first is champion; and the run of the retraining."""
    folder = tmp_path_factory.mktemp("original") / "project"
    folder.mkdir()
    shutil.copy(TOP / "params.yaml", folder)
    trained = train(tmp_path_factory.mktemp("trained"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # its whole path: MLflow keeps one connection for each name of a store, whatever folder it was opened in
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        client = store.connect()
        parent = publishing.retraining(client, "f" * 64)
        versions = [
            publishing.publish(client, publication(trained, tmp_path_factory.mktemp(key), key=key * 64), parent=parent)
            for key in "ab"
        ]
        with champion_history.changing(client) as entries:
            champion_history.change(client, entries, versions[0], champion_history.FIRST, "the first")
    return folder, parent, versions[0].run_id


def contents(folder):
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


def environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "_MLFLOW_"))}


def run(folder, *words):
    command = [sys.executable, *words]
    ended = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


@contextlib.contextmanager
def served(folder, command, page, log):
    """The page, once a command serves it."""
    with log.open("w") as said:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=said, stderr=said, start_new_session=True)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            with contextlib.suppress(requests.RequestException):
                if requests.get(page, timeout=5).ok:
                    break
            time.sleep(0.5)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE)


@pytest.mark.parametrize("how", ["copied", "renamed", "moved"])
def test_every_command_works_on_the_project_where_it_is_now_and_writes_nowhere_else(original, tmp_path, how):
    first, parent, _ = original
    before = contents(first)
    place = shutil.copytree(first, tmp_path / "copy")
    gone = None
    if how != "copied":
        run(place, "-m", "sentiflow", "models", "history")  # so that the store is one of the folder that will be gone
        gone, place = place, tmp_path / ("another name" if how == "renamed" else "elsewhere/project")
        place.parent.mkdir(exist_ok=True)
        gone.rename(place)

    message = f"the MLflow store was made in {gone or first}; its artifact locations now point to {place}"
    said = run(place, "-m", "sentiflow", "predict", "--text", "A film I loved.")
    assert message in said
    assert "(version 1 (nb_svm))" in said
    promote = ["-m", "sentiflow", "models", "promote", "2", "--force", "--reason", "it moved"]
    assert "Champion: version 2" in run(place, *promote)
    assert "Champion: version 1" in run(place, "-m", "sentiflow", "models", "rollback")
    said = run(place, "-m", "sentiflow", "models", "history")
    assert message not in said
    assert "it moved" in said
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert "published 3" in run(place, "-c", PUBLISH, str(TOP / "tests"), str(scratch), "c", parent)
    assert "(version 3 (nb_svm))" in run(place, "-m", "sentiflow", "predict", "--text", "A film I loved.", "--version", "3")

    assert contents(first) == before
    assert gone is None or not gone.exists()
    assert {path.name for path in tmp_path.iterdir()} <= {place.name, "elsewhere", "scratch"}


def test_servers_of_a_moved_project_use_the_files_where_they_are_now(original, tmp_path):
    first, _, run_id = original
    before = contents(first)
    for name in ("served", "shown"):
        shutil.copytree(first, tmp_path / name)

    port, ui_port, prefect_port = ports.several(3)
    page = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "sentiflow", "serve", "--port", str(port)]
    with served(tmp_path / "served", command, f"{page}/health", tmp_path / "serve.log"):
        answer = requests.post(f"{page}/invocations", json={"inputs": ["A film I loved."]}, timeout=PATIENCE)
        assert answer.json()["predictions"][0]["label"] in ("negative", "positive")

    shown = tmp_path / "shown"
    (shown / ".venv").symlink_to(sys.prefix)
    for package in ("flows", "services", "src"):
        (shown / package).symlink_to(TOP / package)
    command = [sys.executable, "-m", "sentiflow", "ui"]
    command += ["--port", str(ui_port), "--prefect-port", str(prefect_port)]
    page = f"http://127.0.0.1:{ui_port}"
    with served(shown, command, page, tmp_path / "ui.log"):
        listed = requests.get(f"{page}/ajax-api/2.0/mlflow/artifacts/list", params={"run_id": run_id}, timeout=PATIENCE).json()
        assert listed["root_uri"] == f"{shown}/mlartifacts/{run_id}/artifacts"
        assert "environment.json" in {item["path"] for item in listed["files"]}
        file = {"run_uuid": run_id, "path": "environment.json"}
        assert requests.get(f"{page}/get-artifact", params=file, timeout=PATIENCE).json()
    assert contents(first) == before

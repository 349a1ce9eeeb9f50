"""The store of a copied or moved project, with real stores of MLflow."""

import contextlib
import hashlib
import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow import MlflowClient
from publications import publication

from sentiflow.registry import location, model_versions, publishing
from sentiflow.registry import store as stores
from sentiflow.system.errors import InputError, UnavailableError

KEY = "a" * 64


@pytest.fixture(scope="module")
def made(tmp_path_factory, trained):
    """A folder with a store that has one published version."""
    folder = tmp_path_factory.mktemp("made") / "project"
    folder.mkdir()
    with opened(folder) as client:
        parent = publishing.retraining(client, "f" * 64)
        publishing.publish(client, publication(trained, tmp_path_factory.mktemp("scores")), parent=parent)
    return folder


@pytest.fixture
def moved(made, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(made, tmp_path / "moved")


@contextlib.contextmanager
def opened(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # absolute: MLflow caches one connection per URI, whatever the working folder
        patch.setenv("MLFLOW_TRACKING_URI", uri(folder))
        yield stores.connect()


def uri(folder):
    return f"sqlite:///{folder}/mlflow.db"


def contents(folder):
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


def execute(folder, statement, *values):
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        found = database.execute(statement, values).fetchall()
        database.commit()
    return found


def naming(folder, text):
    """Every value of the database that contains a text."""
    tables = [name for (name,) in execute(folder, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    return [
        (table, column, value)
        for table in tables
        for _, column, *_ in execute(folder, f"PRAGMA table_info({table})")
        for (value,) in execute(folder, f"SELECT {column} FROM {table} WHERE instr({column}, ?)", text)
    ]


def test_every_location_of_a_copied_store_points_to_the_copy_and_the_original_is_unchanged(made, moved, caplog):
    before, named = contents(made), naming(made, str(made))
    assert {(table, column) for table, column, _ in named} == {
        ("experiments", "artifact_location"),
        ("runs", "artifact_uri"),
        ("logged_models", "artifact_location"),
        ("model_versions", "storage_location"),
    }
    with opened(moved) as client:
        assert f"the MLflow store was made in {made}; its artifact locations now point to {moved}" in caplog.text
        assert not naming(moved, str(made))
        assert sorted(naming(moved, str(moved))) == sorted((*at, value.replace(str(made), str(moved))) for *at, value in named)
        version = model_versions.opened(client, model_versions.published(client, KEY))
        assert version.architecture == "nb_svm"
        [file] = client.list_artifacts(run_of(client), publishing.PREDICTIONS)
        client.download_artifacts(run_of(client), file.path, str(moved))
        write_to_a_new_run(client)
    assert contents(made) == before


def run_of(client):
    return model_versions.published(client, KEY).run_id


def write_to_a_new_run(client):
    """A new run, since MLflow caches the artifact locations of runs per process, and several stores have the runs of `made`."""
    client.log_dict(client.create_run(stores.experiment_id(client)).info.run_id, {}, "new.json")


def test_store_is_rewritten_once(made, moved, caplog):
    location.check(uri(moved))
    caplog.clear()
    before = contents(moved)
    location.check(uri(moved))
    assert contents(moved) == before
    assert not caplog.text


def test_two_processes_that_open_a_moved_store_at_once_rewrite_it_once(moved, caplog):
    together = threading.Barrier(2)

    def check(_):
        together.wait(60)
        location.check(uri(moved))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(check, range(2)))
    assert naming(moved, str(moved))
    assert caplog.text.count("was made in") == 1
    location.check(uri(moved))


def test_folder_that_a_project_was_moved_from_is_not_created_again(made, moved, tmp_path):
    with opened(moved):
        pass
    renamed = moved.rename(tmp_path / "its new name")
    with opened(renamed) as client:
        write_to_a_new_run(client)
        assert model_versions.opened(client, model_versions.published(client, KEY))
    assert not moved.exists()


def test_only_values_that_start_with_the_old_folder_change(made, moved):
    run = execute(moved, "SELECT run_uuid FROM runs")[0][0]
    kept = {"inside": f"see {made}/mlartifacts/1", "longer": f"{made}/mlartifacts2", "folder": f"{made}/data"}
    for key, value in kept.items():
        execute(moved, "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", key, value, run)
    execute(moved, "INSERT INTO tags (key, value, run_uuid) VALUES ('location', ?, ?)", f"{made}/mlartifacts/1/x", run)
    location.check(uri(moved))
    found = dict(execute(moved, "SELECT key, value FROM tags WHERE run_uuid = ?", run))
    assert found.items() >= kept.items()
    assert found["location"] == f"{moved}/mlartifacts/1/x"


def test_moved_store_that_mlflow_itself_opened_first_is_rewritten_too(made, moved):
    client = MlflowClient(uri(moved), uri(moved))
    client.create_experiment("mine", artifact_location=str(moved / "mlartifacts/mine"))
    run = client.create_run(client.get_experiment_by_name("sentiflow").experiment_id).info
    assert run.artifact_uri.startswith(str(made))
    location.check(uri(moved))
    assert not naming(moved, str(made))
    assert client.get_experiment_by_name("mine").artifact_location == str(moved / "mlartifacts/mine")
    assert client.get_run(run.run_id).info.artifact_uri == f"{moved}/mlartifacts/{run.run_id}/artifacts"


@pytest.mark.parametrize(
    "place",
    [
        "/etc",
        "/home/somebody/models",
        "file:///home/somebody/models",
        "file://localhost/home/somebody",
        "mlartifacts",
        "/anywhere/mlartifacts/../../etc",
        "/anywhere/mlartifacts/%2e%2e/%2e%2e/etc",
        "http://169.254.169.254/latest",
        "runs:/../../etc",
    ],
)
def test_store_with_artifacts_outside_the_project_is_refused_and_unchanged(moved, place):
    execute(moved, "UPDATE experiments SET artifact_location = ? WHERE name = 'sentiflow'", place)
    before = contents(moved)
    with pytest.raises(
        InputError, match=r"expected .*/moved/mlartifacts.*: mv .*mlflow\.db\.old && sentiflow models rebuild$"
    ) as refused:
        location.check(uri(moved))
    assert "\n" not in str(refused.value)
    assert contents(moved) == before


def test_run_with_artifacts_outside_the_project_is_refused_before_and_after_a_move(made, moved):
    location.check(uri(moved))
    execute(moved, "UPDATE runs SET artifact_uri = '/home/somebody' WHERE run_uuid = (SELECT max(run_uuid) FROM runs)")
    with pytest.raises(InputError, match="has artifacts of experiment 'sentiflow' in /home/somebody; expected"):
        location.check(uri(moved))
    again = moved.rename(moved.with_name("again"))
    before = contents(again)
    with pytest.raises(InputError, match="in /home/somebody; expected"):
        location.check(uri(again))
    assert contents(again) == before


def test_shared_storage_is_accepted(moved):
    execute(moved, "UPDATE experiments SET artifact_location = 's3://bucket/models' WHERE name = 'sentiflow'")
    execute(moved, "UPDATE runs SET artifact_uri = 's3://bucket/models/' || run_uuid || '/artifacts'")
    before = contents(moved)
    location.check(uri(moved))
    assert contents(moved) == before


@pytest.mark.parametrize("name", ["a%41b", "a#b", "two words"])
def test_artifacts_stay_in_a_folder_whose_name_needs_escaping(made, tmp_path, name):
    """MLflow decodes %41 in a path to A, so the artifacts would be in a folder aAb next to the project."""
    folder = shutil.copytree(made, tmp_path / name)
    new = tmp_path / f"new {name}"
    new.mkdir()
    with opened(folder) as client:
        write_to_a_new_run(client)
        assert model_versions.opened(client, model_versions.published(client, KEY))
    with opened(new) as client:
        write_to_a_new_run(client)
    assert {path.name for path in tmp_path.iterdir()} == {name, f"new {name}"}
    assert list(folder.rglob("new.json"))
    assert list(new.rglob("new.json"))


@pytest.mark.parametrize(
    "address",
    [
        "./mlruns",
        "mlruns",
        "file:///tmp/mlruns",
        "mysql://ann:secret@example.org/mlflow",
        "sqlite://",
        "sqlite:///",
        "databricks",
    ],
)
def test_store_of_an_unsupported_kind_is_refused_with_the_supported_ones(address):
    with pytest.raises(
        InputError, match=r"^MLFLOW_TRACKING_URI: expected sqlite:///FILE, postgresql://.*, got .* unset it"
    ) as refused:
        location.check(address)
    assert "secret" not in str(refused.value)


def test_locked_store_is_reported_with_what_to_wait_for(moved, monkeypatch):
    monkeypatch.setattr(location, "BUSY_SECONDS", 0.1)
    with contextlib.closing(sqlite3.connect(moved / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UnavailableError, match=r"is locked: another process is writing to it.*fuser .*mlflow\.db"):
            location.check(uri(moved))
    location.check(uri(moved))

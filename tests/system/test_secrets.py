"""Credentials that lie about where the pipeline runs get into nothing that it makes, publishes or prints; nor does the home."""

import base64
import sys
from pathlib import Path
from secrets import token_hex
from types import SimpleNamespace

import clones
import mlflow_servers
import pytest

pytestmark = pytest.mark.slow

IN_ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": token_hex(),
    "AWS_ACCESS_KEY_ID": token_hex(),
    "PREFECT_API_AUTH_STRING": f"ann:{token_hex()}",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": token_hex(),
}
OF_GIT, OF_DVC, OF_MLFLOW = token_hex(), token_hex(), token_hex()
SECRETS = [*(value.split(":")[-1] for value in IN_ENVIRONMENT.values()), OF_GIT, OF_DVC, OF_MLFLOW]
# Where they were planted; git takes neither.
PLANTED = (".git/config", ".dvc/config.local")
REMOTE = f"""\
[core]
    remote = shared
['remote "shared"']
    url = webdavs://example.org/models
    user = ann
    password = {OF_DVC}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What a run of the whole pipeline made in a home that is not this user's: the project, what was printed, MLflow's folder."""
    home, server_folder = tmp_path_factory.mktemp("home-of-ann"), tmp_path_factory.mktemp("server") / "mlflow"
    folder = home / "project"
    folder.mkdir()
    changes = {"download.sample": 100, "run": {"nb_svm": "nb_svm"}, "evaluate.resamples": 100, "explain.reviews": 20}
    clones.fresh(folder, changes)
    clones.run(["git", "remote", "add", "origin", f"https://ann:{OF_GIT}@example.org/ann/reviews.git"], folder)
    (folder / ".dvc/config.local").write_text(REMOTE)
    with mlflow_servers.databases("sqlite", tmp_path_factory.mktemp("database")) as database:
        address = database("mlflow")
        with mlflow_servers.serving(address, server_folder) as server:
            ended = clones.run(
                [sys.executable, "-m", "sentiflow", "repro"],
                folder,
                PYTHONPATH=str(folder / "src"),
                HOME=str(home),
                MLFLOW_TRACKING_URI=server.uri.replace("://", f"://ann:{OF_MLFLOW}@"),
                **IN_ENVIRONMENT,
            )
    clones.run(["git", "add", "--all"], folder)
    return SimpleNamespace(
        home=home,
        folder=folder,
        printed=ended.stdout + ended.stderr,
        database=Path(address.removeprefix("sqlite:///")),
        artifacts=server_folder / "artifacts",
    )


def words(secrets):
    """As they are, and as a header of HTTP holds a user and a password."""
    coded = [base64.b64encode(f"ann:{secret}".encode()).decode() for secret in secrets]
    return [word.encode() for word in (*secrets, *coded)]


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def holding(files, wanted):
    return {str(file): word for file in files for word in wanted if word in file.read_bytes()}


def test_the_run_made_and_published_something_to_look_into(made):
    assert "nb_svm" in made.printed
    assert (made.folder / "reports/report.html").exists()
    assert b"nb_svm" in made.database.read_bytes()
    assert any(file.name == "environment.json" for file in files_in(made.artifacts))
    assert holding([made.folder / name for name in PLANTED], words(SECRETS)).keys() == {
        str(made.folder / each) for each in PLANTED
    }


def test_no_credential_is_in_what_the_pipeline_made_or_left(made):
    venv = made.folder / ".venv"
    files = [file for file in files_in(made.folder) if venv not in file.parents]
    assert len(files) > 200
    assert holding([file for file in files if str(file.relative_to(made.folder)) not in PLANTED], words(SECRETS)) == {}


def test_no_credential_is_in_the_store_or_what_was_printed(made):
    neighbours = list(made.database.parent.iterdir())
    assert holding([*neighbours, *files_in(made.artifacts)], words(SECRETS)) == {}
    assert [word for word in words(SECRETS) if word in made.printed.encode()] == []


def test_what_git_would_commit_and_what_is_published_does_not_tell_the_users_folder(made):
    listed = clones.run(["git", "ls-files", "-z"], made.folder).stdout.split("\0")
    assert {"dvc.lock", "metrics/environment.json", "reports/comparison.md"} <= set(listed)
    assert not set(PLANTED) & set(listed)
    kept = [made.folder / name for name in listed if name and not (made.folder / name).is_symlink()]
    for name in ("reports", "metrics", "models", "plots"):
        kept += files_in(made.folder / name)
    home = [str(made.home).encode()]
    assert holding(kept, home) == {}
    assert holding([made.database, *files_in(made.artifacts)], home) == {}

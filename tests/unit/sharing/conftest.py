import shutil
import subprocess

import dvc_projects
import pytest
from dvc.repo import Repo

from sentiflow.sharing import push_pull, remote, remote_settings

PIPELINE = """
stages:
  split:
    cmd: sh split.sh good
    deps: [split.sh, reviews.csv]
    outs: [splits, words.txt]
    metrics: [counts.json: {cache: false}]
"""
SPLIT = "set -e; mkdir -p splits/more; for i in 1 2 3; do echo $1 $i > splits/$i.txt; done; echo $1 more > splits/more/4.txt\n"
WORDS = "echo $1 words > words.txt; echo 4 > counts.json\n"
# md5 of "a review\n"
TRACKED = "outs:\n- md5: 27fddc90c035595bf35c7349a1ce9161\n  size: 9\n  hash: md5\n  path: reviews.csv\n"


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory):
    """A stage with a folder and a file as outputs, and user data tracked by a .dvc file."""
    files = {"dvc.yaml": PIPELINE, "split.sh": SPLIT + WORDS, "reviews.csv": "a review\n", "reviews.csv.dvc": TRACKED}
    yield from dvc_projects.finished(tmp_path_factory, files | {".gitignore": "/reviews.csv\n"})


@pytest.fixture
def project(finished_project, tmp_path, monkeypatch):
    """A copy of it in the working folder, pushed to a folder next to it."""
    folder = dvc_projects.copy(finished_project, tmp_path, monkeypatch)
    remote.use(remote.read(""))
    push_pull.push()
    with Repo() as repo:
        assert repo.status() == {}  # DVC now has the hashes of these files in its index
    return folder


@pytest.fixture
def other(project, tmp_path, monkeypatch):
    """Another clone, as the working folder."""
    folder = tmp_path / "other"
    subprocess.run(["git", "clone", "-q", str(project), str(folder)], check=True)
    shutil.copy(project / remote_settings.OWN_CONFIG, folder / remote_settings.OWN_CONFIG)
    monkeypatch.chdir(folder)
    return folder

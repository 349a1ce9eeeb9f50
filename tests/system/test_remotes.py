"""Two people share data through each kind of remote, on real servers: push, pull, wrong passwords, lost and damaged files."""

import os
import random
import re
import shutil
import subprocess
import sys
import time

import dvc_projects
import ports
import pytest
import remote_servers
from clones import PROJECT, commit, dvc, fresh, make, run, sentiflow
from storage import CACHE, flip, oids, stored

pytestmark = pytest.mark.slow

PIPELINE = """
stages:
  split:
    cmd: sh split.sh
    deps: [split.sh, reviews.csv]
    outs: [splits]
  train:
    cmd: mkdir -p models && sort splits/*.txt > models/weights
    deps: [splits]
    outs: [models]
    metrics: [counts.json: {cache: false}]
"""
SPLIT = "set -e; mkdir -p splits; for i in 1 2 3 4 5 6; do echo split $i > splits/$i.txt; done\n"
TRACKED = "outs:\n- md5: 27fddc90c035595bf35c7349a1ce9161\n  size: 9\n  hash: md5\n  path: reviews.csv\n"
BOUND = 120.0  # seconds within which a command must see that nobody answers, on a busy machine


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project of scripts with the Makefile of this one, run and committed."""
    files = {
        "Makefile": (PROJECT / "Makefile").read_text(),
        "dvc.yaml": PIPELINE.replace("> models/weights", "> models/weights && echo 1 > counts.json"),
        "split.sh": SPLIT,
        "reviews.csv": "a review\n",
        "reviews.csv.dvc": TRACKED,
        ".gitignore": "/reviews.csv\n/.venv\n/.prefect\n",
    }
    yield from dvc_projects.finished(tmp_path_factory, files)


@pytest.fixture(scope="module", params=remote_servers.KINDS)
def remote(request, tmp_path_factory):
    with remote_servers.serving(request.param, tmp_path_factory.mktemp("served") / request.param) as served:
        yield served


class Person:
    """Someone's clone."""

    def __init__(self, folder, site, remote):
        self.folder, self.site, self.remote = folder, site, remote
        (folder / ".venv").symlink_to(sys.prefix)
        self.environment = remote.environment

    def run(self, *words):
        """Exit status and all that was said."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        own |= {"DVC_SITE_CACHE_DIR": str(self.site), "HOME": str(self.site), "PYTHONPATH": str(PROJECT / "src")}
        command = [sys.executable, "-m", "sentiflow", "remote", *words]
        ended = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, env=own | self.environment, stdin=subprocess.DEVNULL
        )
        said = ended.stdout + ended.stderr
        assert "Traceback" not in said, said
        assert remote_servers.SECRET not in said
        return ended.returncode, said

    def made(self, *words):
        status, said = self.run(*words)
        assert status == 0, said
        return said

    def settle(self, settings):
        """What somebody adds for this machine alone."""
        for name, value in settings.items():
            run([sys.executable, "-m", "dvc", "remote", "modify", "--local", "shared", name, value], self.folder)

    def oids(self):
        return oids(self.folder)


@pytest.fixture(scope="module")
def ann(finished, remote, tmp_path_factory):
    """Who made the results, set the remote and pushed to it."""
    top = tmp_path_factory.mktemp("ann")
    shutil.copytree(finished, top / "project", symlinks=True)
    person = Person(top / "project", top / "site", remote)
    if remote.wrong_settings:
        status, said = person.run("set", *remote.words)
        assert status != 0
        assert "authentication failed" in said
        assert "The remote is set, and the same command tries it again" in said
        person.settle(remote.settings)
    said = person.made("set", *remote.words)
    assert "is set for everybody: commit .dvc/config" in said
    commit(person.folder)
    assert "Pushed 10 files" in person.made("push")
    return person


@pytest.fixture(scope="module")
def ben(ann, remote, tmp_path_factory):
    """Who cloned the repository and pulled."""
    top = tmp_path_factory.mktemp("ben")
    run(["git", "clone", "--quiet", str(ann.folder), str(top / "project")], top)
    person = Person(top / "project", top / "site", remote)
    person.settle(remote.settings)
    assert "Pulled 10 files" in person.made("pull")
    return person


def test_other_one_gets_the_same_files_and_has_nothing_to_run(ann, ben):
    for name in ("splits/3.txt", "models/weights", "reviews.csv"):
        assert (ben.folder / name).read_bytes() == (ann.folder / name).read_bytes()
    assert "up to date" in dvc(ben.folder, "repro")


def test_remote_has_every_file_of_the_commit(ben):
    assert "All 10 files that dvc.lock names are on the remote shared" in ben.made("check", "HEAD")


def test_git_holds_no_password_and_no_name_of_a_user(ann, remote):
    tracked = run(["git", "grep", "-I", "--fixed-strings", "-e", "url", "HEAD"], ann.folder).stdout
    assert "url = " in tracked
    config = run(["git", "show", "HEAD:.dvc/config"], ann.folder).stdout
    assert remote_servers.SECRET not in config
    assert not re.search(r"user|keyfile|@", config)
    assert "verify = true" in config


def test_wrong_password_is_an_error_that_says_so(ann, ben, remote, tmp_path):
    if remote.kind == "folder":
        pytest.skip("a folder has no password")
    run(["git", "clone", "--quiet", str(ann.folder), str(tmp_path / "project")], tmp_path)
    stranger = Person(tmp_path / "project", tmp_path / "site", remote)
    stranger.environment = remote.wrong_environment
    stranger.settle(remote.wrong_settings)
    for target in ("pull", "push", "check", "repair"):
        status, said = stranger.run(target)
        assert status != 0
        assert "authentication failed" in said, f"{target}: {said}"
        assert "docs/remotes.md" in said


def test_server_that_is_not_there_is_an_error_in_time_and_changes_nothing(ben, remote):
    if remote.kind == "folder":
        pytest.skip("a folder has no server")
    nobody = f":{ports.free()}"
    words = [re.sub(r":\d+(?=/|$)", nobody, word) for word in remote.words]
    before = (ben.folder / ".dvc/config").read_bytes()
    started = time.monotonic()
    status, said = ben.run("set", *words)
    assert status != 0
    assert "does not answer" in said
    assert "What was set before stays" in said
    assert time.monotonic() - started < BOUND
    assert (ben.folder / ".dvc/config").read_bytes() == before


@pytest.mark.parametrize("name", ["splits/4.txt", "models", "reviews.csv"])
def test_file_that_goes_from_the_remote_is_named_with_its_stage_and_pushed_again(name, ann, remote):
    remote.stored(ann.oids()[name]).unlink()
    remote.look_again()
    status, said = ann.run("check")
    assert status != 0
    stage = {"splits/4.txt": "split", "models": "train"}.get(name, f"{name}.dvc")
    assert f"lacks 1 of 10 files:\n  {stage}: {name}" in said
    ann.made("push")
    ann.made("check")


@pytest.mark.parametrize("place", ["cache", "remote"])
def test_every_flipped_byte_is_found_and_healed(place, ann, remote):
    drawn = random.Random(7)
    named = ann.oids()
    chosen = drawn.sample(sorted(named), 4)
    files = [remote.stored(named[name]) if place == "remote" else stored(ann.folder / CACHE, named[name]) for name in chosen]
    before = [file.read_bytes() for file in files]
    for file, content in zip(files, before, strict=True):
        flip(file, drawn.randrange(len(content)))
    remote.look_again()
    assert dvc(ann.folder, "status").strip() == "Data and pipelines are up to date.", "DVC sees none of it"
    status, said = ann.run("repair", "--dry-run")
    assert status != 0
    for name in chosen:
        assert re.search(rf": {name}\b.*: damaged {'on the' if place == 'remote' else 'in the'} {place}$", said, re.MULTILINE), (
            said
        )
    assert "4 of them were not, and are again" in ann.made("repair")
    assert [file.read_bytes() for file in files] == before


def test_cut_file_on_the_remote_makes_a_pull_fail_and_is_healed_by_the_next_push(ann, ben, remote):
    name = "models/weights"
    file = remote.stored(ann.oids()[name])
    whole = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(whole[:5])
    remote.look_again()
    shutil.rmtree(ben.folder / ".dvc/cache")
    (ben.folder / name).unlink()
    status, said = ben.run("pull")
    assert status != 0
    assert f"train: {name}" in said
    ann.made("push")
    assert file.read_bytes() == whole
    ben.made("pull")
    assert (ben.folder / name).read_bytes() == whole


def test_replaced_list_on_the_remote_writes_nothing_and_is_named(ann, ben, remote):
    oid = ann.oids()["splits"]
    file = remote.stored(oid)
    whole = file.read_bytes()
    file.chmod(0o644)
    file.write_text(f'[{{"md5": "{ann.oids()["reviews.csv"]}", "relpath": "../../marker"}}]')
    remote.look_again()
    shutil.rmtree(ben.folder / ".dvc/cache")
    shutil.rmtree(ben.folder / "splits")
    status, said = ben.run("pull")
    assert status != 0
    assert f"split: splits (the list of its files), object {oid}" in said
    assert not (ben.folder / "splits").exists()
    assert not (ben.folder.parent / "marker").exists()
    ann.made("repair")
    assert file.read_bytes() == whole
    ben.made("pull")


def test_the_real_pipeline_has_nothing_to_train_in_anothers_clone(tmp_path):
    """What is left are the two stages that publish to this machine's own MLflow store."""
    (tmp_path / "ann").mkdir()
    small = {"download.source": "package", "download.sample": 240, "run": {"logistic": "logistic"}, "evaluate.resamples": 100}
    ann = fresh(tmp_path / "ann", small | {"explain.reviews": 20})
    make(ann, "repro")
    commit(ann)
    sentiflow(ann, "remote", "set", str(tmp_path / "shared"), "--shared")
    sentiflow(ann, "remote", "push")
    commit(ann)
    run(["git", "clone", "--quiet", str(ann), str(tmp_path / "ben")], tmp_path)
    ben = tmp_path / "ben"
    (ben / ".venv").symlink_to(sys.prefix)
    sentiflow(ben, "remote", "pull")
    sentiflow(ben, "remote", "check")
    again = make(ben, "repro")
    assert [line.split("'")[1] for line in again.stdout.splitlines() if line.startswith("Running stage")] == ["register", "judge"]

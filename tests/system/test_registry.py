"""One project with a real MLflow server: publish, judge, promote, roll back, lose the server, lose the store, rebuild.

The steps are fixtures that build on each other; each test checks the result of one.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mlflow_servers
import pandas as pd
import pytest
import yaml
from clones import change, commit, dvc, fresh, run
from mlflow import MlflowClient

from sentiflow.registry import champion_history, judging, model_versions, provenance, publishing
from sentiflow.registry.store import COMPLETE_TAG, EXPERIMENT, KEY_TAG
from sentiflow.system import dvc_lock

SMALL = {
    "download.source": "package",
    "download.sample": 480,
    "split.test": 0.4,
    "run": {"logistic": "logistic", "nb_svm": "nb_svm"},
    "evaluate.resamples": 200,
    "explain.reviews": 20,
    "promotion.calibration_error": 1.0,
    "promotion.slice_margin": 1.0,
    "promotion.latency_ms": 5000.0,  # the machine may be busy
    "promotion.latency_reviews": 20,
    "models.logistic.ngrams": 1,
    "models.logistic.minimum_documents": 120,
    "models.nb_svm.ngrams": 1,
}
# Too few or too many rare words make a worse model. What is best on valid is nb_svm each time.
SETTINGS = {
    "poor": {"models.nb_svm.minimum_documents": 60},
    "better": {"models.nb_svm.minimum_documents": 30},
    "worse": {"models.nb_svm.minimum_documents": 10},
}
REACH = 90.0  # seconds within which a command must see that the server is gone
TIMED = ("usage/epoch_seconds", "usage/training_seconds", publishing.LATENCY)  # differ, or are unknown, after a rebuild
OF_THE_MOMENT = ("mlflow.", "sentiflow.publisher", "run.")

pytestmark = pytest.mark.slow


class Walk:
    """A clone whose MLFLOW_TRACKING_URI is a server's."""

    def __init__(self, folder, database, servers):
        self.folder, self.database, self._servers = folder, database, servers
        self.server = self.client = None
        self.said = {}

    def serve(self, name):
        """Moves to a server whose store is empty."""
        self.server = self._servers.enter_context(mlflow_servers.serving(self.database(name), self.folder.parent / name))
        self.client = MlflowClient(self.server.uri, self.server.uri)

    def begin(self, command, folder=None):
        folder = folder or self.folder
        own = {"MLFLOW_TRACKING_URI": self.server.uri, "PYTHONPATH": str(folder / "src")}
        return subprocess.Popen(command, cwd=folder, env=clean() | own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def call(self, *words):
        return ended(self.begin([sys.executable, "-m", "sentiflow", *words]))

    def take(self, setting):
        """The project as after training under a setting; nothing of it is published."""
        run(["git", "checkout", "--quiet", setting, "--", "."], self.folder)
        dvc(self.folder, "checkout", "--quiet")

    def key(self, architecture):
        return provenance.publication_key(architecture, dvc_lock.read(self.folder / "dvc.lock"))

    def versions(self):
        return {str(version.version): version for version in model_versions.versions(self.client)}

    def runs(self):
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        return self.client.search_runs([experiment.experiment_id])

    def aliases(self):
        named = {alias: model_versions.with_alias(self.client, alias) for alias in ("champion", "previous", "challenger")}
        return {alias: str(version.version) for alias, version in named.items() if version is not None}

    def best(self):
        """Number of the version that the workspace's nb_svm is published as."""
        return str(model_versions.published(self.client, self.key("nb_svm")).version)


def clean():
    return {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "_MLFLOW_"))}


def ended(process, patience=300.0):
    said, errors = process.communicate(timeout=patience)
    return subprocess.CompletedProcess(process.args, process.returncode, said, errors)


def well(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def refused(done):
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr


def everything(client):
    """All that a store holds, as text to compare."""
    return [
        sorted(json.dumps(run.to_dictionary(), sort_keys=True) for run in all_runs(client)),
        [repr(model) for model in client.search_registered_models()],
        [repr(version) for version in client.search_model_versions()],
    ]


def all_runs(client):
    return client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])


def snapshot(client):
    """What a rebuilt store must hold again, by the keys of the publications: numbers and ids of a store are its own."""
    runs = {run.info.run_id: run for run in all_runs(client)}
    key = {run_id: run.data.tags[KEY_TAG] for run_id, run in runs.items()}
    assert len(set(key.values())) == len(key), "each publication has one run"
    versions = model_versions.versions(client)
    name = {str(version.version): version.tags[KEY_TAG] for version in versions}
    history = champion_history.as_table(champion_history.history(client)).drop(columns="number")
    history = history.assign(version=history["version"].map(name), replaced=history["replaced"].map(name).fillna(""))
    aliased = {alias: model_versions.with_alias(client, alias) for alias in ("champion", "previous")}
    return {
        "runs": {
            key[run_id]: {
                "name": run.info.run_name,
                "status": run.info.status,
                "parent": key.get(run.data.tags.get("mlflow.parentRunId")),
                "params": run.data.params,
                "metrics": {
                    metric: [(point.step, point.value) for point in client.get_metric_history(run_id, metric)]
                    for metric in run.data.metrics
                    if metric not in TIMED and not metric.startswith("system/")
                },
                "tags": {tag: value for tag, value in run.data.tags.items() if not tag.startswith(OF_THE_MOMENT)},
                "links": {tag: key[value] for tag, value in run.data.tags.items() if tag.startswith("run.")},
                "files": files_of(client, run_id),
            }
            for run_id, run in runs.items()
        },
        "versions": [
            (version.tags[KEY_TAG], version.tags["architecture"], version.description.partition(judging.JUDGED)[0])
            for version in versions
        ],
        "history": history.to_dict("records"),
        "aliases": {alias: version and version.tags[KEY_TAG] for alias, version in aliased.items()},
    }


def files_of(client, run_id, folder=None):
    found = []
    for item in client.list_artifacts(run_id, folder):
        if item.path != judging.VERDICTS:
            found += files_of(client, run_id, item.path) if item.is_dir else [item.path]
    return sorted(found)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A clone in which every setting was trained and pushed, as a git tag each; nothing is published. It has a remote."""
    folder = fresh(tmp_path_factory.mktemp("prepared") / "clone", SMALL)
    dvc(folder, "remote", "add", "--default", "shared", "../remote")  # relative, so that each copy has its own
    commit(folder)
    for name, changes in SETTINGS.items():
        change(folder, changes)
        run([sys.executable, "-m", "sentiflow", "repro", "report"], folder, PYTHONPATH=str(folder / "src"))
        dvc(folder, "push", "--quiet")
        commit(folder)
        run(["git", "tag", name], folder)
    run(["git", "checkout", "--quiet", "--detach", "HEAD~3"], folder)
    return folder


@pytest.fixture(scope="module", params=mlflow_servers.KINDS)
def walk(request, prepared, tmp_path_factory):
    top = tmp_path_factory.mktemp(request.param)
    shutil.copytree(prepared.parent, top, symlinks=True, dirs_exist_ok=True)
    folder = top / prepared.name
    with mlflow_servers.databases(request.param, top) as database, contextlib.ExitStack() as servers:
        made = Walk(folder, database, servers)
        made.serve("first")
        yield made


@pytest.fixture(scope="module")
def published_twice_at_once(walk):
    """The first setting, published by two processes in two copies of the project."""
    walk.take("poor")
    walk.copy = Path(shutil.copytree(walk.folder, walk.folder.with_name("copy"), symlinks=True))
    [_, *words] = shlex.split(yaml.safe_load((walk.folder / "dvc.yaml").read_text())["stages"]["register"]["cmd"])
    both = [walk.begin([sys.executable, *words], folder) for folder in (walk.folder, walk.copy)]
    walk.said["twice"] = [well(done) for done in [ended(each) for each in both]]
    return walk


def test_two_processes_that_publish_the_same_leave_one_set_of_runs_and_versions(published_twice_at_once):
    walk = published_twice_at_once
    assert sorted(run.info.run_name for run in walk.runs()) == ["logistic", "nb_svm", "retraining"]
    assert sorted(version.tags["architecture"] for version in walk.versions().values()) == ["logistic", "nb_svm"]
    assert all(COMPLETE_TAG in run.data.tags and run.info.status == "FINISHED" for run in walk.runs())
    notes = [(folder / "mlartifacts/published.json").read_bytes() for folder in (walk.folder, walk.copy)]
    assert notes[0] == notes[1]


@pytest.fixture(scope="module")
def crowned(published_twice_at_once):
    walk = published_twice_at_once
    walk.said["first"] = well(walk.call("repro"))
    commit(walk.folder)
    walk.poor = walk.best()
    return walk


def test_first_version_that_passes_the_rules_becomes_champion(crowned):
    assert crowned.aliases()["champion"] == crowned.poor
    assert f"Version {crowned.poor} is now the first champion." in crowned.said["first"].stdout
    [entry] = champion_history.history(crowned.client)
    assert (entry.version, entry.how) == (crowned.poor, champion_history.FIRST)


@pytest.fixture(scope="module")
def promoted(crowned):
    walk = crowned
    walk.take("better")
    walk.said["judged"] = well(walk.call("repro"))
    walk.better = walk.best()
    walk.before = walk.aliases()
    held = everything(walk.client)
    walk.said["dry"] = well(walk.call("models", "promote", "--dry-run"))
    walk.unchanged = everything(walk.client) == held
    walk.said["promoted"] = well(walk.call("models", "promote", "--reason", 'It\'s "better" by $5'))
    commit(walk.folder)
    return walk


def test_better_challenger_waits_for_promotion(promoted):
    assert promoted.before == {"champion": promoted.poor, "challenger": promoted.better}
    said = promoted.said["judged"].stdout.replace("\\", "")
    assert f"Version {promoted.better} (nb_svm) passes all 9 promotion rules against version {promoted.poor} (nb_svm)." in said
    assert f"Version {promoted.poor} is still the champion. To replace it: sentiflow models promote" in said


def test_dry_run_changes_nothing_in_the_store(promoted):
    assert f"version {promoted.better} would become champion" in promoted.said["dry"].stdout
    assert promoted.unchanged


def test_promotion_makes_it_champion_and_the_history_has_the_reason(promoted):
    entry = champion_history.history(promoted.client)[1]
    assert (entry.version, entry.replaced, entry.how) == (promoted.better, promoted.poor, champion_history.RULES)
    assert entry.why.startswith('It\'s "better" by $5 (Version ')
    assert champion_history.JOURNAL.name in promoted.said["promoted"].stdout


@pytest.fixture(scope="module")
def cut_short(promoted):
    """The server was killed while the next setting was published, and runs again."""
    walk = promoted
    walk.take("worse")
    key = walk.key("nb_svm")
    command = walk.begin([sys.executable, "-m", "sentiflow", "repro"])
    until = time.monotonic() + 120
    while not [run for run in walk.runs() if run.data.tags[KEY_TAG] == key]:
        assert command.poll() is None, command.communicate()
        assert time.monotonic() < until, "nothing is published"
        time.sleep(0.05)
    walk.server.kill()
    died = time.monotonic()
    walk.said["cut short"] = ended(command)
    walk.noticed = time.monotonic() - died
    walk.server.start()
    [walk.left] = [run for run in walk.runs() if run.data.tags[KEY_TAG] == key]
    walk.before = walk.aliases()
    return walk


def test_command_whose_server_dies_says_so_within_bounded_time(cut_short):
    done = cut_short.said["cut short"]
    assert done.returncode == 1
    assert f"error: stage 'register' failed: MLflow's store at {cut_short.server.uri} stopped answering" in done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert cut_short.noticed < REACH


def test_interrupted_publication_has_no_alias(cut_short):
    assert COMPLETE_TAG not in cut_short.left.data.tags
    assert cut_short.before == {"champion": cut_short.better, "previous": cut_short.poor}


@pytest.fixture(scope="module")
def rejected(cut_short):
    walk = cut_short
    walk.said["again"] = well(walk.call("repro"))
    walk.worse = walk.best()
    walk.said["rejected"] = refused(walk.call("models", "promote"))
    walk.before = walk.aliases()
    commit(walk.folder)
    return walk


def test_interrupted_publication_is_published_again_once(rejected):
    key = rejected.key("nb_svm")
    runs = [run for run in rejected.runs() if run.data.tags[KEY_TAG] == key]
    assert [run.info.run_id for run in runs] != [rejected.left.info.run_id]
    assert len(runs) == 1
    assert all(COMPLETE_TAG in run.data.tags and run.info.status == "FINISHED" for run in rejected.runs())
    with_version = [version.run_id for version in rejected.versions().values()]
    assert sorted(with_version) == sorted(run.info.run_id for run in rejected.runs() if run.info.run_name != "retraining")


def test_worse_challenger_is_refused_and_the_champion_stays(rejected):
    said = rejected.said["rejected"]
    assert f"Version {rejected.worse} (nb_svm) fails " in said
    assert f" of 9 promotion rules against version {rejected.better} (nb_svm): " in said
    for rule in ("gain", "mcnemar", "interval"):
        assert rule in said
    assert rejected.before == {"champion": rejected.better, "previous": rejected.poor, "challenger": rejected.worse}


def test_verdict_is_recorded_with_the_version(rejected):
    kept = rejected.versions()[rejected.worse]
    assert kept.tags["verdict"].startswith("fails ")
    name = re.search(r"More: `(.*)` in its run", kept.description).group(1)
    page = rejected.client.download_artifacts(kept.run_id, name, str(rejected.folder.parent))
    assert "| gain " in Path(page).read_text(encoding="utf-8")
    assert "promotion rules against" in kept.description


@pytest.fixture(scope="module")
def two_at_once(rejected):
    walk = rejected
    assert "needs one" in refused(walk.call("models", "promote", walk.worse, "--force"))
    [walk.logistic] = [number for number, version in walk.versions().items() if version.tags["architecture"] == "logistic"]
    command = [sys.executable, "-m", "sentiflow", "models", "promote", "--force"]
    both = [
        walk.begin([*command, number, "--reason", f"try {number}"], folder)
        for number, folder in ((walk.worse, walk.folder), (walk.logistic, walk.copy))  # two folders, so two locks
    ]
    walk.said["two"] = [ended(each) for each in both]
    return walk


def test_two_simultaneous_promotions_leave_one_champion_and_a_consistent_history(two_at_once):
    history = champion_history.history(two_at_once.client)
    won = [entry for entry in history if entry.how == champion_history.FORCED]
    assert [entry.replaced for entry in history[1:]] == [entry.version for entry in history[:-1]]
    assert two_at_once.aliases()["champion"] == history[-1].version
    assert two_at_once.aliases()["previous"] == history[-2].version
    ok = [done for done in two_at_once.said["two"] if done.returncode == 0]
    assert len(won) == len(ok) >= 1
    for done in two_at_once.said["two"]:
        assert done in ok or (done.returncode == 75 and "another change came first" in done.stderr)


@pytest.fixture(scope="module")
def rolled_back(two_at_once):
    walk = two_at_once
    walk.line = champion_history.line_of_succession(champion_history.history(walk.client))
    walk.went_to = []
    while len(walk.went_to) < len(walk.line) - 1:
        well(walk.call("models", "rollback", "--reason", f"step {len(walk.went_to) + 1}"))
        walk.went_to.append(walk.aliases()["champion"])
    walk.said["no further"] = refused(walk.call("models", "rollback"))
    walk.said["history"] = well(walk.call("models", "history"))
    walk.said["versions"] = well(walk.call("models", "list", "--commit", "HEAD"))
    commit(walk.folder)
    return walk


def test_rollback_goes_back_champion_by_champion_until_the_first(rolled_back):
    assert rolled_back.went_to == rolled_back.line[-2::-1]
    assert rolled_back.aliases()["champion"] == rolled_back.poor
    assert f"version {rolled_back.poor} is the first" in rolled_back.said["no further"]


def test_history_shows_every_change_and_is_in_git(rolled_back):
    history = champion_history.history(rolled_back.client)
    shown = rolled_back.said["history"].stdout
    assert all(entry.at in shown for entry in history)
    assert 'It\'s "better" by $5' in shown
    kept = pd.read_csv(rolled_back.folder / champion_history.JOURNAL, dtype=str, keep_default_na=False)
    assert kept["key"].tolist() == [entry.key for entry in history]
    assert "metrics/champions.csv" in run(["git", "ls-files", "metrics"], rolled_back.folder).stdout


def test_a_commit_leads_to_its_versions_and_a_version_to_its_commit(rolled_back):
    shown = [line for line in rolled_back.said["versions"].stdout.splitlines() if line.startswith("|")][2:]
    numbers = {line.split("|")[1].strip() for line in shown}
    assert numbers == {rolled_back.worse, rolled_back.logistic}
    known = run(["git", "rev-list", "--all"], rolled_back.folder).stdout.split()
    for version in rolled_back.versions().values():
        assert version.tags["git.commit"] in known


@pytest.fixture(scope="module")
def rebuilt(rolled_back):
    walk = rolled_back
    walk.held = snapshot(walk.client)
    walk.server.kill()
    shutil.rmtree(walk.server.artifacts)
    walk.serve("second")
    walk.said["rebuilt"] = well(walk.call("models", "rebuild"))
    walk.has = snapshot(walk.client)
    walk.said["repro"] = well(walk.call("repro"))
    return walk


def test_lost_store_is_rebuilt_from_git_and_dvcs_cache_with_the_history(rebuilt):
    assert "3 of 3 commits are published" in rebuilt.said["rebuilt"].stdout
    assert rebuilt.has == rebuilt.held
    assert not (rebuilt.folder / ".cache/rebuild/tree").exists()


def test_after_a_rebuild_make_repro_adds_nothing_and_names_the_challenger(rebuilt):
    assert rebuilt.said["repro"].stdout.count("Running stage") == 2
    assert snapshot(rebuilt.client) == rebuilt.held
    assert rebuilt.aliases()["challenger"] == rebuilt.best()


def test_lost_store_and_lost_machine_are_rebuilt_from_git_and_a_remote(rebuilt):
    again = rebuilt.folder.with_name("again")
    run(["git", "clone", "--quiet", str(rebuilt.folder), str(again)], rebuilt.folder)
    (again / ".venv").symlink_to(sys.prefix)
    said = run([sys.executable, "-m", "sentiflow", "models", "rebuild"], again, PYTHONPATH=str(again / "src"))
    assert "3 of 3 commits are published" in said.stdout, said.stderr
    store = f"sqlite:///{again / 'mlflow.db'}"
    assert snapshot(MlflowClient(store, store)) == rebuilt.held

"""A project whose retraining runs under a real Prefect server and worker, with access to all of its processes."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import ports
import processes
import psutil
import yaml
from clones import change, commit, dvc, fresh, run
from dvc.repo import Repo
from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelling

from sentiflow.registry import champion_history
from sentiflow.registry.store import COMPLETE_TAG, EXPERIMENT, KEY_TAG, MODEL
from services.secrets import generated

SMALL = {
    "download.source": "package",
    "download.sample": 480,
    "split.test": 0.4,
    "run": {"logistic": "logistic", "nb_svm": "nb_svm"},
    "evaluate.resamples": 100,
    "explain.reviews": 20,
    "promotion.calibration_error": 1.0,
    "promotion.slice_margin": 1.0,
    "promotion.latency_ms": 5000.0,  # the machine may be busy
    "promotion.latency_reviews": 20,
    "models.logistic.ngrams": 1,
    "models.logistic.minimum_documents": 120,
    "models.nb_svm.ngrams": 1,
}
# Fewer words make a worse model, so that BETTER is promoted over POOR.
POOR, BETTER = ({"models.nb_svm.minimum_documents": documents} for documents in (60, 30))
DEPLOYMENT = "retrain/by-hand"
ENDED = 900.0  # timeout in seconds of a retraining on a small sample
UNDER_WAY = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
RUN_ID = "PREFECT__FLOW_RUN_ID"  # environment variable of a run's process and of its children
FOLDERS = ("data", "models", "metrics", "reports", "plots")  # outputs of the stages


class Project:
    """A clone with a small sample. Only stages that a test makes stale run."""

    def __init__(self, folder):
        self.folder = folder

    @classmethod
    def made(cls, folder, changes):
        folder.mkdir(parents=True)
        fresh(folder, SMALL | changes)
        deployments = folder / "prefect.yaml"
        values = yaml.safe_load(deployments.read_text())
        # without the schedules, so that no run starts during a test
        values["deployments"] = [each for each in values["deployments"] if each["name"] == DEPLOYMENT.split("/")[1]]
        deployments.write_text(yaml.safe_dump(values))
        (folder / "data/external").mkdir(parents=True, exist_ok=True)
        commit(folder)
        return cls(folder)

    def change(self, changes):
        change(self.folder, changes)

    def environment(self, **more):
        own = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_"))}
        return own | {"PYTHONPATH": str(self.folder / "src"), "DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1"} | more

    @property
    def lock_text(self):
        return (self.folder / "dvc.lock").read_text()

    def stages(self):
        """Names in the order of execution."""
        return list(yaml.safe_load(self.lock_text)["stages"])

    def make_stale(self, *stages):
        """Make these stages run again, as after a change of code that does not change results. Their outputs stay."""
        file = self.folder / "dvc.lock"
        lock = parse_yaml_for_update(self.lock_text, str(file))  # DVC's own parser keeps the format of numbers
        for name in stages:
            script = f"stages/{name.partition('@')[0]}.py"
            next(each for each in lock["stages"][name]["deps"] if each["path"] == script)["md5"] = "0" * 32
        file.write_text(dumps_yaml(lock))
        shutil.rmtree(self.folder / ".dvc/cache/runs", ignore_errors=True)  # otherwise DVC restores the results from there

    def contents(self):
        """Content of every output file of the stages."""
        return {
            str(file.relative_to(self.folder)): file.read_bytes()
            for top in FOLDERS
            for file in (self.folder / top).rglob("*")
            if file.is_file() and not file.name.startswith(".")
        }

    def is_up_to_date(self):
        return json.loads(dvc(self.folder, "status", "--json")) == {}

    def add_remote(self, place):
        run([sys.executable, "-m", "dvc", "remote", "add", "--local", "--default", "--force", "there", str(place)], self.folder)

    def remove_remote(self):
        (self.folder / ".dvc/config.local").unlink()

    def push(self):
        dvc(self.folder, "push", "--quiet", "--run-cache")

    @property
    def cache(self):
        return self.folder / ".dvc/cache"

    def lose_cache(self):
        """Keep only the files in git and the MLflow store, as on another machine."""
        for place in map(self.folder.joinpath, self.cached_outputs()):
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        shutil.rmtree(self.cache)

    def cached_outputs(self):
        """Hash by path of the outputs in DVC's cache."""
        with contextlib.chdir(self.folder), Repo() as repo:  # the others are in git, and may be in the run cache
            kept = {str(out) for stage in repo.index.stages for out in stage.outs if out.use_cache}
        entries = yaml.safe_load(self.lock_text)["stages"].values()
        return {out["path"]: out["md5"] for entry in entries for out in entry["outs"] if out["path"] in kept}

    def stage(self, name):
        """The process of a stage, such as train@nb_svm; None if it is not running."""
        base, _, model = name.partition("@")

        def is_it(process):
            words = process.cmdline()
            return words[1:3] == ["-m", f"stages.{base}"] and model in {"", *(Path(word).name for word in words)}

        found = processes.that(lambda process: process.cwd() == str(self.folder) and is_it(process))
        return found[0] if found else None

    def half_written(self, name):
        """Temporary paths of the outputs of a stage."""
        outputs = [self.folder / out["path"] for out in yaml.safe_load(self.lock_text)["stages"][name]["outs"]]
        return [output.with_name(f".{output.name}.partial") for output in outputs]

    # --- MLflow --------------------------------------------------------------------------------------------------------

    @property
    def database(self):
        return self.folder / "mlflow.db"

    def client(self):
        uri = f"sqlite:///{self.database}"
        return MlflowClient(uri, uri)

    def lose_store(self):
        for file in self.folder.glob("mlflow.db*"):
            file.unlink()
        shutil.rmtree(self.folder / "mlartifacts")
        (self.folder / champion_history.JOURNAL).unlink(missing_ok=True)

    def counted(self, query):
        """Result of a count query on MLflow's database; 0 if the table does not exist."""
        with (
            contextlib.suppress(sqlite3.OperationalError),
            contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as database,
        ):
            return int(database.execute(query).fetchone()[0])
        return 0

    def flaws_of_store(self):
        """Duplicate or incomplete publications and invalid aliases; empty if the store is consistent."""
        client = self.client()
        runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id], max_results=1000)
        versions = client.search_model_versions(f"name = '{MODEL}'")
        keys = [each.data.tags[KEY_TAG] for each in runs]
        flaws = [f"two runs of {key}" for key in sorted({key for key in keys if keys.count(key) > 1})]
        flaws += [f"run {each.info.run_id} is incomplete" for each in runs if COMPLETE_TAG not in each.data.tags]
        registered = [each.tags[KEY_TAG] for each in versions]
        flaws += [f"two versions of {key}" for key in sorted({key for key in registered if registered.count(key) > 1})]
        known = {each.info.run_id for each in runs}
        flaws += [f"version {each.version} has no run" for each in versions if each.run_id not in known]
        history = champion_history.history(client)
        aliases = client.get_registered_model(MODEL).aliases
        champion = history[-1].version if history else None
        if str(aliases.get("champion")) != str(champion):
            flaws.append(f"the champion is {aliases.get('champion')}, of the history {champion}")
        if history and not history[-1].applied:
            flaws.append("the last promotion is not applied")
        return flaws

    # --- copies --------------------------------------------------------------------------------------------------------

    def keep(self, copy):
        """Copy the project, to restore it with `back_to`. No process may be running."""
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.folder, copy, symlinks=True, ignore=shutil.ignore_patterns(".prefect", ".venv"))

    def back_to(self, copy):
        for old in self.folder.iterdir():
            if old.name in (".prefect", ".venv"):
                continue
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            else:
                old.unlink()
        shutil.copytree(copy, self.folder, symlinks=True, dirs_exist_ok=True)


class Served:
    """`sentiflow schedule` of a project, with its own Prefect server; a context manager."""

    def __init__(self, project, home, **environment):
        self.project, self.home, self.environment = project, home, environment
        self.port = ports.free()
        self.password = f"admin:{generated()}"
        self.client = SyncPrefectClient(f"http://127.0.0.1:{self.port}/api", auth_string=self.password)
        self.log = home.with_suffix(".log")
        self.process: subprocess.Popen | None = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        processes.kill(self._processes())
        self.client._client.close()

    def start(self):
        """Return when the worker is online."""
        own = {"PREFECT_HOME": str(self.home), "PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        own["PREFECT_SERVER_API_AUTH_STRING"] = self.password
        command = [sys.executable, "-m", "sentiflow", "schedule", "--prefect-port", str(self.port)]
        if self.process is not None:  # it was killed
            self.process.wait(60)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.project.folder,
                env=self.project.environment(**own, **self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        processes.wait_until(lambda: self.worker() or self._ended(), 180)
        processes.wait_until(self._is_online, 60)
        self.started = self._processes()

    def _ended(self):
        assert self.process.poll() is None, self.log.read_text()[-3000:]

    def _is_online(self):
        *_, pool, _, name = self.worker().cmdline()
        workers = self.client._client.post(f"/work_pools/{pool}/workers/filter", json={}).json()
        return any(each["name"] == name and each["status"] == "ONLINE" for each in workers)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(90)

    def _processes(self):
        return processes.with_variable("PREFECT_HOME", str(self.home))

    def worker(self):
        return self._of("worker", "start")

    def server(self):
        return self._of("server", "start")

    def _of(self, *words):
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[2:5] == ["prefect", *words]:
                    return process
        return None

    # --- runs ----------------------------------------------------------------------------------------------------------

    def begin(self, **parameters):
        """Schedule a run for now. Returns its id."""
        deployment = self.client.read_deployment_by_name(DEPLOYMENT)
        return self.client.create_flow_run_from_deployment(deployment.id, parameters=parameters).id

    def state(self, run_id):
        return self.client.read_flow_run(run_id).state

    def final(self, run_id):
        """The final state of a run, whose process may still be running."""
        processes.wait_until(lambda: self.state(run_id).is_final(), ENDED, 0.3)
        return self.state(run_id)

    def ended(self, run_id):
        """The final state of a run, after its processes have ended."""
        state = self.final(run_id)
        processes.wait_until(lambda: not self.processes_of(run_id), 120)
        return state

    def completed(self, **parameters):
        state = self.ended(self.begin(**parameters))
        assert state.is_completed(), f"{state.name}: {state.message}\n{self.log.read_text()[-3000:]}"
        return state.message

    def cancel(self, run_id):
        """Cancel a run, as `prefect flow-run cancel` and the UI do."""
        self.client.set_flow_run_state(run_id, Cancelling())

    def processes_of(self, run_id):
        """The process of a run and all of its descendants."""
        return processes.with_variable(RUN_ID, str(run_id))

    def flow(self, run_id):
        """The process of the flow run."""
        return self.process_with("prefect.engine", run_id)

    def process_with(self, words, run_id):
        """A process of a run whose command contains these words; None if there is none."""
        for process in self.processes_of(run_id):
            with contextlib.suppress(psutil.Error):  # it may have ended
                if words in " ".join(process.cmdline()):
                    return process
        return None

    def dvc_worker_of(self, process):
        """The DVC worker that started a stage's process."""
        return next(each for each in process.parents() if "sentiflow.pipeline.dvc_worker" in each.cmdline())

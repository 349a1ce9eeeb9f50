"""One project under a real Prefect server and worker: its schedule, new reviews, two runs at once, a night without a worker.

The steps are fixtures that build on each other; each test looks at what a step left.
"""

import contextlib
import json
import time
from datetime import UTC, datetime, timedelta

import mlflow_servers
import pandas as pd
import prefect_servers
import pytest
import yaml
from clones import change, commit, dvc, fresh, run
from mlflow import MlflowClient
from posting import Site
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import filters, sorting
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from sentiflow.data.sources import package
from sentiflow.registry import model_versions
from sentiflow.system import locks, stage

pytestmark = pytest.mark.slow

FIRST, MORE = 300, 60  # reviews of the source at first, and those that are appended to it
STAGES = ["download", "clean", "split", "tokenize"]
STAGES += [f"{stage}@{name}" for name in ("logistic", "nb_svm") for stage in ("train", "evaluate")]
STAGES += ["compare", "analyse", "explain", "report", "register", "judge"]
SMALL = {
    "run": {"logistic": "logistic", "nb_svm": "nb_svm"},
    "download.source": "csv",
    "download.csv.location": "data/external/reviews.csv",
    "split.method": "hash",
    "split.test": 0.4,
    "evaluate.resamples": 100,
    "explain.reviews": 20,
    "promotion.p_value": 1.0,
    "promotion.calibration_error": 1.0,
    "promotion.slice_margin": 1.0,
    "promotion.latency_ms": 10_000.0,  # the machine may be busy
    "promotion.latency_reviews": 20,
    "watch.settle_seconds": 1,
    "retrain.attempts": 6,
    "retrain.wait_seconds": 1,
    "retrain.notify": ["custom-webhook/team"],
    "models.logistic.ngrams": 1,
    "models.nb_svm.ngrams": 1,
}
# Fewer words make a worse model. What is best on valid is nb_svm each time.
POOR = {"models.logistic.minimum_documents": 100, "models.nb_svm.minimum_documents": 20}
BETTER = {"models.logistic.minimum_documents": 90, "models.nb_svm.minimum_documents": 5}
WORSE = {"models.nb_svm.minimum_documents": 12}
DAY = timedelta(days=1)
SOON = 10.0  # seconds in which a server plans the run of a schedule that was moved
QUICK = 30.0  # seconds within which a run without a reason ends
PATIENCE = 900.0  # seconds for one retraining, on a busy machine

on_sqlite = pytest.mark.parametrize("walk", ["sqlite"], indirect=True)


class Walk:
    """A project, the Prefect server that keeps its schedules, and the worker that runs what is due."""

    def __init__(self, folder, server, client, environment):
        self.folder, self.server, self.client = folder, server, client
        self.environment = server.environment | {"PYTHONPATH": str(folder / "src")} | environment
        command = ["worker", "start", "--pool", "sentiflow", "--name", "here"]
        self.worker = prefect_servers.Program(command, folder, self.environment, folder.with_name("worker.log"))
        self.mlflow = None
        self.said = {}

    def prefect(self, *words):
        return run([*self.worker.command[:3], *words], self.folder, **self.environment).stdout

    # --- deployments and their schedules ---

    def deployment(self, name):
        return self.client.read_deployment_by_name(f"{'watch' if name == 'watch' else 'retrain'}/{name}")

    def move(self, name, moment):
        """Moves the schedule of a deployment, as one does in the UI: daily from that moment on."""
        deployment = self.deployment(name)
        [schedule] = deployment.schedules
        daily = IntervalSchedule(interval=DAY, anchor_date=moment)
        self.client.update_deployment_schedule(deployment.id, schedule.id, schedule=daily)

    def due(self, name, seconds=SOON):
        """Has a deployment's schedule moved so that a run is due in a moment; gives that run."""
        while True:  # a busy server may have planned too late
            moment = datetime.now(UTC) + timedelta(seconds=seconds)
            self.move(name, moment)
            if planned := self.planned(name, moment):
                return planned

    def begin(self, name, **parameters):
        """A run of a deployment, to begin now; gives its id."""
        return self.client.create_flow_run_from_deployment(self.deployment(name).id, parameters=parameters).id

    # --- runs ---

    def runs(self, name):
        of_this = filters.FlowRunFilter(deployment_id=filters.FlowRunFilterDeploymentId(any_=[self.deployment(name).id]))
        return self.client.read_flow_runs(flow_run_filter=of_this, sort=sorting.FlowRunSort.EXPECTED_START_TIME_ASC)

    def planned(self, name, moment):
        """The run that a schedule made for a moment; None if that passes without."""
        while datetime.now(UTC) < moment + timedelta(seconds=5):
            for each in self.runs(name):
                if each.auto_scheduled and abs(each.expected_start_time - moment) < timedelta(seconds=0.5):
                    return each
            time.sleep(0.5)
        return None

    def ended(self, run_id, patience=PATIENCE):
        self.wait(lambda: self.client.read_flow_run(run_id).state.is_final(), f"run {run_id} has not ended", patience)
        return self.client.read_flow_run(run_id)

    def completed(self, run_id, patience=PATIENCE):
        ended = self.ended(run_id, patience)
        assert ended.state.is_completed(), f"{ended.state.name}: {ended.state.message}\n" + "\n".join(self.logs(run_id))
        return ended

    def tasks(self, run_id):
        """Name: task run."""
        of_run = filters.FlowRunFilter(id=filters.FlowRunFilterId(any_=[run_id]))
        return {each.name: each for each in self.client.read_task_runs(flow_run_filter=of_run)}

    def states(self, task_run):
        return [state.name for state in self.client.read_task_run_states(task_run.id)]

    def logs(self, run_id, task_run=None):
        found, of_task = [], task_run and filters.LogFilterTaskRunId(any_=[task_run.id])
        asked = filters.LogFilter(flow_run_id=filters.LogFilterFlowRunId(any_=[run_id]), task_run_id=of_task)
        while True:
            page = self.client.read_logs(asked, limit=200, offset=len(found), sort=sorting.LogSort.TIMESTAMP_ASC)
            found += page
            if len(page) < 200:
                return [each.message for each in found]

    def artifacts(self, run_id):
        """Last version of each artifact, by key."""
        of_run = filters.ArtifactFilter(flow_run_id=filters.ArtifactFilterFlowRunId(any_=[run_id]))
        return {each.key: each for each in self.client.read_artifacts(artifact_filter=of_run)}

    def wait(self, condition, otherwise, patience=180.0):
        until = time.monotonic() + patience
        while not (found := condition()):
            self.worker.require_running()
            assert time.monotonic() < until, f"{otherwise} within {patience:.0f} s\n{self.worker.log.read_text()[-3000:]}"
            time.sleep(0.3)
        return found

    # --- what is left of them ---

    def states_of(self, run_id, task):
        found = self.tasks(run_id).get(task)
        return self.states(found) if found else []

    def messages(self):
        return [json.loads(body)["text"] for body in self.webhook.posted]

    def inventory(self):
        """What a server must not forget."""
        deployments = {name: self.deployment(name) for name in ("nightly", "weekly", "by-hand", "on-new-data", "watch")}
        automations = self.client.read_automations()
        return {
            "deployments": {name: each.id for name, each in deployments.items()},
            "schedules": {name: [(each.id, each.active) for each in it.schedules] for name, it in deployments.items()},
            "automations": {each.name: each.enabled for each in automations},
            "runs": {each.id: each.state.name for name in deployments for each in self.runs(name) if each.state.is_final()},
        }

    # --- the project ---

    def versions(self):
        client = self.store()
        return {str(version.version): version for version in model_versions.versions(client)}

    def alias(self, name):
        version = model_versions.with_alias(self.store(), name)
        return version and str(version.version)

    def store(self):
        uri = self.mlflow.uri if self.mlflow else f"sqlite:///{self.folder / 'mlflow.db'}"
        return MlflowClient(uri, uri)

    def texts_of_test(self):
        return set(pd.read_parquet(self.folder / "data/splits/test.parquet", columns=["text"])["text"])


def reviews():
    """Real ones, negative and positive in turn."""
    found = pd.read_csv(package.installed()[0])
    found = found[found["source"] == "imdb"].drop_duplicates("text")
    turn = found.groupby("label").cumcount()
    found = found.loc[turn.sort_values(kind="stable").index].head(FIRST + MORE)
    sentiment = found["label"].astype(str).map(package.LABELS)
    return pd.DataFrame({"review": found["text"], "sentiment": sentiment})


@contextlib.contextmanager
def served(kind, folder, message_to):
    """The walk of a project whose stores lie in files of its own, or in PostgreSQL and behind an MLflow server."""
    with mlflow_servers.databases(kind, folder.parent) as database, contextlib.ExitStack() as running:
        url, mlflow, environment = None, None, {}
        if kind == "postgresql":
            url = database("prefect").replace("+psycopg", "+asyncpg")
            mlflow = running.enter_context(mlflow_servers.serving(database("mlflow"), folder.with_name("mlflow")))
            environment["MLFLOW_TRACKING_URI"] = mlflow.uri
        server = prefect_servers.Server(folder.with_name("prefect"), url)
        running.callback(server.kill)
        server.start()
        client = running.enter_context(SyncPrefectClient(server.api, auth_string=server.password))
        walk = Walk(folder, server, client, environment)
        walk.mlflow = mlflow
        with temporary_settings({PREFECT_API_URL: server.api, PREFECT_API_AUTH_STRING: server.password}):
            block = {"text": "{{subject}}: {{body}}"}
            CustomWebhookNotificationBlock(name="team", url=f"{message_to}/team", json_data=block).save("team")
        walk.prefect("work-pool", "create", "sentiflow", "--type", "process")
        running.callback(walk.worker.kill)
        yield walk


@pytest.fixture(scope="module", params=mlflow_servers.KINDS)
def walk(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "clone"
    folder.mkdir()
    fresh(folder, SMALL | POOR)
    with contextlib.ExitStack() as sites:
        webhook, remote = Site(), Site()
        sites.callback(webhook.stop)
        sites.callback(remote.stop)
        dvc(folder, "remote", "add", "--default", "team", f"{remote.url}/store")
        (folder / "data/external").mkdir(parents=True, exist_ok=True)
        reviews().head(FIRST).to_csv(folder / "data/external/reviews.csv", index=False)
        commit(folder)
        made = sites.enter_context(served(request.param, folder, webhook.url))
        made.webhook, made.remote = webhook, remote
        yield made


@pytest.fixture(scope="module")
def scheduled(walk):
    """All of prefect.yaml, but each schedule has its first run tomorrow at this time; then the nightly one is moved."""
    file = walk.folder / "prefect.yaml"
    said = yaml.safe_load(file.read_text())
    for deployment in said["deployments"]:
        for schedule in deployment["schedules"]:
            del schedule["cron"]
            schedule["interval"] = DAY.total_seconds()
    file.write_text(yaml.safe_dump(said))
    walk.prefect("--no-prompt", "deploy", "--all")
    walk.worker.start()
    walk.first = walk.completed(walk.due("nightly").id)
    return walk


def test_scheduled_run_trains_and_crowns_a_first_champion(scheduled):
    assert scheduled.first.auto_scheduled
    assert "the pipeline never ran here" in scheduled.first.state.message
    assert {version.tags["architecture"] for version in scheduled.versions().values()} == {"logistic", "nb_svm"}
    assert scheduled.versions()[scheduled.alias("champion")].tags["architecture"] == "nb_svm"


def test_each_stage_is_a_task_of_its_name_and_its_output_is_in_the_log(scheduled):
    tasks = scheduled.tasks(scheduled.first.id)
    assert set(STAGES) < set(tasks)
    assert all(task.state.is_completed() for task in tasks.values())
    for name, words in (("download", f"{FIRST} reviews from"), ("tokenize", "different words in train"), ("judge", "Version")):
        said = "\n".join(scheduled.logs(scheduled.first.id, tasks[name]))
        assert words in said, f"{name}: {said}"


def test_artifacts_show_comparison_verdict_stages_runs_and_progress(scheduled):
    left = scheduled.artifacts(scheduled.first.id)
    assert {"comparison", "verdict", "stages", "mlflow", "mlflow-runs", "stages-done"} <= set(left)
    assert "| nb\\_svm " in left["comparison"].data.replace("nb_svm", "nb\\_svm")
    assert sorted(row["stage"] for row in json.loads(left["stages"].data) if row["what DVC did"] == "ran") == sorted(STAGES)
    assert float(left["stages-done"].data) == 100.0
    assert "logistic" in left["mlflow-runs"].data


def test_results_are_on_the_remote(scheduled):
    named = yaml.safe_load((scheduled.folder / "dvc.lock").read_text())["stages"]["split"]["outs"]
    [md5] = [out["md5"] for out in named if out["path"] == "data/splits"]
    assert f"/store/files/md5/{md5[:2]}/{md5[2:]}" in scheduled.remote.content


@pytest.fixture(scope="module")
def without_reason(scheduled):
    walk = scheduled
    walk.before = walk.versions()
    walk.idle = walk.completed(walk.due("nightly").id)
    return walk


def test_run_without_a_reason_says_so_within_half_a_minute(without_reason, capsys):
    idle = without_reason.idle
    assert idle.state.message.startswith("No reason to retrain")
    taken = next(state for state in without_reason.client.read_flow_run_states(idle.id) if state.is_pending())
    seconds = (idle.end_time - taken.timestamp).total_seconds()
    with capsys.disabled():
        active = idle.total_run_time.total_seconds()
        print(f"\n  a run without a reason ended {seconds:.1f} s after the worker took it, {active:.1f} s of it active")
    assert seconds < QUICK
    assert without_reason.versions().keys() == without_reason.before.keys()
    assert not set(STAGES) & set(without_reason.tasks(idle.id))


@pytest.fixture(scope="module")
def new_rows(without_reason):
    """Rows were appended to the source, the watch saw them, and while the run that follows is active, others are asked for."""
    walk = without_reason
    walk.tested = walk.texts_of_test()
    reviews().to_csv(walk.folder / "data/external/reviews.csv", index=False)
    walk.watched = walk.completed(walk.due("watch").id)
    [run] = walk.wait(lambda: walk.runs("on-new-data"), "no run was started by the event")
    walk.wait(lambda: "download" in walk.tasks(run.id), "no stage was run")
    walk.others = {name: walk.begin(name) for name in ("by-hand", "on-new-data")}
    walk.others = {name: walk.ended(other) for name, other in walk.others.items()}
    if walk.mlflow:
        walk.mlflow.kill()
        walk.wait(lambda: "AwaitingRetry" in walk.states_of(run.id, "register"), "the store was not missed", PATIENCE)
        walk.mlflow.start()
    walk.retrained = walk.completed(run.id)
    return walk


def test_watch_says_what_it_saw(new_rows):
    message = new_rows.watched.state.message
    assert message.startswith("reported new data to Prefect: data/external/reviews.csv: its SHA-256 is now")


def test_new_rows_start_a_run_by_themselves_that_registers_new_versions(new_rows):
    message = new_rows.retrained.state.message
    assert "source data changed: data/external/reviews.csv" in message
    new = new_rows.versions().keys() - new_rows.before.keys()
    assert {new_rows.versions()[number].tags["architecture"] for number in new} == {"logistic", "nb_svm"}
    assert len(new) == 2


def test_reviews_that_were_in_test_stay_there(new_rows):
    now = new_rows.texts_of_test()
    assert new_rows.tested < now


def test_second_run_while_one_is_at_work_is_cancelled_with_a_reason(new_rows):
    of_another, of_the_same = new_rows.others["by-hand"], new_rows.others["on-new-data"]
    assert [each.state.name for each in (of_another, of_the_same)] == ["Cancelled", "Cancelled"]
    assert "One retraining at a time" in of_another.state.message
    assert "One retraining at a time" in of_the_same.state.message


@pytest.mark.parametrize("walk", ["postgresql"], indirect=True)
def test_mlflow_store_that_was_away_for_a_while_is_tried_again(new_rows):
    task = new_rows.tasks(new_rows.retrained.id)["register"]
    assert task.run_count > 1
    assert new_rows.states(task)[-1] == "Completed"


@pytest.fixture(scope="module")
def late(new_rows):
    """The worker was away while three runs became due."""
    walk = new_rows
    walk.worker.stop()
    deployment = walk.deployment("nightly")
    moments = [datetime.now(UTC) + timedelta(seconds=2 * SOON + place) for place in range(3)]
    daily = [IntervalSchedule(interval=DAY, anchor_date=moment) for moment in moments]
    made = walk.client.create_deployment_schedules(deployment.id, [(each, True) for each in daily])
    runs = [walk.planned("nightly", moment) for moment in moments]
    time.sleep(max(0.0, (moments[-1] - datetime.now(UTC)).total_seconds()))
    walk.worker.start()
    walk.overdue = [walk.ended(each.id) for each in runs]
    for each in made:
        walk.client.delete_deployment_schedule(deployment.id, each.id)
    return walk


@on_sqlite
def test_late_runs_do_not_pile_up(late):
    states = sorted(run.state.name for run in late.overdue)
    assert states == ["Cancelled", "Cancelled", "Completed"]
    for each in late.overdue:
        if each.state.name == "Cancelled":
            assert "late" in each.state.message


@pytest.fixture(scope="module")
def restarted(late):
    """Server and worker were killed, and stood still when a run became due."""
    walk = late
    walk.kept = walk.inventory()
    walk.worker.kill()  # before it can take the run: that of a worker which is gone is settled by `sentiflow schedule` alone
    planned = walk.due("nightly")
    walk.server.kill()
    time.sleep(max(0.0, (planned.expected_start_time - datetime.now(UTC)).total_seconds()))
    walk.server.start()
    walk.worker.start()
    walk.after_the_kill = walk.completed(planned.id)
    return walk


@on_sqlite
def test_schedules_and_automations_survive_a_kill_of_server_and_worker(restarted):
    now = restarted.inventory()
    assert {name: now[name] for name in ("deployments", "schedules", "automations")} == {
        name: restarted.kept[name] for name in ("deployments", "schedules", "automations")
    }
    assert restarted.kept["runs"].items() <= now["runs"].items()
    assert restarted.kept["automations"] == {"sentiflow-new-data": True}
    assert set(restarted.kept["schedules"]) == {"nightly", "weekly", "by-hand", "on-new-data", "watch"}


@on_sqlite
def test_scheduled_run_is_made_up_for_after_a_kill_of_server_and_worker(restarted):
    assert restarted.after_the_kill.state.is_completed()


@on_sqlite
@pytest.mark.parametrize("parameters", [{"models": "logistic"}, {"force": "perhaps"}])
def test_parameter_of_a_wrong_type_is_refused_before_anything_runs(restarted, parameters):
    with pytest.raises(PrefectHTTPStatusError, match="Validation failed"):
        restarted.begin("by-hand", **parameters)


@on_sqlite
def test_misspelt_parameter_is_refused_by_the_command(restarted):
    with pytest.raises(AssertionError, match="promte"):  # of `run`, with what the command said
        restarted.prefect("deployment", "run", "retrain/by-hand", "--param", "promte=false")


@pytest.fixture(scope="module")
def unknown(restarted):
    walk = restarted
    walk.said["unknown"] = walk.ended(walk.begin("by-hand", models=["svm"]))
    walk.said["not in run"] = walk.ended(walk.begin("by-hand", models=["lstm"]))
    return walk


@on_sqlite
def test_unknown_model_fails_at_once_and_names_the_choices(unknown):
    for name in ("unknown", "not in run"):
        ended = unknown.said[name]
        assert ended.state.is_failed(), ended.state
        assert "logistic, nb_svm" in ended.state.message
        assert unknown.tasks(ended.id) == {}


@pytest.fixture(scope="module")
def one_model(unknown):
    walk = unknown
    change(walk.folder, BETTER)
    walk.said["one"] = walk.completed(walk.begin("by-hand", models=["logistic"]))
    return walk


@on_sqlite
def test_run_of_one_model_leaves_the_others_alone(one_model):
    run = one_model.said["one"]
    assert run.state.message.startswith("Trained and evaluated logistic. Nothing was compared: ")
    tasks = set(one_model.tasks(run.id))
    assert {"train@logistic", "evaluate@logistic"} < tasks
    assert not tasks & {"train@nb_svm", "evaluate@nb_svm", "compare", "register"}


@pytest.fixture(scope="module")
def waiting(one_model):
    walk = one_model
    walk.champion = walk.alias("champion")
    walk.webhook.posted.clear()
    walk.prefect("deployment", "run", "retrain/by-hand", "--param", "promote=false", "--watch")
    walk.said["not promoted"] = walk.runs("by-hand")[-1]
    walk.challenger = walk.alias("challenger")
    walk.still = walk.alias("champion")
    return walk


@on_sqlite
def test_run_that_must_not_promote_leaves_a_challenger_that_waits(waiting):
    assert "since this run was started with promote=false" in waiting.said["not promoted"].state.message
    assert waiting.versions()[waiting.challenger].tags["architecture"] == "nb_svm"
    assert waiting.still == waiting.champion
    assert waiting.webhook.posted == []


@pytest.fixture(scope="module")
def promoted(waiting):
    """A run with another reason; the remote was away when it had something to push."""
    walk = waiting
    change(walk.folder, {"explain.reviews": 10})
    walk.remote.stop()
    run = walk.begin("by-hand")
    walk.wait(lambda: walk.states_of(run, "push").count("AwaitingRetry") > 1, "the remote was not missed", PATIENCE)
    walk.remote.start()
    walk.said["promoted"] = walk.completed(run)
    return walk


@on_sqlite
def test_next_run_promotes_the_challenger_that_waited_and_tells(promoted):
    assert promoted.alias("champion") == promoted.challenger
    assert promoted.said["promoted"].state.message.startswith(f"Champion: version {promoted.challenger} ")
    [message] = promoted.messages()
    assert message.startswith(f"Promoted: Champion: version {promoted.challenger} ")


@on_sqlite
def test_remote_that_was_away_for_a_while_is_tried_again(promoted):
    task = promoted.tasks(promoted.said["promoted"].id)["push"]
    assert task.run_count > 2
    assert promoted.states(task)[-1] == "Completed"


@pytest.fixture(scope="module")
def rejected(promoted):
    walk = promoted
    walk.webhook.posted.clear()
    change(walk.folder, WORSE)
    walk.said["rejected"] = walk.completed(walk.begin("by-hand"))
    return walk


@on_sqlite
def test_worse_model_is_rejected_and_told(rejected):
    assert rejected.alias("champion") == rejected.challenger
    [message] = rejected.messages()
    assert message.startswith("Rejected: Version ")
    assert "promotion rules against" in message


@pytest.fixture(scope="module")
def failed(rejected):
    walk = rejected
    walk.webhook.posted.clear()
    change(walk.folder, {"download.csv.text": "opinion"})
    walk.said["failed"] = walk.ended(walk.begin("by-hand"))
    change(walk.folder, {"download.csv.text": "review"})
    return walk


@on_sqlite
def test_stage_that_fails_for_a_mistake_is_not_tried_again_and_told(failed):
    run = failed.said["failed"]
    assert run.state.is_failed()
    assert "stage 'download'" in run.state.message
    task = failed.tasks(run.id)["download"]
    assert (task.run_count, "AwaitingRetry" in failed.states(task)) == (1, False)
    assert "no column 'opinion'" in "\n".join(failed.logs(run.id, task))
    [message] = failed.messages()
    assert message.startswith(f"Retraining {run.name}: Failed: ")


@pytest.fixture(scope="module")
def hanging(failed):
    """A stage that waits for ever, as its output is held by somebody else."""
    walk = failed
    change(walk.folder, {"retrain.stage_minutes": 0.1})
    with locks.locked(walk.folder / stage.lock_of(walk.folder / "data/reviews")):
        walk.said["hanging"] = walk.ended(walk.begin("by-hand", force=True))
    return walk


@on_sqlite
def test_stage_that_hangs_is_ended_and_the_run_says_so(hanging):
    run = hanging.said["hanging"]
    assert run.state.is_failed()
    assert "stage 'download' did not finish within 0.1 minutes, so it was terminated" in run.state.message
    assert hanging.tasks(run.id)["download"].run_count == 1


@pytest.fixture(scope="module")
def recovered(hanging):
    walk = hanging
    change(walk.folder, {"retrain.stage_minutes": 120})
    walk.said["recovered"] = walk.completed(walk.begin("by-hand"))
    return walk


@on_sqlite
def test_next_run_goes_on_from_there(recovered):
    assert "did not end" in recovered.said["recovered"].state.message
    assert json.loads(dvc(recovered.folder, "status", "--json")) == {}

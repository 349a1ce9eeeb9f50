"""The retraining flow on a small DVC pipeline and a Prefect server of its own; tests/system runs the real pipeline."""

import json
import subprocess
import sys
from pathlib import Path

import dvc_projects
import guarded
import prefect_servers
import pytest
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.sorting import LogSort
from prefect.logging.handlers import APILogHandler

from flows.artifacts import key
from flows.retrain import UNFINISHED, retrain
from sentiflow.pipeline import isolated_run, recovery

TOP = Path(__file__).parents[2]
SOURCE = Path("data/external/reviews.csv")
PIPELINE = """
stages:
  download:
    cmd: sh download.sh
    deps: [data/external, download.sh]
    outs:
    - data/reviews.csv
    - metrics/data_card.json: {cache: false}
  train:
    foreach: ${run}
    do:
      cmd: sh train.sh ${key}
      deps: [data/reviews.csv, train.sh]
      params: ["models.${key}"]
      outs: ["models/${key}"]
  evaluate:
    foreach: ${run}
    do:
      cmd: mkdir -p scores && cp models/${key} scores/${key}
      deps: ["models/${key}"]
      outs: ["scores/${key}"]
  compare:
    cmd: mkdir -p reports && cat scores/* > reports/comparison.md
    deps: [scores]
    outs:
    - reports/comparison.md: {cache: false}
"""
CARD = '{"source": "csv", "location": "data/external/reviews.csv", "sha256_source": "%s"}'
DOWNLOAD = (
    "mkdir -p data metrics; cp data/external/reviews.csv data/reviews.csv; sum=$(sha256sum data/reviews.csv | cut -c 1-64); "
    f"printf '{CARD}' $sum > metrics/data_card.json\n"
)
TRAIN = "mkdir -p models; echo '  epoch 1 of 2: valid accuracy 0.5, loss 1'; cat data/reviews.csv > models/$1\n"
CHANGES = {
    "run": {"nb_svm": "nb_svm", "lstm": "recurrent"},
    "download.source": "csv",
    "download.csv.location": str(SOURCE),
    "retrain.wait_seconds": 0.1,
    "retrain.attempts": 2,
    "watch.settle_seconds": 0.001,
}

pytestmark = pytest.mark.slow  # with a Prefect server of its own


@pytest.fixture(scope="module", autouse=True)
def api():
    with prefect_servers.harness():
        yield


@pytest.fixture
def client():
    with get_client(sync_client=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def finished_project(tmp_path_factory):
    params = isolated_run.with_changes((TOP / "params.yaml").read_text(), CHANGES)
    files = {"dvc.yaml": PIPELINE, "download.sh": DOWNLOAD, "train.sh": TRAIN, "params.yaml": params}
    yield from dvc_projects.finished(tmp_path_factory, files | {str(SOURCE): "review,sentiment\ngood,positive\n"})


@pytest.fixture
def project(finished_project, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TOP / "src"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return dvc_projects.copy(finished_project, tmp_path, monkeypatch)


def run(**parameters):
    return retrain(return_state=True, **parameters)


def set_params(**changes):
    file = Path("params.yaml")
    file.write_text(
        isolated_run.with_changes(file.read_text(), {name.replace("__", "."): value for name, value in changes.items()})
    )


def stages(client, state):
    """What DVC did with each stage, from the table artifact."""
    return {line["stage"]: line["what DVC did"] for line in json.loads(artifacts(client, state)["stages"].data)}


def artifacts(client, state):
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    return {each.key: each for each in client.read_artifacts(artifact_filter=of_run)}


def log(client, state):
    APILogHandler().flush()
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    return [each.message for each in client.read_logs(of_run, sort=LogSort.TIMESTAMP_ASC)]


def test_without_a_reason_it_completes_and_says_so(project, client):
    before = recovery.LOCK_FILE.read_bytes()
    state = run()
    assert state.is_completed()
    assert state.message.startswith("No reason to retrain")
    assert recovery.LOCK_FILE.read_bytes() == before
    assert "stages" not in artifacts(client, state)


def test_new_rows_are_a_reason_and_every_affected_stage_is_a_task_of_that_name(project, client):
    SOURCE.write_text(SOURCE.read_text() + "bad,negative\n")
    state = run()
    assert state.is_completed(), state.message
    assert "Because: source data changed: data/external/reviews.csv" in state.message
    names = ["download", "train@nb_svm", "train@lstm", "evaluate@nb_svm", "evaluate@lstm", "compare"]
    assert stages(client, state) == dict.fromkeys(names, "ran")
    tasks = {each.name: each for each in client.read_task_runs() if each.flow_run_id == state.state_details.flow_run_id}
    assert {*names, "pull", "check source", "check drift", "read verdict", "push"} == tasks.keys()
    assert tasks["compare"].total_run_time.total_seconds() > 0
    assert "bad" in Path("reports/comparison.md").read_text()
    assert not UNFINISHED.exists()
    assert run().message.startswith("No reason")


def test_changed_setting_runs_only_affected_stages_and_a_reverted_one_restores_them(project, client):
    set_params(models__lstm__units=3)
    state = run()
    assert "parameters changed: models.lstm" in state.message
    assert stages(client, state) | {"train@lstm": "ran", "train@nb_svm": "fresh", "compare": "fresh"} == stages(client, state)
    set_params(models__lstm__units=128)
    assert stages(client, run())["train@lstm"] == "restored"


def test_prefect_shows_output_and_epochs_of_a_stage(project, client):
    Path("train.sh").write_text(TRAIN + "true\n")
    state = run()
    assert "epoch 1 of 2: valid accuracy 0.5, loss 1" in log(client, state)
    shown = artifacts(client, state)
    assert shown["train-lstm"].data == 50.0
    assert shown["stages-done"].data == 100.0
    assert shown["comparison"].data == Path("reports/comparison.md").read_text()


def test_forced_run_runs_everything_and_reports_results_that_are_not_reproduced(project, client):
    state = run(force=True)
    assert set(stages(client, state).values()) == {"ran"}
    assert not [line for line in log(client, state) if "Not reproduced" in line]
    Path("train.sh").write_text(TRAIN + "date +%s%N >> models/$1\n")
    run()
    state = run(force=True)
    [report] = [line for line in log(client, state) if "Not reproduced" in line]
    assert "train@nb_svm, train@lstm" in report
    assert "compare" not in report  # its inputs differ


def test_failed_stage_is_named_stops_the_run_and_the_next_run_resumes(project, client):
    Path("train.sh").write_text(f"[ $1 = lstm ] && exit 3; {TRAIN}")
    state = run()
    assert state.is_failed()
    assert "stage 'train@lstm' failed" in state.message
    assert "exited with 3" in state.message
    assert "compare" not in stages(client, state)
    assert Path("models/lstm").exists()  # the previous one was restored
    assert any(line.startswith("Retraining ") and "Failed" in line for line in log(client, state))
    Path("train.sh").write_text(TRAIN)
    state = run()
    assert state.is_completed()
    assert "did not end" in state.message


def test_only_temporary_failures_are_retried(project, client):
    count = "echo . >> ../attempts; "
    Path("download.sh").write_text(f"{count}[ $(wc -l < ../attempts) -lt 2 ] && exit 75; {DOWNLOAD}")
    assert run().is_completed()
    assert Path("../attempts").read_text().count(".") == 2
    Path("download.sh").write_text(f"{count}exit 1\n")
    assert run().is_failed()
    assert Path("../attempts").read_text().count(".") == 3


def test_unusable_store_fails_the_run_if_there_are_incoming_reviews(project, monkeypatch):
    incoming = Path("data/incoming/new.csv")
    incoming.parent.mkdir()
    incoming.write_text("review\ngood\n")
    assert run().is_completed()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/no_such_folder/mlflow.db")
    state = run()
    assert state.is_failed()
    assert "check drift: MLflow's store at" in state.message


def test_failed_authentication_at_the_store_fails_the_run_before_any_stage(project, client, monkeypatch):
    SOURCE.write_text(SOURCE.read_text() + "bad,negative\n")
    with guarded.server() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        state = run()
    assert state.is_failed()
    assert f"MLflow's server at {address}: authentication failed" in state.message
    assert "MLFLOW_TRACKING_PASSWORD" in state.message
    assert "stages" not in artifacts(client, state)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert "source data changed" in run().message  # nothing is lost


def test_named_model_runs_alone_and_stages_about_all_models_wait_for_the_others(project, client):
    SOURCE.write_text(SOURCE.read_text() + "bad,negative\n")
    state = run(models=["lstm"])
    assert state.is_completed()
    assert "train@nb_svm is stale" in state.message
    assert stages(client, state).keys() == {"download", "train@lstm", "evaluate@lstm"}
    assert "bad" not in Path("reports/comparison.md").read_text()
    state = run(models=["nb_svm"])
    assert stages(client, state)["compare"] == "ran"
    assert "bad" in Path("reports/comparison.md").read_text()
    forced = stages(client, run(models=["nb_svm"], force=True))
    assert {name for name, how in forced.items() if how == "fresh"} == {"train@lstm", "evaluate@lstm"}
    assert {name for name, how in forced.items() if how == "ran"} == {"download", "train@nb_svm", "evaluate@nb_svm", "compare"}


def test_invalid_parameters_fail_the_run(project):
    for parameters, message in (
        ({"models": ["no_such"]}, "received no_such, which is not in `run:` of params.yaml"),
        ({"models": ["gru"]}, "received gru, which is not in `run:` of params.yaml"),
        ({"force": "perhaps"}, "force"),
    ):
        state = run(**parameters)
        assert state.is_failed()
        assert message in state.message


def test_concurrent_run_is_cancelled_and_names_the_other_process(project):
    code = "import time; from sentiflow.pipeline import repro\nwith repro.at_work(): print('up', flush=True); time.sleep(61)"
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "up\n"
        state = run()
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert state.is_cancelled()
    assert f"One retraining at a time: process {other.pid} " in state.message
    assert run().is_completed()


def test_error_in_params_fails_the_run_with_its_message(project):
    set_params(retrain__side_by_side=0)
    state = run()
    assert state.is_failed()
    assert "retrain.side_by_side" in state.message


def test_hanging_stage_is_stopped_at_its_time_limit(project):
    set_params(retrain__stage_minutes=0.05)
    Path("train.sh").write_text("sleep 61\n")
    state = run()
    assert state.is_failed()
    assert "did not finish within 0.05 minutes" in state.message


def test_missing_notification_block_is_logged_and_fails_no_run(project, client):
    set_params(retrain__notify=["slack-webhook/nobody"])
    Path("train.sh").write_text("exit 1\n")
    state = run()
    assert state.is_failed()
    assert [line for line in log(client, state) if "the notification through slack-webhook/nobody failed" in line]


def test_results_are_pushed_to_the_remote_and_pulled_from_it(project, client, tmp_path):
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "remote", "add", "-d", "ours", str(tmp_path / "remote")], check=True, capture_output=True)
    Path("train.sh").write_text(TRAIN + "true\n")
    state = run()
    assert any("files to the remote ours" in line for line in log(client, state))
    assert any((tmp_path / "remote/files").rglob("*"))
    for folder in (".dvc/cache", "models", "scores", "data/reviews.csv"):
        subprocess.run(["rm", "-rf", folder], check=True)
    state = run()
    assert state.is_completed()
    assert set(stages(client, state).values()) <= {"restored", "fresh", "ran"}
    assert stages(client, state)["train@lstm"] == "restored"


def test_artifact_keys_have_only_characters_that_prefect_allows():
    assert key("evaluate@lstm_Small.2") == "evaluate-lstm-small-2"

"""The flow `watch` on a Prefect server of its own."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import prefect_servers
import pytest
import sources
import yaml
from prefect import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL
from sources import TOP, csv, download, settings

from flows import checkout
from flows import watch as watching
from sentiflow.data import source_changes
from sentiflow.data.sources import fetching
from stages import clean as clean_stage
from stages import download as download_stage
from stages import split as split_stage

FILE = Path("data/external/reviews.csv")
DEPLOYMENTS = {each["name"]: each for each in yaml.safe_load((TOP / "prefect.yaml").read_text())["deployments"]}
LONGEST_WAIT = 30.0  # seconds for an event to reach what it triggers

pytestmark = pytest.mark.slow  # with a Prefect server of its own


@pytest.fixture(scope="module", autouse=True)
def api():
    with prefect_servers.harness():
        yield


@pytest.fixture
def client():
    with get_client(sync_client=True) as opened:
        yield opened


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A folder of its own, with a file of reviews."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source_changes, "TICK", 0.0)
    FILE.parent.mkdir(parents=True)
    FILE.write_text(csv(40, first=time.time_ns() % 10**9))  # a different file, and so a different event, in every test


@pytest.fixture
def on_new_data(client):
    """Function that counts the runs of a deployment with the trigger of prefect.yaml."""
    [wanted] = DEPLOYMENTS["on-new-data"]["triggers"]
    flow_id = client.create_flow_from_name("retrain")
    deployment_id = client.create_deployment(flow_id, f"on-new-data-{time.time_ns()}", entrypoint="flows/retrain.py:retrain")
    trigger = DeploymentEventTrigger.model_validate(wanted)
    trigger.set_deployment_id(deployment_id)
    automation = client.create_automation(trigger.as_automation())
    time.sleep(1.5)  # until the server has loaded the trigger
    mine = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
    yield lambda: len(client.read_flow_runs(deployment_filter=mine))
    client.delete_automation(automation)


def append(count=10):
    with FILE.open("a") as opened:
        opened.write("\n".join(sources.rows(count, first=10**9)) + "\n")
    time.sleep(0.01)


def outcome():
    """Final state of a flow run."""
    state = watching.watch(return_state=True)
    return f"{state.name}: {state.message}"


def report(p):
    """What `watch` reports, without a flow run; None if the source is unchanged."""
    change = source_changes.changed(p)
    return None if change is None else watching.report(change, p.watch.again_hours)


def events(client):
    """Events about the current content of the file."""
    found = client.read_events(EventFilter(event=EventNameFilter(name=[watching.EVENT])), limit=50)
    return [event for event in found.events if event.payload["fingerprint"] == fetching.sha256_of(FILE)]


def wait_for_events(client, count):
    until(lambda: len(events(client)) >= count)
    return events(client)


REPORTED, RECENT = "reported new data to Prefect", "new data, reported already and not downloaded yet"


def until(condition, *, seconds=LONGEST_WAIT):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.1)


# --- prefect.yaml ---------------------------------------------------------------------------------------------


def test_trigger_of_prefect_yaml_has_only_keys_that_prefect_knows_and_matches_the_event():
    [trigger] = DEPLOYMENTS["on-new-data"]["triggers"]
    assert set(trigger) <= set(DeploymentEventTrigger.model_fields)
    assert trigger["expect"] == [watching.EVENT]
    assert trigger["match"] == {"prefect.resource.id": checkout.event_resource()}


# --- new data -----------------------------------------------------------------------------------------------------------


def test_appended_rows_start_one_retraining_even_if_the_process_exits_at_once(on_new_data, client):
    p = settings("csv", location=str(FILE))
    download(p)
    append()
    command = [sys.executable, "-c", "from flows.watch import watch; print(watch(return_state=True).message)"]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(TOP / "src"), str(TOP)]),
        "PREFECT_API_URL": PREFECT_API_URL.value(),
        "PREFECT_API_AUTH_STRING": PREFECT_API_AUTH_STRING.value(),
    }
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    assert "reported new data to Prefect: data/external/reviews.csv: its SHA-256 is now " in done.stdout
    until(lambda: on_new_data() == 1)
    assert outcome().startswith("Completed: new data, reported already and not downloaded yet: data/external/reviews.csv")
    time.sleep(1.0)
    assert on_new_data() == 1
    [event] = wait_for_events(client, 1)
    assert event.payload["in_words"] in done.stdout
    assert any(str(each.id).startswith("prefect.flow-run.") for each in event.related), "the run that emitted it"
    download(p)
    assert outcome() == "Completed: unchanged"


def test_event_is_repeated_after_the_interval_until_the_data_is_downloaded(client):
    p = settings("csv", location=str(FILE), again_hours=1e-9)
    download(p)
    append()
    assert [report(p), report(p)] == [REPORTED, REPORTED]
    events = wait_for_events(client, 2)
    assert len({event.id for event in events}) == 2, "Prefect would drop the second"


def test_different_new_data_is_reported_at_once():
    p = settings("csv", location=str(FILE))
    download(p)
    append()
    assert [report(p), report(p)] == [REPORTED, RECENT]
    append()
    assert report(p) == REPORTED


def test_two_projects_emit_separate_events_for_the_same_content(client):
    p = settings("csv", location=str(FILE))
    download(p)
    append()
    assert report(p) == REPORTED
    watching.EMITTED.unlink()  # each project has its own
    Path("prefect.yaml").write_text("name: other")
    assert report(p) == REPORTED
    assert {event.resource.id for event in wait_for_events(client, 2)} == {"sentiflow.source", "other.source"}


def test_check_that_is_killed_before_recording_its_event_starts_no_second_run(on_new_data):
    p = settings("csv", location=str(FILE))
    download(p)
    append()
    assert report(p) == REPORTED
    until(lambda: on_new_data() == 1)
    watching.EMITTED.unlink()
    assert report(p) == REPORTED
    time.sleep(2.0)
    assert on_new_data() == 1


@pytest.mark.parametrize("content", ["", "{", '{"at": {"x": 1}}', '{"at": {"x": "2026-01-01T00:00:00"}}', "[]"])
def test_damaged_record_of_events_is_replaced(content):
    p = settings("csv", location=str(FILE))
    download(p)
    append()
    watching.EMITTED.parent.mkdir(exist_ok=True)
    watching.EMITTED.write_text(content)
    assert [report(p), report(p)] == [REPORTED, RECENT]


def test_event_recorded_in_the_future_does_not_suppress_new_ones():
    p = settings("csv", location=str(FILE))
    download(p)
    append()
    assert [report(p), report(p)] == [REPORTED, RECENT]
    ahead = (datetime.now(UTC) + timedelta(days=365)).isoformat()
    watching.EMITTED.write_text(json.dumps({"at": {fetching.sha256_of(FILE): ahead}}))
    assert report(p) == REPORTED


def test_record_of_events_is_limited_to_the_newest():
    p = settings("csv", location=str(FILE))
    download(p)
    append()
    old = [datetime.now(UTC) - timedelta(days=2, seconds=i) for i in range(2 * watching.LONGEST_HISTORY)]
    watching.EMITTED.parent.mkdir(exist_ok=True)
    watching.EMITTED.write_text(json.dumps({"at": {str(i): at.isoformat() for i, at in enumerate(old)}}))
    assert report(p) == REPORTED
    expected = {fetching.sha256_of(FILE), *map(str, range(watching.LONGEST_HISTORY - 1))}
    assert json.loads(watching.EMITTED.read_text())["at"].keys() == expected


def test_file_that_is_being_written_is_left_for_the_next_check():
    download(settings("csv", location=str(FILE), settle_seconds=60.0))
    FILE.write_text("review,sen")
    assert outcome().startswith("Completed: left for the next check: data/external/reviews.csv: written to ")
    assert not watching.EMITTED.exists()


# --- a server -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def site():
    with sources.serving(csv(40)) as server:
        yield server


def test_url_is_reported_when_its_etag_changes(site):
    p = settings("csv", location=site.url)
    download(p)
    assert outcome() == "Completed: unchanged"
    site.change(csv(50))
    assert outcome().startswith(f"Completed: reported new data to Prefect: {site.url}: ETag ")
    download(p)
    assert outcome() == "Completed: unchanged"


def test_server_with_a_different_etag_each_time_is_reported_once_per_interval(site):
    p = settings("csv", location=site.url)
    download(p)
    answers = []
    for look in range(6):
        site.salt = str(look)
        answers.append(report(p))
        download(p)
    assert answers == [REPORTED, *[RECENT] * 5]


def test_unavailable_server_is_retried_and_then_fails_the_check_with_one_sentence(site):
    download(settings("csv", location=site.url, attempts=3))
    site.asked.clear()
    site.refused = {"HEAD": 503, "GET": 503}
    assert outcome() == f"Failed: check source: {site.url}: the server answered 503 Service Unavailable; look again later"
    assert site.asked == ["HEAD", "GET"] * 3
    site.refused = {}
    assert outcome() == "Completed: unchanged"


def test_permanent_error_is_not_retried(site):
    download(settings("csv", location=site.url, attempts=3))
    site.asked.clear()
    site.refused = {"HEAD": 404, "GET": 404}
    assert outcome().startswith(f"Failed: check source: {site.url}: the server answered 404 Not Found")
    assert site.asked == ["HEAD", "GET"]


def test_error_in_params_fails_the_check_with_one_sentence():
    Path("params.yaml").write_text("sed: 7\n")
    assert outcome().startswith("Failed: params.yaml cannot be used")


# --- effect of new data on the splits -----------------------------------------------------------------------------------


def splits_of_stages():
    """Split of each text, from the first three stages."""
    for folder in ("metrics", "reports", "data"):
        Path(folder).mkdir(exist_ok=True)
    download_stage.main(Path("data/reviews"), Path("metrics/data_card.json"), Path("reports/card.md"), Path(".cache/download"))
    clean_stage.main(Path("data/reviews/reviews.parquet"), Path("data/clean.parquet"), Path("metrics/cleaning.json"))
    split_stage.main(*map(Path, ("data/reviews", "data/clean.parquet", "data/splits", "data/test_set", "metrics/splits.json")))
    found = {}
    for split in ("train", "valid", "test"):
        found |= dict.fromkeys(pd.read_parquet(f"data/splits/{split}.parquet")["text"], split)
    return found


def test_with_hash_splits_new_reviews_move_no_review_to_another_split():
    FILE.write_text(csv(400))
    p = settings("csv", location=str(FILE), method="hash")
    before = splits_of_stages()
    append(count=300)
    assert source_changes.changed(p) is not None
    after = splits_of_stages()
    assert source_changes.changed(p) is None
    assert len(before) == 400
    assert len(after) == 700
    assert {text: after[text] for text in before} == before
    assert {split for text, split in after.items() if text not in before} == {"train", "valid", "test"}


# --- cost ------------------------------------------------------------------------------------------------------


def test_check_imports_neither_keras_nor_mlflow_nor_dvc():
    code = "import sys; from flows import watch; print(*{'tensorflow', 'keras', 'mlflow', 'dvc'} & set(sys.modules))"
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(TOP / "src"), str(TOP)])}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env)
    assert done.stdout.strip() == ""

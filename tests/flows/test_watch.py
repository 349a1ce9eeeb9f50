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
    FILE.write_text(csv(40, first=time.time_ns() % 10**9))  # another file in every test, and another event


@pytest.fixture
def on_new_data(client):
    """What counts the runs of a deployment with the automation that prefect.yaml gives it."""
    [wanted] = DEPLOYMENTS["on-new-data"]["triggers"]
    flow_id = client.create_flow_from_name("retrain")
    deployment_id = client.create_deployment(flow_id, f"on-new-data-{time.time_ns()}", entrypoint="flows/retrain.py:retrain")
    trigger = DeploymentEventTrigger.model_validate(wanted)
    trigger.set_deployment_id(deployment_id)
    automation = client.create_automation(trigger.as_automation())
    time.sleep(1.5)  # until the server's triggers know of it
    mine = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
    yield lambda: len(client.read_flow_runs(deployment_filter=mine))
    client.delete_automation(automation)


def append(count=10):
    with FILE.open("a") as opened:
        opened.write("\n".join(sources.rows(count, first=10**9)) + "\n")
    time.sleep(0.01)


def said():
    """How a run of the flow ends."""
    state = watching.watch(return_state=True)
    return f"{state.name}: {state.message}"


def answer(p):
    """The same without a run: what is told of a change, or None."""
    change = source_changes.changed(p)
    return None if change is None else watching.report(change, p.watch.again_hours)


def told(client):
    """Events of the file as it is now."""
    found = client.read_events(EventFilter(event=EventNameFilter(name=[watching.EVENT])), limit=50)
    return [event for event in found.events if event.payload["fingerprint"] == fetching.sha256_of(FILE)]


def told_by_now(client, count):
    until(lambda: len(told(client)) >= count)
    return told(client)


TOLD, HELD = "reported new data to Prefect", "new data, reported already and not downloaded yet"


def until(condition, *, seconds=LONGEST_WAIT):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


# --- what prefect.yaml says ---------------------------------------------------------------------------------------------


def test_the_trigger_of_prefect_yaml_has_no_key_that_prefect_would_pass_over_and_expects_what_is_told():
    [trigger] = DEPLOYMENTS["on-new-data"]["triggers"]
    assert set(trigger) <= set(DeploymentEventTrigger.model_fields)
    assert trigger["expect"] == [watching.EVENT]
    assert trigger["match"] == {"prefect.resource.id": checkout.event_resource()}


# --- new data -----------------------------------------------------------------------------------------------------------


def test_appended_rows_start_one_run_of_the_retraining_and_a_process_that_ends_at_once_loses_no_event(on_new_data, client):
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
    assert said().startswith("Completed: new data, reported already and not downloaded yet: data/external/reviews.csv")
    time.sleep(1.0)
    assert on_new_data() == 1
    [event] = told_by_now(client, 1)
    assert event.payload["in_words"] in done.stdout
    assert any(str(each.id).startswith("prefect.flow-run.") for each in event.related), "who told"
    download(p)
    assert said() == "Completed: unchanged"


def test_a_retraining_that_read_nothing_is_told_again_after_some_hours(client):
    p = settings("csv", location=str(FILE), again_hours=1e-9)
    download(p)
    append()
    assert [answer(p), answer(p)] == [TOLD, TOLD]
    events = told_by_now(client, 2)
    assert len({event.id for event in events}) == 2, "Prefect would drop the second"


def test_other_new_data_is_told_at_once():
    p = settings("csv", location=str(FILE))
    download(p)
    append()
    assert [answer(p), answer(p)] == [TOLD, HELD]
    append()
    assert answer(p) == TOLD


def test_same_content_that_two_projects_see_is_an_event_of_each(client):
    p = settings("csv", location=str(FILE))
    download(p)
    append()
    assert answer(p) == TOLD
    watching.EMITTED.unlink()  # which each project has in its own folder
    Path("prefect.yaml").write_text("name: other")
    assert answer(p) == TOLD
    assert {event.resource.id for event in told_by_now(client, 2)} == {"sentiflow.source", "other.source"}


def test_who_dies_before_noting_that_it_told_starts_no_second_run(on_new_data):
    p = settings("csv", location=str(FILE))
    download(p)
    append()
    assert answer(p) == TOLD
    until(lambda: on_new_data() == 1)
    watching.EMITTED.unlink()
    assert answer(p) == TOLD
    time.sleep(2.0)
    assert on_new_data() == 1


@pytest.mark.parametrize("content", ["", "{", '{"at": {"x": 1}}', '{"at": {"x": "2026-01-01T00:00:00"}}', "[]"])
def test_a_damaged_memory_of_what_was_told_is_written_anew(content):
    p = settings("csv", location=str(FILE))
    download(p)
    append()
    watching.EMITTED.parent.mkdir(exist_ok=True)
    watching.EMITTED.write_text(content)
    assert [answer(p), answer(p)] == [TOLD, HELD]


def test_a_clock_that_was_ahead_does_not_keep_new_data_back():
    p = settings("csv", location=str(FILE))
    download(p)
    append()
    assert [answer(p), answer(p)] == [TOLD, HELD]
    ahead = (datetime.now(UTC) + timedelta(days=365)).isoformat()
    watching.EMITTED.write_text(json.dumps({"at": {fetching.sha256_of(FILE): ahead}}))
    assert answer(p) == TOLD


def test_the_memory_of_what_was_told_does_not_grow_without_end():
    now = datetime.now(UTC)
    memory = watching.Emitted()
    for i in range(3 * watching.LONGEST_HISTORY):
        memory = memory.with_event(str(i), now + timedelta(seconds=i))
    assert list(memory.at) == [str(i) for i in range(2 * watching.LONGEST_HISTORY, 3 * watching.LONGEST_HISTORY)]


def test_a_file_that_is_being_written_is_left_for_the_next_look():
    download(settings("csv", location=str(FILE), settle_seconds=60.0))
    FILE.write_text("review,sen")
    assert said().startswith("Completed: left for the next check: data/external/reviews.csv: written to ")
    assert not watching.EMITTED.exists()


# --- a server -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def site():
    with sources.serving(csv(40)) as server:
        yield server


def test_a_url_is_told_when_its_etag_changes(site):
    p = settings("csv", location=site.url)
    download(p)
    assert said() == "Completed: unchanged"
    site.change(csv(50))
    assert said().startswith(f"Completed: reported new data to Prefect: {site.url}: ETag ")
    download(p)
    assert said() == "Completed: unchanged"


def test_a_server_with_another_etag_at_every_look_is_told_once_in_some_hours(site):
    p = settings("csv", location=site.url)
    download(p)
    answers = []
    for look in range(6):
        site.salt = str(look)
        answers.append(answer(p))
        download(p)
    assert answers == [TOLD, *[HELD] * 5]


def test_a_server_that_is_busy_is_asked_again_and_then_the_look_fails_in_one_sentence(site):
    download(settings("csv", location=site.url, attempts=3))
    site.asked.clear()
    site.refused = {"HEAD": 503, "GET": 503}
    assert said() == f"Failed: check source: {site.url}: the server answered 503 Service Unavailable; look again later"
    assert site.asked == ["HEAD", "GET"] * 3
    site.refused = {}
    assert said() == "Completed: unchanged"


def test_what_trying_again_does_not_help_fails_at_once(site):
    download(settings("csv", location=site.url, attempts=3))
    site.asked.clear()
    site.refused = {"HEAD": 404, "GET": 404}
    assert said().startswith(f"Failed: check source: {site.url}: the server answered 404 Not Found")
    assert site.asked == ["HEAD", "GET"]


def test_a_mistake_in_params_fails_the_look_in_one_sentence():
    Path("params.yaml").write_text("sed: 7\n")
    assert said().startswith("Failed: params.yaml cannot be used")


# --- what new data does to the splits -----------------------------------------------------------------------------------


def splits_of_stages():
    """The split of each text, as the first three stages make them."""
    for folder in ("metrics", "reports", "data"):
        Path(folder).mkdir(exist_ok=True)
    download_stage.main(Path("data/reviews"), Path("metrics/data_card.json"), Path("reports/card.md"), Path(".cache/download"))
    clean_stage.main(Path("data/reviews/reviews.parquet"), Path("data/clean.parquet"), Path("metrics/cleaning.json"))
    split_stage.main(*map(Path, ("data/reviews", "data/clean.parquet", "data/splits", "data/test_set", "metrics/splits.json")))
    found = {}
    for split in ("train", "valid", "test"):
        found |= dict.fromkeys(pd.read_parquet(f"data/splits/{split}.parquet")["text"], split)
    return found


def test_with_hash_splits_new_reviews_move_no_review_from_test_or_into_it():
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


# --- what it costs ------------------------------------------------------------------------------------------------------


def test_a_look_loads_neither_a_model_nor_mlflow_nor_dvc():
    code = "import sys; from flows import watch; print(*{'tensorflow', 'keras', 'mlflow', 'dvc'} & set(sys.modules))"
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(TOP / "src"), str(TOP)])}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env)
    assert done.stdout.strip() == ""

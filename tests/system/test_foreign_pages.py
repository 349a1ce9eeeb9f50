"""Web pages of strangers in a real browser, and the servers of `sentiflow ui` and a retraining: no page reads or starts anything.

The same pages are shown a Prefect server without a password and MLflow as it is by itself, where all of this succeeds.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime

import foreign_pages
import mlflow_servers
import ports
import prefect_servers
import processes
import pytest
import requests
from clones import PROJECT
from foreign_pages import CREATE, SEARCH
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.workers.process import ProcessWorker
from probes import ALL_SOCKETS

from flows import checkout, watch
from services.server_settings import PREFECT

pytestmark = pytest.mark.slow

ALL_EVENTS = {"type": "filter", "filter": {"occurred": {"since": "2026-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}}}
kinds = pytest.mark.parametrize("kind", foreign_pages.KINDS)


class Served:
    """A Prefect server with one deployment, on a work pool with Prefect's own template."""

    def __init__(self, address, password):
        self.address = address
        self.client = SyncPrefectClient(f"{address}/api", auth_string=password)

    def __enter__(self):
        self.client.__enter__()
        template = ProcessWorker.get_default_base_job_template()
        self.client.create_work_pool(WorkPoolCreate(name="sentiflow", type="process", base_job_template=template), overwrite=True)
        flow = self.client.create_flow_from_name("retrain")
        self.deployment = self.client.create_deployment(flow, "by-hand", work_pool_name="sentiflow", entrypoint="x.py:y")
        return self

    def __exit__(self, *_):
        self.client.__exit__(None, None, None)

    def runs(self):
        return len(self.client.read_flow_runs())

    def event_count(self):
        return len(self.client.read_events(EventFilter(event=EventNameFilter(name=[watch.EVENT])), limit=50).events)

    def start(self):
        command = {"job_variables": {"command": "sh -c id"}}
        return ("POST", f"/api/deployments/{self.deployment}/create_flow_run", command)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Prefect with every setting of ours but the password."""
    server = prefect_servers.Server(tmp_path_factory.mktemp("bare"))
    port = server.api.split(":")[-1].removesuffix("/api")
    address = f"http://127.0.0.1:{port}"
    server.environment |= PREFECT | {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": address}
    del server.environment["PREFECT_SERVER_API_AUTH_STRING"], server.environment["PREFECT_API_AUTH_STRING"]
    try:
        server.start()
        with Served(address, None) as served:
            yield served
    finally:
        server.kill()


class Ui:
    """`sentiflow ui` in an empty folder."""

    def __init__(self, folder):
        self.folder, self.log = folder, folder / "said.log"
        self.port, self.prefect_port = ports.several(2)
        self.mlflow, self.prefect = (f"http://127.0.0.1:{port}" for port in (self.port, self.prefect_port))
        self.process = None

    @property
    def password(self):
        return (self.folder / ".prefect/password").read_text().strip()

    def start(self):
        (self.folder / ".venv").symlink_to(sys.prefix)
        for package in ("flows", "services", "src"):
            (self.folder / package).symlink_to(PROJECT / package)
        command = [sys.executable, "-m", "sentiflow", "ui"]
        command += ["--port", str(self.port), "--prefect-port", str(self.prefect_port)]
        own = prefect_servers.clean()
        with self.log.open("w") as said:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=own, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
        for page in (f"{self.mlflow}/health", f"{self.prefect}/api/health"):
            processes.wait_until(lambda page=page: answers(page), 300, 0.5, self.log.read_text)

    def processes(self):
        return processes.with_variable("PREFECT_HOME", str(self.folder / ".prefect"))


def answers(page):
    with contextlib.suppress(requests.RequestException):
        return requests.get(page, timeout=5).ok
    return False


@pytest.fixture(scope="module")
def ui(tmp_path_factory):
    made = Ui(tmp_path_factory.mktemp("ui"))
    try:
        made.start()
        yield made
    finally:
        os.killpg(made.process.pid, signal.SIGTERM)
        made.process.wait(60)


@pytest.fixture(scope="module")
def guarded(ui):
    with Served(ui.prefect, ui.password) as served:
        yield served


# --- Prefect ------------------------------------------------------------------------------------------------------------


def attack(page, served):
    """What a page got hold of, and what it started."""
    runs, event_count = served.runs(), served.event_count()
    listing = page.fetch("POST", "/api/deployments/filter", {})
    page.fetch(*served.start())
    page.send(*served.start())
    event = {"event": watch.EVENT, "resource": {"prefect.resource.id": checkout.event_resource()}, "id": str(uuid.uuid4())}
    page.socket("/api/events/in", event | {"occurred": datetime.now(UTC).isoformat()})
    sockets = [page.socket(path, ALL_EVENTS) for path in ALL_SOCKETS]
    time.sleep(2)  # the server writes events down a moment later
    return {
        "read": "by-hand" in listing["text"],
        "runs": served.runs() - runs,
        "events": served.event_count() - event_count,
        "heard": any(each["received"] for each in sockets),
        "open": any(each["open"] for each in sockets),
    }


@kinds
def test_prefect_without_a_password_is_at_the_mercy_of_any_page(browser, bare, kind):
    with foreign_pages.opened(browser, kind, bare.address) as page:
        got = attack(page, bare)
    rebound = kind == "rebinding"
    assert (got["read"], got["runs"] > 0) == (rebound, rebound)  # CSRF protection stops the other kind
    assert (got["events"] > 0, got["heard"], got["open"]) == (True, True, True)  # and no WebSocket of either kind


@kinds
def test_no_page_reads_or_starts_anything_at_prefect(browser, guarded, kind):
    with foreign_pages.opened(browser, kind, guarded.address) as page:
        reached = page.fetch("GET", "/api/health")["text"]
        assert reached == ("true" if kind == "rebinding" else "")  # which has no password
        assert attack(page, guarded) == {"read": False, "runs": 0, "events": 0, "heard": False, "open": False}


def test_page_of_prefect_opens_with_the_password_where_the_terminal_says_and_asks_once(browser, ui, guarded):
    said = ui.log.read_text()
    assert f"Prefect: {ui.prefect}\n" in said
    assert "asks for a password, once: paste the line in .prefect/password" in said
    context = browser.new_context()
    for visit in ("first", "second"):
        tab = context.new_page()
        tab.goto(f"{ui.prefect}/deployments")
        if visit == "first":
            tab.get_by_placeholder("admin:pass").fill(ui.password)
            tab.get_by_role("button", name="Login").click()
        tab.get_by_role("link", name="by-hand", exact=True).first.wait_for()
    context.close()


@kinds
def test_page_gets_nothing_from_a_browser_in_which_somebody_is_logged_in(browser, guarded, ui, kind):
    with foreign_pages.opened(browser, kind, guarded.address) as page:
        login = page.tab.context.new_page()
        login.goto(ui.prefect)
        login.get_by_placeholder("admin:pass").fill(ui.password)
        login.get_by_role("button", name="Login").click()
        login.get_by_role("button", name="Not now").wait_for()
        assert attack(page, guarded) == {"read": False, "runs": 0, "events": 0, "heard": False, "open": False}


# --- MLflow -------------------------------------------------------------------------------------------------------------


def names(address):
    return {each.name for each in MlflowClient(address, address).search_experiments()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """MLflow with its own checks of Host and Origin."""
    folder = tmp_path_factory.mktemp("plain")
    with mlflow_servers.serving(f"sqlite:///{folder}/mlflow.db", folder / "server") as server:
        yield server.uri


def test_mlflow_by_itself_is_at_the_mercy_of_pages_at_other_ports(browser, plain):
    with foreign_pages.opened(browser, "another port", plain) as page:
        assert "Default" in page.fetch(*SEARCH)["text"]
        page.fetch(*CREATE)
    assert "planted" in names(plain)


@kinds
def test_no_page_reads_or_starts_anything_at_mlflow(browser, ui, kind):
    with foreign_pages.opened(browser, kind, ui.mlflow) as page:
        for request in (SEARCH, ("GET", "/api/2.0/mlflow/experiments/search?max_results=9")):
            assert "Default" not in page.fetch(*request)["text"]
        for request in (CREATE, ("POST", "/graphql", {"query": "{ __typename }"})):
            assert page.fetch(*request)["status"] == (403 if kind == "rebinding" else 0)
        page.send(*CREATE)
    assert names(ui.mlflow) == {"Default"}


def test_mlflow_answers_its_own_page(browser, ui):
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(ui.mlflow)
    answer = foreign_pages.Page(tab, ui.mlflow).fetch(*SEARCH)
    assert (answer["status"], "Default" in answer["text"]) == (200, True)
    context.close()


# --- what runs ------------------------------------------------------------------------------------------------------------


def test_ui_starts_no_job_runner_and_shows_no_password_in_a_command_line(ui):
    commands = [" ".join(processes.command(each)) for each in ui.processes()]
    assert any("mlflow server" in each for each in commands)
    assert any("prefect server start" in each for each in commands)
    assert not [each for each in commands if "huey" in each or "job" in each]
    secret = ui.password.partition(":")[2]
    everything = processes.that(lambda process: secret in " ".join(process.cmdline()))
    assert everything == []
    assert secret not in ui.log.read_text()


def test_temporary_server_of_a_retraining_has_a_password(tmp_path):
    """`sentiflow retrain` where no server runs; its flow here waits, as a long retraining does."""
    code = """
import json, time
from prefect import flow, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.server.api.server import SubprocessASGIServer
from flows import retrain

@flow
def wait():
    print(json.dumps(SubprocessASGIServer().address), flush=True)
    input()

with temporary_settings(retrain._server_settings()):
    wait()
"""
    own = prefect_servers.clean() | {"PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    own["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "180"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        address = json.loads(running.stdout.readline())
        for path in ("/api/admin/version", "/api/csrf-token?client=x"):
            assert requests.get(address + path, timeout=30).status_code == 401
        running.stdin.write("\n")
        running.stdin.close()
        assert running.wait(60) == 0

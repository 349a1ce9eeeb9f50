"""`sentiflow schedule` and `sentiflow ui` with real servers, workers and runs of two small flows, stopped in every way."""

import contextlib
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime

import ports
import prefect_servers
import processes
import pytest
import requests
import urllib3
import yaml
from clones import PROJECT
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.workers.process import ProcessWorker
from requests import adapters
from supervised import Supervised

from flows import access, checkout, retrain
from sentiflow.registry import location
from sentiflow.system import locks
from sentiflow.system.errors import InputError

# Prefect answers 503 where SQLite is busy, and its own clients ask again.
BUSY = urllib3.Retry(total=8, status_forcelist=[503], backoff_factor=0.5, allowed_methods=None)
FLOWS = {
    "retrain.py": """
import os, time
from prefect import flow, task

@task
def stage(seconds: float) -> None:
    print("the stage runs")
    time.sleep(seconds)

@flow(log_prints=True)
def retrain(force: bool = False, seconds: float = 0) -> None:
    print(f"planted: {os.environ.get('PLANTED')}")
    print(f"folder: {os.getcwd()}")
    stage(seconds)
""",
    "watch.py": """
from prefect import flow

@flow
def watch() -> None:
    pass
""",
}


class Project(Supervised):
    """A folder with the project's deployments and services, and with flows that only sleep."""

    def __init__(self, folder):
        super().__init__(folder, folder / "said.log")
        self.port, self.other_port = ports.several(2)
        self.url = f"http://127.0.0.1:{self.port}/api"
        (folder / "flows").mkdir(parents=True)
        for package in ("services", "src"):
            (folder / package).symlink_to(PROJECT / package)
        (folder / ".venv").symlink_to(sys.prefix)
        (folder / "prefect.yaml").write_text(yaml.safe_dump(with_limit()), encoding="utf-8")
        for name in ("local_servers.py", "deploying.py", "access.py", "checkout.py", "lost_runs.py"):
            (folder / "flows" / name).symlink_to(PROJECT / "flows" / name)
        for name, code in FLOWS.items():
            (folder / "flows" / name).write_text(code, encoding="utf-8")

    def command(self, *words):
        given = ["--prefect-port", str(self.port)] if self.port else []
        return super().command(*words, *given)

    def for_ui(self, what):
        """Option that gives MLflow's UI, if it is started, a port of this test."""
        return ["--port", str(self.other_port)] if what == "ui" else []

    def environment(self, **more):
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MAKE"))}
        return own | more

    def schedule(self, **environment):
        self.launch("schedule", until="Worker ", **environment)
        self.wait(lambda: re.search("Worker '.*' started", self.said()))

    def processes(self):
        """All running processes that any command in this folder started."""
        return processes.with_variable("PREFECT_HOME", str(self.folder / ".prefect"))

    @property
    def password(self):
        return (self.folder / ".prefect/password").read_text().strip()

    def api(self, method, path, content=None, **named):
        with requests.Session() as session:
            session.auth = tuple(self.password.split(":"))
            session.mount(self.url, adapters.HTTPAdapter(max_retries=BUSY))
            client = str(uuid.uuid4())
            token = session.get(f"{self.url}/csrf-token", params={"client": client}, timeout=30).json()["token"]
            headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}
            answer = session.request(method, self.url + path, json=content or named, headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def deployments(self):
        return {each["name"]: each for each in self.api("POST", "/deployments/filter")}

    def run(self, seconds, until="Running"):
        """Starts a run of `by-hand`; returns its id once its stage runs or it has ended."""
        deployment = self.deployments()["by-hand"]["id"]
        made = self.api("POST", f"/deployments/{deployment}/create_flow_run", parameters={"seconds": seconds})["id"]
        self.wait(lambda: self.api("GET", f"/flow_runs/{made}")["state_name"] == until)
        if until == "Running":
            self.wait(lambda: self.api("POST", "/logs/filter", logs={"flow_run_id": {"any_": [made]}})[-1]["message"])
        return made

    def copied(self):
        copy = object.__new__(Project)
        copy.folder, copy.started = self.folder.with_name("copy"), None
        copy.log = copy.folder / "said.log"
        shutil.copytree(self.folder, copy.folder, symlinks=True)
        return copy

    def pool(self):
        with contextlib.chdir(self.folder):
            return checkout.pool()

    def found_by_retrain(self, monkeypatch, address=""):
        """Settings of the Prefect server that `sentiflow retrain` uses."""
        monkeypatch.chdir(self.folder)
        monkeypatch.setenv("PREFECT_API_URL", address)
        return retrain._server_settings()

    def slots(self):
        return sum(limit["active_slots"] for limit in self.api("POST", "/v2/concurrency_limits/filter"))


def with_limit():
    """The project's deployments, with a concurrency limit on `by-hand`, so that its runs hold a slot."""
    said = yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))
    [by_hand] = [each for each in said["deployments"] if each["name"] == "by-hand"]
    by_hand["concurrency_limit"] = {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    return said


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path / "toy")
    yield made
    made.kill_everything()


@pytest.fixture
def listener(project):
    """Another program on Prefect's port."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", project.port))
        other.listen()
        yield other


# --- refused starts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["schedule", "ui"])
def test_port_in_use_is_an_error_that_names_another_one(project, listener, what):
    listener.settimeout(0.1)
    said = project.refused(what, *project.for_ui(what))
    assert f"Prefect's server cannot use port {project.port}" in said
    assert f"--prefect-port={project.port + 1}" in said


@pytest.fixture
def open_server(project, tmp_path):
    """A Prefect server without a password on the project's port."""
    server = prefect_servers.Server(tmp_path / "open")
    project.url = server.api
    project.port = int(server.api.rpartition(":")[2].removesuffix("/api"))
    del server.environment["PREFECT_SERVER_API_AUTH_STRING"]
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_server_without_a_password_is_refused_with_advice(project, open_server, monkeypatch):
    for what in ("schedule", "ui"):
        said = project.refused(what, *project.for_ui(what), PREFECT_API_URL=project.url)
        assert f"the Prefect server at {project.url} requires no password" in said
        assert "PREFECT_SERVER_API_AUTH_STRING=user:password" in said
        assert f"another Prefect server answers at {project.url}" in project.refused(what, *project.for_ui(what))
    with temporary_settings({PREFECT_API_URL: project.url}), pytest.raises(InputError, match="requires no password"):
        project.found_by_retrain(monkeypatch, project.url)
    assert PREFECT_API_URL not in project.found_by_retrain(monkeypatch)


def test_unreachable_server_of_prefect_api_url_is_an_error_and_none_is_started(project):
    said = project.refused("schedule", PREFECT_API_URL=f"http://127.0.0.1:{project.other_port}/api")
    assert f"no Prefect server answers at http://127.0.0.1:{project.other_port}/api" in said
    assert not (project.folder / ".prefect" / "prefect.db").exists()


# --- running -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_schedule_prints_the_ui_and_next_runs_and_a_signal_stops_everything(project):
    project.schedule()
    said = project.said()
    assert f"Prefect's UI: http://127.0.0.1:{project.port}" in said
    for name in ("nightly", "weekly", "watch"):
        assert re.search(rf"\| {name}: next \d{{4}}-\d\d-\d\d \d\d:\d\d UTC", said), said
    assert "| by-hand: nothing scheduled" in said
    assert "the deployments are served already" in project.refused("schedule")

    run = project.run(600)
    assert project.end(signal.SIGINT) < 30
    project.schedule()  # the run could report its end, since the server ended last
    state = project.api("GET", f"/flow_runs/{run}")["state"]
    assert (state["name"], "termination signal" in state["message"]) == ("Crashed", True)
    assert "process is gone" not in project.said()
    assert project.slots() == 0
    project.end(signal.SIGTERM)


@pytest.mark.slow
def test_restart_duplicates_nothing_and_keeps_switched_off_what_was_switched_off(project):
    project.schedule()
    before = project.deployments()
    nightly, weekly = before["nightly"], before["weekly"]
    project.api("PATCH", f"/deployments/{nightly['id']}/schedules/{nightly['schedules'][0]['id']}", active=False)
    project.api("PATCH", f"/deployments/{weekly['id']}", paused=True)
    [automation] = project.api("POST", "/automations/filter")
    project.api("PATCH", f"/automations/{automation['id']}", enabled=False)
    run = project.run(0, until="Completed")
    project.end()

    project.schedule()
    after = project.deployments()
    assert {name: each["id"] for name, each in after.items()} == {name: each["id"] for name, each in before.items()}
    assert [each["active"] for each in after["nightly"]["schedules"]] == [False]
    assert after["weekly"]["paused"]
    assert [each["active"] for each in after["watch"]["schedules"]] == [True]
    [again] = project.api("POST", "/automations/filter")
    assert (again["name"], again["enabled"]) == (automation["name"], False)
    assert [each["status"] for each in project.api("POST", f"/work_pools/{project.pool()}/workers/filter")] == ["ONLINE"]
    assert project.api("GET", f"/flow_runs/{run}")["state_name"] == "Completed"


@pytest.mark.slow
def test_run_without_a_process_is_marked_crashed_at_the_next_start_and_frees_its_slot(project):
    project.schedule()
    run = project.run(600)
    assert project.slots() == 1
    project.kill_everything()
    began = time.monotonic()
    project.schedule()
    assert "was Running although its process is gone" in project.said()
    state = project.api("GET", f"/flow_runs/{run}")["state"]
    assert (state["name"], "process is gone" in state["message"]) == ("Crashed", True)
    assert project.slots() == 0
    project.run(0, until="Completed")
    print(f"the next run had ended {time.monotonic() - began:.0f} s after the start")


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["supervisor", "worker", "server"])
def test_kill_of_one_process_stops_all_others(project, victim):
    project.schedule()
    run = project.run(600)
    killed = {
        "supervisor": project.supervisor,
        "worker": lambda: process_of(project, "prefect", "worker"),
        "server": lambda: process_of(project, "prefect", "server"),
    }[victim]()
    killed.kill()
    project.wait_until_all_ended()
    project.schedule()
    assert project.api("GET", f"/flow_runs/{run}")["state_name"] == "Crashed"
    assert project.slots() == 0


def process_of(project, *words):
    [found] = [each for each in project.processes() if processes.command(each)[2:4] == list(words)]
    return found


@pytest.mark.slow
def test_ui_serves_both_pages_with_secure_settings_and_reuses_a_running_server(project):
    project.launch("ui", "--port", str(project.other_port), until=f"Uvicorn running on http://127.0.0.1:{project.other_port}")
    assert f"Prefect: http://127.0.0.1:{project.port}\n" in project.said()
    project.wait(lambda: access.answers(project.url))
    ours, foreign = f"http://localhost:{project.port}", "http://evil.example"
    for origin, allowed in ((ours, ours), (foreign, None)):
        answer = requests.get(f"{project.url}/health", headers={"Origin": origin}, timeout=30)
        assert answer.headers.get("Access-Control-Allow-Origin") == allowed
    owner = tuple(project.password.split(":"))
    assert requests.post(f"{project.url}/deployments/filter", json={}, auth=owner, timeout=30).status_code == 403  # no token
    assert requests.get(f"{project.url}/csrf-token?client=x", timeout=30).status_code == 401  # and none without a password
    settings = requests.get(f"http://127.0.0.1:{project.port}/ui-settings", timeout=30).json()
    assert settings["api_url"] == project.url
    assert {address.ip for address in processes.listening(project.processes())} == {"127.0.0.1"}

    second = Project(project.folder.parent / "second")
    try:
        second.schedule(PREFECT_API_URL=project.url, PREFECT_API_AUTH_STRING=project.password)
        assert f"Prefect's server answers at {project.url} already" in second.said()
        assert not [each for each in second.processes() if "server" in processes.command(each)]
        second.end()

        environment = {"MLFLOW_TRACKING_URI": "https://anna:secret@mlflow.example", "PREFECT_API_URL": project.url}
        ended = second.call("ui", "--port", str(project.other_port), **environment)  # the port is in use, but not needed
        assert ended.returncode == 0, ended.stderr
        assert "MLflow:  https://mlflow.example\nPrefect: " in ended.stdout
    finally:
        second.kill_everything()
    assert project.end() < 30


@pytest.mark.slow
def test_ui_serves_the_configured_store_and_its_url_is_in_no_command_line(project):
    uri = f"sqlite:///{project.folder}/elsewhere.db"
    ready = f"Uvicorn running on http://127.0.0.1:{project.other_port}"
    project.launch("ui", "--port", str(project.other_port), until=ready, MLFLOW_TRACKING_URI=uri)
    assert (project.folder / "elsewhere.db").exists()
    assert not (project.folder / "mlflow.db").exists()
    assert not [each for each in project.processes() if "elsewhere.db" in " ".join(processes.command(each))]
    assert project.end() < 30


@pytest.mark.slow
def test_schedule_shares_a_generated_password_with_its_worker_and_prints_where_it_is(project, monkeypatch):
    project.schedule(PREFECT_API_KEY="pnu_of_another_server")
    file = project.folder / ".prefect/password"
    assert "The page asks for a password, once: paste the line in .prefect/password" in project.said()
    [exported] = re.findall(r"In another terminal: export (.+)", project.said())
    assert exported == f'PREFECT_API_URL="{project.url}" PREFECT_API_AUTH_STRING="$(cat {file})"'
    listed = f"export {exported}; .venv/bin/prefect deployment ls"
    listed_jobs = subprocess.run(
        ["bash", "-c", listed], cwd=project.folder, env=project.environment(), capture_output=True, text=True
    )
    assert "retrain/by-hand" in listed_jobs.stdout, listed_jobs.stdout + listed_jobs.stderr

    secret = project.password.partition(":")[2]
    assert processes.that(lambda process: secret in " ".join(process.cmdline())) == []
    assert secret not in project.said()

    for address in ("", project.url):
        found = project.found_by_retrain(monkeypatch, address)
        assert (found[PREFECT_API_URL], found[PREFECT_API_AUTH_STRING]) == (project.url, project.password)
    project.run(0, until="Completed")


@pytest.mark.slow
def test_run_cannot_set_its_command_environment_or_folder(project):
    project.schedule()
    marker = project.folder / "marker"
    harmful = {"command": f"touch {marker}", "env": {"PLANTED": "yes"}, "env.PLANTED": "yes", "working_dir": str(project.folder)}
    project.api("PATCH", f"/work_pools/{project.pool()}", base_job_template=ProcessWorker.get_default_base_job_template())
    start = f"/deployments/{project.deployments()['by-hand']['id']}/create_flow_run"
    project.api("POST", start, job_variables={"command": harmful["command"]})
    project.wait(marker.exists)  # with Prefect's default template it works
    marker.unlink()
    project.end()

    project.schedule()  # restores our template
    for name, value in harmful.items():
        with pytest.raises(requests.HTTPError, match="422"):
            project.api("POST", start, job_variables={name: value})
    # an endpoint that does not validate
    found = project.deployments()["by-hand"]
    made = project.api(
        "POST",
        "/flow_runs/",
        flow_id=found["flow_id"],
        deployment_id=found["id"],
        work_pool_name=project.pool(),
        job_variables=harmful,
        state={"type": "SCHEDULED"},
    )["id"]
    project.wait(lambda: project.api("GET", f"/flow_runs/{made}")["state_name"] == "Completed")
    assert not marker.exists()
    assert project.wait(lambda: logged(project, made, "planted: ")) == ["planted: None"]


def logged(project, run, beginning):
    """Log lines of a run; they arrive with a delay."""
    found = project.api("POST", "/logs/filter", logs={"flow_run_id": {"any_": [run]}})
    return [each["message"] for each in found if each["message"].startswith(beginning)]


@pytest.mark.slow
def test_password_of_the_user_is_required_and_used_by_the_worker(project):
    project.schedule(PREFECT_SERVER_API_AUTH_STRING="admin:a password of the user's")
    version = f"{project.url}/admin/version"
    assert requests.get(version, timeout=30).status_code == 401
    assert requests.get(version, auth=("admin", "a password of the user's"), timeout=30).ok
    assert requests.get(f"{project.url}/health", timeout=30).ok


# --- two checkouts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def second(project):
    """Another checkout on the same machine."""
    made = Project(project.folder.parent / "second")
    yield made
    made.kill_everything()


def set_name(checked_out, name):
    file = checked_out.folder / "prefect.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"name": name}), encoding="utf-8")


def pools(project):
    """Work pool of each deployment on the project's server."""
    return {name: each["work_pool_name"] for name, each in project.deployments().items()}


def folder_of_a_run(project, name):
    """Working directory of a run of the deployment."""
    made = project.api("POST", f"/deployments/{project.deployments()[name]['id']}/create_flow_run")["id"]
    [said] = project.wait(lambda: logged(project, made, "folder: "))
    return said.removeprefix("folder: ")


def run_by_an_event(project, resource):
    """Names of the deployments whose runs an event starts."""
    before = {each["id"] for each in project.api("POST", "/flow_runs/filter")}
    event = {
        "occurred": datetime.now(UTC).isoformat(),
        "event": "sentiflow.new-data",
        "resource": {"prefect.resource.id": resource},
        "id": str(uuid.uuid4()),
    }
    project.api("POST", "/events", content=[event])

    def started():
        names = {each["id"]: name for name, each in project.deployments().items()}
        new = [each for each in project.api("POST", "/flow_runs/filter") if each["id"] not in before]
        return [
            names[each["deployment_id"]]
            for each in new
            if not each["auto_scheduled"] or each["created_by"]["type"] == "AUTOMATION"
        ]

    project.wait(started)
    time.sleep(3)  # for a second one, which must not start
    return started()


@pytest.mark.slow
def test_second_checkout_on_a_server_takes_nothing_from_the_first_unless_that_is_asked_for(project, second):
    project.schedule()
    server = {"PREFECT_API_URL": project.url, "PREFECT_API_AUTH_STRING": project.password}
    before = pools(project)
    assert set(before.values()) == {project.pool()}
    said = second.refused("schedule", **server)
    assert f"served by another checkout: {project.folder} on {platform.node()}" in said
    assert "sentiflow schedule --take-over" in said
    assert pools(project) == before

    set_name(second, "other")
    second.schedule(**server)
    assert re.search(r"\| nightly-other: next ", second.said())
    assert pools(project) == before | {f"{name}-other": second.pool() for name in before}
    assert folder_of_a_run(project, "by-hand") == str(project.folder)
    assert folder_of_a_run(project, "by-hand-other") == str(second.folder)
    assert run_by_an_event(project, "sentiflow.source") == ["on-new-data"]
    assert run_by_an_event(project, "other.source") == ["on-new-data-other"]
    second.end()

    set_name(second, "sentiflow")
    second.launch("schedule", "--take-over", until="Worker '", **server)
    assert f"moved the deployments at {project.url}/ from {project.folder} on " in second.said()
    assert pools(project) == dict.fromkeys(before, second.pool())  # and none has the former name
    assert len(project.api("POST", "/automations/filter")) == 1
    assert folder_of_a_run(project, "by-hand") == str(second.folder)
    second.end()
    project.end()
    assert f"served by another checkout: {second.folder} on " in project.refused("schedule")


def port_in_use(checked_out, what):
    """Port that a service uses because the first was in use."""
    [port] = re.findall(rf"port \d+ is in use, so {what} uses port (\d+)", checked_out.said())
    return int(port)


@pytest.mark.slow
def test_copy_has_a_server_of_its_own_next_to_that_of_the_first_and_never_uses_the_other(project, monkeypatch):
    project.schedule()
    project.end()
    copy = project.copied()
    assert copy.password == project.password
    project.port = copy.port = None  # from here on without explicit ports
    project.schedule()
    assert copy.found_by_retrain(monkeypatch).get(PREFECT_API_URL) is None
    try:
        copy.schedule()
        port = port_in_use(copy, "Prefect's server")
        copy.url = f"http://127.0.0.1:{port}/api"
        assert f"moved the deployments at {copy.url}/ from {project.folder} on " in copy.said()
        assert set(pools(copy).values()) == {copy.pool()}
        assert set(pools(project).values()) == {project.pool()}
        assert folder_of_a_run(project, "by-hand") == str(project.folder)
        assert folder_of_a_run(copy, "by-hand") == str(copy.folder)
        assert copy.found_by_retrain(monkeypatch)[PREFECT_API_URL] == copy.url
        assert project.found_by_retrain(monkeypatch)[PREFECT_API_URL] == project.url
        copy.end()
        assert PREFECT_API_URL not in copy.found_by_retrain(monkeypatch)
        # a new server that has not recorded its address yet, while the other one answers at the recorded address
        (copy.folder / access.ADDRESS).write_text(f"1 {project.url}\n")
        monkeypatch.setattr(access, "STARTING", 1.0)
        monkeypatch.chdir(copy.folder)
        with locks.locked(access.LOCK), pytest.raises(InputError, match="does not answer"):
            access.own_server()
    finally:
        copy.kill_everything()


@pytest.mark.slow
def test_ui_uses_the_next_ports_if_the_defaults_are_in_use_and_schedule_reuses_its_server(project, monkeypatch):
    project.port = None
    with contextlib.ExitStack() as stack:
        for port in (4200, 5000):
            other = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):  # in use already
                other.bind(("127.0.0.1", port))
                other.listen()
        project.launch("ui", until="Uvicorn running on http://127.0.0.1:")
        prefect, mlflow = port_in_use(project, "Prefect's server"), port_in_use(project, "MLflow's UI")
    assert prefect > 4200
    assert f"Uvicorn running on http://127.0.0.1:{mlflow}" in project.said()
    monkeypatch.chdir(project.folder)
    assert location.ui_address() == f"http://127.0.0.1:{mlflow}"
    project.url = f"http://127.0.0.1:{prefect}/api"
    project.wait(lambda: access.answers(project.url))
    assert project.found_by_retrain(monkeypatch)[PREFECT_API_URL] == project.url
    assert f"served already: http://127.0.0.1:{mlflow}" in project.refused("ui")
    project.port = prefect + 1
    assert f"runs at {project.url}; end it, or leave out --prefect-port" in project.refused("schedule")

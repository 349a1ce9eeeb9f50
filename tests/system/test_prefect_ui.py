"""What docs/schedule.md promises, clicked through in a browser: `sentiflow schedule` in a clone, and a retraining of a sample."""

import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import clones
import ports
import processes
import pytest
import requests
import urllib3
import yaml
from clones import PROJECT
from PIL import Image, ImageStat
from requests import adapters

pytestmark = pytest.mark.slow

DOCS = PROJECT / "docs"
TEXT = (DOCS / "schedule.md").read_text(encoding="utf-8")
DEPLOYMENTS = yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
SETTINGS = {"download.sample": 400, "run": {"logistic": "logistic", "nb_svm": "nb_svm"}}
PATIENCE = 1200.0  # seconds for a retraining of the sample, on a busy machine


class Served:
    """A clone with `sentiflow schedule` running."""

    def __init__(self, folder, port):
        self.folder, self.port = folder, port
        self.address = f"http://127.0.0.1:{port}"
        self.password = (folder / ".prefect/password").read_text().strip()
        self.session = requests.Session()
        self.session.auth = tuple(self.password.split(":"))
        # Prefect answers 503 where SQLite is busy
        retry = urllib3.Retry(total=8, status_forcelist=[503], backoff_factor=0.5, allowed_methods=None)
        self.session.mount(self.address, adapters.HTTPAdapter(max_retries=retry))

    def ask(self, path, **content):
        client = str(uuid.uuid4())
        token = self.session.get(f"{self.address}/api/csrf-token", params={"client": client}, timeout=60).json()["token"]
        headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}
        answer = self.session.post(f"{self.address}/api{path}", json=content, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def run_of(self, name):
        [found] = self.ask("/flow_runs/filter", flow_runs={"name": {"any_": [name]}})
        return found


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = clones.fresh(tmp_path_factory.mktemp("clone"), SETTINGS)
    port = ports.free()
    command = [sys.executable, "-m", "sentiflow", "schedule", "--prefect-port", str(port)]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_", "MAKE"))}
    paths = os.pathsep.join(filter(None, [str(folder / "src"), os.environ.get("PYTHONPATH")]))
    log = folder / "said.log"
    with log.open("w") as said:
        services = subprocess.Popen(
            command, cwd=folder, env=own | {"PYTHONPATH": paths}, stdout=said, stderr=said, start_new_session=True
        )
    try:
        wait(lambda: re.search("Worker '.*' started", log.read_text()), lambda: log.read_text())
        yield Served(folder, port)
    finally:
        os.killpg(services.pid, signal.SIGTERM)
        services.wait(120)


def wait(found, said):
    return processes.wait_until(found, PATIENCE, 1, said)


@pytest.fixture(scope="module")
def visited(browser, served):
    """A browser, and every address outside this machine that Prefect's UI asked for."""
    session = browser.new_context(viewport={"width": 1280, "height": 900})
    session.set_default_timeout(60_000)
    outside = []
    ours = (served.address, "data:", "blob:")
    session.on("request", lambda asked: None if asked.url.startswith(ours) else outside.append(asked.url))
    tab = session.new_page()
    tab.goto(served.address)
    tab.get_by_placeholder("admin:pass").fill(served.password)
    tab.get_by_role("button", name="Login").click()
    tab.get_by_role("button", name="Not now").click()  # to the newer pages
    tab.close()
    yield session, outside
    session.close()


@pytest.fixture
def home(visited, served):
    tab = visited[0].new_page()
    tab.goto(served.address)
    menu(tab, "Deployments").wait_for()
    yield tab
    tab.close()


@pytest.fixture(scope="module")
def retraining(visited, served):
    """The name of a retraining that was started with the form of `by-hand`, and ended."""
    tab = visited[0].new_page()
    tab.goto(served.address)
    form(tab)
    name = tab.get_by_role("textbox").first.input_value()
    tab.get_by_role("button", name="Submit", exact=True).click()
    tab.wait_for_url("**?tab=Runs")
    ended = wait(
        lambda: (run := served.run_of(name))["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") and run,
        lambda: f"{served.run_of(name)} {(served.folder / 'said.log').read_text()}",
    )
    assert ended["state_type"] == "COMPLETED", ended["state"]
    tab.close()
    return ended


def menu(tab, name):
    return tab.get_by_role("button", name=name, exact=True).first  # Prefect's links have that role there


def form(tab):
    menu(tab, "Deployments").click()
    tab.get_by_role("link", name="by-hand", exact=True).click()
    tab.get_by_role("button", name="Run", exact=True).click()
    tab.get_by_text("Custom run", exact=True).click()
    sees(tab, "Parameters", "models", "force", "promote")


def page_of(tab, run):
    menu(tab, "Runs").click()
    tab.get_by_role("link", name=run["name"], exact=True).first.click()
    sees(tab, "Task Runs")


def part(tab, name):
    tab.locator("li.p-tab", has_text=re.compile(f"^{name}$")).click()  # Prefect gives its tabs no role


def card(tab, name):
    return tab.locator(".artifact-card__title", has_text=re.compile(f"^{name}$")).first


def sees(tab, *texts):
    for text in texts:
        tab.get_by_text(text).first.wait_for()


def picture(tab, name, tmp_path):
    """The tab as a PNG of few colours, in docs/images too where SENTIFLOW_DOCS is 1."""
    tab.mouse.move(640, 2)
    tab.wait_for_timeout(3000)  # the time line finds its place
    tab.screenshot(path=tmp_path / "full.png")
    file = tmp_path / name
    Image.open(tmp_path / "full.png").convert("RGB").quantize(160, dither=Image.Dither.NONE).save(file, optimize=True)
    shown = Image.open(file).convert("L")
    assert shown.size == (1280, 900)
    assert ImageStat.Stat(shown).stddev[0] > 10  # a blank page has 0
    assert file.stat().st_size < 250_000
    if os.environ.get("SENTIFLOW_DOCS") == "1":
        (DOCS / "images").mkdir(exist_ok=True)
        shutil.copyfile(file, DOCS / "images" / name)


def test_form_of_a_run_offers_the_parameters_of_a_retraining(home, tmp_path):
    form(home)
    picture(home, "prefect-run-form.png", tmp_path)
    parameters = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    assert parameters == set(re.findall(r"(\w+) \(Optional\)", home.inner_text("body")))


def test_retraining_shows_its_stages_on_a_time_line_and_says_what_came_of_it(home, retraining, tmp_path):
    page_of(home, retraining)
    picture(home, "prefect-retraining.png", tmp_path)
    part(home, "Task Runs")
    for stage in ("train@logistic", "evaluate@nb_svm", "judge"):
        sees(home, stage)
    part(home, "Logs")
    sees(home, "Retraining, because: ")
    part(home, "Details")
    sees(home, "State Message", re.compile(r"^Version \d+ \(\w+\) "))


def test_artifacts_of_a_retraining_are_the_stages_the_comparison_the_verdict_and_the_runs_in_mlflow(home, retraining, tmp_path):
    page_of(home, retraining)
    part(home, "Artifacts")
    home.get_by_text("Task runs", exact=True).last.evaluate("each => each.scrollIntoView(true)")
    for artifact in ("stages", "comparison", "verdict", "mlflow"):
        card(home, artifact).wait_for()
    picture(home, "prefect-artifacts.png", tmp_path)
    card(home, "stages").click()
    sees(home, "What DVC did with each stage.", "train@logistic")


def test_deployments_are_those_of_the_docs_with_their_schedules_and_a_switch(home, served, retraining, tmp_path):
    menu(home, "Deployments").click()
    for deployment in DEPLOYMENTS:
        home.get_by_role("link", name=deployment["name"], exact=True).first.wait_for()
        assert re.search(rf"^\| {deployment['name']} \| {deployment['entrypoint'].rpartition(':')[2]} \|", TEXT, re.MULTILINE)
    picture(home, "prefect-deployments.png", tmp_path)
    home.get_by_role("link", name="nightly", exact=True).click()
    sees(home, "every-night", "Next Run")
    for active in (False, True):
        home.get_by_role("switch", checked=not active).first.click()
        home.get_by_role("switch", checked=active).first.wait_for()
        wait(lambda active=active: is_active(served) == active, lambda: "the switch changed nothing")


def is_active(served):
    [found] = served.ask("/deployments/filter", deployments={"name": {"any_": ["nightly"]}})
    return found["schedules"][0]["active"]


def test_run_that_is_cancelled_in_the_ui_ends_with_its_stages(home, served, retraining):
    [deployment] = served.ask("/deployments/filter", deployments={"name": {"any_": ["by-hand"]}})
    run = served.ask(f"/deployments/{deployment['id']}/create_flow_run", parameters={"force": True})
    wait(lambda: served.ask("/task_runs/count", flow_runs={"id": {"any_": [run["id"]]}}) > 3, lambda: "no stage is running")
    page_of(home, run)
    home.get_by_role("button", name="Cancel", exact=True).click()
    home.get_by_role("dialog").get_by_role("button", name="Confirm", exact=True).click()
    ended = wait(
        lambda: (now := served.run_of(run["name"]))["state_type"] not in ("RUNNING", "CANCELLING") and now, lambda: "goes on"
    )
    assert ended["state_type"] == "CANCELLED"


def test_prefect_asked_for_nothing_outside_this_machine(visited, retraining):
    _, outside = visited
    assert outside == []


def test_everything_that_the_docs_say_to_click_is_clicked_here():
    clicked = Path(__file__).read_text(encoding="utf-8")
    labels = set(re.findall(r"\*([^*\n]+)\*", TEXT.replace("**", "")))
    assert len(labels) > 5
    assert not [label for label in labels if f'"{label}"' not in clicked]


def test_every_picture_of_the_docs_is_there_and_shown():
    shown = set(re.findall(r"\]\(images/([\w-]+\.png)\)", TEXT))
    assert shown == {file.name for file in (DOCS / "images").glob("prefect-*.png")}
    assert len(shown) == 4

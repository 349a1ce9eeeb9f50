"""The promises of docs/mlflow.md in a real browser: MLflow's server on a store with one retraining."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import ports
import pytest
import requests
from clones import PROJECT
from PIL import Image, ImageStat
from publications import CLASSES, held_out, publication
from samples import configuration, reviews

from sentiflow.config import params
from sentiflow.data import cleaning, vocabulary
from sentiflow.data.stopwords import Stopwords
from sentiflow.evaluation import evaluation
from sentiflow.models import networks
from sentiflow.models.training_record import Record
from sentiflow.registry import champion_history, judging, location, model_versions, provenance, publishing, store, verdict_report
from sentiflow.system import environment

pytestmark = pytest.mark.slow

DOCS = PROJECT / "docs"
TEXT = (DOCS / "mlflow.md").read_text(encoding="utf-8")
CHARTS = r"^(test/(accuracy_score|f1_score|log_loss)|(train|valid)/log_loss|usage/epoch_seconds)$"  # from the docs

COMMIT = "3f9a1c27d0b84e65f2a7c918e04db36a5871f2c9"
REVIEWS = {"train": 4000, "valid": 500, "test": 500}
# Mean confidence of the answers, which are right as often as they are confident, and the number of weights.
MODELS = {"logistic": (0.89, 400_210), "lstm_small": (0.86, 328_353), "nb_svm": (0.93, 861_042)}
EVALUATE = params.Evaluate(resamples=200, confidence=0.95, bins=5)
EPOCHS = {
    "logistic": [(0.0822, 0.2386, 0.9016)],
    "nb_svm": [(0.0087, 0.2312, 0.9116)],
    "lstm_small": [
        (0.5121, 0.3842, 0.8312),
        (0.3105, 0.3578, 0.8460),
        (0.2214, 0.3478, 0.8588),
        (0.1627, 0.3861, 0.8536),
        (0.1180, 0.4310, 0.8492),
    ],
}
# What the browser keeps of a table, such as which rows are open; so that no test depends on another.
FORGET = "Object.keys(localStorage).filter(k => k.startsWith('MLflowLocalStorage')).forEach(k => localStorage.removeItem(k))"

# Scrolls the scores of the page Compare until their names are next to them: MLflow moves those to where the scores were before.
SCROLL = """async place => {
  const [names, values] = document.querySelectorAll(".ReactVirtualized__Grid");
  for (let turn = 0; turn < 100; turn += 1) {
    values.scrollTop = place + turn % 2;
    await new Promise(done => setTimeout(done, 100));
    if (turn && Math.abs(names.scrollTop - place) <= 1) return;
  }
  throw new Error(`the names are at ${names.scrollTop}, not at ${place}`);
}"""


def drawn(count, confidence, *, seed):
    """Probabilities of two classes in turn; of one seed, a model that is surer is right wherever a less sure one is."""
    draw = np.random.default_rng(seed)
    confident = 0.5 + 0.5 * draw.beta(8 * (2 * confidence - 1), 16 * (1 - confidence), count)
    right = draw.random(count) < confident
    of_true = np.where(right, confident, 1 - confident)
    labels = np.arange(count) % 2
    return labels, np.where(labels[:, None] == np.arange(2), of_true[:, None], 1 - of_true[:, None])


def trained(folder):
    """A tiny model and its tokens."""
    texts, labels = reviews(80)
    tokens_dir, model_dir = folder / "tokens", folder / "nb_svm"
    tokens_dir.mkdir()
    model_dir.mkdir()
    views = cleaning.clean(texts, stopwords=Stopwords("english", keep_negations=True))
    (tokens_dir / "text.json").write_text(vocabulary.fit(views["text"], minimum_count=1))
    (tokens_dir / "classes.json").write_text(json.dumps(CLASSES))
    words = vocabulary.Vocabulary.read(tokens_dir / "text.json")
    for split in ("train", "valid"):
        vocabulary.write_tokens(
            tokens_dir / f"{split}.parquet", pd.Series(texts.index), labels, {"text": words.ids(views["text"])}
        )
    data = vocabulary.read_training_data(tokens_dir, "text")
    shipped = params.load(PROJECT / "params.yaml")
    model, _ = networks.module("nb_svm").fit(configuration("nb_svm"), data, options=shipped.train)
    model.save(model_dir)
    (model_dir / "environment.json").write_text(json.dumps(environment.describe(gpus=[], threads=1)))
    return model_dir, tokens_dir


def made(name, folder, of):
    """The publication of one model, with scores computed from its predictions."""
    confidence, weights = MODELS[name]
    answers = {split: drawn(count, confidence, seed=seed) for seed, (split, count) in enumerate(REVIEWS.items(), start=1)}
    texts = reviews(REVIEWS["test"], seed=2)[0]
    epochs = EPOCHS[name]
    started = time.time() - 60 * len(epochs)
    system = [
        {
            "time": started + 5 * step,
            "system/cpu_utilization_percentage": 62.0 + 9 * np.sin(step),
            "system/system_memory_usage_megabytes": 2900.0 + 14 * step,
        }
        for step in range(12 * len(epochs))
    ]
    return publication(
        (*of, texts, answers["test"][1]),
        folder,
        architecture=name,
        key=name.encode().hex().ljust(64, "0"),
        params=provenance.flat_params(params.load(PROJECT / "params.yaml"), name),
        provenance={"reviews": "1" * 32, "tokens": "2" * 32, "model": "3" * 32, "commit": COMMIT, "dirty": "false"},
        history=pd.DataFrame(epochs, columns=["train_log_loss", "valid_log_loss", "valid_accuracy_score"]).assign(
            epoch=range(1, len(epochs) + 1), train_accuracy_score=0.9, train_f1_score=0.9, valid_f1_score=0.85
        ),
        record=Record([55.0 + len(name)] * len(epochs), system),
        scores={split: evaluation.evaluate(*each, EVALUATE, temperature=1.0, seed=1) for split, each in answers.items()},
        weights=weights,
        reviews=REVIEWS,
    )


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A folder with the store of one retraining of three models, of which one is promoted and one refused."""
    folder = tmp_path_factory.mktemp("store")
    of = trained(tmp_path_factory.mktemp("trained"))
    how = params.load(PROJECT / "params.yaml").promotion.model_copy(update={"latency_ms": 10_000, "latency_reviews": 20})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # absolute: MLflow caches one connection per URI, whatever the working folder
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        client = store.connect()
        retraining = publishing.retraining(client, "f" * 64)
        publications = {name: made(name, tmp_path_factory.mktemp(name), of) for name in MODELS}
        versions = {name: publishing.publish(client, each, parent=retraining) for name, each in publications.items()}
        scores = publications["nb_svm"].scores["test"]
        publishing.finish(client, retraining, versions, best="nb_svm", scores=scores, pages=[])
        location.COMPARISON.parent.mkdir()
        location.COMPARISON.write_text(publishing.comparison_page(client, list(versions.values())))
        test_reviews = held_out(reviews(REVIEWS["test"], seed=2)[0])
        for name, against in (("logistic", None), ("nb_svm", "logistic"), ("lstm_small", "nb_svm")):
            champion = against and versions[against]
            verdict = judging.judge(client, versions[name], champion, test_reviews, how, EVALUATE, seed=1)
            judging.record(client, versions[name], champion, verdict)
            with champion_history.changing(client) as entries:
                if verdict.holds:
                    kind = champion_history.RULES if entries else champion_history.FIRST
                    champion_history.change(client, entries, versions[name], kind, verdict_report.in_words(verdict))
                else:
                    model_versions.set_alias(client, model_versions.CHALLENGER, str(versions[name].version))
    return folder


@pytest.fixture(scope="module")
def here(filled):
    """The address of MLflow's UI on that store, served by `sentiflow ui`."""
    port, prefect_port = ports.several(2)
    (filled / ".venv").symlink_to(sys.prefix)
    for package in ("flows", "services", "src"):
        (filled / package).symlink_to(PROJECT / package)
    command = [sys.executable, "-m", "sentiflow", "ui"]
    command += ["--port", str(port), "--prefect-port", str(prefect_port)]
    with (filled / "ui.log").open("w") as said:
        server = subprocess.Popen(command, cwd=filled, stdout=said, stderr=said, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 120
        while not answers(address):
            assert server.poll() is None, (filled / "ui.log").read_text()
            assert time.monotonic() < until, (filled / "ui.log").read_text()
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def answers(address):
    try:
        return requests.get(address, timeout=5).ok
    except (requests.ConnectionError, requests.Timeout):
        return False


@pytest.fixture(scope="module")
def visited(browser, here):
    """A browser whose first visit is behind it, and every address outside that MLflow asked for."""
    session = browser.new_context(viewport={"width": 1280, "height": 900})
    outside = []
    session.on("request", lambda asked: None if asked.url.startswith((here, "data:", "blob:")) else outside.append(asked.url))
    tab = session.new_page()
    tab.goto(here)
    tab.get_by_text("Model training", exact=True).first.click()
    tab.get_by_role("button", name="Close", exact=True).click()  # of the assistant
    tab.get_by_role("link", name="Model registry").click()
    tab.get_by_role("button", name="Try it now").click()
    tab.close()
    yield session, outside
    session.close()


@pytest.fixture
def home(visited, here):
    """A tab on MLflow's first page."""
    session, _ = visited
    tab = session.new_page()
    tab.goto(here)
    tab.get_by_text("Recent Experiments").wait_for()
    tab.evaluate(FORGET)
    yield tab
    tab.close()


@pytest.fixture
def runs(home):
    """The tab on the table of runs, those of the retraining opened."""
    home.get_by_role("link", name="Experiments").first.click()
    home.get_by_role("main").get_by_role("link", name="sentiflow", exact=True).click()
    row(home, "retraining").get_by_role("button").first.click()  # +
    return home


def row(tab, name):
    return tab.get_by_role("row").filter(has=tab.get_by_role("link", name=name, exact=True))


def sees(tab, *texts):
    for text in texts:
        tab.get_by_text(text).first.wait_for()


def picture(tab, name, tmp_path):
    """The tab as a PNG of few colours, in docs/images too where SENTIFLOW_DOCS is 1."""
    tab.mouse.move(640, 2)
    tab.wait_for_timeout(700)  # charts and folding boxes move
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


def test_runs_of_a_retraining_are_listed_below_it_with_their_datasets(runs):
    for name in MODELS:
        row(runs, name).wait_for()
    runs.get_by_text("reviews, train").nth(len(MODELS) - 1).wait_for()
    runs.get_by_text("reviews, train").first.click()
    sees(runs, "Data details for", "3 datasets used", "reviews: 4000", "tokens/train.parquet")
    runs.keyboard.press("Escape")
    runs.get_by_text("Data details for").wait_for(state="hidden")


def test_compare_shows_settings_and_scores_side_by_side_at_the_printed_address(runs, filled, here, tmp_path):
    for name in MODELS:
        row(runs, name).locator("input.ag-checkbox-input").check()
    runs.get_by_role("button", name="Compare").click()
    sees(runs, "Comparing 3 Runs from 1 Experiment", "Parallel Coordinates Plot")
    kept = runs.url
    assert re.fullmatch(rf'{here}/#/compare-runs\?runs=\["\w+","\w+","\w+"\]&experiments=\["1"\]', kept.replace("%22", '"'))
    runs.get_by_text("Visualizations").click()
    runs.get_by_text("Run details").click()
    runs.get_by_label("Parameters - Show diff only").click()
    sees(runs, "Show diff only", "ngrams", "learning_rate")
    assert runs.get_by_text("split.method").count() == 0  # is the same for all
    score = runs.get_by_text("test/accuracy_score", exact=True)
    place = 0
    while not score.count():  # a line comes into being when it comes into view
        place += 200
        runs.evaluate(SCROLL, place)
    runs.evaluate(SCROLL, score.evaluate("each => each.parentElement.offsetTop"))
    next_to = [each.bounding_box()["y"] for each in runs.get_by_text("0.898", exact=True).all()]  # of logistic
    assert min(abs(y - score.bounding_box()["y"]) for y in next_to) < 10
    runs.get_by_text("Parameters", exact=True).last.evaluate("each => each.scrollIntoView(true)")
    picture(runs, "compare.png", tmp_path)

    [printed] = re.findall(r"^Compare: (\S+)$", (filled / "ui.log").read_text(), re.MULTILINE)
    for address in (kept, printed):
        runs.goto(f"{here}/#/")
        runs.goto(address)
        sees(runs, "Comparing 3 Runs from 1 Experiment")


def test_table_of_models_shows_the_scores_on_test(home):
    home.set_viewport_size({"width": 2600, "height": 900})
    home.get_by_role("link", name="Experiments").first.click()
    home.get_by_role("main").get_by_role("link", name="sentiflow", exact=True).click()
    home.get_by_role("link", name="Models", exact=True).click()
    for name in MODELS:
        row(home, name).wait_for()
    sees(home, "test/accuracy_score", "test/f1_score")


def test_charts_show_every_epoch_and_the_scores_of_all_models(runs, tmp_path):
    runs.locator("label", has=runs.locator("input[value=CHART]")).click()
    runs.get_by_placeholder("Search metric charts").fill(CHARTS)
    for name in ("test/accuracy_score", "test/f1_score", "test/log_loss", "valid/log_loss", "usage/epoch_seconds"):
        runs.get_by_text(name, exact=True).first.wait_for()
    assert runs.get_by_text("valid/best_log_loss", exact=True).count() == 0
    picture(runs, "charts.png", tmp_path)


def test_run_shows_datasets_system_metrics_and_verdict(runs):
    runs.get_by_role("link", name="nb_svm", exact=True).click()
    sees(runs, "About this run", "Parent run", "Datasets", "Registered models")
    runs.get_by_text("reviews, train").first.click()
    sees(runs, "3 datasets used", "reviews: 4000", "tokens/train.parquet")
    runs.keyboard.press("Escape")
    runs.get_by_role("tab", name="System metrics").click()
    sees(runs, "cpu_utilization_percentage", "system_memory_usage_megabytes")
    runs.get_by_role("tab", name="Model metrics").click()
    sees(runs, "valid/best_accuracy_score")
    runs.get_by_role("tab", name="Artifacts").click()
    runs.get_by_text("verdicts", exact=True).click()
    runs.get_by_text(re.compile(r"^version-3-against-version-1-on-\w+\.md$")).click()
    sees(runs, "Version 3 (nb_svm) passes all 9 promotion rules against version 1 (logistic).", "By kind of review")


def test_page_of_a_version_shows_its_verdict_and_every_rule(home, tmp_path):
    home.get_by_role("link", name="Model registry").click()
    home.get_by_role("main").get_by_role("link", name="sentiflow", exact=True).click()
    sees(home, "raw text in, label and probabilities out", "champion", COMMIT)
    home.get_by_role("link", name="Version 3", exact=True).click()
    sees(home, "Judged: Version 3 (nb_svm) passes all 9 promotion rules against version 1 (logistic).", "Source Run")
    for rule in ("reviews", "majority", "gain", "mcnemar", "interval", "slices", "calibration", "latency", "size"):
        assert "passes" in home.get_by_role("row").filter(has_text=re.compile(f"^{rule}")).inner_text()
    home.get_by_role("main").evaluate("each => { each.scrollTop = 0; }")
    picture(home, "version.png", tmp_path)
    home.get_by_role("main").get_by_role("link", name="nb_svm", exact=True).click()
    sees(home, "About this run")


def test_refused_version_shows_which_rules_fail(home):
    home.get_by_role("link", name="Model registry").click()
    home.get_by_role("main").get_by_role("link", name="sentiflow", exact=True).click()
    home.get_by_role("link", name="Version 2", exact=True).click()
    sees(home, "Judged: Version 2 (lstm_small) fails ", "challenger")
    assert "fails" in home.get_by_role("row").filter(has_text=re.compile("^gain")).inner_text()


def test_history_of_champions_is_a_registered_model_of_its_own(home):
    home.get_by_role("link", name="Model registry").click()
    home.get_by_role("link", name="sentiflow-champions", exact=True).click()
    for version, how in (("Version 1", "first"), ("Version 2", "rules")):
        found = row(home, version)
        found.get_by_text("why").wait_for()
        assert f"how: {how}" in found.inner_text().replace("\n", " ").replace(" :", ":")
    home.get_by_role("link", name="Version 2", exact=True).click()
    sees(home, "version 3 (nb_svm) instead of version 1, rules: ")


def test_runs_of_a_commit_are_found_by_its_tag(runs):
    [search] = re.findall(r"`(tags\..*) = \"\.\.\.\"`", TEXT)
    for commit, state in (("0" * 40, "hidden"), (COMMIT, "visible")):
        runs.get_by_test_id("search-box").fill(f'{search} = "{commit}"')
        runs.keyboard.press("Enter")
        row(runs, "retraining").wait_for(state=state)  # appears with its child runs
    sees(runs, f"{len(MODELS) + 1} matching runs")


def test_mlflow_asked_for_nothing_outside_this_machine(visited):
    _, outside = visited
    assert outside == []


def test_everything_that_the_docs_say_to_click_is_clicked_here():
    clicked = Path(__file__).read_text(encoding="utf-8")
    labels = set(re.findall(r"\*([^*\n]+)\*", TEXT.replace("**", "")))
    assert len(labels) > 10
    assert not [label for label in labels if f'"{label}"' not in clicked]


def test_every_picture_of_the_docs_is_there_and_shown():
    shown = set(re.findall(r"\]\(images/(\w+\.png)\)", TEXT))
    there = {file.name for file in (DOCS / "images").iterdir() if not file.name.startswith(("prefect-", "report"))}
    assert shown == there == {"compare.png", "charts.png", "version.png"}

"""The main job as a user runs it, in a fresh clone, on a small sample with two small models."""

import json
import os
import re
import shlex
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
import yaml
from clones import PROJECT, change, dvc, fresh, make, repro, run, sentiflow

README = (PROJECT / "README.md").read_text(encoding="utf-8")
PREDICT_PAGE = (PROJECT / "docs/predict.md").read_text(encoding="utf-8")
SMALL = {
    "download.source": "package",
    "download.sample": 400,  # with fewer, no model is significantly better than always answering one class
    "run": {"nb_svm": "nb_svm", "cnn_lstm": "cnn_lstm", "lstm_attention": "lstm_attention"},
    "compare.baseline": "cnn_lstm",
    "compare.tuned": "lstm_attention",
    "evaluate.resamples": 200,
    "explain.reviews": 20,
    "models.lstm_attention.length": 40,
    "models.lstm_attention.units": 8,
    "models.lstm_attention.embedding": 8,
    "models.lstm_attention.epochs": 2,
    "models.cnn_lstm.length": 40,
    "models.cnn_lstm.units": 8,
    "models.cnn_lstm.filters": 8,
    "models.cnn_lstm.epochs": 2,
    "models.cnn_lstm.spatial_dropout": 0.2,
    "promotion.calibration_error": 1.0,
    "promotion.latency_ms": 10_000,
}
MADE_ONLY_BY_DVC = [
    "data",
    "models",
    "plots",
    "reports",
    "metrics",
    "mlartifacts",
    "mlflow.db",
    ".cache",
    ".dvc/cache",
    ".dvc/tmp",
]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The project as it is in this folder, as a git repository of its own, with small settings."""
    return fresh(tmp_path_factory.mktemp("clone"), SMALL)


@pytest.fixture(scope="module")
def first_run(clone):
    return repro(clone)


def test_prints_the_comparison_and_says_where_report_and_ui_are(first_run):
    assert "| nb_svm " in first_run.stdout
    assert "| cnn_lstm " in first_run.stdout
    assert "\nReport: reports/decision.html\nMLflow UI: sentiflow ui\nCompare these models there: http" in first_run.stdout


def test_no_chatter_of_tensorflow_reaches_the_user(first_run):
    for chatter in ("oneDNN", "cuda", "absl", "cpu_feature_guard", "NodeDef", "retracing", "AnyType"):
        assert chatter not in first_run.stdout + first_run.stderr


def test_each_stage_says_what_it_read_and_wrote_with_counts(first_run):
    said = first_run.stdout
    for words in (
        "400 reviews from",
        "320 train, 40 valid, 40 test",
        "different words in train",
        "epoch 2 of 2",
        "test: 40 reviews",
    ):
        assert words in said, said


def test_second_run_does_nothing(first_run, clone):
    before = (clone / "dvc.lock").read_bytes()
    second = repro(clone)
    assert "Running stage" not in second.stdout
    assert "up to date" in second.stdout
    assert (clone / "dvc.lock").read_bytes() == before


def test_git_sees_only_small_files(first_run, clone):
    names = run(["git", "status", "--porcelain", "--untracked-files=all"], clone).stdout.splitlines()
    made = [line[3:] for line in names]
    assert "dvc.lock" in made
    assert "reports/comparison.md" in made
    for name in made:
        assert name.startswith(("metrics/", "reports/")) or name == "dvc.lock", name
        assert (clone / name).stat().st_size < 100_000, name


def test_metrics_parameters_plots_and_graph_are_there_to_read(first_run, clone, tmp_path):
    shown = dvc(clone, "metrics", "show", "--md")
    assert "metrics/test/nb_svm.json" in shown
    assert "f1_score" in shown
    assert "evaluate@cnn_lstm" in dvc(clone, "dag", "--mermaid")
    dvc(clone, "plots", "show", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots" / "index.html").read_text()
    for title in (
        "nb_svm: confusion on test",
        "cnn_lstm: train and valid by epoch",
        "cnn_lstm: ROC on test",
        "nb_svm: reliability on test",
    ):
        assert title in page


def test_champion_answers_raw_text_in_another_process_as_the_evaluation_did(first_run, clone):
    best = json.loads((clone / "metrics/comparison.json").read_text())["best"]
    reviews = pd.read_parquet(clone / "data/reviews/reviews.parquet").set_index("row")["text"]
    expected = pd.read_parquet(clone / f"data/predictions/{best}/test.parquet")
    texts, answers = clone / ".cache/texts.json", clone / ".cache/answers.json"
    texts.write_text(json.dumps(reviews[expected["row"]].tolist()))
    code = (
        "import json, mlflow; mlflow.set_tracking_uri('sqlite:///mlflow.db');"
        "model = mlflow.pyfunc.load_model('models:/sentiflow@champion');"
        f"model.predict(json.load(open({str(texts)!r}))).to_json({str(answers)!r}, orient='records', double_precision=15)"
    )
    run([sys.executable, "-c", code], clone, PYTHONPATH="")
    columns = ["p_negative", "p_positive"]
    np.testing.assert_allclose(pd.read_json(answers)[columns], expected[columns], atol=1e-5)


def test_readme_code_answers(first_run, clone):
    code = README.split("```python\n")[1].split("```")[0]
    answered = run([sys.executable, "-c", code], clone, PYTHONPATH="").stdout
    assert "p_positive" in answered
    assert len(answered.splitlines()) == 3


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`(dvc [a-z -]+)`", README))))
def test_dvc_command_of_the_readme_gives_something_to_read(command, first_run, clone):
    shown = dvc(clone, *command.split()[1:])
    assert shown.strip() or command.endswith("diff"), command


def test_report_page_shows_every_model_and_asks_for_no_other_file(first_run, clone):
    page = (clone / "reports/report.html").read_text(encoding="utf-8")
    for words in ("nb_svm", "cnn_lstm", "lstm_attention", "400", "keras"):
        assert words in page, words
    assert {link for link in re.findall(r"""(?:src|href)=["']([^"']+)""", page) if link[0] != "#"} == {"decision.html"}


def test_decision_page_names_champion_or_challenger_and_the_times_of_every_model(first_run, clone):
    page = (clone / "reports/decision.html").read_text(encoding="utf-8")
    assert re.search(r"<strong>(Ship|Keep|No model)", page)
    for words in ("Promotion rules: version", "git commit", "✓ passes"):
        assert words in page, words
    assert (
        len(re.findall(r'<td class="n">[\d.,]+ ms</td>\s+<td class="n">[\d.,]+ MB</td>\s+<td class="n">[\d.,]+ s</td>', page))
        == 3
    )


def test_every_output_of_the_recipes_is_there(first_run, clone):
    for name in ("nb_svm", "cnn_lstm", "lstm_attention"):
        report = clone / "reports/models" / name
        made = {file.name for file in report.iterdir()}
        assert {"curves.png", "confusion_matrix.png", "roc.png", "classification_report.txt", "layers.json"} <= made
        assert json.loads((report / "layers.json").read_text())["weights"] > 0
        assert json.loads((clone / "models" / name / "environment.json").read_text())["cores"] > 0
        assert (clone / f"reports/explanations/{name}_2.png").exists()
    samples = pd.read_csv(clone / "reports/errors/samples.csv")
    assert set(samples.columns) == {"row", "label", "nb_svm", "cnn_lstm", "lstm_attention"}
    assert len(samples) == 5
    assert len(pd.read_csv(clone / "reports/errors/samples_with_text.csv")) == 20
    [deletion] = json.loads((clone / "reports/explanations/explanations.json").read_text())["deletion"]
    assert deletion["reviews"] == 20
    assert "| filters " in (clone / "reports/tuning.md").read_text()


def test_mlflow_holds_the_shared_pages_and_what_each_run_trained_on(first_run, clone):
    code = (
        "import json, mlflow; mlflow.set_tracking_uri('sqlite:///mlflow.db'); client = mlflow.MlflowClient();"
        "runs = {run.info.run_name: run for run in client.search_runs(['1'])};"
        "pages = [item.path for item in client.list_artifacts(runs['retraining'].info.run_id)];"
        "print(json.dumps([pages, runs['cnn_lstm'].data.metrics]))"
    )
    pages, metrics = json.loads(run([sys.executable, "-c", code], clone, PYTHONPATH="").stdout.splitlines()[-1])
    assert set(pages) == {"comparison", "comparison.md", "errors", "explanations", "report.html", "tuning.md", "vocabulary.json"}
    assert metrics["usage/epoch_seconds"] > 0
    assert metrics["usage/weights"] > 1000


def test_explain_answers_any_text(first_run, clone):
    said = sentiflow(clone, "explain", "It cost $5 and 'was' \"worth\" it $(shell touch ran)").stdout
    assert "worth" in said
    assert "reports/explanation.png" in said
    assert (clone / "reports/explanation.png").exists()
    assert not (clone / "ran").exists()
    [of_the_readme] = re.findall(r"`sentiflow explain (\"[^`]+)`", README)
    explained = sentiflow(clone, "explain", *shlex.split(of_the_readme)).stdout
    assert "dull" in explained
    predicted = sentiflow(clone, "predict", "--text", *shlex.split(of_the_readme)).stdout
    label, champion = re.match(r"(\w+)  \((version \d+ \(\w+\))\)\n", predicted).groups()
    assert explained.startswith(f"{champion} predicts {label}, probability ")
    said = sentiflow(clone, "explain", "A dull film.", "--model", "nb_svm", "--out", ".cache/some.png").stdout
    assert "nb_svm" in said
    assert (clone / ".cache/some.png").exists()


def test_plots_draws_a_page_that_needs_no_network(first_run, clone):
    said = sentiflow(clone, "plots").stdout
    page = clone / said.split()[-1]
    assert page == clone / "dvc_plots/index.html"
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.read_text())
    assert "vega.js" in sources
    for source in sources:
        assert (page.parent / source).exists(), source


def test_ui_serves_the_runs_to_this_machine_alone_and_prefects_pages_beside_them(first_run, clone):
    port, prefect_port = ports.several(2)
    command = [clone / ".venv/bin/sentiflow", "ui", "--port", str(port), "--prefect-port", str(prefect_port)]
    server = subprocess.Popen(command, cwd=clone, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        here = f"http://127.0.0.1:{port}"
        for page in (here, f"http://127.0.0.1:{prefect_port}/api/health"):
            until = time.monotonic() + 120
            while True:
                try:
                    assert requests.get(page, timeout=5).status_code == 200
                    break
                except requests.ConnectionError:
                    assert time.monotonic() < until, f"{page} does not answer"
                    time.sleep(0.5)
        found = requests.get(f"{here}/api/2.0/mlflow/registered-models/get", {"name": "sentiflow"}, timeout=10)
        assert found.json()["registered_model"]["aliases"][0]["alias"] == "champion"
        assert requests.get(here, headers={"Host": "10.evil.example"}, timeout=5).status_code == 403
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def test_predict_answers_a_text_and_a_file(first_run, clone):
    [of_the_readme] = re.findall(r"`sentiflow (predict --text \"[^`]+)`", PREDICT_PAGE)
    said = sentiflow(clone, *shlex.split(of_the_readme)).stdout
    assert re.match(r"(negative|positive)  \(version \d \(\w+\)\)\n  negative  0\.\d{4}\n  positive  0\.\d{4}\n", said)
    (clone / "reviews.csv").write_text('review,sentiment\n"Dull, and long.",negative\nLovely.,positive\n')
    assert "`sentiflow predict reviews.csv`" in README
    sentiflow(clone, "predict", "reviews.csv")
    answered = pd.read_csv(clone / "predictions/reviews.predictions.csv")
    assert list(answered) == ["review", "sentiment", "predicted", "p_negative", "p_positive"]
    assert len(answered) == 2
    (clone / "reviews.csv").unlink()
    assert run(["git", "status", "--porcelain", "predictions"], clone).stdout == ""


def test_retrain_after_a_finished_run_finds_no_reason_and_says_so(first_run, clone):
    said = sentiflow(clone, "retrain")
    assert "Completed: No reason to retrain" in said.stdout
    assert "HTTP Request" not in said.stderr
    refused = subprocess.run([clone / ".venv/bin/sentiflow", "retrain", "gru"], cwd=clone, capture_output=True, text=True)
    assert refused.returncode != 0
    assert refused.stderr.startswith("error: received gru, which is not in `run:` of params.yaml; expected some of ")
    assert "Traceback" not in refused.stderr


def test_drift_compares_a_file_with_what_the_champion_learned_from(first_run, clone):
    (clone / "incoming.csv").write_text("review\n" + "A wonderful film.\n" * 250)
    said = sentiflow(clone, "data", "drift", "incoming.csv").stdout
    (clone / "incoming.csv").unlink()
    assert "probability of positive" in said
    assert "drifted" in said


def test_history_list_and_promote_tell_of_the_champion(first_run, clone):
    assert "| first |" in sentiflow(clone, "models", "history").stdout
    versions = sentiflow(clone, "models", "list").stdout
    assert "| champion |" in versions
    assert versions.count("nb_svm") >= 1
    other = next(
        line.split("|")[1].strip()
        for line in versions.splitlines()
        if line.startswith("| ") and line[2].isdigit() and "champion" not in line
    )
    said = sentiflow(clone, "models", "promote", other, "--force", "--reason", "it's $HOME", "--dry-run").stdout
    assert f"version {other} would become champion, forced: it's $HOME" in said
    assert "Nothing was changed." in said


def test_serve_answers_the_requests_of_the_readme(first_run, clone):
    command = [clone / ".venv/bin/sentiflow", "serve", "--port", "0"]
    own = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    server = subprocess.Popen(
        command,
        cwd=clone,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=own | {"PYTHONPATH": str(clone / "src")},
        start_new_session=True,
    )
    try:
        lines = iter(server.stderr.readline, "")
        address = next(found[0] for line in lines if (found := re.findall(r"http://127\.0\.0\.1:\d+", line)))
        asked = re.findall(r"^\$ (curl .+)$", PREDICT_PAGE, re.MULTILINE)
        assert len(asked) == 2
        for line in asked:
            words = shlex.split(line.replace("http://127.0.0.1:8000", address))
            answer = json.loads(run([*words, "--silent", "--fail"], clone).stdout)
            assert answer.get("model") == "sentiflow" or answer["predictions"][0]["label"] in ("negative", "positive")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.communicate(timeout=30)


def test_make_clean_removes_what_can_be_rebuilt_and_nothing_else(first_run, clone, tmp_path):
    copy = Path(shutil.copytree(clone, tmp_path / "copy", symlinks=True))
    (copy / "data/external/mine.csv").write_text("review,sentiment\n")
    tracked = run(["git", "ls-files"], copy).stdout.splitlines()
    make(copy, "clean")
    for name in [*tracked, "data/external/mine.csv", "mlflow.db", "mlartifacts/published.json", ".dvc/cache", "dvc.lock"]:
        assert (copy / name).exists(), name
    made = ("reports/models", "reports/errors", "reports/explanations", "reports/report.html")
    for name in (".venv", "models", "plots", "data/tokens", "data/splits", *made, ".cache"):
        assert not (copy / name).exists(), name
    assert Path(sys.prefix).exists()


def stages_that_ran(said):
    return re.findall("^Running stage '(.+)'", said.stdout, re.MULTILINE)


def test_lost_tracking_store_is_filled_again(first_run, clone):
    (clone / "mlflow.db").unlink()
    again = repro(clone)
    assert stages_that_ran(again) == ["register", "judge"]
    assert "published nb_svm as version 1" in again.stdout


def test_one_setting_of_a_model_reruns_only_that_model(first_run, clone):
    lock = (clone / "dvc.lock").read_bytes()
    change(clone, {"models.cnn_lstm.spatial_dropout": 0.1})
    changed = repro(clone)
    ran = ["train@cnn_lstm", "evaluate@cnn_lstm", "compare", "analyse", "explain", "report", "register", "judge"]
    assert sorted(stages_that_ran(changed)) == sorted(ran)
    assert "nb_svm is already published" in changed.stdout

    change(clone, {"models.cnn_lstm.spatial_dropout": 0.2})
    back = repro(clone)
    assert "Stage 'train@cnn_lstm' is cached - skipping run" in back.stdout, "the run cache restores the model back"
    assert (clone / "dvc.lock").read_bytes() == lock


def test_everything_deleted_and_run_again_gives_the_same_lock(first_run, clone):
    lock = (clone / "dvc.lock").read_bytes()
    for name in [*MADE_ONLY_BY_DVC, "dvc.lock"]:
        path = clone / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    (clone / "data/external").mkdir(parents=True)
    repro(clone)
    assert yaml.safe_load((clone / "dvc.lock").read_text()) == yaml.safe_load(lock)
    assert (clone / "dvc.lock").read_bytes() == lock

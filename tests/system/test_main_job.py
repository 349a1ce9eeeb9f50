"""The main job as a user runs it, in a fresh clone, on a small sample with two small architectures."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

PROJECT = Path(__file__).parents[2]
SMALL = [
    ("sample: null", "sample: 240"),
    ("run: [nb_svm, lstm, cnn_lstm, lstm_attention]", "run: [nb_svm, cnn_lstm]"),
    ("length: 600", "length: 40"),
    ("units: 100", "units: 8"),
    ("filters: 64", "filters: 8"),
    ("epochs: 5\n", "epochs: 2\n"),
]
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
    """The project as it stands in this folder, as a git repository of its own, with small settings."""
    folder = tmp_path_factory.mktemp("clone")
    known = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], PROJECT).stdout.splitlines()
    for name in known:
        if (PROJECT / name).is_file() and name != "dvc.lock" and not name.startswith(("metrics/", "reports/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    change(folder, *SMALL)
    run(["git", "init", "--quiet"], folder)
    run(["git", "add", "."], folder)
    run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "start"], folder)
    return folder


@pytest.fixture(scope="module")
def first_run(clone):
    return repro(clone)


def change(folder, *changes):
    text = (folder / "params.yaml").read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    (folder / "params.yaml").write_text(text)


def run(command, folder, **environment):
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


def repro(folder):
    return run([sys.executable, "-m", "sentiflow.pipeline"], folder, PYTHONPATH=str(folder / "src"))


def dvc(folder, *arguments):
    return run([sys.executable, "-m", "dvc", *arguments], folder, DVC_NO_ANALYTICS="1").stdout


def test_prints_the_comparison_and_says_where_report_and_ui_are(first_run):
    assert "| nb_svm " in first_run.stdout
    assert "| cnn_lstm " in first_run.stdout
    assert first_run.stdout.rstrip().endswith("Report: reports/comparison.md\nMLflow UI: make ui")


def test_no_chatter_of_tensorflow_reaches_the_user(first_run):
    for chatter in ("oneDNN", "cuda", "absl", "cpu_feature_guard", "NodeDef", "retracing", "AnyType"):
        assert chatter not in first_run.stderr, first_run.stderr


def test_each_stage_says_what_it_read_and_wrote_with_counts(first_run):
    said = first_run.stderr
    for words in (
        "240 reviews from",
        "192 train, 24 valid, 24 test",
        "different words in train",
        "epoch 2 of 2",
        "test: 24 reviews",
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
    for title in ("nb_svm: confusion on test", "cnn_lstm: loss on valid", "cnn_lstm: ROC on test", "nb_svm: reliability on test"):
        assert title in page


def test_champion_answers_raw_text_in_another_process_as_the_evaluation_did(first_run, clone):
    best = json.loads((clone / "metrics/comparison.json").read_text())["best"]
    reviews = pd.read_parquet(clone / "data/reviews/reviews.parquet").set_index("row")["text"]
    expected = pd.read_parquet(clone / f"data/predictions/{best}/test.parquet")
    (clone / "texts.json").write_text(json.dumps(reviews[expected["row"]].tolist()))
    code = (
        "import json, mlflow; mlflow.set_tracking_uri('sqlite:///mlflow.db');"
        "model = mlflow.pyfunc.load_model('models:/sentiflow@champion');"
        "model.predict(json.load(open('texts.json'))).to_json('answers.json', orient='records', double_precision=15)"
    )
    run([sys.executable, "-c", code], clone, PYTHONPATH="")
    answers = pd.read_json(clone / "answers.json")
    np.testing.assert_allclose(answers[["p_negative", "p_positive"]], expected[["p_negative", "p_positive"]], atol=1e-5)
    (clone / "texts.json").unlink()
    (clone / "answers.json").unlink()


def test_lost_tracking_store_is_filled_again(first_run, clone):
    (clone / "mlflow.db").unlink()
    again = repro(clone)
    assert again.stdout.count("Running stage") == 1
    assert "Running stage 'register'" in again.stdout
    assert "published nb_svm as version 1" in again.stderr


def test_one_setting_of_an_architecture_reruns_only_that_architecture(first_run, clone):
    lock = (clone / "dvc.lock").read_bytes()
    change(clone, ("spatial_dropout: 0.2", "spatial_dropout: 0.1"))
    changed = repro(clone)
    ran = [line.split("'")[1] for line in changed.stdout.splitlines() if line.startswith("Running stage")]
    assert ran == ["train@cnn_lstm", "evaluate@cnn_lstm", "compare", "register"]
    assert "nb_svm is published already" in changed.stderr

    change(clone, ("spatial_dropout: 0.1", "spatial_dropout: 0.2"))
    back = repro(clone)
    assert "Stage 'train@cnn_lstm' is cached - skipping run" in back.stdout, "the run cache brings the model back"
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

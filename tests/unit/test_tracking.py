"""Against MLflow's own SQLite store, in a folder of the test's."""

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sentiflow import environment, params, tracking
from sentiflow.scoring import SCORES


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of the module's own, and its client; the working folder is where the store lies."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield tracking.connect()


def publication(trained, **changes):
    model_dir, tokens_dir = trained[:2]
    scores = {"accuracy_score": 0.9, "accuracy_score_low": 0.88, "accuracy_score_high": 0.92, "log_loss": 0.3}
    history = pd.DataFrame({"epoch": [1, 2], "train_log_loss": [0.7, 0.5], "valid_log_loss": [0.6, 0.55]})
    defaults = {
        "architecture": "nb_svm",
        "key": "a" * 64,
        "params": params.load(Path(__file__).parents[2] / "params.yaml").architectures["nb_svm"].model_dump(),
        "tags": {"dvc.tokens": "0" * 32},
        "history": history,
        "seconds": [1.5, 1.25],
        "scores": dict.fromkeys(("train", "valid", "test"), scores),
        "weights": 12,
        "environment": environment.describe(gpus=[]),
        "artifacts": {"report": model_dir},
        "model_dir": model_dir,
        "tokens_dir": tokens_dir,
        "keep_negations": True,
        "classes": ("negative", "positive"),
    }
    return tracking.Publication(**(defaults | changes))


@pytest.fixture(scope="module")
def published(store, trained):
    return tracking.publish(store, publication(trained))


def counts(store):
    experiment = store.get_experiment_by_name(tracking.EXPERIMENT)
    return len(store.search_runs([experiment.experiment_id])), len(store.search_model_versions("name = 'sentiflow'"))


def test_run_holds_parameters_every_epoch_scores_tags_and_report(store, published):
    run = store.get_run(published.run_id)
    assert run.data.params["ngrams"] == "3"
    assert [(m.step, m.value) for m in store.get_metric_history(published.run_id, "valid_log_loss")] == [(1, 0.6), (2, 0.55)]
    assert run.data.metrics["test_accuracy_score"] == run.data.metrics["best_valid_accuracy_score"] == 0.9
    assert run.data.tags["dvc.tokens"] == "0" * 32
    assert {item.path for item in store.list_artifacts(published.run_id, "report")} == {
        "report/config.json",
        "report/weights.npz",
    }
    assert run.info.status == "FINISHED"


def test_run_tells_what_it_was_trained_on_and_how_long_each_epoch_took(store, published):
    run = store.get_run(published.run_id)
    assert run.data.tags["environment.gpus"] == "none"
    assert run.data.tags["environment.python"] == platform.python_version()
    assert run.data.tags["environment.keras"] == metadata.version("keras")
    assert " cores" in run.data.tags["environment.processor"]
    assert [(m.step, m.value) for m in store.get_metric_history(published.run_id, "epoch_seconds")] == [(1, 1.5), (2, 1.25)]
    assert run.data.metrics["weights"] == 12
    assert "environment.json" in {item.path for item in store.list_artifacts(published.run_id)}


def test_comparison_is_a_run_of_its_own_and_published_once(store, published, tmp_path):
    (tmp_path / "errors").mkdir()
    (tmp_path / "errors/slices.csv").write_text("slice\n")
    (tmp_path / "report.html").write_text("<p>")
    scores = {"nb_svm": dict.fromkeys(SCORES, 0.9), "lstm": dict.fromkeys(SCORES, 0.8)}
    summary = tracking.Summary("d" * 64, "nb_svm", scores, [tmp_path / "errors", tmp_path / "report.html"])
    before = counts(store)
    tracking.publish_summary(store, summary)
    tracking.publish_summary(store, summary)
    assert counts(store) == (before[0] + 1, before[1])
    experiment = store.get_experiment_by_name(tracking.EXPERIMENT)
    [run] = store.search_runs([experiment.experiment_id], "attributes.run_name = 'comparison'")
    assert run.data.tags["best"] == "nb_svm"
    assert run.data.metrics["lstm_f1_score"] == 0.8
    assert {item.path for item in store.list_artifacts(run.info.run_id)} == {"errors", "report.html"}
    assert [item.path for item in store.list_artifacts(run.info.run_id, "errors")] == ["errors/slices.csv"]


def test_publishing_twice_creates_nothing_new(store, published, trained):
    before = counts(store)
    again = tracking.publish(store, publication(trained))
    assert (again.version, again.run_id) == (published.version, published.run_id)
    assert counts(store) == before


def test_publication_that_was_cut_short_is_replaced(store, published, trained):
    before = counts(store)
    cut = publication(trained, key="b" * 64)
    version = tracking.publish(store, cut)
    store.delete_tag(version.run_id, tracking.COMPLETE_TAG)
    replaced = tracking.publish(store, cut)
    assert replaced.run_id != version.run_id
    assert counts(store) == (before[0] + 1, before[1] + 1)


def test_first_champion_stays_when_another_is_registered(store, published, trained):
    tracking.crown_if_none(store, published)
    other = tracking.publish(store, publication(trained, key="c" * 64))
    tracking.crown_if_none(store, other)
    champion = tracking.champion(store)
    assert champion is not None
    assert champion.version == published.version


def test_registered_model_answers_as_the_training_path_does_in_another_process(store, published, trained):
    tracking.crown_if_none(store, published)
    _, _, raw, expected = trained
    raw.to_json("texts.json", orient="values")
    code = (
        "import json, mlflow; mlflow.set_tracking_uri('sqlite:///mlflow.db');"
        "model = mlflow.pyfunc.load_model('models:/sentiflow@champion');"
        "model.predict(json.load(open('texts.json'))).to_json('answers.json', orient='records', double_precision=15)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path.cwd())
    answers = pd.read_json("answers.json")
    np.testing.assert_allclose(answers[["p_negative", "p_positive"]], expected, atol=1e-9)


def test_registered_model_is_code_and_numbers_without_pickle(store, published):
    import mlflow

    folder = Path(mlflow.artifacts.download_artifacts(f"models:/sentiflow/{published.version}"))
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert not [file for file in files if file.suffix in {".pkl", ".pickle", ".keras", ".pyc"}]
    assert (folder / "registered_model.py").exists()
    requirements = (folder / "requirements.txt").read_text().split()
    assert all("==" in line for line in requirements)


def test_registered_model_has_a_signature_and_an_example(store, published):
    import mlflow

    info = mlflow.models.get_model_info(f"models:/sentiflow/{published.version}")
    assert [str(column) for column in info.signature.inputs.to_dict()] == ["{'type': 'string', 'required': True}"]
    assert [column["name"] for column in info.signature.outputs.to_dict()] == ["label", "p_negative", "p_positive"]
    assert info.saved_input_example_info is not None

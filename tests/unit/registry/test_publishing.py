"""Against MLflow's own SQLite store, in a folder of the test's."""

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from publications import publication

from sentiflow.evaluation.metrics import tracked
from sentiflow.registry import publishing
from sentiflow.registry.store import COMPLETE_TAG, DIGEST_TAG, EXPERIMENT, MODEL


@pytest.fixture(scope="module")
def parent(store):
    return publishing.retraining(store, "f" * 64)


@pytest.fixture(scope="module")
def publish(store, parent, trained, tmp_path_factory):
    """Publishes the tiny model, under other values by name."""

    def published(**changes):
        made = publication(trained, tmp_path_factory.mktemp("publication"), **changes)
        return publishing.publish(store, made, parent=parent)

    return published


@pytest.fixture(scope="module")
def published(publish):
    return publish()


def counts(store):
    experiment = store.get_experiment_by_name(EXPERIMENT)
    return len(store.search_runs([experiment.experiment_id])), len(store.search_model_versions("name = 'sentiflow'"))


def test_run_holds_parameters_every_epoch_scores_tags_and_report(store, published):
    run = store.get_run(published.run_id)
    assert run.data.params["ngrams"] == "3"
    assert [(m.step, m.value) for m in store.get_metric_history(published.run_id, "valid_log_loss")] == [(1, 0.6), (2, 0.55)]
    assert run.data.metrics["test_accuracy_score"] == run.data.metrics["best_valid_accuracy_score"] == 0.9
    assert run.data.tags["dvc.tokens"] == "0" * 32
    assert {item.path for item in store.list_artifacts(published.run_id, "report")} == {
        "report/config.json",
        "report/environment.json",
        "report/weights.npz",
    }
    assert run.info.status == "FINISHED"
    assert run.data.metrics["temperature"] == 1.0


def test_run_tells_what_it_was_trained_on_and_how_long_each_epoch_took(store, published):
    run = store.get_run(published.run_id)
    [output] = run.outputs.model_outputs
    assert (
        store.get_logged_model(output.model_id).tags["mlflow.source.name"] == run.data.tags["mlflow.source.name"] == "dvc repro"
    )
    assert run.data.tags["environment.gpus"] == "none"
    assert run.data.tags["environment.threads"] == "1"
    assert run.data.tags["environment.processor_model"]
    assert run.data.tags["environment.instruction_sets"]
    assert run.data.tags["environment.python"] == platform.python_version()
    assert run.data.tags["environment.keras"] == metadata.version("keras")
    assert " cores" in run.data.tags["environment.processor"]
    assert [(m.step, m.value) for m in store.get_metric_history(published.run_id, "epoch_seconds")] == [(1, 1.5), (2, 1.25)]
    assert run.data.metrics["weights"] == 12
    assert "environment.json" in {item.path for item in store.list_artifacts(published.run_id)}


def test_a_retraining_is_one_run_that_holds_the_others_and_the_shared_pages_once(store, parent, published, tmp_path):
    (tmp_path / "errors").mkdir()
    (tmp_path / "errors/slices.csv").write_text("slice\n")
    (tmp_path / "report.html").write_text("<p>")
    scores = {"nb_svm": dict.fromkeys(tracked(), 0.9), "lstm": dict.fromkeys(tracked(), 0.8)}
    summary = publishing.Summary("nb_svm", scores, [tmp_path / "errors", tmp_path / "report.html"])
    before = counts(store)
    for _ in range(2):
        assert publishing.retraining(store, "f" * 64) == parent
        publishing.finish(store, parent, summary, {"nb_svm": published})
    assert counts(store) == before
    run = store.get_run(parent)
    assert run.info.run_name == "retraining"
    assert run.info.status == "FINISHED"
    assert run.data.tags["best"] == "nb_svm"
    assert run.data.tags["run.nb_svm"] == published.run_id
    assert store.get_run(published.run_id).data.tags["mlflow.parentRunId"] == parent
    assert run.data.metrics["lstm_f1_score"] == 0.8
    assert {item.path for item in store.list_artifacts(parent)} == {"errors", "report.html"}
    assert [item.path for item in store.list_artifacts(parent, "errors")] == ["errors/slices.csv"]


def test_run_tells_what_it_read_and_how_busy_the_machine_was(store, published):
    run = store.get_run(published.run_id)
    read = {given.tags[0].value: given.dataset for given in run.inputs.dataset_inputs}
    assert set(read) == {"train", "valid", "test"}
    assert read["train"].digest == "0" * 32
    assert "data/tokens/train.parquet" in read["train"].source
    [used] = store.get_metric_history(published.run_id, "system/cpu_utilization_percentage")
    assert (used.value, used.timestamp) == (50.0, 1_500_000_000_000)


def test_model_and_version_say_in_words_what_they_are(store, published):
    assert "champion" in store.get_registered_model(MODEL).description
    assert "accuracy 0.9000 on 80 test reviews (interval 0.8800 to 0.9200)" in published.description
    assert "negative, positive" in published.description


def test_publishing_twice_creates_nothing_new(store, published, publish):
    before = counts(store)
    again = publish()
    assert (again.version, again.run_id) == (published.version, published.run_id)
    assert counts(store) == before


def test_publication_that_was_cut_short_is_replaced(store, published, publish):
    before = counts(store)
    version = publish(key="b" * 64)
    store.delete_tag(version.run_id, COMPLETE_TAG)
    store.set_tag(version.run_id, publishing.PUBLISHER_TAG, f"{platform.node()} {psutil.Process().pid} 1")  # that process is gone
    replaced = publish(key="b" * 64)
    assert replaced.run_id != version.run_id
    assert counts(store) == (before[0] + 1, before[1] + 1)
    models = store.search_logged_models([store.get_run(replaced.run_id).info.experiment_id])
    assert version.source.removeprefix("models:/") not in {model.model_id for model in models}


@pytest.mark.parametrize("machine", [platform.node(), "another-machine"])
def test_publication_that_another_process_is_at_is_left_to_it_and_the_first_whole_one_counts(store, publish, machine):
    sleeping = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        key = {True: "c", False: "d"}[machine == platform.node()] * 64
        first = publish(key=key)
        store.delete_tag(first.run_id, COMPLETE_TAG)
        began = psutil.Process(sleeping.pid).create_time()
        store.set_tag(first.run_id, publishing.PUBLISHER_TAG, f"{machine} {sleeping.pid} {began:.0f}")
        second = publish(key=key)
        assert second.version != first.version
        store.set_tag(first.run_id, COMPLETE_TAG, "true")  # the other has come to its end
        assert publish(key=key).version == first.version
    finally:
        sleeping.communicate()


def test_registered_model_answers_as_the_training_path_does_in_another_process(store, published, trained):
    _, _, raw, expected = trained
    raw.to_json("texts.json", orient="values")
    code = (
        "import json, mlflow; mlflow.set_tracking_uri('sqlite:///mlflow.db');"
        f"model = mlflow.pyfunc.load_model('models:/sentiflow/{published.version}');"
        "model.predict(json.load(open('texts.json'))).to_json('answers.json', orient='records', double_precision=15)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path.cwd())
    answers = pd.read_json("answers.json")
    np.testing.assert_allclose(answers[["p_negative", "p_positive"]], expected, atol=1e-9)


def test_registered_model_is_code_and_numbers_without_pickle(store, published):
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/sentiflow/{published.version}"))
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert not [file for file in files if file.suffix in {".pkl", ".pickle", ".keras", ".pyc"}]
    assert (folder / "registered_model.py").exists()
    requirements = (folder / "requirements.txt").read_text().split()
    assert all("==" in line for line in requirements)


def test_registered_model_has_a_signature_and_an_example(store, published):
    info = mlflow.models.get_model_info(f"models:/sentiflow/{published.version}")
    assert [str(column) for column in info.signature.inputs.to_dict()] == ["{'type': 'string', 'required': True}"]
    assert [column["name"] for column in info.signature.outputs.to_dict()] == ["label", "p_negative", "p_positive"]
    assert info.saved_input_example_info is not None


def test_version_knows_the_hash_of_its_files(published):
    assert len(published.tags[DIGEST_TAG]) == 64

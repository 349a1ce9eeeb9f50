"""With a real SQLite store of MLflow."""

import json
import platform
import subprocess
import sys
import urllib.parse
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from publications import SCORES, publication

from sentiflow.evaluation.metrics import METRICS
from sentiflow.registry import publishing
from sentiflow.registry.store import COMPLETE_TAG, EXPERIMENT, MODEL
from sentiflow.system import environment


@pytest.fixture(scope="module")
def parent(store):
    return publishing.retraining(store, "f" * 64)


@pytest.fixture(scope="module")
def publish(store, parent, trained, tmp_path_factory):
    """Publishes the tiny model, with changed fields by name."""

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


def test_run_has_parameters_metrics_tags_and_report(store, published):
    run = store.get_run(published.run_id)
    assert run.data.params["ngrams"] == "3"
    assert run.data.tags["architecture"] == "nb_svm"
    report = {item.path for item in store.list_artifacts(published.run_id, "report")}
    assert report == {"report/config.json", "report/environment.json", "report/weights.npz"}
    assert run.info.status == "FINISHED"
    [output] = run.outputs.model_outputs
    assert store.get_logged_model(output.model_id).tags["mlflow.source.name"] == "dvc repro"
    assert run.data.tags["mlflow.source.name"] == "dvc repro"


def test_metrics_of_a_run_are_those_that_people_compare_with_test_first(store, published):
    found = store.get_run(published.run_id).data.metrics
    curves = {f"{split}/{name}" for split in ("train", "valid") for name in publishing.CURVES}
    single = {f"test/{name}" for name in METRICS} | {f"valid/best_{name}" for name in publishing.CURVES}
    usage = {f"usage/{name}" for name in ("epoch_seconds", "training_seconds", "size_mb", "weights")}
    assert {name for name in found if not name.startswith("system/")} == curves | single | usage
    assert min(curves | single | usage) == "test/accuracy_score"
    assert found["test/accuracy_score"] == found["valid/best_accuracy_score"] == 0.9
    assert (found["usage/weights"], found["usage/training_seconds"]) == (12, 2.75)
    assert 0 < found["usage/size_mb"] < 50
    for name, expected in (("valid/log_loss", [(1, 0.6), (2, 0.55)]), ("usage/epoch_seconds", [(1, 1.5), (2, 1.25)])):
        assert [(metric.step, metric.value) for metric in store.get_metric_history(published.run_id, name)] == expected


def test_run_has_environment_and_provenance_as_artifacts(store, published, tmp_path):
    def read(name):
        return json.loads(Path(store.download_artifacts(published.run_id, name, str(tmp_path))).read_text())

    assert read("environment.json") == environment.describe(gpus=[], threads=1)
    assert read("provenance.json").items() >= {"reviews": "1" * 32, "tokens": "2" * 32, "model": "3" * 32}.items()


def test_version_has_only_tags_to_filter_or_search_by(publish):
    git = {"commit": "4" * 40, "repository": "https://example.org/repository"}
    made = {"reviews": "1" * 32, "tokens": "2" * 32, "model": "3" * 32} | git
    clean = publish(key="e" * 64, provenance=made | {"dirty": "false"}).tags
    assert clean == {
        "architecture": "nb_svm",
        "dvc.reviews": "1" * 32,
        "git.commit": "4" * 40,
        "verdict": "not judged",
        "sentiflow.key": "e" * 64,
        "sentiflow.sha256": clean["sentiflow.sha256"],
    }
    dirty = publish(key="6" * 64, provenance=made | {"dirty": "true"}).tags
    assert dirty.keys() - clean.keys() == {"git.uncommitted_changes"}


def test_retraining_is_the_parent_run_with_the_best_models_scores_and_the_shared_pages(store, parent, published, tmp_path):
    (tmp_path / "errors").mkdir()
    (tmp_path / "errors/slices.csv").write_text("slice\n")
    (tmp_path / "report.html").write_text("<p>")
    before = counts(store)
    for _ in range(2):
        assert publishing.retraining(store, "f" * 64) == parent
        pages = [tmp_path / "errors", tmp_path / "report.html"]
        publishing.finish(store, parent, {"nb_svm": published}, best="nb_svm", scores=SCORES, pages=pages)
    assert counts(store) == before
    run = store.get_run(parent)
    assert run.info.run_name == "retraining"
    assert run.info.status == "FINISHED"
    assert run.data.tags["best"] == "nb_svm"
    assert run.data.tags["run.nb_svm"] == published.run_id
    assert store.get_run(published.run_id).data.tags["mlflow.parentRunId"] == parent
    assert run.data.metrics == {f"test/{name}": SCORES[name] for name in METRICS}
    assert {item.path for item in store.list_artifacts(parent)} == {"errors", "report.html"}
    assert [item.path for item in store.list_artifacts(parent, "errors")] == ["errors/slices.csv"]


def test_comparison_page_names_the_runs_in_order(store, published):
    page = urllib.parse.unquote(publishing.comparison_page(store, [published, published]))
    run = published.run_id
    assert page == f'#/compare-runs?runs=["{run}","{run}"]&experiments=["{store.get_run(run).info.experiment_id}"]'


def test_run_has_its_datasets_and_system_metrics(store, published):
    run = store.get_run(published.run_id)
    read = {given.tags[0].value: given.dataset for given in run.inputs.dataset_inputs}
    assert set(read) == {"train", "valid", "test"}
    assert read["train"].digest == "2" * 32
    assert "tokens/train.parquet" in read["train"].source
    [used] = store.get_metric_history(published.run_id, "system/cpu_utilization_percentage")
    assert (used.value, used.timestamp) == (50.0, 1_500_000_000_000)


def test_model_and_version_have_descriptions(store, published):
    assert "champion" in store.get_registered_model(MODEL).description
    assert "accuracy 0.9000 on 80 test reviews (interval 0.8800 to 0.9200)" in published.description
    assert "negative, positive" in published.description


def test_publishing_is_idempotent(store, published, publish):
    before = counts(store)
    again = publish()
    assert (again.version, again.run_id) == (published.version, published.run_id)
    assert counts(store) == before


def test_interrupted_publication_is_replaced(store, published, publish):
    before = counts(store)
    version = publish(key="b" * 64)
    store.delete_tag(version.run_id, COMPLETE_TAG)
    store.set_tag(
        version.run_id, publishing.PUBLISHER_TAG, f"{platform.node()} {psutil.Process().pid} 1"
    )  # a process that no longer exists
    replaced = publish(key="b" * 64)
    assert replaced.run_id != version.run_id
    assert counts(store) == (before[0] + 1, before[1] + 1)
    models = store.search_logged_models([store.get_run(replaced.run_id).info.experiment_id])
    assert version.source.removeprefix("models:/") not in {model.model_id for model in models}


@pytest.mark.parametrize("machine", [platform.node(), "another-machine"])
def test_publication_in_progress_elsewhere_is_kept_and_the_first_complete_one_wins(store, publish, machine):
    sleeping = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        key = {True: "c", False: "d"}[machine == platform.node()] * 64
        first = publish(key=key)
        store.delete_tag(first.run_id, COMPLETE_TAG)
        began = psutil.Process(sleeping.pid).create_time()
        store.set_tag(first.run_id, publishing.PUBLISHER_TAG, f"{machine} {sleeping.pid} {began:.0f}")
        second = publish(key=key)
        assert second.version != first.version
        store.set_tag(first.run_id, COMPLETE_TAG, "true")  # the other process finishes
        assert publish(key=key).version == first.version
    finally:
        sleeping.communicate()


def test_registered_model_predicts_as_in_training_in_another_process(store, published, trained):
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


def test_registered_model_has_no_pickle(store, published):
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

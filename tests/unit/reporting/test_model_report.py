import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics

from sentiflow.config.params import Evaluate
from sentiflow.evaluation import evaluation
from sentiflow.evaluation.metrics import tracked
from sentiflow.reporting import model_report

FIGURES = {"curves.png", "confusion_matrix.png", "roc.png", "precision_recall.png", "reliability.png"}
TEXTS = {"scores.json", "classification_report.txt", "confused_pairs.md", "layers.json", "calibration.json"}
TABLES = {
    **{f"epochs/{name}": ["epoch", f"train_{name}", f"valid_{name}"] for name in tracked()},
    "confusion": ["actual", "predicted"],
    "roc": ["class", "false_positive_rate", "true_positive_rate"],
    "precision_recall": ["class", "recall", "precision"],
    "reliability": ["confidence", "accuracy", "reviews"],
}


def evaluated(classes, *, epochs=4, count=200):
    """An evaluated model that is better than chance."""
    draw = np.random.default_rng(len(classes))
    labels = draw.integers(0, len(classes), count)
    probabilities = 0.7 * draw.dirichlet(np.ones(len(classes)), count)
    probabilities[np.arange(count), labels] += 0.3
    how = Evaluate(resamples=100, confidence=0.95, bins=10)
    scores = {
        split: evaluation.evaluate(labels, probabilities, how, temperature=2.0, seed=1) for split in ("train", "valid", "test")
    }
    history = pd.DataFrame({"epoch": range(1, epochs + 1)})
    for split in ("train", "valid"):
        for name in tracked():
            history[f"{split}_{name}"] = draw.random(epochs)
    layers = [{"name": name, "kind": "Dense", "output": "(B, 1)", "weights": weights} for name, weights in (("a", 4), ("b", 5))]
    return model_report.Evaluated("lstm", classes, scores, labels, probabilities, history, how.bins, layers, 2.0)


@pytest.fixture(
    scope="module",
    params=[{"classes": ("no", "yes")}, {"classes": ("low", "mid", "high")}, {"classes": ("no", "yes"), "epochs": 1}],
    ids=["two classes", "three classes", "one epoch"],
)
def model(request):
    return evaluated(**request.param)


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """The folders of its report and its plot data."""
    folder, plots_folder = tmp_path_factory.mktemp("report"), tmp_path_factory.mktemp("plots")
    model_report.write(model, folder)
    model_report.write_plot_data(model, plots_folder)
    return folder, plots_folder


def named_in(function):
    """Names in backquotes in a docstring."""
    return set(re.findall(r"`([\w.]+)`", function.__doc__))


def test_report_is_the_files_of_the_docstring_and_the_figures(written):
    folder, _ = written
    names = {file.name for file in folder.iterdir()}
    assert named_in(model_report.write) == TEXTS
    assert names == named_in(model_report.write) | FIGURES
    for name in FIGURES:
        with Image.open(folder / name) as image:
            image.load()


def test_scores_are_stored_unchanged(model, written):
    assert json.loads((written[0] / "scores.json").read_text(encoding="utf-8")) == model.scores


def test_layers_are_stored_with_the_total_number_of_weights(model, written):
    stored = json.loads((written[0] / "layers.json").read_text(encoding="utf-8"))
    assert stored == {"layers": model.layers, "weights": 9}


def test_the_classification_report_names_every_class_and_counts_every_review(model, written):
    lines = (written[0] / "classification_report.txt").read_text(encoding="utf-8").splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert [int(rows[name][-1]) for name in model.classes] == np.bincount(model.labels).tolist()
    assert int(rows["accuracy"][-1]) == len(model.labels)


def test_plot_data_are_the_tables_of_the_docstring(written):
    _, folder = written
    assert named_in(model_report.write_plot_data) == {name for name in TABLES if "/" not in name} | {"epochs"}
    assert {file.relative_to(folder).as_posix() for file in folder.rglob("*.csv")} == {f"{name}.csv" for name in TABLES}
    for name, columns in TABLES.items():
        table = pd.read_csv(folder / f"{name}.csv")
        assert list(table.columns) == columns
        assert len(table)
        assert table.notna().all(axis=None)


def test_plot_data_match_the_model(model, written):
    tables = {name: pd.read_csv(written[1] / f"{name}.csv") for name in TABLES}
    counted = metrics.confusion_matrix(tables["confusion"]["actual"], tables["confusion"]["predicted"], labels=model.classes)
    np.testing.assert_array_equal(counted, metrics.confusion_matrix(model.labels, model.probabilities.argmax(axis=1)))
    assert tables["reliability"]["reviews"].sum() == len(model.labels)
    assert tables["epochs/log_loss"]["epoch"].to_list() == model.history["epoch"].to_list()
    np.testing.assert_allclose(tables["epochs/accuracy_score"]["valid_accuracy_score"], model.history["valid_accuracy_score"])
    shown = model.classes[1:] if len(model.classes) == 2 else model.classes
    assert set(tables["roc"]["class"]) == set(tables["precision_recall"]["class"]) == set(shown)


def test_the_same_model_gives_the_same_bytes_and_is_not_changed(model, written, tmp_path):
    before = model.history.copy(), model.labels.copy(), model.probabilities.copy(), json.dumps(model.scores)
    model_report.write(model, tmp_path)
    model_report.write_plot_data(model, tmp_path)
    for folder in written:
        for file in filter(Path.is_file, folder.rglob("*")):
            assert file.read_bytes() == (tmp_path / file.relative_to(folder)).read_bytes()
    pd.testing.assert_frame_equal(model.history, before[0])
    np.testing.assert_array_equal(model.labels, before[1])
    np.testing.assert_array_equal(model.probabilities, before[2])
    assert json.dumps(model.scores) == before[3]

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sentiflow.evaluation import evaluation, metrics
from sentiflow.reporting import png_plots

EPOCHS = [1, 30]


def history(epochs):
    draw = np.random.default_rng(epochs)
    scores = {f"{split}_{score}": draw.random(epochs) for split in ("train", "valid") for score in metrics.tracked()}
    return pd.DataFrame({"epoch": range(1, epochs + 1)} | scores)


def answers(classes):
    draw, count = np.random.default_rng(classes), max(300, 20 * classes)
    labels = draw.integers(0, classes, count)
    probabilities = 0.7 * draw.dirichlet(np.ones(classes), count)
    probabilities[np.arange(count), labels] += 0.3
    return labels, probabilities


def table(architectures):
    accuracy = np.linspace(0.9, 0.7, len(architectures))
    return pd.DataFrame(
        {
            "architecture": architectures,
            "accuracy_score": accuracy,
            "accuracy_score_low": accuracy - 0.01,
            "accuracy_score_high": accuracy + 0.02,
            "published": [0.88, *[float("nan")] * (len(architectures) - 1)],
        }
    )


def curves(name, classes):
    return evaluation.curves(*answers(len(classes)), classes)[name]


def reliability(table, error, file):
    scores = {"uncalibrated_error": error + 0.1, "calibration_error": error}
    png_plots.reliability(table.assign(confidence=table["confidence"] ** 2), table, scores, 1.5, "lstm, test", file)


def confusion(classes, file):
    counts = np.arange(1, len(classes) ** 2 + 1).reshape(len(classes), -1) * 1234
    png_plots.confusion_matrix(counts, classes, "lstm, test", file)


TWO, THREE = ("negative", "positive"), ("negative", "neutral", "positive")
MANY = tuple(f"class with a name {number}" for number in range(129))
FIGURES = {
    **{f"training_curves of {n}": lambda file, n=n: png_plots.training_curves(history(n), "lstm", file) for n in EPOCHS},
    **{
        f"{kind} of {len(classes)}": lambda file, draw=draw, classes=classes: draw(classes, file)
        for classes in (TWO, THREE, MANY)
        for kind, draw in {
            "confusion_matrix": confusion,
            "roc": lambda classes, file: png_plots.roc(curves("roc", classes), "lstm, test", file),
            "precision_recall": lambda classes, file: png_plots.precision_recall(
                curves("precision_recall", classes), "lstm, test", file
            ),
            "reliability": lambda classes, file: reliability(metrics.reliability(*answers(len(classes)), bins=15), 0.0123, file),
        }.items()
    },
    "reliability of one interval": lambda file: reliability(
        pd.DataFrame({"confidence": [1.0], "accuracy": [0.0], "reviews": [3]}), 1.0, file
    ),
    **{
        f"scores_with_intervals of {n}": lambda file, n=n: png_plots.scores_with_intervals(
            table([f"model_{i}" for i in range(n)]), file
        )
        for n in (1, 12)
    },
    "scores_with_intervals unpublished": lambda file: png_plots.scores_with_intervals(
        table(["new"]).assign(published=float("nan")), file
    ),
    **{
        f"overlaid_curves of {n}": lambda file, n=n: png_plots.overlaid_curves(
            {f"model_{i}": history(epochs) for i, epochs in enumerate([5, 15, 1][:n])}, file
        )
        for n in (1, 3)
    },
}


@pytest.fixture(scope="module", params=FIGURES)
def figure(request, tmp_path_factory):
    """A drawn figure, and what draws it."""
    file = tmp_path_factory.mktemp("figures") / "figure.png"
    FIGURES[request.param](file)
    return file, FIGURES[request.param]


def test_every_plot_function_is_tested():
    public = {name for name, thing in vars(png_plots).items() if callable(thing) and thing.__module__ == png_plots.__name__}
    assert {name for name in public if not name.startswith("_")} == {name.split()[0] for name in FIGURES}


def test_a_figure_is_a_png_of_readable_size_with_something_drawn(figure):
    file, _ = figure
    with Image.open(file) as image:
        image.load()
        assert image.format == "PNG"
        assert all(150 <= side <= 2500 for side in image.size)
        assert 0.1 < image.width / image.height < 10
        pixels = np.asarray(image.convert("L"))
    assert (pixels == 255).mean() > 0.2
    assert (pixels < 128).mean() > 0.001


def test_a_figure_has_the_same_bytes_again(figure, tmp_path):
    file, draw = figure
    draw(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == file.read_bytes()


def test_other_data_give_another_figure(tmp_path):
    for seed in (3, 4):
        png_plots.training_curves(history(seed).iloc[:3], "lstm", tmp_path / str(seed))
    assert (tmp_path / "3").read_bytes() != (tmp_path / "4").read_bytes()


def test_the_global_matplotlib_style_is_unchanged(tmp_path):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    FIGURES["confusion_matrix of 2"](tmp_path / "figure.png")
    assert dict(mpl.rcParams) == before


def test_no_figure_stays_open(tmp_path):
    import matplotlib.pyplot as plt

    FIGURES["overlaid_curves of 3"](tmp_path / "figure.png")
    assert plt.get_fignums() == []


def test_the_data_are_not_changed(tmp_path):
    curve, scores = curves("roc", THREE), table(["lstm", "nb_svm"])
    before = curve.copy(), scores.copy()
    png_plots.roc(curve, "lstm", tmp_path / "roc.png")
    png_plots.scores_with_intervals(scores, tmp_path / "scores.png")
    pd.testing.assert_frame_equal(curve, before[0])
    pd.testing.assert_frame_equal(scores, before[1])


@pytest.mark.parametrize("classes", [("$", "$$"), ("good", r"$\bad$"), ("50%", "a_b^c{")], ids=["prices", "formula", "signs"])
@pytest.mark.parametrize("kind", ["confusion_matrix", "roc"])
def test_class_names_are_not_parsed_as_formulas(tmp_path, kind, classes):
    if kind == "roc":
        png_plots.roc(curves("roc", classes), "lstm, test", tmp_path / "figure.png")
    else:
        confusion(classes, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_no_history_gives_an_empty_figure_without_a_warning(tmp_path):
    png_plots.overlaid_curves({}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_an_interval_that_does_not_contain_its_score_is_drawn(tmp_path):
    """An interval of low confidence (evaluate.confidence: 0.05) may not contain the score."""
    scores = table(["lstm", "nb_svm"])
    scores["accuracy_score_low"] = scores["accuracy_score"] + 0.001
    png_plots.scores_with_intervals(scores, tmp_path / "scores.png")
    assert (tmp_path / "scores.png").stat().st_size > 1000


def test_a_confusion_matrix_of_any_number_of_classes_has_the_same_size(tmp_path):
    sizes = []
    for count in (77, 1000):
        png_plots.confusion_matrix(
            np.eye(count, dtype=int), [f"class {i}" for i in range(count)], "lstm", tmp_path / "figure.png"
        )
        with Image.open(tmp_path / "figure.png") as image:
            sizes.append(image.size)
    assert sizes[0] == sizes[1]

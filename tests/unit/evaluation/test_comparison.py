import json
import re

import numpy as np
import pytest

from sentiflow.evaluation import comparison, evaluation, significance
from sentiflow.evaluation.metrics import METRICS, tracked
from sentiflow.system.errors import InputError


def scores(**values):
    """All scores of one split, by default 0.5, with intervals of plus and minus one point."""
    found = {name: values.get(name, 0.5) for name in tracked()}
    ends = {f"{name}_{end}": value + step for name, value in found.items() for end, step in (("low", -0.01), ("high", 0.01))}
    return found | ends | {"calibration_error": 0.03, "uncalibrated_error": 0.05, "roc_auc_score": 0.9}


def predictions(right, classes=("negative", "positive")):
    """Predictions that are correct where `right` is true."""
    labels = np.arange(len(right)) % len(classes)
    answered = np.where(right, labels, (labels + 1) % len(classes))
    return evaluation.predictions(np.arange(100, 100 + len(right)), labels, np.eye(len(classes))[answered], classes)


@pytest.fixture
def evaluated():
    """Scores and predictions of three architectures; `lstm` is best on valid, `nb_svm` on test and by loss, `new` is unknown."""
    valid = {"lstm": (0.90, 0.4), "nb_svm": (0.88, 0.3), "new": (0.70, 0.6)}
    test = {"lstm": (0.875, 0.45), "nb_svm": (0.89, 0.31), "new": (0.6, 0.65)}
    by_split = {
        name: {
            split: scores(accuracy_score=accuracy, f1_score=accuracy - 0.01, log_loss=loss)
            for split, (accuracy, loss) in {"train": (0.99, 0.1), "valid": valid[name], "test": test[name]}.items()
        }
        for name in valid
    }
    draw = np.random.default_rng(1)
    answers = {name: predictions(draw.random(400) < test[name][0]) for name in valid}
    return by_split, answers


def compared(evaluated, chosen_by="f1_score"):
    return comparison.compare(*evaluated, chosen_by=chosen_by)


# compare


@pytest.mark.parametrize(
    ("chosen_by", "order"),
    [
        ("f1_score", ["lstm", "nb_svm", "new"]),
        ("accuracy_score", ["lstm", "nb_svm", "new"]),
        ("log_loss", ["nb_svm", "lstm", "new"]),
    ],
)
def test_models_are_in_order_of_their_valid_score(evaluated, chosen_by, order):
    found = compared(evaluated, chosen_by)
    assert [model["architecture"] for model in found["models"]] == order
    assert found["best"] == order[0]
    assert found["chosen_by"] == f"valid {chosen_by}"


def test_the_choice_does_not_depend_on_test(evaluated):
    by_split, answers = evaluated
    before = compared(evaluated)["best"]
    by_split["new"]["test"] = by_split["new"]["train"] = scores(accuracy_score=1.0, f1_score=1.0, log_loss=0.0)
    answers["new"]["predicted"] = answers["new"]["label"]
    assert compared(evaluated)["best"] == before


@pytest.mark.parametrize("chosen_by", ["accuracy_score", "f1_score"])
def test_equal_scores_on_valid_are_ordered_by_loss(evaluated, chosen_by):
    by_split, answers = evaluated
    for name, loss in {"lstm": 0.7, "nb_svm": 0.2, "new": 0.4}.items():
        by_split[name]["valid"] = scores(accuracy_score=1.0, f1_score=1.0, log_loss=loss)
    for names in (["lstm", "nb_svm", "new"], ["new", "nb_svm", "lstm"]):
        found = comparison.compare({name: by_split[name] for name in names}, answers, chosen_by=chosen_by)
        assert [model["architecture"] for model in found["models"]] == ["nb_svm", "new", "lstm"]
    for name in names:
        by_split[name]["valid"] = scores(accuracy_score=1.0, f1_score=1.0, log_loss=0.2)
    assert compared(evaluated, chosen_by)["best"] == "lstm", "by name where the loss is equal too"


def test_each_model_has_its_scores_and_its_holm_corrected_p_value(evaluated):
    by_split, answers = evaluated
    found = compared(evaluated)
    assert found["test_reviews"] == 400
    right = {name: (table["label"] == table["predicted"]).to_numpy() for name, table in answers.items()}
    p = {name: significance.mcnemar(right[name], right["lstm"]) for name in ("nb_svm", "new")}
    assert p["nb_svm"] > 0.01, "the two orders of Holm's steps would be indistinguishable"
    assert p["new"] < p["nb_svm"]
    expected = {"lstm": None, "new": 2 * p["new"], "nb_svm": max(p["nb_svm"], 2 * p["new"])}
    assert {model["architecture"]: model["scores"] for model in found["models"]} == by_split
    assert {model["architecture"]: model["p_against_best"] for model in found["models"]} == expected


def test_each_model_has_its_published_result_if_there_is_one(evaluated):
    published = {model["architecture"]: model["published"] for model in compared(evaluated)["models"]}
    assert published["new"] is None
    assert published["lstm"]["recipe"] == "003-lstm"
    assert published["lstm"]["accuracy"] == 0.8558
    assert published["nb_svm"]["f1"] is None  # not in the paper


def test_models_of_three_classes_have_no_published_result_of_two(evaluated):
    by_split, _ = evaluated
    answers = {name: predictions(np.arange(30) % 4 > 0, ("negative", "neutral", "positive")) for name in by_split}
    found = comparison.compare(by_split, answers, chosen_by="f1_score")
    assert [model["published"] for model in found["models"]] == [None] * 3
    assert "nan" not in comparison.as_markdown(found)


def test_models_of_three_classes_have_published_results_of_three(evaluated):
    by_split, _ = evaluated
    answers = predictions(np.arange(30) % 4 > 0, ("negative", "neutral", "positive"))
    found = comparison.compare({"lstm_attention": by_split["lstm"]}, {"lstm_attention": answers}, chosen_by="f1_score")
    assert found["models"][0]["published"]["recipe"] == "001-multiclass"
    assert found["models"][0]["published"]["accuracy"] == 0.7961


def test_models_of_other_data_have_no_published_results_and_no_table_of_them(evaluated):
    found = comparison.compare(*evaluated, chosen_by="f1_score", has_published=False)
    assert [model["published"] for model in found["models"]] == [None] * 3
    for page in (comparison.as_markdown(found), comparison.as_summary(found)):
        assert "ublished" not in page
        assert "| nb_svm" in page
    assert "published accuracy" in comparison.as_summary(compared(evaluated))
    assert "## Published figures" in comparison.as_markdown(compared(evaluated))


def test_the_comparison_is_json_without_nan(evaluated):
    found = compared(evaluated)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.iloc[:-1],
        lambda table: table.iloc[::-1],
        lambda table: table.assign(row=table["row"] + 1),
    ],
    ids=["fewer", "another order", "others"],
)
@pytest.mark.parametrize("name", ["lstm", "new"])
def test_models_evaluated_on_different_reviews_are_an_error_that_names_both(evaluated, name, change):
    by_split, answers = evaluated
    changed = answers | {name: change(answers[name])}
    with pytest.raises(InputError, match=r"(nb_svm|new) and lstm were evaluated on different test reviews; .*dvc repro evaluate"):
        comparison.compare(by_split, changed, chosen_by="f1_score")


def test_a_single_model_is_the_best(evaluated):
    by_split, answers = evaluated
    found = comparison.compare({"new": by_split["new"]}, {"new": answers["new"]}, chosen_by="f1_score")
    assert found["best"] == "new"
    page = comparison.as_markdown(found)
    assert "**new** is best" in page
    assert not re.search(r"\| *(\*\*|_)", page)  # nothing to mark


# tables


def tables(page):
    """Every table of a page: its header and its rows, as cells."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        header, rule, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        assert all(re.fullmatch("-+", cell) for cell in rule)
        assert len(rule) == len(header)
        found.append((header, rows))
    return found


def test_the_page_marks_the_best_and_the_worst_of_each_column(evaluated):
    header, rows = tables(comparison.as_markdown(compared(evaluated)))[0]
    assert header == [
        "model",
        *(f"{split} {score}" for score in ("accuracy", "F1", "loss") for split in ("train", "valid", "test")),
    ]
    assert [row[header.index("valid accuracy")] for row in rows] == ["**0.9000**", "0.8800", "_0.7000_"]
    assert [row[header.index("test loss")] for row in rows] == ["0.4500", "**0.3100**", "_0.6500_"]
    assert [row[header.index("train loss")] for row in rows] == ["0.1000"] * 3


def test_the_page_has_intervals_calibration_and_p_values_on_test(evaluated):
    found = compared(evaluated)
    header, rows = tables(comparison.as_markdown(found))[1]
    assert header == [
        "model",
        "valid F1",
        "loss",
        "accuracy",
        "precision",
        "recall",
        "F1",
        "balanced accuracy",
        "Matthews correlation",
        "calibration error (before)",
        "McNemar p (Holm)",
    ]
    assert rows[0][0] == "lstm"
    assert rows[0][3] == "0.8750 (0.8650 to 0.8850)"
    assert rows[0][-2:] == ["0.030 (0.050)", "best"]
    assert [float(row[-1]) for row in rows[1:]] == pytest.approx(
        [model["p_against_best"] for model in found["models"][1:]], rel=0.05
    )


def test_the_page_has_the_published_results(evaluated):
    page = comparison.as_markdown(compared(evaluated))
    header, rows = tables(page)[2]
    assert header == ["model", "valid F1", "recipe", "published accuracy", "ours on test", "their data"]
    assert [row[:5] for row in rows] == [
        ["lstm", "0.8900", "003-lstm", "0.8558", "0.8750 (0.8650 to 0.8850)"],
        ["nb_svm", "0.8700", "Wang & Manning 2012", "0.9122", "0.8900 (0.8800 to 0.9000)"],
    ]
    assert all(row[5] for row in rows)


@pytest.mark.parametrize("chosen_by", ["accuracy_score", "f1_score", "log_loss"])
def test_every_table_is_in_order_of_a_column_that_it_shows(evaluated, chosen_by):
    found = compared(evaluated, chosen_by)
    page = comparison.as_markdown(found)
    column = f"valid {METRICS[chosen_by].label}"
    assert f"Order: {column}, then valid loss." in page
    for header, rows in [*tables(page), *tables(comparison.as_summary(found))]:
        values = [float(re.sub("[*_]", "", row[header.index(column)])) for row in rows]
        assert values == sorted(values, reverse=METRICS[chosen_by].higher_is_better)


def test_the_page_begins_with_the_best_model(evaluated):
    page = comparison.as_markdown(compared(evaluated, "log_loss"))
    assert page.startswith("# Comparison\n\n**nb_svm** is best on valid log_loss. On test (400 reviews) its accuracy is 89.00% ")
    assert "(interval 88.00% to 90.00%)" in page


def test_the_table_for_the_figure_has_scores_intervals_and_published_accuracy(evaluated):
    table = comparison.as_table(compared(evaluated))
    assert table["architecture"].to_list() == ["lstm", "nb_svm", "new"]
    assert table["accuracy_score"].to_list() == [0.875, 0.89, 0.6]
    assert table["accuracy_score_low"].to_list() == pytest.approx([0.865, 0.88, 0.59])
    assert table["published"].to_list() == pytest.approx([0.8558, 0.9122, float("nan")], nan_ok=True)
    assert table["published"].dtype == float


def test_the_table_for_the_figure_is_numeric_without_published_results(evaluated):
    by_split, answers = evaluated
    found = comparison.compare({"new": by_split["new"]}, {"new": answers["new"]}, chosen_by="f1_score")
    assert comparison.as_table(found)["published"].dtype == float


# published figures


def test_published_results_are_plausible_and_have_sources():
    table = comparison.published()
    assert list(table.columns) == ["architecture", "classes", "recipe", "accuracy", "f1", "note"]
    assert not table[["architecture", "classes"]].duplicated().any()
    assert {"nb_svm", "lstm", "cnn_lstm", "lstm_attention"} <= set(table["architecture"])
    for column in ("accuracy", "f1"):
        known = table[column].dropna()
        assert ((known > 0) & (known < 1)).all()
    assert table[["architecture", "recipe", "accuracy", "note"]].notna().all(axis=None)
    assert not table.select_dtypes("str").map(lambda text: "|" in text, na_action="ignore").any(axis=None)

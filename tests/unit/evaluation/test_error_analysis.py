import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from samples import answers as sample_answers
from samples import configuration, reviews
from scipy import stats

from sentiflow.config import params
from sentiflow.data import vocabulary
from sentiflow.evaluation import error_analysis, evaluation, significance
from sentiflow.reporting import error_report
from sentiflow.system.errors import InputError

TOP = Path(__file__).parents[3]
TWO = ("negative", "positive")
THREE = ("negative", "neutral", "positive")
OPTIONS = params.Analyse(
    samples=3, samples_with_text=6, mistakes=4, disagreements=5, negations=["not", "no"], contrasts=["but", "yet"]
)

every_number_of_classes = pytest.mark.parametrize("classes", [TWO, THREE], ids=["two", "three"])


def predictions(seeds, classes=TWO, count=60):
    """Predictions of one architecture per seed on the same reviews, with rows that are not positions."""
    labels, _ = sample_answers(count, len(classes), seed=0)
    found = {}
    for name, seed in seeds.items():
        shares = np.random.default_rng(seed).dirichlet(np.ones(len(classes)), count) * 0.7
        shares[np.arange(count), labels] += 0.3
        found[name] = evaluation.predictions(np.arange(100, 100 + count), labels, shares, classes)
    return found


def texts_of(table):
    return pd.Series([f"text of {row}" for row in table["row"]], index=pd.Index(table["row"], name="row"))


def collected(seeds=None, classes=TWO, count=60):
    found = predictions(seeds or {"best": 1, "second": 2, "third": 3}, classes, count)
    return error_analysis.collect(found, texts_of(next(iter(found.values()))))


def answered(labels, **predicted):
    """Predictions, each with confidence 0.9."""
    rows = pd.RangeIndex(len(labels), name="row")
    answers = pd.DataFrame(predicted, index=rows)
    texts = pd.Series([f"text {row}" for row in rows], rows)
    return error_analysis.Answers(pd.Series(labels, rows), texts, answers, pd.DataFrame(0.9, rows, answers.columns))


def measured(answers, **values):
    """The same measures for every architecture; 0 by default."""
    table = pd.DataFrame(0, answers.labels.index, list(error_analysis.SLICES)).assign(**values)
    return dict.fromkeys(map(str, answers.predicted.columns), table)


def tokens_of(texts):
    """Tokens of reviews and a vocabulary of all their words."""
    texts = pd.Series(texts)
    words = vocabulary.Vocabulary.from_json(vocabulary.fit(texts, minimum_count=1))
    return vocabulary.Tokens(np.arange(len(texts)) + 100, np.zeros(len(texts), np.int64), words.ids(texts)), words


def page_of(answers, options=OPTIONS, measures=None):
    slices = error_analysis.accuracy_by_slice(answers, measures or measured(answers), confidence=0.95)
    found = error_analysis.analyse(answers, slices, options, seed=7)
    return error_report.as_markdown(answers, found, confidence=0.95)


def section(page, title):
    """Text and tables, as lists of lines of cells, of the section of a page whose title begins with `title`."""
    [part] = [part for part in re.split(r"^#+ ", page, flags=re.MULTILINE) if part.startswith(title)]
    blocks = re.findall(r"(?:^\|.*\n)+", part, re.MULTILINE)
    return part, [
        [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()] for block in blocks
    ]


# predictions of all models


@every_number_of_classes
def test_predictions_are_compared_with_labels_and_have_their_confidence(classes):
    found = predictions({"best": 1, "second": 2}, classes)
    answers = error_analysis.collect(found, texts_of(found["best"]))
    assert list(answers.right) == ["best", "second"]
    for name, table in found.items():
        assert answers.right[name].to_list() == (table["label"] == table["predicted"]).to_list()
        stated = [line[f"p_{line['predicted']}"] for line in table.to_dict("records")]
        assert answers.confidence[name].to_list() == stated


def test_each_review_has_its_own_text():
    found = predictions({"best": 1})
    everything = pd.Series({row: f"text of {row}" for row in range(500, 0, -1)})
    assert error_analysis.collect(found, everything).texts.to_list() == [f"text of {row}" for row in found["best"]["row"]]


@pytest.mark.parametrize("change", [lambda t: t.iloc[:-1], lambda t: t.iloc[::-1], lambda t: t.assign(row=t["row"] + 1)])
def test_models_evaluated_on_different_reviews_are_an_error_that_names_both(change):
    found = predictions({"best": 1, "second": 2})
    found["second"] = change(found["second"])
    with pytest.raises(InputError, match=r"^second and best were evaluated on different test reviews; .*dvc repro evaluate"):
        error_analysis.collect(found, texts_of(found["best"]))


def test_reviews_without_a_text_are_an_error_that_names_one():
    found = predictions({"best": 1})
    with pytest.raises(InputError, match=r"^2 of 60 test reviews, such as row 100, are not among the 58 .*dvc repro evaluate"):
        error_analysis.collect(found, texts_of(found["best"]).iloc[2:])


# measures of reviews


def test_words_negations_and_contrasts_are_counted():
    tokens, words = tokens_of(["it is not good , but no . don't !", "fine", "yet not not can't", "", "knot note but-ter"])
    found = error_analysis.measures_of_texts(tokens, words, OPTIONS)
    assert found.index.to_list() == [100, 101, 102, 103, 104]
    assert found["length"].to_list() == [7, 1, 4, 0, 3]
    assert found["negation"].to_list() == [3, 0, 3, 0, 0]
    assert found["contrast"].to_list() == [1, 0, 1, 0, 0]


def test_a_linear_model_truncates_nothing_and_knows_all_but_rare_words():
    tokens, words = tokens_of(["a a a b , ,", "c " * 900, ""])
    found = error_analysis.measures_of_reading(tokens, words, configuration("nb_svm", minimum_count=2).settings)
    assert found["unknown words"].to_list() == pytest.approx([1 / 6, 0, 0])
    assert found["truncation"].to_list() == [0, 0, 0]


@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("punctuation", [True, False])
@pytest.mark.parametrize("size", [None, 8])
def test_unknown_and_truncated_words_are_those_of_the_models_input(truncating, punctuation, size):
    from sentiflow.models.neural import NeuralClassifier

    texts, _ = reviews(40)
    tokens, words = tokens_of([*texts, "", ", . ,", "unique"])
    read = {"vocabulary_size": size, "minimum_count": 2, "padding": "pre", "truncating": truncating, "punctuation": punctuation}
    config = configuration("lstm", **read, length=10)
    matrix = NeuralClassifier(config, words, None).matrix(tokens.ids)
    unknown = (matrix == vocabulary.UNKNOWN).sum(axis=1) / np.maximum((matrix != vocabulary.PAD).sum(axis=1), 1)
    whole = NeuralClassifier(configuration("lstm", **read, length=100), words, None).matrix(tokens.ids)
    found = error_analysis.measures_of_reading(tokens, words, config.settings)
    assert found["unknown words"].to_list() == pytest.approx(unknown.tolist())
    assert found["truncation"].to_list() == np.maximum((whole != vocabulary.PAD).sum(axis=1) - 10, 0).tolist()
    assert 0 < (found["truncation"] > 0).sum() < len(found)
    assert found["unknown words"].gt(0).any()


# accuracy by slice


@pytest.mark.parametrize(
    ("kind", "values", "groups"),
    [
        (
            "length",
            [0, 100, 101, 200, 201, 400, 401, 9000],
            {"up to 100 words": 2, "101 to 200 words": 2, "201 to 400 words": 2, "more than 400 words": 2},
        ),
        ("negation", [0, 1, 2, 3, 50], {"none": 1, "one or two": 2, "three or more": 2}),
        ("contrast", [0, 1, 9], {"none": 1, "some": 2}),
        (
            "unknown words",
            [0, 1 / 50, 0.0201, 3 / 60, 0.0501, 1],
            {"none": 1, "up to 2%": 1, "up to 5%": 2, "more than 5%": 2},
        ),
        ("truncation", [0, 1, 2], {"read whole": 1, "cut": 2}),
    ],
)
def test_every_review_is_in_the_group_of_its_measure(kind, values, groups):
    answers = answered(["positive"] * len(values), best=["positive"] * len(values))
    slices = error_analysis.accuracy_by_slice(answers, measured(answers, **{kind: values}), confidence=0.95)
    found = slices[slices["slice"] == kind]
    assert dict(zip(found["group"], found["reviews"], strict=True)) == groups
    assert list(groups) == [group for group in error_analysis.SLICES[kind] if group in groups]


@every_number_of_classes
def test_the_groups_of_a_slice_partition_the_reviews(classes):
    answers = collected(classes=classes)
    draw = np.random.default_rng(5)
    slices = error_analysis.accuracy_by_slice(answers, measured(answers, length=draw.integers(0, 300, 60)), confidence=0.9)
    whole = slices.groupby(["architecture", "slice"])["reviews"].sum()
    assert len(whole) == 3 * len(error_analysis.SLICES)
    assert (whole == 60).all()
    hits = (slices["accuracy_score"] * slices["reviews"]).groupby([slices["architecture"], slices["slice"]]).sum()
    for (name, _), count in hits.items():
        assert count == pytest.approx(answers.right[name].sum())
    assert "more than 400 words" not in set(slices["group"])
    assert slices["reviews"].gt(0).all()


def test_the_interval_is_wilsons():
    answers = answered(["positive"] * 20, best=["positive"] * 17 + ["negative"] * 3, always=["positive"] * 20)
    slices = error_analysis.accuracy_by_slice(answers, measured(answers), confidence=0.9).set_index(["architecture", "slice"])
    for name, hits in (("best", 17), ("always", 20)):
        scores = slices.loc[(name, "length")][["accuracy_score", "accuracy_score_low", "accuracy_score_high"]].to_list()
        assert scores == [hits / 20, *significance.wilson(hits, 20, 0.9)]


def test_measures_of_other_reviews_are_an_error():
    answers = collected({"best": 1})
    measures = {"best": measured(answers)["best"].iloc[1:]}
    with pytest.raises(InputError, match=r"^best was evaluated on other test reviews \(60\) .* \(59\); .*dvc repro evaluate"):
        error_analysis.accuracy_by_slice(answers, measures, confidence=0.95)


def test_a_group_is_tested_against_the_rest_by_fisher_and_corrected_by_holm():
    best = [1] * 90 + [0] * 10 + [1] * 20 + [0] * 20
    right = {"best": best, "same": best, "weaker": [1] * 93 + [0] * 20 + [1] * 27, "even": [1, 1, 1, 1, 0, 0, 0] * 20}
    answers = answered(["a"] * 140, **{name: np.where(hits, "a", "b") for name, hits in right.items()})
    measures = measured(answers, contrast=[0] * 100 + [1] * 40, negation=[0, 1, 3, 4] * 35)
    tested = error_analysis.against_the_rest(error_analysis.accuracy_by_slice(answers, measures, confidence=0.95))
    raw = []
    for line in tested.to_dict("records"):
        measure = measures["best"][line["slice"]]
        inside = pd.cut(
            measure, [-1, *error_analysis.SLICES[line["slice"]].values()], labels=list(error_analysis.SLICES[line["slice"]])
        )
        inside = (inside == line["group"]).to_numpy()
        hits = np.array(right[line["architecture"]], bool)
        table = [[hits[of].sum(), (~hits[of]).sum()] for of in (inside, ~inside)]
        raw.append(stats.fisher_exact(table, alternative="less").pvalue)
        assert line["rest"] == pytest.approx(hits[~inside].mean())
    assert set(tested["slice"]) == {"contrast", "negation"}  # no other has a rest
    assert tested["p"].to_list() == pytest.approx(significance.holm(np.array(raw)).tolist())
    worse = tested[tested["p"] < 0.05]
    assert worse["architecture"].to_list() == ["best", "same", "weaker"]
    assert set(worse["group"]) == {"some"}
    assert worse["p"].nunique() == 2


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["all wrong", "all right"])
def test_if_all_or_no_predictions_are_correct_no_group_is_worse(share):
    answers = answered(["a"] * 50, best=["a" if share else "b"] * 50)
    slices = error_analysis.accuracy_by_slice(answers, measured(answers, contrast=[0, 1] * 25), confidence=0.95)
    assert slices["accuracy_score"].eq(share).all()
    assert error_analysis.against_the_rest(slices)["p"].to_list() == [1.0, 1.0]


def test_metrics_are_complete_json_with_six_digits():
    answers = collected()
    slices = error_analysis.accuracy_by_slice(answers, measured(answers, contrast=[0, 1] * 30), confidence=0.95)
    found = json.loads(json.dumps(error_analysis.as_metrics(slices), allow_nan=False))
    for line in slices.to_dict("records"):
        group = found[line["architecture"]][line["slice"]][line["group"]]
        assert set(group) == {"reviews", "accuracy_score", "accuracy_score_low", "accuracy_score_high"}
        for name, value in group.items():
            assert value == round(line[name], 6)
    assert sum(len(groups) for of_model in found.values() for groups in of_model.values()) == len(slices)


# samples


def tables_of(answers, options=OPTIONS, seed=7):
    return error_analysis.analyse(
        answers, error_analysis.accuracy_by_slice(answers, measured(answers), confidence=0.95), options, seed=seed
    )


def test_samples_do_not_depend_on_the_architectures():
    all_three, alone = tables_of(collected()), tables_of(collected({"other": 9}))
    for name in ("samples", "samples_with_text"):
        assert all_three[name][["row", "label"]].equals(alone[name][["row", "label"]])


def test_samples_follow_from_the_seed():
    answers = collected()
    assert tables_of(answers)["samples"].equals(tables_of(answers)["samples"])
    assert tables_of(answers)["samples"]["row"].to_list() != tables_of(answers, seed=8)["samples"]["row"].to_list()


@every_number_of_classes
def test_samples_show_label_text_and_every_prediction(classes):
    answers = collected(classes=classes)
    found = tables_of(answers)
    assert list(found["samples"].columns) == ["row", "label", "best", "second", "third"]
    assert list(found["samples_with_text"].columns) == ["row", "label", "text", "best", "second", "third"]
    assert (len(found["samples"]), len(found["samples_with_text"])) == (3, 6)
    assert found["samples"]["row"].to_list() == found["samples_with_text"]["row"].to_list()[:3]
    for line in found["samples_with_text"].to_dict("records"):
        assert line["text"] == f"text of {line['row']}"
        assert line["label"] == answers.labels[line["row"]]
        assert all(line[name] == answers.predicted[name][line["row"]] for name in answers.predicted)


def test_samples_are_drawn_without_replacement():
    found = tables_of(collected(count=5))
    assert sorted(found["samples_with_text"]["row"]) == [100, 101, 102, 103, 104]


# mistakes


@every_number_of_classes
def test_the_most_confident_mistakes_of_each_model_come_first(classes):
    answers = collected(classes=classes)
    found = error_analysis.mistakes(answers, 4)
    assert list(found.columns) == ["architecture", "row", "label", "predicted", "confidence", "text"]
    assert found["architecture"].unique().tolist() == ["best", "second", "third"]
    assert (found["label"] != found["predicted"]).all()
    for name, table in found.groupby("architecture"):
        wrong = answers.confidence[name][~answers.right[name]]
        assert table["confidence"].to_list() == sorted(wrong, reverse=True)[:4]
        assert table["text"].to_list() == [f"text of {row}" for row in table["row"]]


def test_equally_confident_mistakes_are_ordered_by_row():
    answers = answered(["a"] * 6, best=["b", "a", "b", "b", "b", "a"])
    assert error_analysis.mistakes(answers, 3)["row"].to_list() == [0, 2, 3]


def test_a_model_without_mistakes_has_no_lines():
    answers = answered(["a"] * 4, best=["a"] * 4, second=["a", "b", "a", "b"])
    assert error_analysis.mistakes(answers, 9)["architecture"].to_list() == ["second", "second"]
    assert error_analysis.mistakes(answered(["a"] * 4, best=["a"] * 4), 9).empty


# disagreements


@every_number_of_classes
def test_disagreements_are_ordered_by_the_sum_of_confidences(classes):
    answers = collected(classes=classes)
    found = error_analysis.disagreements(answers, 5)
    assert list(found.columns) == [
        *("row", "label", "architecture", "predicted", "confidence"),
        *("other", "other_predicted", "other_confidence", "text"),
    ]
    assert set(found["architecture"]) == {"best"}
    assert set(found["other"]) == {"second"}
    assert (found["predicted"] != found["other_predicted"]).all()
    differ = answers.predicted["best"] != answers.predicted["second"]
    sums = (answers.confidence["best"] + answers.confidence["second"])[differ]
    assert (found["confidence"] + found["other_confidence"]).to_list() == sorted(sums, reverse=True)[:5]
    assert found["text"].to_list() == [f"text of {row}" for row in found["row"]]


def test_one_model_or_two_equal_ones_have_no_disagreements():
    alone, alike = answered(["a", "b"], best=["a", "a"]), answered(["a", "b"], best=["a", "a"], second=["a", "a"])
    for answers in (alone, alike):
        found = error_analysis.disagreements(answers, 5)
        assert found.empty
        assert "other_confidence" in found


# CSV

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "'quoted'", "'=1"]
HARMLESS = ["Fine.", " =1", "a\rb", 'say "no", twice\nand\r\nagain', "NA", "null", "\u65e5\u672c"]


def test_no_text_is_a_formula_in_a_spreadsheet():
    written = error_analysis.as_csv(pd.DataFrame({"row": range(len(FORMULAS)), "text": FORMULAS}))
    cells = [line[1] for line in csv.reader(io.StringIO(written, newline=""))][1:]
    assert cells == [f"'{text}" for text in FORMULAS]


def test_every_text_can_be_read_back_from_the_csv(tmp_path):
    table = pd.DataFrame({"row": range(len(FORMULAS + HARMLESS)), "text": FORMULAS + HARMLESS})
    (tmp_path / "texts.csv").write_text(error_analysis.as_csv(table), encoding="utf-8", newline="")
    read = pd.read_csv(tmp_path / "texts.csv", keep_default_na=False)
    assert read["text"].str.removeprefix("'").to_list() == FORMULAS + HARMLESS
    assert read["text"].to_list()[len(FORMULAS) :] == HARMLESS


def test_a_table_without_texts_or_without_lines_is_csv():
    assert error_analysis.as_csv(pd.DataFrame({"row": [1], "p": [1 / 3]})) == '"row","p"\n1,0.333333\n'
    empty = error_analysis.mistakes(answered(["a"], best=["a"]), 1)
    assert error_analysis.as_csv(empty) == '"architecture","row","label","predicted","confidence","text"\n'


# the page


@every_number_of_classes
@pytest.mark.parametrize("seeds", [{"only": 1}, {"best": 1, "second": 2}, {"best": 1, "second": 2, "third": 3}], ids=len)
def test_every_table_of_the_page_is_well_formed(classes, seeds):
    page = page_of(collected(seeds, classes))
    assert page.startswith("# Errors on test\n\n")
    assert page.endswith("\n")
    assert "\n\n\n" not in page
    assert not re.search(" $", page, re.MULTILINE)
    assert "nan" not in page
    found = [table for title in re.findall(r"^#+ (.*)$", page, re.MULTILINE) for table in section(page, title)[1]]
    assert len(found) == 2 + len(error_analysis.SLICES) + len(seeds) + (len(seeds) > 1)
    for header, rule, *lines in found:
        assert lines
        assert all(re.fullmatch("-+", cell) for cell in rule)
        assert {len(line) for line in lines} == {len(header)}


def test_the_page_marks_mistakes_and_agreement():
    answers = answered(["a", "b", "c"], best=["a", "b", "a"], second=["a", "c", "b"])
    text, [[header, _, *lines]] = section(page_of(answers), "Predictions on the same 3")
    by_name = {line[0]: dict(zip(header[1:], line[1:], strict=True)) for line in lines}
    assert by_name["label"] == {"row 0": "a", "row 1": "b", "row 2": "c"}
    assert by_name["best"] == {"row 0": "a", "row 1": "b", "row 2": "**a**"}
    assert by_name["second"] == {"row 0": "a", "row 1": "**c**", "row 2": "**b**"}
    assert by_name["correct"] == {"row 0": "2 of 2", "row 1": "1 of 2", "row 2": "0 of 2"}
    assert by_name["same"] == {"row 0": "yes", "row 1": "no", "row 2": "no"}
    assert "Of 3 reviews, all models are correct on 1 and none on 1; on 1 all predictions are the same." in text


def test_the_page_lists_models_by_prediction():
    answers = answered(["a", "b"], best=["a", "b"], second=["a", "a"])
    _, [[header, _, *lines]] = section(page_of(answers), "2 random")
    assert header == ["row", "label", "predicted a", "predicted b", "text"]
    assert sorted(lines) == [["0", "a", "all 2", "", "text 0"], ["1", "b", "second", "best", "text 1"]]


def test_the_page_lists_models_in_one_column_for_many_predictions():
    labels = list("abcdefgh")
    answers = answered(labels, best=labels, second=["b", *labels[1:]])
    _, [[header, _, *lines]] = section(page_of(answers, OPTIONS.model_copy(update={"samples_with_text": 8})), "8 random")
    assert header == ["row", "label", "predicted", "text"]
    assert sorted(lines)[:2] == [["0", "a", "a: best; b: second", "text 0"], ["1", "b", "b: all 2", "text 1"]]


def test_the_page_lists_significantly_worse_slices():
    def right(inside):
        return np.where([True] * 190 + [False] * 10 + [True] * inside + [False] * (200 - inside), "a", "b")

    answers = answered(["a"] * 400, best=right(140), second=right(100), third=["a"] * 400)
    page = page_of(answers, measures=measured(answers, contrast=[0] * 200 + [1] * 200))
    said, [[header, _, *worse]] = section(page, "Accuracy by kind")
    assert "These are 2 groups, largest gap first." in said
    assert header[6] == "gap"
    assert [line[:7] for line in worse] == [
        ["second", "contrast", "some", "200", "50.0%", "95.0%", "45.0 points"],
        ["best", "contrast", "some", "200", "70.0%", "95.0%", "25.0 points"],
    ]
    text, [[header, _, *lines]] = section(page, "By contrast")
    assert "`some` is worse for 2 of 3 models, most of all second (50.0% against 95.0% on the rest)." in text
    assert header == ["model", "none", "some"]
    shown = [re.sub(r"\(.*\)", "()", cell) for cell in lines[1]]
    assert shown == ["second", "95.0% (), 200 reviews", "**50.0%** (), 200 reviews"]
    assert "**" not in lines[2][2]
    assert "All reviews are in one group" in section(page, "By length")[0]


def test_the_page_reports_that_no_slice_is_worse():
    answers = answered(["a"] * 40, best=["a"] * 15 + ["b"] * 5 + ["a"] * 10 + ["b"] * 10)
    page = page_of(answers, measures=measured(answers, contrast=[0] * 20 + [1] * 20))
    assert "No group is." in section(page, "Accuracy by kind")[0]
    assert "No group is significantly worse." in section(page, "By contrast")[0]


def test_the_page_counts_mistakes_of_every_model():
    answers = answered(["a"] * 4, best=["b", "b", "a", "a"], second=["b", "a", "a", "b"])
    page = page_of(answers)
    assert "All 2 models are wrong on 1 review; row 0 is in 2 of the lists below." in page
    assert (
        "2 of 4 predictions are wrong, with a mean confidence of 90.0% (90.0% of the correct ones)." in section(page, "best")[0]
    )
    assert "best and second give different predictions on 2 of 4 reviews; best is correct on 1 of them, second on 1." in page


def test_the_page_handles_models_that_are_always_right_or_always_wrong():
    answers = answered(["a"] * 3, best=["a"] * 3, second=["b"] * 3)
    page = page_of(answers)
    assert "All 3 predictions are correct." in section(page, "best")[0]
    assert "3 of 3 predictions are wrong, with a mean confidence of 90.0%.\n" in section(page, "second")[0]
    assert "All 2 models are wrong on 0 reviews." in page
    assert "give different predictions on 0 of 3 reviews" in page_of(answered(["a"] * 3, best=["b"] * 3, second=["b"] * 3))


def test_the_page_of_one_model_has_no_disagreements():
    page = page_of(collected({"only": 1}))
    assert "only is the only model" in section(page, "Where the two best")[0]
    assert "The model is correct on " in page


def test_a_text_is_escaped_and_truncated_with_an_ellipsis():
    answers = answered(["a", "a"], best=["b", "b"])
    long = "good " * 100
    texts = pd.Series(["| x |\n# title <script>alert(1)</script><br />next", long], answers.labels.index)
    page = page_of(error_analysis.Answers(answers.labels, texts, answers.predicted, answers.confidence))
    _, [[_, _, *lines]] = section(page, "best")
    assert [line[0] for line in lines] == ["0", "1"]
    assert "<script" not in page
    assert "br /" not in page
    assert lines[0][-1].endswith("next")
    assert lines[1][-1] == long[:300].rstrip() + "\u2026"
    assert not re.search("^# title", page, re.MULTILINE)


# the stage


@pytest.fixture(params=[TWO, THREE], ids=["two", "three"])
def project(tmp_path, request):
    """The outputs of the previous stages for a linear and a neural model."""
    texts, _ = reviews(60)
    found = predictions({"nb_svm": 1, "lstm": 2}, request.param)
    rows, labels = found["lstm"]["row"], found["lstm"]["label"].map(request.param.index)
    tokens, _ = tokens_of(texts)
    (tmp_path / "tokens").mkdir()
    vocabulary.write_tokens(tmp_path / "tokens/test.parquet", rows, labels, {"text": tokens.ids, "content": tokens.ids})
    for view in ("text", "content"):
        (tmp_path / f"tokens/{view}.json").write_text(vocabulary.fit(texts, minimum_count=1))
    for name, answers in found.items():
        for folder in ("models", "predictions"):
            (tmp_path / folder / name).mkdir(parents=True)
        configuration(name, request.param).write(tmp_path / "models" / name)
        answers.to_parquet(tmp_path / "predictions" / name / "test.parquet", index=False)
    pd.DataFrame({"row": rows, "text": texts}).to_parquet(tmp_path / "reviews.parquet", index=False)
    (tmp_path / "comparison.json").write_text(json.dumps({"models": [{"architecture": name} for name in found]}))
    return tmp_path


def run(project, out, *, hash_seed="0"):
    names = ("reviews.parquet", "tokens", "predictions", "models", "comparison.json", f"{out}/errors", f"{out}/slices.json")
    command = [sys.executable, "-m", "stages.analyse", *(str(project / name) for name in names)]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, cwd=TOP, check=False, capture_output=True, text=True, env=environment)


def test_the_stage_writes_the_same_bytes_twice(project):
    for out in ("1", "2"):
        ended = run(project, out, hash_seed=out)
        assert ended.returncode == 0, ended.stderr
    made = {
        out: {
            str(file.relative_to(project / out)): file.read_bytes() for file in (project / out).rglob("[!.]*") if file.is_file()
        }
        for out in ("1", "2")
    }
    assert set(made["1"]) == {
        "slices.json",
        "errors/errors.md",
        *(f"errors/{name}.csv" for name in ("samples", "samples_with_text", "slices", "mistakes", "disagreements", "read_as")),
    }
    assert made["1"] == made["2"]
    slices = json.loads(made["1"]["slices.json"])
    assert set(slices) == {"nb_svm", "lstm"}
    assert all(set(of_model) == set(error_analysis.SLICES) for of_model in slices.values())


def test_a_review_is_decoded_from_its_ids_in_each_view():
    tokens, words = tokens_of(["a good film", "not bad"])
    other, other_words = tokens_of(["good film", "bad"])
    row = int(tokens.rows[1])
    found = error_analysis.read_as(row, {"text": tokens, "content": other}, {"text": words, "content": other_words})
    assert found.to_dict("list") == {"row": [row] * 2, "view": ["text", "content"], "text": ["not bad", "bad"]}


def test_the_stage_names_a_missing_model_and_writes_nothing(project):
    (project / "models/nb_svm/config.json").unlink()
    ended = run(project, "out")
    assert ended.returncode == 1
    assert re.search(r"^error: no trained model in .*dvc repro train@nb_svm$", ended.stderr, re.MULTILINE)
    assert not (project / "out/errors").exists()

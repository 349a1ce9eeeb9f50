import copy
import dataclasses
import itertools
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from made_up_results import HOW, results

from sentiflow.evaluation import significance, tuning
from sentiflow.evaluation.metrics import METRICS
from sentiflow.reporting import decision_page, html_report, page, png_plots
from sentiflow.system.errors import InputError

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"
VOID = {"meta", "br", "line", "circle", "path", "polyline"}


class Page(HTMLParser):
    """Elements with their attributes, and the text. Tags must be balanced."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(html)
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert tag == self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(
    params=[
        {},
        {"classes": ("low", "mid", "high")},
        {"names": ("nb_svm",)},
        {"names": ("nb_svm", "lstm", "cnn_lstm", "lstm_attention", "rnn", "gru", "ffnn", "bilstm", "text_cnn")},
        {"right": True},
        {"right": False},
    ],
    ids=["two classes", "three classes", "one architecture", "nine architectures", "all right", "all wrong"],
)
def found(request, tmp_path):
    return results(tmp_path, **request.param)


def rendered(found):
    return Page(html_report.render(found, HOW))


def with_comparison(found, **changes):
    return dataclasses.replace(found, comparison={**found.comparison, **changes})


# the page as HTML


def test_nothing_on_the_page_runs_or_is_fetched(found):
    shown = rendered(found)
    assert not {"script", "img", "link", "iframe", "object", "form", "base"} & {tag for tag, _ in shown.elements}
    for _, attributes in shown.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset", "action")]
        assert attributes.get("href", "#").startswith("#") or attributes["href"] == "decision.html"
    policy = [meta["content"] for meta in shown.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    html = html_report.render(found, HOW)
    assert not re.search(r"url\(|@import|https?:", html)


def test_every_link_has_a_target_and_ids_are_unique(found):
    shown = rendered(found)
    ids = [attributes["id"] for _, attributes in shown.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [attributes["href"].removeprefix("#") for attributes in shown.all("a") if attributes["href"].startswith("#")]
    assert links
    assert set(links) <= set(ids)
    assert {section["id"] for section in shown.all("section")} <= set(links)


def test_the_page_is_accessible_to_screen_readers(found):
    shown = rendered(found)
    levels = [int(tag[1]) for tag, _ in shown.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    after_title = levels[levels.index(1) :]
    assert all(level <= before + 1 for before, level in itertools.pairwise(after_title))
    assert len(shown.all("table")) == len(shown.all("caption"))
    assert all("scope" in cell for cell in shown.all("th"))
    for figure in shown.all("svg"):
        assert figure.get("role") != "img" or figure["aria-label"]
    for box in shown.all("div"):
        assert box.get("class") != "scroll" or (box["tabindex"] == "0" and box["aria-label"])


def test_the_same_results_give_the_same_bytes_and_are_not_changed(found):
    before = copy.deepcopy(found)
    assert html_report.render(found, HOW) == html_report.render(found, HOW)
    assert found.comparison == before.comparison
    for name, model in found.models.items():
        pd.testing.assert_frame_equal(model.predictions, before.models[name].predictions)


@pytest.mark.parametrize("classes", [("no", HOSTILE), ("no", "&", HOSTILE)], ids=["two classes", "three classes"])
def test_texts_names_and_paths_are_escaped(tmp_path, classes):
    (tmp_path / "plain").mkdir()
    (tmp_path / "hostile").mkdir()
    plain = rendered(results(tmp_path / "plain", classes=("a", "b", "c")[: len(classes)], texts=["a"] * 60))
    hostile = results(tmp_path / "hostile", classes=classes, texts=[f"{HOSTILE} {{{{ 1 }}}}"] * 60, location=HOSTILE)
    shown = rendered(hostile)
    assert {tag for tag, _ in shown.elements} <= {tag for tag, _ in plain.elements} | {"details", "summary"}
    assert f"{HOSTILE} {{{{ 1 }}}}" in shown.text
    assert f"csv: {HOSTILE}" in shown.text
    assert shown.text.count(HOSTILE) > 20


def test_charts_have_the_colours_of_the_png_plots(tmp_path):
    html = html_report.render(results(tmp_path), HOW)
    light = re.search(r":root \{(.*?)\}", html, re.DOTALL)[1]
    colours = png_plots.STYLE["axes.prop_cycle"].by_key()["color"]
    assert re.findall(r"--c\d: (#\w+)", light) == colours


def test_the_page_of_many_long_reviews_stays_small(tmp_path):
    names = ("nb_svm", "lstm", "cnn_lstm", "lstm_attention", "rnn", "gru", "ffnn", "bilstm", "text_cnn")
    html = html_report.render(results(tmp_path, names=names, texts=["word " * 20_000] * 60, right=False), HOW)
    assert len(html.encode()) < 2_000_000
    assert "The text has 100,000 characters." in html


# content


def test_averages_of_scores_are_stated(tmp_path):
    (tmp_path / "two").mkdir()
    (tmp_path / "three").mkdir()
    assert "recall are those of “positive”" in rendered(results(tmp_path / "two")).text
    three = rendered(results(tmp_path / "three", classes=("a", "b", "c"))).text
    assert "means over the 3 classes" in three
    assert "ublished" not in three


def test_table_of_models_is_sorted_by_its_first_column_and_the_best_is_in_the_title(found):
    shown = rendered(found).text
    table = shown[shown.index("All models on test") : shown.index("Every score on every split")]
    assert "Model valid F1 Accuracy F1 Loss" in table
    models = found.comparison["models"]
    values = [float(re.search(rf" {model['architecture']} (\d\.\d+) ", table)[1]) for model in models]
    assert values == sorted(values, reverse=True)
    assert values == [pytest.approx(model["scores"]["valid"]["f1_score"], abs=0.0006) for model in models]
    assert "Ordered by F1 on valid, then by loss on valid" in shown
    assert re.search(r"Sentiment models: (\w+) is right", shown)[1] == models[0]["architecture"]


def test_a_single_model_is_not_compared(tmp_path):
    shown = rendered(results(tmp_path, names=("nb_svm",))).text
    assert "nb_svm is the only model of this run." in shown
    assert "McNemar" not in shown
    assert "disagree" not in shown


def test_confusion_counts_are_those_of_the_predictions(tmp_path):
    found = results(tmp_path, names=("nb_svm",), classes=("low", "mid", "high"))
    html = html_report.render(found, HOW)
    table = html[html.index('<table class="confusion">') :]
    counts = re.findall(r'<td[^>]*style="--share:([\d.]+)">(\d+)<', table[: table.index("</table>")])
    answers = found.models["nb_svm"].predictions
    expected = pd.crosstab(answers["label"], answers["predicted"]).loc[["low", "mid", "high"], ["low", "mid", "high"]]
    assert [int(count) for _, count in counts] == expected.to_numpy().ravel().tolist()
    shares = expected.div(expected.sum(axis=1), axis=0).to_numpy().ravel()
    assert [float(share) for share, _ in counts] == pytest.approx(shares, abs=0.0006)


def test_many_classes_have_a_list_of_confused_pairs_and_collapsed_tables(tmp_path):
    classes = tuple(f"class {number:02}" for number in range(25))
    found = results(tmp_path, classes=classes, rows=300, right=False)
    shown = rendered(found)
    assert shown.all("table")
    assert "25 classes with" in shown.text
    assert not [attributes for attributes in shown.all("table") if attributes.get("class") == "confusion"]
    predictions = found.models["lstm"].predictions
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    most = wrong.groupby(["label", "predicted"]).size().max()
    assert re.search(rf"class \d\d class \d\d {most} ", shown.text)
    for title in ("Reviews of each class (25)", "Scores of each class (25)"):
        assert title in shown.text


def test_ten_classes_have_a_confusion_matrix_each_and_a_column_of_the_splits(tmp_path):
    shown = rendered(results(tmp_path, classes=tuple(f"class {number}" for number in range(10)), rows=300))
    assert len([attributes for attributes in shown.all("table") if attributes.get("class") == "confusion"]) == 2
    assert "Reviews of each class" not in shown.text


def test_sizes_of_all_splits_are_shown(tmp_path):
    found = results(tmp_path)
    shown = rendered(found).text
    for split, rows in found.splits["rows"].items():
        counts = [found.splits["labels"][split][name] for name in ("negative", "positive")]
        assert f"{split} {rows} {counts[0]} {counts[1]} {found.splits['distinct_texts'][split]}" in shown


def test_a_run_without_mistakes_says_so(tmp_path):
    shown = rendered(results(tmp_path, right=True)).text
    assert "nb_svm: 0 mistakes" in shown
    assert "They give the same prediction for every test review." in shown
    assert "On no group is a model significantly weaker" in shown


def test_a_review_is_shown_in_full_and_once(tmp_path):
    texts = [" ".join([*(f"word{i}" for i in range(50)), f"number{n}", *(f"word{i}" for i in range(50, 100))]) for n in range(60)]
    html = html_report.render(results(tmp_path, names=("nb_svm",), texts=texts), HOW)
    assert html.count("word0 word1") == html.count("word98 word99</") > 0
    assert re.search(r"word(\d+) <span class=\"more\">…</span></summary><p>word(\d+) ", html)
    assert "…</p>" not in html


def test_vocabularies_are_shown_with_a_review_decoded_in_each_view(tmp_path):
    found = results(tmp_path, texts=["The Film <b>WAS</b> dull"] * 60)
    text = rendered(found).text
    frequent = found.vocabulary["text"]["most_frequent"]
    assert " · ".join(word for word, _ in frequent[:15]) in text
    assert found.errors["read_as"]["text"].iloc[0] in text
    assert "The Film <b>WAS</b> dull" in text


def test_each_machine_is_shown_once_with_its_models(tmp_path):
    found = results(tmp_path)
    assert rendered(found).text.count("a processor") == 1
    other = dataclasses.replace(found.models["lstm"], environment={**found.models["lstm"].environment, "gpus": ["a GPU"]})
    both = rendered(dataclasses.replace(found, models={**found.models, "lstm": other})).text
    assert both.count("a processor") == 2
    assert both.count("a GPU") == 1
    assert both.count("GPU none") == 1


def test_tuning_is_shown_if_a_model_was_tuned(tmp_path):
    found = results(tmp_path)
    assert "Tuning" not in rendered(found).text
    changes = tuning.changes({"units": 8}, {"units": 16}, {"units": "a larger state"})
    answers = found.models["lstm"].predictions, found.models["nb_svm"].predictions
    tuned = tuning.report(("lstm", "nb_svm"), changes, answers, HOW, seed=1)
    shown = rendered(with_comparison(found, tuning=tuned)).text
    assert f"{tuning.verdict(tuned)} McNemar\u2019s exact test: {page.p_value(tuned['p'])}." in shown
    tuning_section = shown[shown.index(tuning.verdict(tuned)) :]
    assert significance.ONE_SEED in tuning_section
    assert tuning.INTERVALS in tuning_section
    [change] = tuned["changes"]
    assert f"units 8 16 {change['reason']}" in shown
    for effect in tuned["effects"]:
        numbers = f"{effect['baseline']:.3f} {effect['tuned']:.3f} {effect['difference']:+.3f} {effect['low']:+.3f} to"
        assert f"{METRICS[effect['score']].label} {numbers}" in shown


def compared(*models):
    """Models as (name, accuracy on test, p against the first)."""
    return {
        "best": models[0][0],
        "chosen_by": "valid f1_score",
        "test_reviews": 1000,
        "models": [
            {
                "architecture": name,
                "p_against_best": p,
                "scores": {
                    "valid": {"f1_score": 0.9},
                    "test": {
                        "accuracy_score": accuracy,
                        "accuracy_score_low": accuracy - 0.01,
                        "accuracy_score_high": accuracy + 0.01,
                    },
                },
            }
            for name, accuracy, p in models
        ],
    }


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (("b", 0.87, 0.0001), "3.0 points above b, the second on valid: significant ({} p < 0.001)."),
        (("b", 0.895, 0.4), "0.5 points above b, the second on valid: not significant ({} p = 0.400)."),
        (("b", 0.93, 0.01), "3.0 points below b, the second on valid: significant ({} p = 0.010)."),
        (("b", 0.9, 1.0), "equal to b, the second on valid ({} p = 1.000)."),
    ],
)
def test_conclusion_gives_the_distance_to_the_second_model_and_its_significance(second, said):
    sentences = html_report.conclusion(compared(("a", 0.9, None), second), 0.95)
    assert sentences[0] == "a is best on valid (F1 0.900)."
    assert sentences[1] == "On test its accuracy is 90.0% on 1,000 reviews (95% interval 89.0% to 91.0%)."
    assert sentences[2:] == [f"That is {said.format(html_report.TEST)}"]


def test_conclusion_names_the_models_that_do_not_differ_significantly():
    models = [("a", 0.9, None), ("b", 0.8, 0.001), ("c", 0.89, 0.3), ("d", 0.89, 0.06)]
    assert html_report.conclusion(compared(*models), 0.95)[-1] == "The difference to c and d is not significant."
    assert html_report.conclusion(compared(*models), 0.6)[-1] == "The difference to every other model is significant."
    many = [("a", 0.9, None), *((f"b{i}", 0.89, 0.3) for i in range(9))]
    assert html_report.conclusion(compared(*many), 0.95)[-1] == "The difference to 8 of the 8 other models is not significant."


CARD = {
    "rows": 1000,
    "rejected_rows": 0,
    "rejected_by_reason": {},
    "rows_per_label": {"no": 500, "yes": 500},
    "surplus_copies": 0,
    "texts_with_conflicting_labels": 0,
    "rows_with_conflicting_labels": 0,
    "frequent_texts": [],
    "conflicting_texts": [],
    "markup_share": 0.0,
    "kinds": ["csv"],
    "location": "data/external/tweets.csv",
}
COPIED = {"excerpt": "'Not <available>'", "rows": 300, "share": 0.3, "labels": {"no": 100, "yes": 200}}
CONFLICTS = {"texts_with_conflicting_labels": 2, "rows_with_conflicting_labels": 304, "conflicting_texts": [COPIED]}
SPLITS = {"left_out": 0, "left_out_conflicts": 0, "shared_films": {"train-test": 0}}


@pytest.mark.parametrize(
    ("card", "split", "said"),
    [
        (
            {"rejected_rows": 3, "rejected_by_reason": {"b": 1, "a": 2}},
            {},
            "Rows of the source that could not be used: 3 (a: 2, b: 1).",
        ),
        ({"rows_per_label": {"no": 900, "yes": 100}}, {}, "Uneven classes: 90.0% of the reviews are no,"),
        ({"surplus_copies": 10}, {}, "Copies of another review: 10 (1.0%)"),
        ({"frequent_texts": [COPIED]}, {}, "One text is 30.0% of the reviews: 'Not <available>' (100 no and 200 yes)."),
        (
            CONFLICTS,
            {},
            "Texts with several labels: 2, of 304 reviews, such as 'Not <available>' (100 no and 200 yes); no model can be right",
        ),
        (CONFLICTS, {"left_out": 304, "left_out_conflicts": 304}, "; 304 reviews are left out of every split."),
        ({"markup_share": 0.587}, {}, "HTML markup: 58.7%"),
        ({}, {"left_out": 7}, "in a later split of the source: 7."),
        ({}, {"shared_films": {"train-test": 4}}, "Films in both of train and test: 4."),
        ({"kinds": ["imdb"]}, {"shared_films": None}, "does not say which film"),
        ({"kinds": ["csv"], "location": "data/external/IMDB Dataset.csv"}, {"shared_films": None}, "does not say which film"),
    ],
)
def test_each_problem_of_the_data_gives_one_finding(card, split, said):
    [finding] = html_report.findings(CARD | card, SPLITS | split)
    assert said in finding


def test_data_without_problems_have_no_findings():
    assert html_report.findings(CARD, SPLITS) == []


def test_films_are_mentioned_only_for_film_reviews():
    assert html_report.findings(CARD, SPLITS | {"shared_films": None}) == []


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.02, 0.06, "so its attention points at words that matter."),
        (-0.02, 0.06, "does not point at words that matter more than others."),
        (-0.06, -0.02, "points at words that matter less than others."),
    ],
)
def test_deletion_test_is_decided_by_its_interval(low, high, said):
    sentence = html_report.about_deletion(
        {
            "architecture": "a",
            "reviews": 300,
            "deleted": 0.1,
            "attended": {"drop": 0.08, "flipped": 0.1},
            "random": {"drop": 0.04, "flipped": 0.02},
            "difference": 0.04,
            "difference_low": low,
            "difference_high": high,
        },
        0.95,
    )
    assert sentence.endswith(said)
    assert "falls by 8.0 points" in sentence


def test_words_are_shaded_by_weight_with_another_hue_for_negative_ones(tmp_path):
    html = html_report.render(results(tmp_path, names=("nb_svm", "lstm")), HOW)
    words = re.findall(r'<span class="([a-z ]*)" style="--share:([\d.]+)">(\w+)</span>', html)
    assert ("", "0.367", "dull") in words  # 0.7 of the attention of three words
    assert ("minus", "0.200", "dull") in words
    assert (" unknown", "0.000", "story") in words  # less than an equal share
    assert "Largest weights: “dull” -0.40, “a” +0.02, “story” +0.00." in html


def test_only_significantly_worse_groups_are_weak():
    lines = [("a", "length", "short", 200, 0.95), ("a", "length", "long", 200, 0.6), ("b", "length", "short", 20, 0.9)]
    lines += [("b", "length", "long", 20, 0.8)]
    slices = pd.DataFrame(lines, columns=["architecture", "slice", "group", "reviews", "accuracy_score"])
    weak = html_report.weak_groups(slices, 0.95)
    assert weak[["architecture", "group"]].to_numpy().tolist() == [["a", "long"]]
    assert weak["rest"].to_list() == pytest.approx([0.95])


# tables of the error analysis


def test_csv_values_stay_text(tmp_path):
    (tmp_path / "t.csv").write_text('"row","label","text"\n1,"1","NA"\n2,"null","\'=1+1"\n', encoding="utf-8")
    table = html_report.read_texts(tmp_path / "t.csv")
    assert table.to_numpy().tolist() == [["1", "1", "NA"], ["2", "null", "=1+1"]]


def test_damaged_table_is_named_in_the_error(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"row,text\n1,\xff\n")
    with pytest.raises(InputError, match=r"t\.csv was cut off or changed"):
        html_report.read_texts(tmp_path / "t.csv")


def test_words_of_zero_weight_are_not_shaded(tmp_path):
    found = results(tmp_path, names=("nb_svm",))
    [explanation] = found.explanations["explanations"]
    flat = {**explanation, "weights": [0.0] * 3, "strengths": [0.0] * 3}
    html = html_report.render(dataclasses.replace(found, explanations={"explanations": [flat], "deletion": []}), HOW)
    assert html.count("--share:0.000") >= 3
    assert "No model of this run has an attention layer" in html


# pages of their own, and the verdict


def test_details_are_pages_of_their_own_and_every_model_has_one(found):
    shown = rendered(found)
    pages = {section["id"] for section in shown.all("section") if section.get("class") == "sheet"}
    assert {f"model-{name}" for name in found.models} < pages
    assert {"models", "data", "errors", "explanations", "machine"} < pages
    overview = html_report.render(found, HOW).partition('class="sheet"')[0]
    assert "<details" not in overview


RULES = (
    decision_page.Rule("floor", True, "at least 0.8", "accuracy 0.9"),
    decision_page.Rule("latency", False, "at most 100 ms", "120 ms"),
    decision_page.Rule("gain", None, "at least +0.0000", "there is no champion"),
)


def decided(text):
    version = decision_page.Version("champion", text, "3", "364f22f", "2026-11-30 19:54 UTC", text)
    row = decision_page.Row("nb_svm", 0.9, 0.88, 0.92, 0.02, version="3", role="champion", latency_ms=3.21, seconds=5.04)
    rules = [*RULES, decision_page.Rule("size", True, text, text)]
    return decision_page.Decision(f"Ship {text}.", text, [version], text, rules, [row], text, "2026-11-30 20:00 UTC")


def test_decision_is_the_report_with_the_verdict_rules_and_times_first(tmp_path):
    report = html_report.render(results(tmp_path), HOW)
    shown = Page(decision_page.insert(report, decided("nb_svm")))
    assert "Sentiment models Ship nb_svm. nb_svm" in shown.text
    assert "floor ✓ passes at least 0.8 accuracy 0.9 latency ✗ fails at most 100 ms 120 ms gain not checked" in shown.text
    assert "git commit 364f22f registered 2026-11-30 19:54 UTC" in shown.text
    assert "nb_svm 90.0% 88.0% to 92.0% 2.0% 3.2 ms – 5.0 s 3 champion" in shown.text
    assert "sentiflow repro" not in shown.text  # how to get a verdict
    before, after = (text.partition("Comparison on the test set")[2] for text in (Page(report).text, shown.text))
    assert before == after


def test_names_and_texts_of_a_verdict_make_no_element(tmp_path):
    report = html_report.render(results(tmp_path), HOW)
    plain, hostile = (Page(decision_page.insert(report, decided(text))) for text in ("a", HOSTILE))
    assert [tag for tag, _ in plain.elements] == [tag for tag, _ in hostile.elements]
    assert hostile.text.count(HOSTILE) >= 7

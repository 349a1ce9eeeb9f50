"""The statistics on synthetic measures; the command on a real store with a small model."""

import functools
import shutil
from pathlib import Path

import commands
import numpy as np
import pandas as pd
import pytest
from publications import publication
from samples import reviews

from sentiflow.config import params
from sentiflow.data import incoming
from sentiflow.data.incoming import Incoming
from sentiflow.pipeline import isolated_run
from sentiflow.registry import model_versions, publishing, store
from sentiflow.registry.drift_baseline import Reference
from sentiflow.serving import drift
from sentiflow.system import markdown
from sentiflow.system.errors import InputError

TOP = Path(__file__).parents[3]
OPTIONS = params.load(TOP / "params.yaml").drift
CLASSES = ("negative", "positive")


def measured(count, seed, *, share=0.5, words=5.0, unknown=0.02, probability=1.0, labels=CLASSES):
    """Measures of reviews, as from `drift.measure`, with labels.

    Args:
        share: of the second class.
        words: mean of the logarithm of the length.
        unknown: mean share of unknown words.
        probability: above 1, that of the second class is higher.
    """
    draw = np.random.default_rng(seed)
    positive = draw.beta(0.5 * probability, 0.5, count)
    return pd.DataFrame(
        {
            "label": np.array(labels, dtype=object)[(draw.random(count) < share).astype(int)],
            "length": np.exp(draw.normal(words, 0.6, count)).round(),
            "unknown": draw.beta(2, 2 / unknown - 2, count) if unknown else 0.0,
            "p_negative": 1 - positive,
            "p_positive": positive,
        }
    )


def known_of(train, test):
    blank = dict.fromkeys(("unknown", "p_negative", "p_positive"), np.nan)
    return Reference(pd.concat([train.assign(split="train", **blank), test.assign(split="test")], ignore_index=True))


KNOWN = known_of(measured(5000, 1), measured(2500, 2))


def compared(found, known=KNOWN, **changes):
    """Findings by measure, and notes."""
    findings, notes = drift.compare(known, found, OPTIONS.model_copy(update=changes), resamples=200, seed=7)
    return {each.measure: each for each in findings}, notes


def outcomes(found, **changes):
    return {name: each.outcome for name, each in compared(found, **changes)[0].items()}


# outcomes


@pytest.mark.parametrize("count", [200, 1000])
def test_reviews_of_the_same_distribution_raise_no_alarm(count):
    for seed in range(20):
        assert drift.DRIFTED not in outcomes(measured(count, 100 + seed)).values()


@pytest.mark.parametrize(
    ("change", "measure"),
    [
        ({"share": 0.8}, "share of positive"),
        ({"words": 4.0}, "length"),
        ({"unknown": 0.1}, "unknown words"),
        ({"probability": 6.0}, "probability of positive"),
    ],
)
def test_each_kind_of_drift_is_found_alone(change, measure):
    found = outcomes(measured(500, 3, **change))
    assert [name for name, outcome in found.items() if outcome == drift.DRIFTED] == [measure]


def test_a_large_uncertain_difference_is_unclear():
    few = measured(30, 3).assign(label=["positive"] * 20 + ["negative"] * 10)
    found = compared(few, minimum_reviews=20)[0]["share of positive"]
    assert abs(found.difference) > OPTIONS.label_share
    assert found.outcome == drift.UNCLEAR


def test_a_small_certain_difference_is_within():
    found = compared(measured(20_000, 3, share=0.55, unknown=0.024))[0]
    for measure in ("share of positive", "unknown words"):
        assert found[measure].low > 0
        assert found[measure].outcome == drift.WITHIN


def test_the_threshold_determines_the_outcome():
    found = measured(2000, 3, share=0.7)
    assert outcomes(found)["share of positive"] == drift.DRIFTED
    assert outcomes(found, label_share=0.3)["share of positive"] == drift.WITHIN


def test_an_interval_that_touches_the_threshold_is_no_drift():
    edge = drift.Finding("length", "", "", 0.2, 0.15, 0.25, 0.15, is_distance=True, where="")
    assert edge.outcome == drift.UNCLEAR


# intervals


def test_interval_of_a_share_is_newcombe_s():
    # Newcombe (1998), table II, example (a): 56 of 70 against 48 of 80, method 10
    after = pd.Series(["yes"] * 56 + ["no"] * 14)
    before = pd.Series(["yes"] * 48 + ["no"] * 32)
    found = drift._share("yes", before, after, OPTIONS)
    assert (round(found.difference, 4), round(found.low, 4), round(found.high, 4)) == (0.2, 0.0524, 0.3339)


def test_interval_of_a_distance_has_its_coverage():
    # of two uniform distributions a quarter apart the distance is 0.25
    draw = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        samples = pd.Series(draw.random(400)), pd.Series(draw.random(100) + 0.25)
        found = drift._distance("length", *samples, OPTIONS, 0.1, str)
        held += found.low <= 0.25 <= found.high
    assert held >= 0.95 * 200


def test_interval_of_a_mean_of_many_reviews_is_student_s_t():
    from scipy import stats

    before, after = KNOWN.test["unknown"], measured(2000, 3, unknown=0.03)["unknown"]
    found = drift._mean_difference("unknown words", before, after, OPTIONS, 2000, 7)
    low, high = stats.ttest_ind(after, before, equal_var=False).confidence_interval(OPTIONS.confidence)
    np.testing.assert_allclose([found.low, found.high], [low, high], atol=0.0003)


def test_the_same_seed_gives_the_same_intervals():
    found = measured(500, 3)
    assert compared(found) == compared(found)


def test_constant_measures_have_an_interval():
    same = measured(300, 1, unknown=0).assign(length=10, p_negative=0.5, p_positive=0.5)
    found, _ = compared(same, known_of(same, same))
    assert {each.outcome for name, each in found.items() if name == "unknown words"} == {drift.WITHIN}
    assert all(each.difference == 0 for each in found.values())


# labels


def test_few_labels_are_not_compared_and_a_note_says_so():
    found = measured(1000, 3, share=1.0)
    found.loc[150:, "label"] = None
    findings, notes = compared(found)
    assert set(findings) == {"length", "unknown words", "probability of positive"}
    assert notes == ("Labels were not compared: 150 of 1,000 reviews have one; drift.minimum_reviews requires 200.",)


def test_a_new_class_is_drift_of_labels():
    found, _ = compared(measured(500, 3, labels=("negative", "neutral")))
    assert found["share of neutral"].outcome == drift.DRIFTED
    assert (found["share of neutral"].known, found["share of positive"].found) == ("0.0%", "0.0%")


def test_with_three_classes_each_has_a_share_and_a_probability():
    three = ("negative", "neutral", "positive")
    draw = np.random.default_rng(1)
    probabilities = pd.DataFrame(draw.dirichlet([1, 1, 1], 600), columns=[f"p_{name}" for name in three])
    table = measured(600, 1)[["length", "unknown"]].join(probabilities).assign(label=draw.choice(three, 600))
    found, _ = compared(table, Reference(pd.concat([table.assign(split="train"), table.assign(split="test")])))
    assert [name for name in found if name.startswith("share")] == [f"share of {name}" for name in three]
    assert [name for name in found if name.startswith("probability")] == [f"probability of {name}" for name in three]


# page


def drift_of(findings, notes=(), **changes):
    fields = {"files": 1, "rejects": {}, "passed_over": {}, "left_out": False} | changes
    texts = pd.Series(["Fine."] * 500)
    return drift.Drift(
        Incoming("data/incoming", texts, pd.Series([None] * 500), **fields), "version 3 (lstm)", findings, notes, 0.95
    )


def test_sentence_names_what_drifted_and_the_threshold():
    findings, _ = drift.compare(KNOWN, measured(500, 3, words=4.0, unknown=0.1), OPTIONS, resamples=200, seed=7)
    found = drift_of(findings)
    assert found.is_reason
    assert found.in_words.startswith("500 incoming reviews differ from the reviews of version 3 (lstm): length (0.")
    assert "allowed 0.15), unknown words (+8." in found.in_words
    assert found.in_words.endswith("points, allowed 2.0).")
    calm, _ = drift.compare(KNOWN, measured(500, 4), OPTIONS, resamples=200, seed=7)
    assert not drift_of(calm).is_reason
    assert "do not differ from the reviews of version 3 (lstm)" in drift_of(calm).in_words


def test_page_shows_every_measure_and_what_was_skipped_and_escapes_names_of_files():
    findings, notes = drift.compare(KNOWN, measured(500, 3).assign(label=None), OPTIONS, resamples=200, seed=7)
    page = drift.as_markdown(
        drift_of(findings, notes, rejects={"empty text": 2}, passed_over={"<b>|[x](y).csv": "it is empty"}, left_out=True)
    )
    assert page.startswith("# Drift\n\n**500 incoming reviews do not differ")
    for name in ("length", "unknown words", "probability of positive"):
        assert f"| {name}" in page
    assert "Labels were not compared" in page
    assert "2 x empty text" in page
    assert "older ones were left out because of drift.maximum_reviews" in page
    assert "Skipped &lt;b&gt;\\|\\[x\\](y).csv: it is empty" in page
    widths = {line.count(" | ") for line in page.splitlines() if line.startswith("| ")}
    assert len(widths) == 1


# on a store


@pytest.fixture(scope="module")
def project(trained, tmp_path_factory):
    """A folder whose store has version 1 with a reference and version 2 without; its client. Test is the reviews of train."""
    folder = tmp_path_factory.mktemp("project")
    changes = {"drift.minimum_reviews": 60, "evaluate.resamples": 100}
    (folder / "params.yaml").write_text(isolated_run.with_changes((TOP / "params.yaml").read_text(encoding="utf-8"), changes))
    shutil.copytree(trained[1], folder / "tokens")
    shutil.copy(trained[1] / "train.parquet", folder / "tokens/test.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")  # MLflow caches connections by URI
        client = store.connect()
        parent = publishing.retraining(client, "f" * 64)
        for key in "ab":
            place = tmp_path_factory.mktemp(key)
            made = publication(trained, place, key=key * 64, tokens_dir=folder / "tokens")
            version = publishing.publish(client, made, parent=parent)
            if key == "a":
                publishing.keep_artifacts(client, version, made)
                first = made, version
        yield client, *first


@pytest.fixture
def look(project, trained):
    """Compares texts in data/incoming with a champion; either may be None."""

    def run(champion, texts):
        model_versions.set_alias(project[0], model_versions.CHAMPION, champion)
        shutil.rmtree("data/incoming", ignore_errors=True)
        Path("data/incoming").mkdir(parents=True)
        if texts is not None:
            texts.to_csv("data/incoming/new.csv", index=False)
        return drift.look(params.load())

    return run


def like_train(trained):
    return pd.DataFrame({"review": trained[2], "sentiment": ["negative", "positive"] * 40})


def test_the_champions_own_reviews_have_not_drifted(look, trained):
    found = look("1", like_train(trained))
    assert [(each.measure, each.difference) for each in found.findings] == [
        ("share of positive", 0.0),
        ("length", 0.0),
        ("unknown words", 0.0),
        ("probability of positive", pytest.approx(0.0, abs=0.02)),  # two values may differ in 32 bits only
    ]
    assert not found.is_reason
    assert found.champion == "version 1 (nb_svm)"


def test_reviews_in_another_language_have_drifted(look):
    others = pd.DataFrame({"review": ["El argumento no tiene sentido"] * 100})
    found = look("1", others)
    assert [each.measure for each in found.drifted] == ["length", "unknown words", "probability of positive"]
    assert found.is_reason


@pytest.mark.parametrize(
    ("champion", "count", "message"),
    [
        (None, 80, "There is no champion yet"),
        ("2", 80, "Version 2, the champion, has no reference"),
        ("1", 40, "Only 40 usable incoming reviews; drift.minimum_reviews requires 60"),
    ],
)
def test_if_nothing_can_be_compared_a_sentence_says_why(look, trained, champion, count, message):
    found = look(champion, like_train(trained)[:count])
    assert found.findings == ()
    assert not found.is_reason
    assert found.in_words.startswith(message)
    assert message in markdown.plain(drift.as_markdown(found))


def test_without_incoming_reviews_there_is_no_result(look):
    assert look("1", None) is None


def test_measures_do_not_depend_on_the_batch_size(project, monkeypatch):
    opened = model_versions.opened(project[0], model_versions.version(project[0], "1"))
    texts = reviews(25)[0]
    whole = drift.measure(opened.model, texts)
    monkeypatch.setattr(drift, "PART", 10)
    pd.testing.assert_frame_equal(drift.measure(opened.model, texts), whole)


def kept(client, version):
    return Path(client.get_run(version.run_id).info.artifact_uri.removeprefix("file://")) / publishing.REFERENCE


def test_a_reference_is_stored_once(project):
    client, made, version = project
    written = kept(client, version).stat().st_mtime_ns
    publishing.keep_artifacts(client, version, made)
    assert kept(client, version).stat().st_mtime_ns == written
    assert len(client.list_artifacts(version.run_id, "drift")) == 1


def test_a_damaged_reference_is_refused_with_advice(project, look, trained):
    client, _, version = project
    file = kept(client, version)
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    try:
        with pytest.raises(InputError, match=r"reference of version 1 is invalid .*sentiflow repro"):
            look("1", like_train(trained))
    finally:
        file.write_bytes(whole)


@pytest.fixture
def command(capsys):
    return functools.partial(commands.run, capsys, "data", "drift")


def test_command_prints_and_saves_the_page(look, trained, command):
    look("1", like_train(trained))
    status, out, _ = command()
    assert status == 0
    assert "80 incoming reviews do not differ" in out
    assert drift.PAGE.read_text(encoding="utf-8").startswith("# Drift\n")
    like_train(trained)[:30].to_csv("few.csv", index=False)
    assert "drift.minimum_reviews requires 60" in command("few.csv")[1]


def test_command_reports_no_reviews_and_refuses_a_missing_file(look, command):
    look("1", None)
    assert command()[:2] == (0, "No incoming reviews in data/incoming; nothing to compare.\n")
    status, _, err = command("gone.csv")
    assert status == 1
    assert err.startswith("error: gone.csv is missing")


def test_reading_stops_at_the_largest_number_of_reviews(project, tmp_path):
    pd.DataFrame({"review": ["Fine."] * 500}).to_csv(tmp_path / "many.csv", index=False)
    p = params.load()
    found = incoming.read(tmp_path, p.download, p.drift.model_copy(update={"maximum_reviews": 100}))
    assert (len(found.texts), found.left_out) == (100, True)

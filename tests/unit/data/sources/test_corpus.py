import pandas as pd
import pytest
import yaml

from sentiflow.data import sources
from sentiflow.data.sources.rows import Found, Origin
from sentiflow.system.errors import InputError

LABELS = {"0": "negative", "1": "positive"}


def origin(*rows):
    return Origin("reviews.csv", "0" * 64, LABELS, rows)


def row(text="fine", label="1", **others):
    return Found("csv", "reviews.csv", 2, text, label, **others)


def numbered(count):
    return [row(f"review {n}", str(n % 2)) for n in range(count)]


@pytest.fixture
def load(settings, tmp_path):
    def run(rows, **changes):
        path = tmp_path / "reviews.csv"
        path.write_text("review,sentiment\n" + "".join(f"{text},{label}\n" for text, label in rows))
        return sources.load(settings("csv", location=str(path), **({"labels": LABELS} | changes)), tmp_path / "partial", seed=7)

    return run


GOOD = [(f"review {n}", n % 2) for n in range(40)]


def test_every_row_is_kept_or_rejected():
    reviews, rejects, _ = sources.sort(origin(row(), row(label="2"), row(""), row(flaw="broken"), row("ok", "0")), 100)
    assert reviews[["row", "text", "label"]].values.tolist() == [[0, "fine", "positive"], [1, "ok", "negative"]]
    assert rejects.reason.str.split(":").str[0].tolist() == ["unknown label", "empty text", "broken"]


def test_texts_are_normalised_so_that_copies_are_equal():
    texts = ["Le numéro", "Le nume\u0301ro", "Le numÃ©ro", "Le nu\u00admé\u200bro", r"Le num\u00e9ro"]
    reviews, rejects, _ = sources.sort(origin(*map(row, texts)), 100)
    assert reviews["text"].tolist() == ["Le numéro"] * 5
    assert rejects.empty


def test_an_invisible_text_is_empty_and_a_lone_surrogate_is_rejected():
    reviews, rejects, _ = sources.sort(origin(row("\u200b\ufeff \u00ad"), row("caf\udce9")), 100)
    assert reviews.empty
    assert rejects["reason"].tolist() == ["empty text", "bytes that are not valid in the encoding"]


def test_column_types_do_not_depend_on_the_source():
    bare, _, _ = sources.sort(origin(row()), 100)
    full, _, _ = sources.sort(origin(row(split="train", rating=9, film="tt0064354", group="7")), 100)
    empty, _, _ = sources.sort(origin(), 100)
    assert bare.dtypes.astype(str).to_dict() == {
        "row": "int64", "text": "str", "label": "str", "source": "str", "split": "str", "rating": "Int8", "film": "str",
        "group": "str",
    }  # fmt: skip
    assert bare.dtypes.equals(full.dtypes)
    assert bare.dtypes.equals(empty.dtypes)


def test_an_excerpt_is_safe_in_a_terminal_or_a_spreadsheet():
    _, rejects, _ = sources.sort(origin(row("\x1b[2J=cmd()" + "x" * 1000, "?"), row("=cmd()", "?")), 100)
    assert rejects.excerpt[0].startswith(r"'\x1b[2J=cmd()")
    assert len(rejects.excerpt[0]) < 100
    assert rejects.excerpt[1] == "'=cmd()'"


def test_a_sample_is_balanced_and_in_the_original_order():
    rows = [row(f"review {n}", str(int(n % 5 == 0)), split="train" if n < 150 else "test") for n in range(200)]
    reviews, _, _ = sources.sort(origin(*rows), 100)
    drawn = sources.sample(reviews, 40, seed=7)
    assert set(drawn.groupby(["label", "split"]).size()) == {10}
    numbers = drawn.text.str.split().str[1].astype(int)
    assert numbers.is_monotonic_increasing
    assert drawn.row.tolist() == list(range(40))


def test_a_sample_contains_all_rows_of_a_small_label():
    reviews, _, _ = sources.sort(origin(*(row(f"review {n}", str(int(n < 3))) for n in range(100))), 100)
    drawn = sources.sample(reviews, 20, seed=7)
    assert drawn.label.value_counts().to_dict() == {"negative": 17, "positive": 3}
    assert len(sources.sample(reviews, 1000, seed=7)) == 100


def test_a_sample_depends_on_the_seed():
    reviews, _, _ = sources.sort(origin(*numbered(200)), 100)
    first = sources.sample(reviews, 40, seed=7)
    pd.testing.assert_frame_equal(first, sources.sample(reviews, 40, seed=7))
    assert first.text.tolist() != sources.sample(reviews, 40, seed=8).text.tolist()


def test_too_many_rejects_are_an_error_with_reasons_examples_and_a_list(load, tmp_path):
    bad = [("a", "pos"), ("b", "pos"), ("c", "neg"), ("", 1), ("", 0), ("x", ""), ("d,e", 1)]
    with pytest.raises(InputError) as raised:
        load(GOOD + bad, max_rejected=0.01)
    message = str(raised.value)
    assert "7 of the 47 rows" in message
    assert "14.89%; 1.00% are allowed" in message
    assert "3 x unknown label; first reviews.csv line 42: 'a'" in message
    assert "'pos' is not mapped; mapped are '0', '1'" in message
    assert "2 x empty text" in message
    assert "wrong number of fields" not in message, "only the three most common reasons"
    first, *listed = message.split("\n")
    assert first.endswith("Most common reasons:")
    assert all(line.startswith("  ") for line in listed)  # so that they are in the summary of a run
    listing = tmp_path / "partial" / "rejects.csv"
    assert str(listing) in message
    assert pd.read_csv(listing).line.tolist() == list(range(42, 49))


def test_unmapped_labels_are_listed_as_lines_for_params_yaml(load):
    bad = [("a", "pos: itive"), ("b", "no"), ("c", "pos: itive")]
    with pytest.raises(InputError) as raised:
        load([("x", 0)] * 20 + bad, max_rejected=0.01)
    block = str(raised.value)[str(raised.value).index("    labels:") :]
    assert "Set the labels of download.csv in params.yaml" in str(raised.value)
    assert yaml.safe_load(block) == {"labels": {"0": "negative", "pos: itive": "pos: itive", "no": "no"}}


def test_a_column_of_very_many_labels_is_reported_as_wrong(load):
    with pytest.raises(
        InputError, match=r"40 distinct labels are not mapped: is download\.csv\.label in params.yaml the label column"
    ):
        load([*GOOD, *(("text", f"user {n}") for n in range(40))], max_rejected=0.01)


def test_few_rejects_are_a_warning(load, caplog):
    found = load([*GOOD, ("a", "pos")], max_rejected=0.03)
    assert len(found.rejects) == 1
    assert "1 of the 41 rows" in caplog.text


def test_too_few_rows_of_a_label_are_an_error_with_counts(load):
    with pytest.raises(InputError, match="has 9 positive, 20 negative; at least 10 rows per label are needed: add rows"):
        load([("x", 0)] * 20 + [("y", 1)] * 9)
    with pytest.raises(InputError, match=r"raise download\.sample"):
        load([*GOOD, *((f"other {n}", 2) for n in range(20))], sample=20, labels=LABELS | {"2": "neutral"})


def test_labels_of_one_class_are_an_error(settings, tmp_path):
    (tmp_path / "reviews.csv").write_text("review,sentiment\n" + "x,0\ny,1\n" * 20)
    same = settings("csv", location=str(tmp_path / "reviews.csv"), labels={"0": "review", "1": "review"})
    with pytest.raises(InputError, match="is mapped to 'review'; at least 2"):
        sources.load(same, tmp_path, seed=7)

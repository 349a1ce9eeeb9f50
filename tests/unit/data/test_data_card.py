import json
import re

import pandas as pd
import pytest

from sentiflow.config import params
from sentiflow.data import cleaning, data_card, splits
from sentiflow.data.sources import TYPES, Corpus
from sentiflow.data.stopwords import NO_STOPWORDS

REJECTS = pd.DataFrame({"reason": ["unknown label: 'x' is not mapped", "unknown label: 'y' is not mapped", "empty text"]})


def corpus_of(*rows, rejects=REJECTS[:0], location="reviews.csv"):
    """Rows are (text, label[, split, rating, film])."""
    columns = ["text", "label", "split", "rating", "film"]
    reviews = pd.DataFrame([row + (None,) * (5 - len(row)) for row in rows], columns=columns)
    reviews = reviews.assign(source="csv", group=None).astype(TYPES)
    return Corpus(reviews, rejects, {}, ["negative", "positive"], location, "0" * 64)


def test_counts_copies_and_texts_with_two_labels():
    card = data_card.describe(
        corpus_of(
            ("a", "positive"), ("a", "positive"), ("a", "negative"), ("b", "negative"), ("b", "negative"), ("c", "positive")
        ),
        "csv",
    )
    assert (card["rows"], card["distinct_texts"], card["surplus_copies"]) == (6, 3, 3)
    assert (card["texts_with_conflicting_labels"], card["rows_with_conflicting_labels"]) == (1, 3)
    assert card["rows_per_label"] == {"negative": 3, "positive": 3}


def test_copies_and_conflicts_equal_those_of_the_splits():
    written = ["A <b>good</b> film", "a good  film", "A GOOD FILM", "It&apos;s dull", "it\u2019s dull"]
    texts = [*written, *(f"review {i} of a film" for i in range(200))]
    corpus = corpus_of(*((text, ("negative", "positive")[i % 2]) for i, text in enumerate(texts)))
    card = data_card.describe(corpus, "csv")
    cleaned = corpus.reviews.assign(text=cleaning.clean(corpus.reviews["text"], stopwords=NO_STOPWORDS)["text"])
    config = params.load().split
    proof = splits.prove(cleaned, splits.assign(cleaned, config, seed=1), config)
    counted = ("distinct_texts", "surplus_copies", "texts_with_conflicting_labels", "rows_with_conflicting_labels")
    assert [card[name] for name in counted] == [sum(proof[name].values()) for name in counted] == [202, 3, 2, 5]


def corpus_with(*counts):
    """Texts with the number of rows per label, and 100 other rows."""
    rows = [(text, label) for text, labels in counts for label, count in labels.items() for _ in range(count)]
    return corpus_of(*rows, *((f"review {i}", "positive") for i in range(100)))


def test_a_frequent_text_is_on_the_page_and_in_a_warning():
    found = corpus_with(("Not Available", {"negative": 30, "positive": 20}), ("<i>N/A</i>|=1", {"negative": 50}))
    card = data_card.describe(found, "csv")
    assert [text["rows"] for text in card["frequent_texts"]] == [50, 50]
    assert card["conflicting_texts"] == [
        {"excerpt": "'Not Available'", "rows": 50, "share": 0.25, "labels": {"negative": 30, "positive": 20}}
    ]
    several, one = data_card.warnings(card)
    assert several == (
        "'Not Available' is the text of 50 of 200 rows (25.0%), with 2 labels: 30 negative, 20 positive; remove these rows from "
        "the source, unless split.leave_out_conflicts in params.yaml excludes them"
    )
    assert one.startswith("'<i>N/A</i>|=1' is the text of 50 of 200 rows (25.0%), all labelled negative, and all in the ")
    page = data_card.to_markdown(card)
    assert re.search(r"^\| 'Not Available' +\| 50 +\| 25\.0% \| 30 negative, 20 positive \|$", page, re.MULTILINE)
    assert r"'&lt;i&gt;N/A&lt;/i&gt;\|=1'" in page


@pytest.mark.parametrize(("copied", "others"), [(9, 20), (10, 191)])
def test_a_text_below_the_limits_is_not_frequent(copied, others):
    rows = [("the same", "negative")] * copied + [(f"review {i}", "positive") for i in range(others)]
    card = data_card.describe(corpus_of(*rows), "csv")
    assert card["surplus_copies"] == copied - 1
    assert card["frequent_texts"] == data_card.warnings(card) == []


def test_the_five_most_frequent_conflicting_texts_are_listed_and_all_are_counted():
    found = corpus_with(*((f"so so {i}", {"negative": 1, "positive": 1 + i % 4}) for i in range(8)))
    card = data_card.describe(found, "csv")
    assert [(text["excerpt"], text["rows"]) for text in card["conflicting_texts"]] == [
        ("'so so 3'", 5), ("'so so 7'", 5), ("'so so 2'", 4), ("'so so 6'", 4), ("'so so 1'", 3),
    ]  # fmt: skip
    assert (card["texts_with_conflicting_labels"], card["rows_with_conflicting_labels"]) == (8, 28)


def test_counts_splits_ratings_and_films():
    rows = [("a", "positive", "train", 10, "tt1"), ("b", "positive", "test", 9, "tt1"), ("c", "negative", "test", 2, None)]
    card = data_card.describe(corpus_of(*rows), "aclimdb")
    assert card["rows_per_split_and_label"] == {"test": {"negative": 1, "positive": 1}, "train": {"negative": 0, "positive": 1}}
    assert list(card["rows_per_rating"].items()) == [("2", 1), ("9", 1), ("10", 1)]
    assert (card["films"], card["rows_with_film"]) == (1, 2)
    page = data_card.to_markdown(card)
    assert "| label | reviews | test | train |" in page
    assert "| films | 1 |" in page


def test_percentiles_are_lengths_of_texts_that_exist():
    card = data_card.describe(corpus_of(*((" ".join(["word"] * n), "positive") for n in range(1, 101))), "csv")
    assert card["words"] == {"min": 1, "p5": 5, "p25": 25, "p50": 50, "p75": 75, "p90": 90, "p95": 95, "p99": 99, "max": 100}
    assert card["characters"]["max"] == 499


@pytest.mark.parametrize(
    ("text", "markup"),
    [
        *[("a<br />b", 1), ("a<BR>b", 1), ("<i>so</i>", 1), ("a<!-- b -->", 1)],
        *[("cut <br", 0), ("<happy> <i am>", 0), ("x < y", 0), ("<3 this", 0), ("1 < 2 > 0", 0)],
    ],
)
def test_only_real_markup_counts(text, markup):
    assert data_card.describe(corpus_of((text, "positive")), "csv")["markup_share"] == markup


def test_rejects_are_counted_by_kind_of_reason():
    card = data_card.describe(corpus_of(("a", "positive"), rejects=REJECTS), "csv")
    assert card["rejected_rows"] == 3
    assert card["rejected_by_reason"] == {"empty text": 1, "unknown label": 2}
    assert "| unknown label | 2 |" in data_card.to_markdown(card)


def test_content_hash_depends_only_on_texts_labels_and_their_order():
    rows = [("a", "positive"), ("b", "negative")]
    same = data_card.content_hash(corpus_of(*rows, location="elsewhere.csv").reviews)
    assert same == data_card.content_hash(corpus_of(*((*row, "train", 9, "tt1") for row in rows)).reviews)
    others = [
        [("b", "negative"), ("a", "positive")],
        [("a", "negative"), ("b", "positive")],
        [("ab", "positive"), ("", "negative")],
    ]
    assert len({same, *(data_card.content_hash(corpus_of(*other).reviews) for other in others)}) == 4


def test_card_is_plain_json():
    card = data_card.describe(corpus_of(("a", "positive", "train", 9, "tt1"), rejects=REJECTS), "aclimdb")
    assert json.loads(json.dumps(card)) == card


def test_page_contains_the_terms_of_use():
    card = data_card.describe(corpus_of(("a", "positive")), "csv")
    page = data_card.to_markdown
    assert "ACL-HLT 2011" in page(card | {"source": "package", "kinds": ["imdb"]})
    assert "ACL-HLT 2011" in page(card | {"source": "aclimdb", "kinds": ["aclimdb"]})
    assert "ACL-HLT 2011" in page(card | {"location": "data/external/IMDB Dataset.csv"})
    assert "Pang" in page(card | {"source": "package", "kinds": ["rotten_tomatoes"]})
    assert "are not known" in page(card)


def test_no_label_can_break_a_table():
    found = corpus_of(("a", "positive"))
    odd = Corpus(found.reviews, found.rejects, {}, ["a|b\nc"], found.location, found.sha256)
    assert "| a\\|b c | 0 |" in data_card.to_markdown(data_card.describe(odd, "csv"))


def test_damaged_texts_are_counted_with_a_warning():
    texts = ["caf\ufffd", "\u00c3\u00a9t\u00c3", "see \\\\new", *(f"review {i} of caf\u00e9" for i in range(20))]
    card = data_card.describe(corpus_of(*((text, "positive") for text in texts)), "csv")
    assert card["damaged_texts"]["lost characters (U+FFFD)"] == 1
    assert "1 of 23 texts have lost characters (U+FFFD)" in "\n".join(data_card.warnings(card))
    assert "## Texts that may be damaged" in data_card.to_markdown(card)
    sound = data_card.describe(corpus_of(*((text, "positive") for text in texts[3:])), "csv")
    assert sound["damaged_texts"] == {}
    assert data_card.warnings(sound) == []

import json

import pandas as pd
import pytest

from sentiflow import data_card
from sentiflow.corpus import TYPES, Corpus

REJECTS = pd.DataFrame({"reason": ["unknown label: 'x' is not mapped", "unknown label: 'y' is not mapped", "empty text"]})


def corpus_of(*rows, rejects=REJECTS[:0], location="reviews.csv"):
    """Rows are (text, label) and, where known, split, rating, film."""
    columns = ["text", "label", "split", "rating", "film"]
    reviews = pd.DataFrame([row + (None,) * (5 - len(row)) for row in rows], columns=columns).assign(source="csv").astype(TYPES)
    return Corpus(reviews, rejects, ["negative", "positive"], location, "0" * 64)


def test_counts_copies_and_texts_with_two_labels():
    card = data_card.describe(
        corpus_of(
            ("a", "positive"), ("a", "positive"), ("a", "negative"), ("b", "negative"), ("b", "negative"), ("c", "positive")
        ),
        "csv",
    )
    assert (card["rows"], card["distinct_texts"], card["surplus_copies"]) == (6, 3, 3)
    assert card["texts_with_conflicting_labels"] == 1
    assert card["rows_per_label"] == {"negative": 3, "positive": 3}


def test_counts_splits_ratings_and_films_where_they_are_known():
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
    [("a<br />b", 1), ("a<BR>b", 1), ("cut <br", 1), ("<i>so</i>", 1), ("x < y", 0), ("<3 this", 0), ("1 < 2 > 0", 0)],
)
def test_markup_is_told_from_a_heart(text, markup):
    assert data_card.describe(corpus_of((text, "positive")), "csv")["markup_share"] == markup


def test_rejects_are_counted_by_kind_of_reason():
    card = data_card.describe(corpus_of(("a", "positive"), rejects=REJECTS), "csv")
    assert card["rejected_rows"] == 3
    assert card["rejected_by_reason"] == {"empty text": 1, "unknown label": 2}
    assert "| unknown label | 2 |" in data_card.to_markdown(card)


def test_content_hash_follows_texts_labels_and_their_order_and_nothing_else():
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


def test_page_names_the_terms_of_the_data():
    card = data_card.describe(corpus_of(("a", "positive")), "csv")
    page = data_card.to_markdown
    assert "ACL-HLT 2011" in page(card | {"kinds": ["imdb"]})
    assert "ACL-HLT 2011" in page(card | {"kinds": ["aclimdb"]})
    assert "ACL-HLT 2011" in page(card | {"location": "data/external/IMDB Dataset.csv"})
    assert "Pang" in page(card | {"kinds": ["rotten_tomatoes"]})
    assert "brought no terms" in page(card)


def test_no_label_can_break_a_table():
    found = corpus_of(("a", "positive"))
    odd = Corpus(found.reviews, found.rejects, ["a|b\nc"], found.location, found.sha256)
    assert "| a\\|b c | 0 |" in data_card.to_markdown(data_card.describe(odd, "csv"))

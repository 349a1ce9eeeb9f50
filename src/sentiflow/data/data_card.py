"""What is in a corpus and what is wrong with it: the facts a reader needs before believing any score on it."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sentiflow.data import copies, markup, normal_form
from sentiflow.data.sources import SOURCES, Corpus
from sentiflow.system import markdown

DAMAGED = 0.01  # share of the texts with one sign of damage, above which it is a warning
PERCENTILES = {"min": 0, "p5": 5, "p25": 25, "p50": 50, "p75": 75, "p90": 90, "p95": 95, "p99": 99, "max": 100}


def describe(corpus: Corpus, source: str) -> dict[str, Any]:
    """The card of a corpus: plain numbers and strings, the same for the same corpus, ready for JSON.

    Lengths are of raw texts; a word is what stands between white space. A percentile is the length of a text that exists.
    """
    reviews = corpus.reviews
    text, label, split = reviews["text"], reviews["label"], reviews["split"]
    return {
        "source": source,
        "kinds": sorted(reviews["source"].unique()),
        "location": corpus.location,
        "sha256_source": corpus.sha256,
        "sha256_content": content_hash(reviews),
        "rows": len(reviews),
        "rows_per_label": _per_class(label, corpus.classes),
        "rows_per_split_and_label": {
            part: _per_class(label[split == part], corpus.classes) for part in sorted(split.dropna().unique())
        },
        "rejected_rows": len(corpus.rejects),
        "rejected_by_reason": _counts(corpus.rejects["reason"].str.split(":").str[0]),
        "excluded_by_label": dict(corpus.excluded),
        "words": _percentiles([len(review.split()) for review in text]),
        "characters": _percentiles([len(review) for review in text]),
        "markup_share": round(float((text.map(markup.removed) != text).mean()), 4),
        "damaged_texts": _counts(text.map(normal_form.damage).explode().dropna()),
        **copies.describe(text, label),
        "rows_with_film": int(reviews["film"].notna().sum()),
        "films": int(reviews["film"].nunique()),
        "rows_per_rating": _counts(reviews["rating"].dropna()),
    }


def content_hash(reviews: pd.DataFrame) -> str:
    """SHA-256 over the texts and labels in their order, whatever file, format or library they came through."""
    whole = hashlib.sha256()
    for row in zip(reviews["text"], reviews["label"], strict=True):
        whole.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return whole.hexdigest()


def to_markdown(card: Mapping[str, Any]) -> str:
    """The card as a page."""
    facts = [
        ("source", card["source"]),
        ("location", markdown.cell(card["location"])),
        ("SHA-256 of the source", f"`{card['sha256_source']}`"),
        ("SHA-256 of texts and labels", f"`{card['sha256_content']}`"),
        ("reviews", card["rows"]),
        ("rows rejected", card["rejected_rows"]),
        ("reviews with markup", f"{card['markup_share']:.1%}"),
    ]
    if card["films"]:
        facts += [("reviews whose film is known", card["rows_with_film"]), ("films", card["films"])]
    parts = ["# Data card", _table(["", ""], facts), "## Reviews per label", _per_label(card)]
    if card["rows_per_rating"]:
        parts += ["## Reviews per rating", _table(["rating", "reviews"], card["rows_per_rating"].items())]
    lengths = [(unit, *card[unit].values()) for unit in ("words", "characters")]
    parts += ["## Lengths", _table(["", *PERCENTILES], lengths)]
    parts += ["`p5` means: 5 % of the reviews are this long or shorter. A word is what stands between white space."]
    if card["damaged_texts"]:
        parts += ["## Texts that may be damaged", _table(["sign", "texts"], card["damaged_texts"].items())]
        parts += ["What could be repaired for certain is not counted here. Look at the source, or at how it was exported."]
    parts += ["## Copies", *_copies(card)]
    if card["rejected_by_reason"]:
        parts += ["## Rejected rows", _table(["reason", "rows"], card["rejected_by_reason"].items())]
        parts += ["`rejects.csv` beside the reviews lists each of them."]
    if card["excluded_by_label"]:
        excluded = [(markdown.cell(label), rows) for label, rows in card["excluded_by_label"].items()]
        parts += ["## Rows left out on purpose", _table(["label", "rows"], excluded)]
        parts += ["params.yaml maps these labels to null."]
    terms = SOURCES[card["source"]].terms
    parts += ["## Terms", *dict.fromkeys(terms(kind, card["location"]) for kind in card["kinds"])]
    return "\n\n".join(parts) + "\n"


def warnings(card: Mapping[str, Any]) -> list[str]:
    """A line for each text that is a large part of the reviews, and for each sign that texts are damaged."""
    damaged = [
        f"{count:,} of {card['rows']:,} texts have {sign}, so they may be damaged; see how the source was exported"
        for sign, count in card["damaged_texts"].items()
        if count > DAMAGED * card["rows"]
    ]
    return damaged + [
        f"{text['excerpt']} is the text of {text['rows']:,} of {card['rows']:,} rows ({text['share']:.1%}), "
        + (
            f"with {len(text['labels'])} labels: {_counted(text['labels'])}; remove these rows from the source, unless "
            "split.leave_out_conflicts in params.yaml leaves them out"
            if len(text["labels"]) > 1
            else f"all labelled {next(iter(text['labels']))}, and all are put in the same split; keep one of these rows in the "
            "source and remove the others, unless they are different reviews"
        )
        for text in card["frequent_texts"]
    ]


def _copies(card: Mapping[str, Any]) -> list[str]:
    counts = [
        ("distinct texts", card["distinct_texts"]),
        ("surplus copies of a text (reviews)", card["surplus_copies"]),
        ("texts with several labels", card["texts_with_conflicting_labels"]),
        ("reviews with such a text", card["rows_with_conflicting_labels"]),
    ]
    parts = [_table(["", ""], counts), "Texts are equal if they are equal after markup, case and spacing are removed."]
    for title, texts in (
        (f"Texts of at least {copies.FREQUENT_SHARE:.0%} of the reviews:", card["frequent_texts"]),
        ("The most frequent texts with several labels:", card["conflicting_texts"]),
    ):
        if texts:
            rows = [
                [
                    markdown.cell(text["excerpt"]),
                    f"{text['rows']:,}",
                    f"{text['share']:.1%}",
                    markdown.cell(_counted(text["labels"])),
                ]
                for text in texts
            ]
            parts += [title, "\n".join(markdown.markdown(["text", "reviews", "share", "labels"], rows))]
    return parts


def _per_label(card: Mapping[str, Any]) -> str:
    splits = card["rows_per_split_and_label"]
    rows = [
        (markdown.cell(name), count, *(splits[part][name] for part in splits)) for name, count in card["rows_per_label"].items()
    ]
    return _table(["label", "reviews", *splits], rows)


def _counted(labels: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {label}" for label, count in labels.items())


def _percentiles(lengths: list[int]) -> dict[str, int]:
    values = np.percentile(lengths, list(PERCENTILES.values()), method="inverted_cdf")
    return dict(zip(PERCENTILES, map(int, values), strict=True))


def _per_class(labels: "pd.Series[Any]", classes: list[str]) -> dict[str, int]:
    counts = labels.value_counts()
    return {name: int(counts.get(name, 0)) for name in classes}


def _counts(values: "pd.Series[Any]") -> dict[str, int]:
    return {str(value): int(count) for value, count in values.value_counts().sort_index().items()}


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [list(header), *([f"{value:,}" if isinstance(value, int) else value for value in row] for row in rows)]
    lines.insert(1, ["---", *("---:" for _ in lines[0][1:])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

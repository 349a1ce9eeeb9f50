"""Data card: content and known problems of a corpus."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sentiflow.data import copies, markup, normal_form, splits
from sentiflow.data.sources import SOURCES, Corpus
from sentiflow.system import markdown

DAMAGED = 0.01  # fraction of texts with a sign of damage above which there is a warning
PERCENTILES = {"min": 0, "p5": 5, "p25": 25, "p50": 50, "p75": 75, "p90": 90, "p95": 95, "p99": 99, "max": 100}


def describe(corpus: Corpus, source: str) -> dict[str, Any]:
    """The card of a corpus as JSON; deterministic.

    Lengths are those of raw texts, in words separated by white space and in characters. Percentiles are not interpolated.
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
        "rejected_by_reason": splits.counts(corpus.rejects["reason"].str.split(":").str[0]),
        "excluded_by_label": dict(corpus.excluded),
        "words": _percentiles([len(review.split()) for review in text]),
        "characters": _percentiles([len(review) for review in text]),
        "markup_share": round(float((text.map(markup.removed) != text).mean()), 4),
        "damaged_texts": splits.counts(text.map(normal_form.damage).explode().dropna()),
        **copies.describe(text, label),
        "rows_with_film": int(reviews["film"].notna().sum()),
        "films": int(reviews["film"].nunique()),
        "rows_per_rating": splits.counts(reviews["rating"].dropna()),
    }


def content_hash(reviews: pd.DataFrame) -> str:
    """SHA-256 over the texts and labels in their order, independent of file format and library."""
    digest = hashlib.sha256()
    for row in zip(reviews["text"], reviews["label"], strict=True):
        digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def to_markdown(card: Mapping[str, Any]) -> str:
    """The card as a Markdown page."""
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
        facts += [("reviews with a known film", card["rows_with_film"]), ("films", card["films"])]
    parts = ["# Data card", _table(["", ""], facts), "## Reviews per label", _per_label(card)]
    if card["rows_per_rating"]:
        parts += ["## Reviews per rating", _table(["rating", "reviews"], card["rows_per_rating"].items())]
    lengths = [(unit, *card[unit].values()) for unit in ("words", "characters")]
    parts += ["## Lengths", _table(["", *PERCENTILES], lengths)]
    parts += ["`p5`: 5 % of the reviews have at most this length. Words are separated by white space."]
    if card["damaged_texts"]:
        parts += ["## Texts that may be damaged", _table(["sign", "texts"], card["damaged_texts"].items())]
        parts += ["Damage that was repaired is not counted. Check the source, or how it was exported."]
    parts += ["## Copies", *_copies(card)]
    if card["rejected_by_reason"]:
        parts += ["## Rejected rows", _table(["reason", "rows"], card["rejected_by_reason"].items())]
        parts += ["`rejects.csv`, next to the reviews, lists them."]
    if card["excluded_by_label"]:
        excluded = [(markdown.cell(label), rows) for label, rows in card["excluded_by_label"].items()]
        parts += ["## Excluded rows", _table(["label", "rows"], excluded)]
        parts += ["params.yaml maps these labels to null."]
    terms = SOURCES[card["source"]].terms
    parts += ["## Terms", *dict.fromkeys(terms(kind, card["location"]) for kind in card["kinds"])]
    return "\n\n".join(parts) + "\n"


def warnings(card: Mapping[str, Any]) -> list[str]:
    """A warning for each frequent text, and for each sign of damage that many texts have."""
    damaged = [
        f"{count:,} of {card['rows']:,} texts have {sign}, so they may be damaged; check how the source was exported"
        for sign, count in card["damaged_texts"].items()
        if count > DAMAGED * card["rows"]
    ]
    return damaged + [
        f"{text['excerpt']} is the text of {text['rows']:,} of {card['rows']:,} rows ({text['share']:.1%}), "
        + (
            f"with {len(text['labels'])} labels: {_listed(text['labels'])}; remove these rows from the source, unless "
            "split.leave_out_conflicts in params.yaml excludes them"
            if len(text["labels"]) > 1
            else f"all labelled {next(iter(text['labels']))}, and all in the same split; keep only one of these rows in the "
            "source, unless they are different reviews"
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
    parts = [_table(["", ""], counts), "Texts are copies if they are equal without markup, case and spacing."]
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
                    markdown.cell(_listed(text["labels"])),
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


def _listed(labels: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {label}" for label, count in labels.items())


def _percentiles(lengths: list[int]) -> dict[str, int]:
    values = np.percentile(lengths, list(PERCENTILES.values()), method="inverted_cdf")
    return dict(zip(PERCENTILES, map(int, values), strict=True))


def _per_class(labels: "pd.Series[Any]", classes: list[str]) -> dict[str, int]:
    counts = labels.value_counts()
    return {name: int(counts.get(name, 0)) for name in classes}


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [list(header), *([f"{value:,}" if isinstance(value, int) else value for value in row] for row in rows)]
    lines.insert(1, ["---", *("---:" for _ in lines[0][1:])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

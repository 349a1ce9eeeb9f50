"""Duplicate texts in raw reviews: counts, frequent texts, and texts with several labels."""

from typing import Any

import pandas as pd
from tqdm import tqdm

from sentiflow.data import cleaning, splits
from sentiflow.data.sources.rows import excerpt
from sentiflow.data.stopwords import NO_STOPWORDS

CHUNK = 5_000  # reviews cleaned at once, to limit memory
FREQUENT_SHARE, FREQUENT_ROWS = 0.05, 10  # a frequent text reaches both
MOST_CONFLICTS = 5  # texts with several labels that are listed


def identity(texts: pd.Series) -> pd.Series:
    """SHA-256 of each text after cleaning, with the same index; equal for copies, as in the splits."""
    starts = range(0, len(texts), CHUNK)
    digests = [
        splits.digest(cleaning.clean(texts.iloc[start : start + CHUNK], stopwords=NO_STOPWORDS, views=["text"])["text"])
        for start in tqdm(starts, desc="comparing texts", unit="partition", disable=None, delay=2)
    ]
    return pd.concat(digests) if digests else splits.digest(texts)


def describe(texts: pd.Series, labels: pd.Series) -> dict[str, Any]:
    """Copies and label conflicts among raw texts, as JSON.

    Returns:
        The counts of `splits.copies`; `frequent_texts`, each at least 5 % of the reviews; `conflicting_texts`, the most frequent
        texts with several labels. Each text has its excerpt, rows, share and rows per label; the most frequent is first.
    """
    digests = identity(texts)
    conflicts = splits.conflicting(digests, labels)
    rows = digests.groupby(digests, sort=False).size().sort_values(ascending=False, kind="stable")
    frequent = rows[rows >= max(FREQUENT_SHARE * len(texts), FREQUENT_ROWS)]
    most_conflicting = rows[rows.index.isin(digests[conflicts])].head(MOST_CONFLICTS)

    def describe_text(key: str) -> dict[str, Any]:
        copied = digests == key
        return {
            "excerpt": excerpt(texts[copied].iloc[0]),
            "rows": int(rows[key]),
            "share": round(int(rows[key]) / len(texts), 4),
            "labels": splits.counts(labels[copied]),
        }

    return {
        **splits.copies(digests, labels),
        "frequent_texts": [describe_text(key) for key in frequent.index],
        "conflicting_texts": [describe_text(key) for key in most_conflicting.index],
    }

"""Copies of a text before cleaning: which reviews are copies, which texts are frequent, and which have several labels."""

from typing import Any

import pandas as pd
from tqdm import tqdm

from sentiflow.data import cleaning, splits
from sentiflow.data.sources.rows import excerpt
from sentiflow.data.stopwords import NO_STOPWORDS

CHUNK = 5_000  # reviews cleaned at once, which limits the memory
FREQUENT_SHARE, FREQUENT_ROWS = 0.05, 10  # from which on a text is frequent; both must be reached
MOST_CONFLICTS = 5  # texts with several labels that are listed


def identity(texts: pd.Series) -> pd.Series:
    """Digest of each text after cleaning, under the same index; equal for copies, and equal to the digest in the splits."""
    starts = range(0, len(texts), CHUNK)
    digests = [
        splits.digest(cleaning.clean(texts.iloc[start : start + CHUNK], stopwords=NO_STOPWORDS, views=["text"])["text"])
        for start in tqdm(starts, desc="comparing texts", unit="partition", disable=None, delay=2)
    ]
    return pd.concat(digests) if digests else splits.digest(texts)


def describe(texts: pd.Series, labels: pd.Series) -> dict[str, Any]:
    """Copies and conflicts among raw texts, ready for JSON.

    Returns:
        The counts of `splits.copies`; `frequent_texts`, each at least 5 % of the reviews; and `conflicting_texts`, the most
        frequent ones with several labels. Each has excerpt, rows, share and rows per label; the most frequent text is first.
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
            "labels": {str(label): int(count) for label, count in labels[copied].value_counts().sort_index().items()},
        }

    return {
        **splits.copies(digests, labels),
        "frequent_texts": [describe_text(key) for key in frequent.index],
        "conflicting_texts": [describe_text(key) for key in most_conflicting.index],
    }

"""Rows of a source and their validation."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sentiflow.system.terminal import some

INVALID = re.compile("[\ud800-\udfff]")  # bytes that are invalid in the encoding, decoded with errors="surrogateescape"
UNKNOWN_LABEL = "unknown label"
EMPTY = "empty text"
EXCERPT = 80  # characters
SPLITS = {  # name of a split in the source: our name
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "development"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class Found(NamedTuple):
    """One raw row of a source, valid or not."""

    source: str  # kind of source: imdb, rotten_tomatoes, csv, tsv, folder, aclimdb
    file: str
    line: int  # first physical line, from 1
    text: str
    label: str  # not mapped to its class yet
    split: str | None = None  # train, valid or test
    rating: int | None = None
    film: str | None = None
    group: str | None = None  # all rows of a group are in the same split
    flaw: str | None = None  # parse error


class Origin(NamedTuple):
    """An opened source."""

    location: str  # the same on every machine, without passwords
    sha256: str
    labels: Mapping[str, str | None]  # label: class, or None to exclude its rows
    found: Iterable[Found]


def tidied(label: str) -> str:
    """A label in NFC without surrounding white space.

    >>> tidied(" positive\\t")
    'positive'
    """
    return unicodedata.normalize("NFC", label.strip())


def by_tidied(labels: Mapping[str, str | None]) -> dict[str, str | None]:
    """The labels mapping with tidied keys."""
    return {tidied(label): name for label, name in labels.items()}


def flaw(row: Found, labels: Mapping[str, str | None], max_characters: int) -> str | None:
    """Why a row is rejected, as "kind: details", or None if it is valid.

    Args:
        labels: class by tidied label.

    >>> flaw(Found("csv", "reviews.csv", 2, "Fine film.", "Positive"), {"0": "negative", "positive": "positive"}, 1000)
    "unknown label: 'Positive' is not mapped; did you mean 'positive'? mapped are '0', 'positive'"
    """
    if row.flaw is not None:
        return row.flaw
    if not row.text.isascii() and INVALID.search(row.text):
        return "bytes that are not valid in the encoding"
    if "\0" in row.text:
        return "NUL byte in the text"
    label = tidied(row.label)
    if not label:
        return "missing label"
    if label not in labels:
        meant = _meant(label[:EXCERPT], labels)
        hint = f"did you mean {meant!r}? " if meant else ""
        return f"{UNKNOWN_LABEL}: {excerpt(label)} is not mapped; {hint}mapped are {some(map(repr, labels))}"
    if row.split is not None and row.split not in SPLITS.values():
        return f"unknown split: {excerpt(row.split)}; expected one of {', '.join(SPLITS)}"
    if not row.text.strip():
        return EMPTY
    if len(row.text) > max_characters:
        return f"text longer than {max_characters:,} characters"
    return None


def _meant(label: str, labels: Iterable[str]) -> str | None:
    """The known label that is the same number, or differs only in case or a few letters."""
    by_form = {each.lower().removesuffix(".0"): each for each in labels}
    close = difflib.get_close_matches(label.lower().removesuffix(".0"), by_form, n=1, cutoff=0.8)
    return by_form[close[0]] if close else None


def excerpt(text: str) -> str:
    """The beginning of a text as a quoted literal without control characters: safe in a terminal or a spreadsheet."""
    return repr(text[:EXCERPT]) + ("..." if len(text) > EXCERPT else "")

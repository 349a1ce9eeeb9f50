"""A row of a source, and whether it can be used."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sentiflow.system.terminal import some

INVALID = re.compile("[\ud800-\udfff]")  # what errors="surrogateescape" makes of bytes that the encoding does not know
UNKNOWN_LABEL = "unknown label"
EMPTY = "empty text"
EXCERPT = 80  # characters of a rejected text that are shown
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "development"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}  # what a source calls a split: the split


class Found(NamedTuple):
    """One row as it is in the source, usable or not."""

    source: str  # kind of source: imdb, rotten_tomatoes, csv, tsv, folder, aclimdb
    file: str  # the file it is in
    line: int  # physical line on which it starts, from 1
    text: str
    label: str  # as written there
    split: str | None = None  # train, valid or test
    rating: int | None = None
    film: str | None = None
    group: str | None = None  # rows with the same one stay in one split
    flaw: str | None = None  # why it could not be read, where its reader already knows


class Origin(NamedTuple):
    """An opened source."""

    location: str  # for people; the same on every machine, without passwords
    sha256: str
    labels: Mapping[str, str | None]  # label in the source: its class, or None to leave its rows out
    found: Iterable[Found]


def tidied(label: str) -> str:
    """A label as it is compared: without white space around it, in Unicode's normal form.

    >>> tidied(" positive\\t")
    'positive'
    """
    return unicodedata.normalize("NFC", label.strip())


def by_tidied(labels: Mapping[str, str | None]) -> dict[str, str | None]:
    """The class, or None, by the tidied label."""
    return {tidied(label): name for label, name in labels.items()}


def flaw(row: Found, labels: Mapping[str, str | None], max_characters: int) -> str | None:
    """Why a row cannot be used, or None. The part before the first colon is the kind of flaw, of which there are few.

    Args:
        labels: by the tidied label.

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
    """The label that is the same number, or differs in case or a few letters."""
    by_form = {each.lower().removesuffix(".0"): each for each in labels}
    close = difflib.get_close_matches(label.lower().removesuffix(".0"), by_form, n=1, cutoff=0.8)
    return by_form[close[0]] if close else None


def excerpt(text: str) -> str:
    """The beginning of a text in quotes, with whatever is not printable escaped, so that it is safe in a terminal or a sheet."""
    return repr(text[:EXCERPT]) + ("..." if len(text) > EXCERPT else "")

"""What a source hands over, and which of it can be used."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

INVALID = re.compile("[\ud800-\udfff]")  # what errors="surrogateescape" makes of bytes that the encoding does not know
UNKNOWN_LABEL = "unknown label"
EXCERPT = 80  # characters of a rejected text that are shown


class Found(NamedTuple):
    """One row as it stands in the source, usable or not."""

    source: str  # kind of source: imdb, rotten_tomatoes, csv, tsv, aclimdb
    file: str  # the file it stands in
    line: int  # physical line on which it starts, from 1
    text: str
    label: str  # as written there
    split: str | None = None
    rating: int | None = None
    film: str | None = None
    flaw: str | None = None  # why it could not be read, where its reader already knows


class Origin(NamedTuple):
    """An opened source."""

    location: str  # for people; the same on every machine, without passwords
    sha256: str
    labels: Mapping[str, str]  # what stands there: the class it means
    found: Iterable[Found]


def flaw(row: Found, labels: Mapping[str, str], max_characters: int) -> str | None:
    """Why a row cannot be used, or None. The part before the first colon is the kind of flaw, of which there are few.

    >>> flaw(Found("csv", "reviews.csv", 2, "Fine film.", "posotive"), {"0": "negative", "positive": "positive"}, 1000)
    "unknown label: 'posotive' is not mapped; mapped are '0', 'positive'"
    """
    if row.flaw is not None:
        return row.flaw
    if not row.text.isascii() and INVALID.search(row.text):
        return "bytes that are not valid in the encoding"
    if "\0" in row.text:
        return "NUL byte in the text"
    if not row.label.strip():
        return "missing label"
    if row.label not in labels:
        return f"{UNKNOWN_LABEL}: {excerpt(row.label)} is not mapped; mapped are {', '.join(map(repr, labels))}"
    if not row.text.strip():
        return "empty text"
    if len(row.text) > max_characters:
        return f"text longer than {max_characters:,} characters"
    return None


def excerpt(text: str) -> str:
    """The beginning of a text in quotes, with whatever is not printable escaped, so that it is safe in a terminal or a sheet."""
    return repr(text[:EXCERPT]) + ("..." if len(text) > EXCERPT else "")

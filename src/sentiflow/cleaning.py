"""Two views of a review: `text` without markup and case, `content` without punctuation and stopwords too.

Every step works on a whole column at once, in linear time, so no review, however it is made, can hold the stage up. Only what
is short to compile is a regular expression: Arrow compiles one at every call, and one over all of Unicode's letters takes
longer than all that is done to a review.
"""

import html
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.errors import InputError

NLTK_DATA = Path(__file__).parent / "nltk_data"

# Markup: `<` and then a letter, `/` or `!`, so that "I <3 it" and "a < b" stay.
MARKUP = r"<[A-Za-z/!][^<>]*>"
URL = r"(?i)\b(?:https?://|www\.)[^\s<>\"]+"
APOSTROPHES = "[\u2018\u2019\u02bc\u0060\u00b4]"

# What a character is to a token, and how Arrow's regular expressions, which know Unicode's categories, say it.
SPACE, OTHER, MARK, NUMBER, LETTER = range(5)
KINDS = {SPACE: r"[\pZ\p{Cc}]", MARK: r"\pM", NUMBER: r"\pN", LETTER: r"\pL"}  # SPACE: every kind of it and control characters
CODE_POINTS = "utf-32-le"
SURROGATES = slice(0xD800, 0xE000)  # no characters

VIEWS = ("text", "content")
NEGATIONS = frozenset({"no", "nor", "not", "ain"})


@cache
def stopwords(*, keep_negations: bool) -> frozenset[str]:
    """NLTK's English stopwords, from the list in this package, so that no run needs `nltk.download`.

    Args:
        keep_negations: leaves out of the list whatever turns a meaning round: no, nor, not, and every word in n't.

    >>> "not" in stopwords(keep_negations=False), "not" in stopwords(keep_negations=True)
    (True, False)
    """
    import nltk  # here, because it takes a second, and most that import this module clean nothing
    from nltk.corpus.reader import WordListCorpusReader

    # NLTK reads only from folders that are named to it, and no file that another account owns or that its group may write: that
    # is every file of a clone under Ubuntu's umask of 002, or of somebody else's checkout. So it reads a private copy.
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(shutil.copyfile(NLTK_DATA / "corpora/stopwords/english", Path(folder) / "english"))
        copied.chmod(0o600)
        nltk.data.path.append(folder)
        try:
            words = frozenset(WordListCorpusReader(folder, [copied.name]).words())
        finally:
            nltk.data.path.remove(folder)
    if not keep_negations:
        return words
    return frozenset(word for word in words if word not in NEGATIONS and not word.endswith("n't") and f"{word}'t" not in words)


def clean(reviews: pd.Series, *, keep_negations: bool, views: Sequence[str] = VIEWS) -> pd.DataFrame:
    """The views of each review, under the index of `reviews`.

    Args:
        reviews: raw texts, any markup and case; shape (n,).
        keep_negations: see `stopwords`.
        views: those that are wanted; one alone takes less time.

    Returns:
        A column a view, tokens separated by one space; an empty string where nothing is left.

    Raises:
        InputError: if a review is missing.
        ValueError: if there is no such view.

    >>> clean(pd.Series(["It's <b>NOT</b> good&hellip; 2/10!"]), keep_negations=True).iloc[0].to_list()
    ["it's not good \u2026 2 / 10 !", 'not good']
    """
    if unknown := set(views) - set(VIEWS):
        raise ValueError(f"received {', '.join(sorted(unknown))} as views, expected some of {', '.join(VIEWS)}")
    if reviews.hasnans:
        missing = np.flatnonzero(reviews.isna())
        raise InputError(
            f"{len(missing)} of {len(reviews)} reviews have no text, first number {missing[0] + 1}; "
            "expected a text for each, which may be empty; leave those rows out"
        )
    raw = _without_entities(reviews)
    raw = pc.replace_substring_regex(raw, MARKUP, " ")
    raw = pc.replace_substring_regex(raw, URL, " ")
    raw = pc.utf8_lower(pc.replace_substring_regex(raw, APOSTROPHES, "'"))
    codes, kind, starts = _tokens(raw)
    cleaned = {}
    for view in views:
        if view == "text":
            column = _rows(codes, kind != SPACE, starts)
        else:
            column = _without_words(_rows(codes, kind == LETTER, starts), stopwords(keep_negations=keep_negations))
        cleaned[view] = pd.array(column, dtype="str")
    return pd.DataFrame(cleaned, index=reviews.index)


def clean_all(reviews: pd.Series, *, keep_negations: bool, partition_rows: int) -> pd.DataFrame:
    """`clean` over partitions side by side, with a progress bar; the same rows in the same order."""
    from dask.base import compute  # here, because it reads pickles of its own while it is imported, and answering needs none
    from dask.delayed import delayed
    from tqdm.dask import TqdmCallback

    starts = range(0, len(reviews), partition_rows)
    parts = [delayed(clean)(reviews.iloc[s : s + partition_rows], keep_negations=keep_negations) for s in starts]
    with TqdmCallback(desc="clean", unit="partition", disable=None):
        return pd.concat(compute(*parts, scheduler="threads"))  # type: ignore[no-untyped-call]


def _without_entities(reviews: pd.Series) -> pa.Array:
    return pa.array([_unescape(review) if "&" in review else review for review in reviews.tolist()], pa.large_string())


def _unescape(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a number of thousands of digits is no character
        return text


@cache
def _kinds() -> np.ndarray:
    """The kind of every character by its code point; uint8, shape (0x110000,)."""
    exists = np.ones(sys.maxunicode + 1, bool)
    exists[SURROGATES] = False
    characters = np.flatnonzero(exists).astype("<u4").tobytes().decode(CODE_POINTS)
    column = pa.array(list(characters), pa.large_string())
    kinds = np.full(len(exists), OTHER, np.uint8)
    for kind, pattern in KINDS.items():
        kinds[exists] = np.where(pc.match_substring_regex(column, pattern), kind, kinds[exists])
    return kinds


def _tokens(texts: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The code point of every character, each text after a line feed; its kind, LETTER all through a word; and whether a
    token starts with it. Each of shape (characters,).

    A token is a word (with inner apostrophes), a number, or one mark of punctuation; marks such as accents belong to the
    character before them.
    """
    rows = "\n".join(["", *pc.replace_substring(texts, "\n", " ").to_pylist()])
    codes = np.frombuffer(rows.encode(CODE_POINTS), "<u4")  # (characters,), each text after a line feed
    kind = _kinds()[codes]
    is_letter = kind == LETTER
    in_word = is_letter
    if (kind == MARK).any():
        carrier = np.maximum.accumulate(np.where(kind == MARK, 0, np.arange(len(kind))))
        in_word = is_letter[carrier]
    is_inner = (codes[1:-1] == ord("'")) & in_word[:-2] & is_letter[2:]
    kind[in_word] = LETTER
    kind[1:-1][is_inner] = LETTER

    before, after = kind[:-1], kind[1:]
    starts = kind != SPACE
    starts[1:] &= ~((after == before) & (after != OTHER)) & ~((after == MARK) & (before == OTHER))
    return codes, kind, starts


def _rows(codes: np.ndarray, wanted: np.ndarray, starts: np.ndarray) -> pa.Array:
    """The wanted characters of each line, with a space between tokens."""
    spaces = np.full_like(codes, ord(" "))
    is_line = codes == ord("\n")
    spaced = np.column_stack([spaces, codes])[np.column_stack([starts & wanted, wanted | is_line])]
    return pa.array([row[1:] for row in spaced.tobytes().decode(CODE_POINTS).split("\n")[1:]], pa.large_string())


def _without_words(texts: pa.Array, unwanted: frozenset[str]) -> pa.Array:
    """The words but the unwanted, without their apostrophes."""
    words = pc.split_pattern(texts, " ")
    bare = pc.replace_substring(words.values, "'", "")
    listed = pa.array(["", *sorted(unwanted)], bare.type)
    # also those without their apostrophe, since "a's" is then "as"
    keep = pc.invert(pc.or_(pc.is_in(words.values, listed), pc.is_in(bare, listed)))
    kept_before = np.concatenate([[0], np.cumsum(keep)])
    offsets = pa.array(kept_before[words.offsets.to_numpy()], words.offsets.type)
    return pc.binary_join(type(words).from_arrays(offsets, bare.filter(keep)), pa.scalar(" ", bare.type))

"""Two views of a review: `text` without markup and case, and `content`, also without punctuation and stopwords.

Every step processes a whole column in linear time, so that no malicious review can block the stage. Arrow compiles a regular
expression on every call, so it only gets short ones.
"""

import html
import sys
from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import regex

from sentiflow.data import emoji, markup, normal_form
from sentiflow.data.stopwords import NO_STOPWORDS, Stopwords
from sentiflow.system.errors import InputError

URL = r"(?i)\b(?:https?://|www\.)[!#-;=?-~]+"  # ASCII only (RFC 3986): Chinese text may follow without a space
APOSTROPHES = "[\u2018\u2019\u02bc\u0060\u00b4]"
ROUNDS = 3  # levels of nested entities, as in `&amp;amp;#39;`

# Kinds of characters for tokenisation. Those from LETTER on are part of words.
SPACE, MARK, NUMBER, OTHER, LETTER, CHARACTER, EMOJI = range(7)
# Scripts without spaces between words: each character with its marks is a token.
UNSPACED = (
    r"\p{Balinese}\p{Bopomofo}\p{Han}\p{Javanese}\p{Khmer}\p{Lao}\p{Myanmar}\p{New_Tai_Lue}\p{Tai_Le}\p{Tai_Tham}\p{Tai_Viet}"
    r"\p{Thai}\p{Yi}\p{scx=Hiragana}\p{scx=Katakana}"  # scx includes the long vowel sign of both scripts
)
KINDS = {  # later patterns take precedence
    SPACE: r"[\p{Z}\p{Cc}]",
    MARK: r"[\p{M}\u200c\u200d\U000e0020-\U000e007f]",  # joiners and tag letters of flags
    NUMBER: r"\p{N}",
    LETTER: r"\p{L}",
    CHARACTER: rf"[\p{{L}}&&[{UNSPACED}]]",
    EMOJI: emoji.EMOJI,
}
CODE_POINTS = "utf-32-le"
JOINER = ord("\u200d")
REGIONAL = ord("\U0001f1e6"), ord("\U0001f1ff")  # two of them form a flag
SKIN = ord("\U0001f3fb"), ord("\U0001f3ff")

VIEWS = ("text", "content")


def clean(reviews: pd.Series, *, stopwords: Stopwords, views: Sequence[str] = VIEWS) -> pd.DataFrame:
    """The views of each review, with the same index.

    Args:
        reviews: raw texts; shape (n,).
        stopwords: words removed from `content`.

    Returns:
        One column per view, tokens separated by one space; an empty string if nothing is left.

    Raises:
        InputError: if a review is missing.
        ValueError: if a view is unknown.

    >>> stopwords = Stopwords("english", keep_negations=True)
    >>> clean(pd.Series(["It's <b>NOT</b> good&hellip; 2/10!"]), stopwords=stopwords).iloc[0].to_list()
    ["it's not good \u2026 2 / 10 !", 'not good']
    """
    if unknown := set(views) - set(VIEWS):
        raise ValueError(f"received {', '.join(sorted(unknown))} as views, expected some of {', '.join(VIEWS)}")
    if reviews.hasnans:
        missing = np.flatnonzero(reviews.isna())
        raise InputError(
            f"{len(missing)} of {len(reviews)} reviews have no text, first number {missing[0] + 1}; expected a text for each, "
            "which may be empty; remove those rows"
        )
    raw = pa.array([_without_markup(review) for review in reviews.tolist()], pa.large_string())
    raw = pc.replace_substring_regex(raw, URL, " ")
    raw = pc.utf8_lower(pc.replace_substring_regex(raw, APOSTROPHES, "'"))
    codes, kind, starts = _tokens(raw)
    cleaned = {}
    for view in views:
        if view == "text":
            column = _rows(codes, kind != SPACE, starts)
        else:
            column = _without_words(_rows(codes, kind >= LETTER, starts), _unwanted(stopwords))
        cleaned[view] = pd.array(column, dtype="str")
    return pd.DataFrame(cleaned, index=reviews.index)


def clean_all(reviews: pd.Series, *, stopwords: Stopwords, partition_rows: int) -> pd.DataFrame:
    """`clean` over partitions in parallel, with a progress bar; the same rows in the same order."""
    from dask.base import compute  # here, because it unpickles data at import, and serving must not unpickle
    from dask.delayed import delayed
    from tqdm.dask import TqdmCallback

    starts = range(0, len(reviews), partition_rows)
    parts = [delayed(clean)(reviews.iloc[s : s + partition_rows], stopwords=stopwords) for s in starts]
    with TqdmCallback(desc="clean", unit="partition", disable=None):
        return pd.concat(compute(*parts, scheduler="threads"))  # type: ignore[no-untyped-call]


@cache
def _unwanted(stopwords: Stopwords) -> frozenset[str]:
    """The stopwords as in a cleaned text."""
    return frozenset(clean(pd.Series(sorted(stopwords.words()), dtype="str"), stopwords=NO_STOPWORDS, views=["text"])["text"])


def _without_markup(text: str) -> str:
    text = normal_form.normalised(text)
    for _ in range(ROUNDS):
        if "&" not in text or (plain := _unescape(text)) == text:
            break
        text = normal_form.normalised(plain)
    return markup.removed(text)


def _unescape(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a number of thousands of digits is not a character
        return text


@cache
def _kinds() -> np.ndarray:
    """The kind of every character by code point; uint8, shape (0x110000,)."""
    characters = "".join(map(chr, range(sys.maxunicode + 1)))
    kinds = np.full(len(characters), OTHER, np.uint8)
    for kind, pattern in KINDS.items():
        for run in regex.finditer(f"{pattern}+", characters, regex.V1):
            kinds[run.start() : run.end()] = kind
    return kinds


def _tokens(texts: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Code point of every character, with a line feed before each text; its kind, or the kind of the word or emoji that contains
    it; whether it starts a token. Each has shape (characters,).

    A token is a word (with inner apostrophes), a character of a script without spaces, an emoji, a number, or one punctuation
    mark. Combining marks belong to the preceding character.
    """
    # lower case letters may have a composed form that capitals do not have, such as \u1e96
    rows = "\n".join(["", *map(normal_form.composed, pc.replace_substring(texts, "\n", " ").to_pylist())])
    codes = np.frombuffer(rows.encode(CODE_POINTS), "<u4")  # (characters,)
    kind = _kinds()[codes]
    keycaps = np.flatnonzero(codes == ord(emoji.KEYCAP))  # never first
    kind[[place - 1 for place in keycaps if chr(codes[place - 1]) in emoji.KEYS]] = EMOJI
    is_mark, is_letter = kind == MARK, kind == LETTER
    if is_mark.any():
        carrier = np.maximum.accumulate(np.where(is_mark, 0, np.arange(len(kind))))
        kind = np.where(is_mark & (kind[carrier] >= LETTER), kind[carrier], kind)
    is_inner = (codes[1:-1] == ord("'")) & (kind[:-2] == LETTER) & is_letter[2:]
    kind[1:-1][is_inner] = LETTER
    has_emoji = bool((kind == EMOJI).any())
    if has_emoji:
        is_joined = _joined_emoji(codes, kind)
        kind[is_joined] = EMOJI

    before, after = kind[:-1], kind[1:]
    starts = kind != SPACE
    starts[1:] &= ~((after == before) & ((after < OTHER) | (after == LETTER))) & ~((after == MARK) & (before == OTHER))
    starts[is_mark & (kind > LETTER)] = False
    if has_emoji:
        starts[is_joined] = False
    return codes, kind, starts


def _joined_emoji(codes: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Whether a character belongs to the preceding emoji: skin tone, second letter of a flag, or after a joiner."""
    follows = np.zeros(len(codes), bool)
    follows[1:] = kind[:-1] == EMOJI
    previous = np.concatenate([[0], codes[:-1]])
    is_skin = (codes >= SKIN[0]) & (codes <= SKIN[1])
    is_regional = (codes >= REGIONAL[0]) & (codes <= REGIONAL[1])
    place = np.arange(len(codes))
    run_start = np.maximum.accumulate(np.where(is_regional, 0, place + 1))
    is_second = is_regional & ((place - run_start) % 2 == 1)
    is_after_joiner = (previous == JOINER) & ((kind == EMOJI) | (kind == OTHER))
    return np.asarray(is_second | (follows & (is_skin | is_after_joiner)))


def _rows(codes: np.ndarray, wanted: np.ndarray, starts: np.ndarray) -> pa.Array:
    """The wanted characters of each line, with a space between tokens."""
    spaces = np.full_like(codes, ord(" "))
    is_line = codes == ord("\n")
    spaced = np.column_stack([spaces, codes])[np.column_stack([starts & wanted, wanted | is_line])]
    return pa.array([row[1:] for row in spaced.tobytes().decode(CODE_POINTS).split("\n")[1:]], pa.large_string())


def _without_words(texts: pa.Array, unwanted: frozenset[str]) -> pa.Array:
    """The texts without the unwanted words and without apostrophes."""
    words = pc.split_pattern(texts, " ")
    bare = pc.replace_substring(words.values, "'", "")
    listed = pa.array(["", *sorted(unwanted)], bare.type)
    # also compare without apostrophes, because "a's" becomes "as"
    keep = pc.invert(pc.or_(pc.is_in(words.values, listed), pc.is_in(bare, listed)))
    kept_before = np.concatenate([[0], np.cumsum(keep)])
    offsets = pa.array(kept_before[words.offsets.to_numpy()], words.offsets.type)
    return pc.binary_join(type(words).from_arrays(offsets, bare.filter(keep)), pa.scalar(" ", bare.type))

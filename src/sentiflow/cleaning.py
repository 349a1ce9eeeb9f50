"""Two views of a review: `text` without markup and case, `content` without punctuation and stopwords too.

Every step works on a whole Arrow column at once. Arrow's regular expressions run in linear time, so no review, however it is
made, can hold the stage up.
"""

import html
from functools import cache
from pathlib import Path

import nltk
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from dask.base import compute
from dask.delayed import delayed
from nltk.corpus.reader import WordListCorpusReader
from tqdm.dask import TqdmCallback

NLTK_DATA = Path(__file__).parent / "nltk_data"

# Markup: `<` and then a letter, `/` or `!`, so that "I <3 it" and "a < b" stay.
MARKUP = r"<[A-Za-z/!][^<>]*>"
URL = r"(?i)\b(?:https?://|www\.)[^\s<>\"]+"
APOSTROPHES = "[\u2018\u2019\u02bc\u0060\u00b4]"
# A word (with inner apostrophes), a number, or one mark of punctuation, each a token of its own.
TOKEN = r"\pL[\pL\pM]*(?:'\pL[\pL\pM]*)*|\pN+|[^ \pL\pN]\pM*"
SPACE = r"[\pZ\p{Cc}]+"  # every kind of space and control character; Arrow's \s knows ASCII's alone
NOT_A_WORD = r"(?:^| )[^ \pL][^ ]*"  # a token that does not begin with a letter

NEGATIONS = frozenset({"no", "nor", "not", "ain"})


@cache
def stopwords(*, keep_negations: bool) -> frozenset[str]:
    """NLTK's English stopwords, from the list in this package, so that no run needs `nltk.download`.

    Args:
        keep_negations: leaves out of the list whatever turns a meaning round: no, nor, not, and every word in n't.

    >>> "not" in stopwords(keep_negations=False), "not" in stopwords(keep_negations=True)
    (True, False)
    """
    if str(NLTK_DATA) not in nltk.data.path:  # NLTK reads only from folders that are named here
        nltk.data.path.append(str(NLTK_DATA))
    words = frozenset(WordListCorpusReader(str(NLTK_DATA / "corpora/stopwords"), ["english"]).words())
    if not keep_negations:
        return words
    return frozenset(word for word in words if word not in NEGATIONS and not word.endswith("n't") and f"{word}'t" not in words)


def clean(reviews: pd.Series, *, keep_negations: bool) -> pd.DataFrame:
    """Both views of each review, under the index of `reviews`.

    Args:
        reviews: raw texts, any markup and case; shape (n,).
        keep_negations: see `stopwords`.

    Returns:
        Columns `text` and `content`, tokens separated by one space; an empty string where nothing is left.

    >>> clean(pd.Series(["It's <b>NOT</b> good&hellip; 2/10!"]), keep_negations=True).iloc[0].to_list()
    ["it's not good \u2026 2 / 10 !", 'not good']
    """
    raw = _without_entities(reviews)
    raw = pc.replace_substring_regex(raw, MARKUP, " ")
    raw = pc.replace_substring_regex(raw, URL, " ")
    raw = pc.utf8_lower(pc.replace_substring_regex(raw, APOSTROPHES, "'"))
    # Arrow cannot list all matches, so each token is set off by spaces and runs of space are folded.
    text = _folded(pc.replace_substring_regex(_folded(raw), f"({TOKEN})", r" \1 "))
    unwanted = stopwords(keep_negations=keep_negations)
    content = _without_words(pc.replace_substring_regex(text, NOT_A_WORD, " "), unwanted)
    # once more, since without its apostrophe "a's" is "as"
    content = _without_words(pc.replace_substring(content, "'", ""), unwanted)
    return pd.DataFrame(
        {"text": text.to_pandas(), "content": content.to_pandas()},
        dtype="str",
    ).set_index(reviews.index)


def clean_all(reviews: pd.Series, *, keep_negations: bool, partition_rows: int) -> pd.DataFrame:
    """`clean` over partitions side by side, with a progress bar; the same rows in the same order."""
    starts = range(0, len(reviews), partition_rows)
    parts = [delayed(clean)(reviews.iloc[s : s + partition_rows], keep_negations=keep_negations) for s in starts]
    with TqdmCallback(desc="clean", unit="partition", disable=None):
        return pd.concat(compute(*parts, scheduler="threads"))  # type: ignore[no-untyped-call]


def _without_entities(reviews: pd.Series) -> pa.Array:
    holds_entity = reviews.str.contains("&", regex=False)
    if holds_entity.any():
        reviews = reviews.where(~holds_entity, reviews[holds_entity].map(_unescape))
    texts = pa.array(reviews, type=pa.large_string())
    return texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts


def _unescape(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a number of thousands of digits is no character
        return text


def _folded(texts: pa.Array) -> pa.Array:
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(texts, SPACE, " "))


def _without_words(texts: pa.Array, unwanted: frozenset[str]) -> pa.Array:
    words = pc.utf8_split_whitespace(_folded(texts))
    is_unwanted = pc.is_in(words.values, pa.array(["", *sorted(unwanted)], words.values.type))
    keep = pc.invert(is_unwanted).to_numpy(zero_copy_only=False)
    kept_before = np.concatenate([[0], np.cumsum(keep)])
    offsets = kept_before[words.offsets.to_numpy()]
    lists = type(words).from_arrays(pa.array(offsets, words.offsets.type), words.values.filter(pa.array(keep)))
    return pc.binary_join(lists, pa.scalar(" ", words.values.type))

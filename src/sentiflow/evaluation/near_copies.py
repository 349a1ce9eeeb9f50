"""Near-copies across train, valid and test, and their effect on the accuracy on test.

MinHash with locality-sensitive hashing finds candidate pairs, which are then checked by exact Jaccard similarity.
"""

import zlib
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from datasketch import MinHash, MinHashLSH
from tqdm import tqdm

from sentiflow.config import params
from sentiflow.data.sources.rows import excerpt
from sentiflow.data.splits import SPLITS
from sentiflow.evaluation import significance
from sentiflow.evaluation.error_analysis import as_csv
from sentiflow.system import artifacts, markdown, stage, terminal
from sentiflow.system.errors import InputError

SPLITS_DIR, PREDICTIONS_DIR, LISTING = Path("data/splits"), Path("data/predictions"), Path("reports/near_copies.csv")
SHINGLE = 5  # words, or characters of a text of few words
FEW_WORDS_LONG = 40  # a text of fewer words than a shingle is compared by characters from this length on
PERMUTATIONS = 128  # of a MinHash signature
MISSED = 0.01  # maximum probability to miss a pair with exactly the given similarity
LOWEST = 0.1  # below this similarity hashing would yield most pairs, or miss too many
SHOWN = 10  # pairs in the terminal
PAIRS = list(combinations(SPLITS, 2))


def report(similarity: float) -> None:
    """Prints near-copies across splits and the accuracy on test without them; writes all pairs to LISTING."""
    if not LOWEST <= similarity <= 1:
        raise InputError(f"received --similarity {similarity}; expected a number from {LOWEST:g} to 1")
    p = params.load()
    if missing := [str(file) for file in map(_file_of, SPLITS) if not file.exists()]:
        raise InputError(
            f"{', '.join(missing)} missing: the reviews are not split yet; run `sentiflow repro`, then run this again"
        )
    reviews = pd.concat([artifacts.read_frame(_file_of(split)).assign(split=split) for split in SPLITS], ignore_index=True)
    texts = reviews.drop_duplicates("text", ignore_index=True)  # copies of a text are in one split
    pairs = find(texts["text"], texts["split"], similarity)
    table = _table(texts, pairs)
    with stage.writing(LISTING) as [partial]:
        partial.write_text(as_csv(table), encoding="utf-8", newline="")
    terminal.tell("\n".join([*_summary(table, len(texts), similarity), ""]))
    copied = set(texts["text"][pairs.loc[texts["split"][pairs["other"]].to_numpy() == "test", "other"]])
    test = reviews[reviews["split"] == "test"].set_index("row")["text"]
    terminal.tell("\n".join(_accuracies(test.isin(copied), p.evaluate.confidence)))
    terminal.tell(f"\nAll pairs: {LISTING}")


def _file_of(split: str) -> Path:
    return SPLITS_DIR / f"{split}.parquet"


def shingles(text: str) -> frozenset[str]:
    """Every sequence of SHINGLE consecutive words of a cleaned text.

    For a text of fewer words: its words; or if it is long, so that its script has no spaces, sequences of SHINGLE characters.

    >>> sorted(shingles("a b c d e f")), sorted(shingles("not good")), len(shingles("x" * 20 + "y" * 30))
    (['a b c d e', 'b c d e f'], ['good', 'not'], 6)
    """
    words = text.split()
    if len(words) >= SHINGLE:
        return frozenset(" ".join(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1))
    if len(text) >= FEW_WORDS_LONG:
        return frozenset(text[start : start + SHINGLE] for start in range(len(text) - SHINGLE + 1))
    return frozenset(words)


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard similarity of two sets of shingles; in [0, 1].

    >>> jaccard(frozenset("abc"), frozenset("bcd"))
    0.5
    """
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def bands(similarity: float) -> tuple[int, int]:
    """Number of bands and rows per band: as selective as possible with a probability of a missed pair of at most MISSED.

    Source: Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, chapter 3.

    >>> bands(0.8)
    (21, 6)
    """
    allowed = [rows for rows in range(1, PERMUTATIONS // 2) if (1 - similarity**rows) ** (PERMUTATIONS // rows) <= MISSED]
    return PERMUTATIONS // max(allowed), max(allowed)


def find(texts: pd.Series, split: pd.Series, similarity: float) -> pd.DataFrame:
    """Pairs of texts in different splits with at least this Jaccard similarity; reproducible.

    Args:
        texts: cleaned and distinct; index 0 to n - 1.
        split: of each text, with the same index.

    Returns:
        Columns `one`, `other` (index values, in the order of the splits) and `similarity`; most similar first.
    """
    index = MinHashLSH(num_perm=PERMUTATIONS, params=bands(similarity))
    shingles_of = lru_cache(maxsize=10_000)(lambda key: shingles(texts[key]))
    found = []
    with tqdm(total=len(texts), desc="comparing texts", unit=" texts", disable=None) as bar:
        for name in SPLITS:
            signatures = dict(_signatures(texts[split == name]))
            for key, signature in signatures.items():
                for candidate in index.query(signature):
                    value = jaccard(shingles_of(candidate), shingles_of(key))
                    if value >= similarity:
                        found.append((candidate, key, value))
                bar.update()
            for key, signature in signatures.items():
                index.insert(key, signature)
    pairs = pd.DataFrame(found, columns=["one", "other", "similarity"]).astype({"one": "int64", "other": "int64"})
    return pairs.sort_values(["similarity", "one", "other"], ascending=[False, True, True], ignore_index=True)


def _signatures(texts: pd.Series) -> Iterator[tuple[int, MinHash]]:
    hashed = ([shingle.encode() for shingle in shingles(text)] for text in texts)
    # CRC-32, which is fast and, unlike `hash`, the same in every process
    signatures = MinHash.generator(hashed, num_perm=PERMUTATIONS, seed=1, hashfunc=zlib.crc32)
    return ((key, signature) for key, signature in zip(texts.index, signatures, strict=True) if not signature.is_empty())


def _table(texts: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    one, other = texts.loc[pairs["one"]], texts.loc[pairs["other"]]
    return pd.DataFrame(
        {
            "row": one["row"].to_numpy(),
            "split": one["split"].to_numpy(),
            "other_row": other["row"].to_numpy(),
            "other_split": other["split"].to_numpy(),
            "similarity": pairs["similarity"],
            "excerpt": [excerpt(text) for text in one["text"]],
            "other_excerpt": [excerpt(text) for text in other["text"]],
        }
    )


def _summary(table: pd.DataFrame, texts: int, similarity: float) -> list[str]:
    lines = [f"pairs with a similarity of at least {similarity:g} among {texts:,} distinct texts: {len(table):,}", ""]
    of_pair = {pair: table[(table["split"] == pair[0]) & (table["other_split"] == pair[1])] for pair in PAIRS}
    counts = [[" - ".join(pair), f"{len(rows):,}", f"{rows['other_row'].nunique():,}"] for pair, rows in of_pair.items()]
    lines += markdown.markdown(["splits", "pairs", "texts of the second split"], counts)
    if len(table):
        shown = [
            [f"{line['similarity']:.3f}", f"{line['split']} {line['row']}", f"{line['other_split']} {line['other_row']}",
             line["excerpt"], line["other_excerpt"]]
            for line in table.head(SHOWN).to_dict("records")
        ]  # fmt: skip
        lines += ["", *markdown.markdown(["similarity", "row", "other row", "text", "other text"], shown)]
    return lines


def _accuracies(copied: pd.Series, confidence: float) -> list[str]:
    """The accuracy of each evaluated model on all of test, and without the reviews that are `copied`, by row."""
    rows, others = [], []
    for file in sorted(PREDICTIONS_DIR.glob("*/test.parquet")):
        answers = artifacts.read_frame(file).set_index("row")
        name = file.parent.name
        if set(answers.index) != set(copied.index):
            others.append(name)
            continue
        right = answers["label"] == answers["predicted"]
        rows.append([name, _accuracy(right, confidence), _accuracy(right[~copied.reindex(right.index)], confidence)])
    lines = []
    if rows:
        kept = f"without {copied.sum():,} near-copies"
        lines += markdown.markdown(["accuracy", f"all {len(copied):,} test reviews", kept], rows)
    if others:
        lines.append(f"Evaluated on another test set, so not shown: {', '.join(others)}; run `sentiflow repro`.")
    return lines or ["No model is evaluated yet, so no accuracy is shown; run `sentiflow repro`."]


def _accuracy(right: pd.Series, confidence: float) -> str:
    if right.empty:
        return "no review"
    low, high = significance.wilson(int(right.sum()), len(right), confidence)
    return f"{np.mean(right):.4f} ({low:.4f} to {high:.4f})"

"""Text to word ids and back. Keras's Tokenizer fits the vocabulary; applying it needs Arrow only.

Ids: 0 is <pad>, 1 is <unk>, and words from 2 on are ordered by their frequency in train. One fit serves every vocabulary size:
ids from the size on become <unk>.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from sentiflow.data.emoji import is_emoji
from sentiflow.system import artifacts
from sentiflow.system.errors import InputError

PAD, UNKNOWN = 0, 1
FEW = 20_000  # tokens up to which dict lookups are faster than Arrow, which hashes the whole vocabulary first
SPECIAL = ("<pad>", "<unk>")


@dataclass(frozen=True)
class Ragged:
    """Word ids of n reviews: review i is `values[offsets[i]:offsets[i + 1]]`."""

    values: np.ndarray  # int32, shape (tokens,)
    offsets: np.ndarray  # int64, shape (n + 1,)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, review: int) -> np.ndarray:
        return self.values[self.offsets[review] : self.offsets[review + 1]]

    @property
    def owners(self) -> np.ndarray:
        """The review of each token; shape (tokens,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @classmethod
    def from_arrow(cls, lists: pa.Array) -> Self:
        offsets = lists.offsets.to_numpy().astype(np.int64)
        return cls(lists.values.to_numpy()[offsets[0] : offsets[-1]].astype(np.int32, copy=False), offsets - offsets[0])

    def to_arrow(self) -> pa.Array:
        return pa.ListArray.from_arrays(self.offsets.astype(np.int32), self.values)

    def keep(self, wanted: np.ndarray) -> Self:
        """The tokens for which `wanted`, shape (tokens,), is true."""
        kept_before = np.concatenate([[0], np.cumsum(wanted)])
        return type(self)(self.values[wanted], kept_before[self.offsets])

    def padded(self, length: int, *, padding: str, truncating: str) -> np.ndarray:
        """One row of `length` ids per review, as Keras's `pad_sequences` but vectorised; int32, shape (n, length).

        Args:
            padding: side of a shorter review filled with <pad>, pre or post.
            truncating: side cut from a longer review, pre or post.
        """
        sizes = np.diff(self.offsets)
        kept = np.minimum(sizes, length)
        first = self.offsets[:-1] + (sizes - kept if truncating == "pre" else 0)
        left = (length - kept if padding == "pre" else np.zeros_like(kept))[:, None]  # (n, 1)
        column, place = np.arange(length), np.arange(len(self.values))
        is_filled = (column >= left) & (column < left + kept[:, None])  # (n, length)
        is_kept = (place >= np.repeat(first, sizes)) & (place < np.repeat(first + kept, sizes))  # (tokens,)
        rows = np.full((len(self), length), PAD, np.int32)
        rows[is_filled] = self.values[is_kept]
        return rows


@dataclass(frozen=True)
class Tokens:
    """One split as the input of a model."""

    rows: np.ndarray  # row of each review in the downloaded data, shape (n,)
    labels: np.ndarray  # class index of each review, shape (n,)
    ids: Ragged

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Vocabulary:
    """The words of train, most frequent first."""

    words: tuple[str, ...]  # by id, <pad> and <unk> first
    counts: np.ndarray  # occurrences in train by id; 0 for <pad> and <unk>

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def _lookup(self) -> pa.Array:
        return pa.array(self.words, pa.large_string())

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def is_word(self) -> np.ndarray:
        """By id: False for punctuation marks."""
        return np.array([word in SPECIAL or word[0].isalnum() or is_emoji(word) for word in self.words])

    def ids(self, texts: pd.Series) -> Ragged:
        """Word ids of cleaned texts; words not in train are <unk>.

        >>> words = Vocabulary(("<pad>", "<unk>", "good", "film"), np.array([0, 0, 9, 5]))
        >>> words.ids(pd.Series(["good old film"]))[0].tolist()
        [2, 1, 3]
        """
        column = pa.array(texts, pa.large_string())
        split = pc.split_pattern(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column, " ")
        if len(split.values) <= FEW:
            values = np.array([self._ids.get(word, UNKNOWN) for word in split.values.to_pylist()], np.int32)
        else:
            values = pc.index_in(split.values, self._lookup).fill_null(UNKNOWN).to_numpy()
        ids = Ragged(values.astype(np.int32), split.offsets.to_numpy().astype(np.int64))
        # Arrow splits an empty text into one empty word
        return ids.keep(pc.not_equal(split.values, "").to_numpy(zero_copy_only=False))

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The words of the ids, without padding.

        >>> Vocabulary(("<pad>", "<unk>", "good", "film"), np.array([0, 0, 9, 5])).decode([0, 0, 2, 1, 3])
        'good <unk> film'
        """
        return " ".join(self.words[i] for i in ids if i != PAD)

    def size(self, *, at_most: int | None, minimum_count: int) -> int:
        """Number of ids a model uses, including <pad> and <unk>."""
        frequent = len(SPECIAL) + int(np.count_nonzero(self.counts >= minimum_count))
        return min(frequent, len(self) if at_most is None else at_most)

    def cut(self, ids: Ragged, *, size: int, punctuation: bool) -> Ragged:
        """The ids that a model reads: <unk> from `size` on, and optionally without punctuation marks."""
        if not punctuation:
            ids = ids.keep(self.is_word[ids.values])
        return Ragged(np.where(ids.values < size, ids.values, UNKNOWN).astype(np.int32), ids.offsets)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads a Keras tokenizer's `to_json()`.

        Raises:
            ValueError, KeyError, TypeError or AttributeError: if it is not one, or was fitted without <unk>.
        """
        config = json.loads(text)["config"]
        counts = json.loads(config["word_counts"])
        index = json.loads(config["word_index"])
        words = sorted(index, key=index.__getitem__)  # from id 1
        if words[:1] != [SPECIAL[UNKNOWN]] or [index[word] for word in words] != list(range(1, len(words) + 1)):
            raise ValueError("ids must be consecutive from 1, which is <unk>")
        if config["num_words"] is not None:
            words = words[: config["num_words"] - 1]
        return cls((SPECIAL[PAD], *words), np.array([0] + [counts.get(word, 0) for word in words]))

    @classmethod
    def read(cls, file: Path) -> Self:
        """Reads the JSON of `fit` from a file.

        Raises:
            InputError: if the file is not a Keras tokenizer.
        """
        try:
            return cls.from_json(file.read_text(encoding="utf-8"))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"{file} is not a tokenizer from Keras's Tokenizer.to_json(); create it again: dvc repro tokenize"
            ) from None


def fit(texts: pd.Series, *, minimum_count: int) -> str:
    """The JSON of a fitted Keras Tokenizer; deterministic.

    Args:
        texts: cleaned texts of train, tokens separated by one space.
        minimum_count: occurrences below which a word is <unk>.
    """
    from tensorflow.keras.preprocessing.text import Tokenizer  # here, because applying a vocabulary must not load TensorFlow

    tokenizer = Tokenizer(oov_token=SPECIAL[UNKNOWN], filters="", lower=False)
    tokenizer.fit_on_texts(tqdm(texts.tolist(), desc="fit vocabulary", unit="review", disable=None, leave=False))
    kept = sum(count >= minimum_count for count in tokenizer.word_counts.values())
    tokenizer.num_words = kept + len(SPECIAL)
    saved = json.loads(tokenizer.to_json())
    # Keras counts documents over sets of words, whose order differs between processes
    saved["config"] = {key: _sorted_json(value) for key, value in saved["config"].items()}
    return json.dumps(saved, sort_keys=True)


def _sorted_json(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("{"):
        return json.dumps(json.loads(value), sort_keys=True)
    return value


def unknown_rate(ids: Ragged, size: int) -> float:
    """Fraction of tokens that are <unk> with a vocabulary of `size` ids; 0 without tokens."""
    return float(np.mean((ids.values >= size) | (ids.values == UNKNOWN))) if len(ids.values) else 0.0


def describe(words: Vocabulary, ids: dict[str, Ragged]) -> dict[str, Any]:
    """Size, most frequent words, and out-of-vocabulary rate by split and vocabulary size."""
    sizes = [size for size in (1_000, 5_000, 10_000, 20_000) if size < len(words)] + [len(words)]
    return {
        "words": len(words) - len(SPECIAL),
        "tokens": {split: len(of_split.values) for split, of_split in ids.items()},
        "unknown_rate": {
            split: {str(size): round(unknown_rate(of_split, size), 6) for size in sizes} for split, of_split in ids.items()
        },
        "most_frequent": [[word, int(count)] for word, count in zip(words.words[2:32], words.counts[2:32], strict=True)],
    }


def write_tokens(file: Path, rows: pd.Series, labels: pd.Series, views: dict[str, Ragged]) -> None:
    """Writes one split: `row`, `label` (class index) and one column of ids per view."""
    columns = {"row": pa.array(rows), "label": pa.array(labels, pa.int16())}
    columns |= {view: ids.to_arrow() for view, ids in views.items()}
    pq.write_table(pa.table(columns), file)


def read_tokens(file: Path, view: str) -> Tokens:
    """Reads one view of one split."""
    table = artifacts.read_table(file, ["row", "label", view])
    return Tokens(
        table["row"].to_numpy(),
        table["label"].to_numpy().astype(np.int64),
        Ragged.from_arrow(table[view].combine_chunks()),
    )


@dataclass(frozen=True)
class TrainingData:
    """All data that a model may see before its evaluation."""

    train: Tokens
    valid: Tokens
    classes: tuple[str, ...]
    vocabulary: Vocabulary


def read_classes(tokens_dir: Path) -> tuple[str, ...]:
    """The class names by index."""
    return tuple(artifacts.read_json(tokens_dir / "classes.json"))


def read_training_data(tokens_dir: Path, view: str) -> TrainingData:
    """Reads one view of train and valid, and its vocabulary."""
    return TrainingData(
        read_tokens(tokens_dir / "train.parquet", view),
        read_tokens(tokens_dir / "valid.parquet", view),
        read_classes(tokens_dir),
        Vocabulary.read(tokens_dir / f"{view}.json"),
    )


def require_words(data: TrainingData, view: str, model: str) -> None:
    """Raises InputError if the view of a model has no words in train."""
    if len(data.vocabulary) > len(SPECIAL):
        return
    if len(data.train.ids.values):
        why, advice = "none reaches tokenize.minimum_count", "lower tokenize.minimum_count in params.yaml, use more reviews"
    else:
        why, advice = "every review is empty in it", "check metrics/cleaning.json"
    raise InputError(
        f"the view {view} has no words in train: {why}; {advice}, or choose another view for {model} (models.{model}.view)"
    )

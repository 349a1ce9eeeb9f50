"""Hashes of the texts that a model was trained or chosen on, so that it is never compared on reviews that it has seen."""

import hashlib
from typing import cast

import numpy as np
import pandas as pd

from sentiflow.data import normal_form

SEEN = ("train", "valid")  # valid too: the kept epoch, the temperature and the best model were chosen on it


def hashes(texts: pd.Series) -> np.ndarray:
    """64-bit hash of each text; shape (n,). Case, spacing, punctuation and the form of Unicode make no difference.

    >>> hashes(pd.Series(["A good film!", "a  GOOD film"])).tolist()
    [17634939635782828857, 17634939635782828857]
    """
    texts = normal_form.normalise(texts)
    plain = texts.str.normalize("NFKC").str.lower().str.replace(r"[\W_]+", "", regex=True)
    kept = plain.where(plain != "", texts)  # texts without a letter, such as emoji
    return np.array([int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) for text in kept], np.uint64)


def of_training(texts: pd.Series) -> pd.DataFrame:
    """Column `hash`: of every text in train and valid, sorted, each once."""
    return pd.DataFrame({"hash": np.unique(hashes(texts))})


def rows(texts: pd.Series, seen: pd.DataFrame) -> frozenset[int]:
    """The index values of those texts that are among the seen ones."""
    return frozenset(cast(list[int], texts.index[np.isin(hashes(texts), seen["hash"].to_numpy())].tolist()))

"""Hashes of the texts a model was trained or selected on, so that it is never evaluated on reviews it has seen."""

import hashlib
from typing import cast

import numpy as np
import pandas as pd

from sentiflow.data import normal_form

SEEN = ("train", "valid")  # valid selects the epoch, the temperature and the best model


def hashes(texts: pd.Series) -> np.ndarray:
    """64-bit hash of each text, ignoring case, spacing, punctuation and Unicode form; shape (n,).

    >>> hashes(pd.Series(["A good film!", "a  GOOD film"])).tolist()
    [17634939635782828857, 17634939635782828857]
    """
    texts = normal_form.normalise(texts)
    plain = texts.str.normalize("NFKC").str.lower().str.replace(r"[\W_]+", "", regex=True)
    kept = plain.where(plain != "", texts)  # texts without letters, such as emoji
    return np.array([int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) for text in kept], np.uint64)


def of_training(texts: pd.Series) -> pd.DataFrame:
    """Column `hash`: the sorted distinct hashes of the texts in train and valid."""
    return pd.DataFrame({"hash": np.unique(hashes(texts))})


def rows(texts: pd.Series, seen: pd.DataFrame) -> frozenset[int]:
    """The index values of the texts that are among the seen ones."""
    return frozenset(cast(list[int], texts.index[np.isin(hashes(texts), seen["hash"].to_numpy())].tolist()))

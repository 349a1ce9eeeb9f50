"""Counts of n-grams as a sparse matrix.

An n-gram is one integer, its word ids as digits in base V, so that millions of them need neither strings nor a hash table.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse
from tqdm import tqdm

from sentiflow.data.vocabulary import Ragged


@dataclass(frozen=True)
class NGrams:
    """The n-grams that a model knows, by length from 1 up."""

    of_length: tuple[np.ndarray, ...]  # each sorted; int64, shape (n-grams,)
    base: int  # larger than any word id

    def __len__(self) -> int:
        return sum(map(len, self.of_length))

    @classmethod
    def frequent(cls, ids: Ragged, *, longest: int, minimum_documents: int, base: int) -> Self:
        """The n-grams of up to `longest` words that occur in at least `minimum_documents` reviews."""
        lengths = tqdm(range(1, longest + 1), desc="count n-grams", unit="length", disable=None, leave=False)
        return cls(tuple(_frequent(ids, length, base, minimum_documents) for length in lengths), base)

    def counts(self, ids: Ragged) -> sparse.csr_array:
        """Occurrences of each n-gram per review; float32, shape (n, n-grams)."""
        rows, columns, before = [], [], 0
        lengths = tqdm(self.of_length, desc="find n-grams", unit="length", disable=None, delay=2, leave=False)
        for length, known in enumerate(lengths, start=1):
            owners, grams = _grams_of(ids, length, self.base)
            if len(known):
                order = np.argsort(grams)  # searching sorted n-grams is faster, and so is building the matrix from them
                owners, grams = owners[order], grams[order]
                place = np.searchsorted(known, grams)
                place[place == len(known)] = 0
                is_known = known[place] == grams
                rows.append(owners[is_known])
                columns.append(place[is_known] + before)
            before += len(known)
        row, column = np.concatenate(rows), np.concatenate(columns)
        # sums the ones of an n-gram that occurs twice in a review
        return sparse.csr_array((np.ones(len(row), np.float32), (row, column)), shape=(len(ids), before))


def _grams_of(ids: Ragged, length: int, base: int) -> tuple[np.ndarray, np.ndarray]:
    """The review and the value of every n-gram of one length, in the order of their words."""
    starts = len(ids.values) - length + 1
    if starts <= 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    grams = np.zeros(starts, np.int64)
    for place in range(length):
        grams = grams * base + ids.values[place : place + starts]
    owners = ids.owners
    inside = owners[:starts] == owners[length - 1 :]  # an n-gram does not span two reviews
    return owners[:starts][inside], grams[inside]


def _frequent(ids: Ragged, length: int, base: int, minimum_documents: int) -> np.ndarray:
    owners, grams = _grams_of(ids, length, base)
    order = np.lexsort((grams, owners))
    owners, grams = owners[order], grams[order]
    first = np.ones(len(grams), bool)
    first[1:] = (owners[1:] != owners[:-1]) | (grams[1:] != grams[:-1])
    distinct, documents = np.unique(grams[first], return_counts=True)
    return np.asarray(distinct[documents >= minimum_documents])

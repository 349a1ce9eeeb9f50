"""The test reviews that versions of the model are judged on, and a hash that tells them from others."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from sentiflow.config.params import Analyse
from sentiflow.data import vocabulary
from sentiflow.data.vocabulary import Vocabulary
from sentiflow.evaluation import error_analysis
from sentiflow.system import artifacts


@dataclass(frozen=True)
class HeldOut:
    """All share one index, `row`."""

    texts: pd.Series  # as downloaded, shape (n,)
    labels: pd.Series  # name of the true class, shape (n,)
    measures: pd.DataFrame  # length, negations and contrast words, as `analysis.measures_of_texts` gives them
    classes: Sequence[str]

    @property
    def digest(self) -> str:
        """SHA-256 over labels and texts in their order: the same reviews have the same, whatever their row numbers."""
        hashed = hashlib.sha256(json.dumps(list(self.classes)).encode())
        for label, text in zip(self.labels, self.texts, strict=True):
            hashed.update(json.dumps([label, text]).encode())
        return hashed.hexdigest()

    @classmethod
    def read(cls, reviews_file: Path, tokens_dir: Path, how: Analyse) -> Self:
        """Reads what `download` and `tokenize` wrote.

        Args:
            how: the words that are negations and contrasts.
        """
        tokens = vocabulary.read_tokens(tokens_dir / "test.parquet", "text")
        classes = vocabulary.read_classes(tokens_dir)
        rows = pd.Index(tokens.rows, name="row")
        texts = artifacts.read_table(reviews_file, ["row", "text"]).to_pandas().set_index("row")["text"]
        labels = pd.Series([classes[label] for label in tokens.labels], index=rows)
        measures = error_analysis.measures_of_texts(tokens, Vocabulary.read(tokens_dir / "text.json"), how)
        return cls(texts.loc[rows], labels, measures, classes)

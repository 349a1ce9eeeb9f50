"""The test reviews that versions are judged on, identified by a hash."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from sentiflow.config.params import Analyse
from sentiflow.data import splits, vocabulary
from sentiflow.data.vocabulary import Vocabulary
from sentiflow.evaluation import error_analysis
from sentiflow.system import artifacts


@dataclass(frozen=True)
class HeldOut:
    """Test reviews; all tables have the index `row`."""

    texts: pd.Series  # as downloaded, shape (n,)
    labels: pd.Series  # name of the true class, shape (n,)
    measures: pd.DataFrame  # length, negations and contrast words, see `error_analysis.measures_of_texts`
    classes: Sequence[str]

    @property
    def digest(self) -> str:
        """The hash that the stage `split` records."""
        return splits.digest_of_test_set(self.texts, self.labels, self.classes)

    @classmethod
    def read(cls, test_file: Path, tokens_dir: Path, analyse: Analyse) -> Self:
        """Reads the outputs of the stages `split` and `tokenize`."""
        reviews = artifacts.read_frame(test_file).set_index("row")
        tokens = vocabulary.read_tokens(tokens_dir / "test.parquet", "text")
        measures = error_analysis.measures_of_texts(tokens, Vocabulary.read(tokens_dir / "text.json"), analyse)
        return cls(reviews["text"], reviews["label"], measures, vocabulary.read_classes(tokens_dir))

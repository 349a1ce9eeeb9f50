"""Drift reference: measures of a version's train and test reviews, to compare incoming reviews with.

Lengths and labels are from train. Unknown words and probabilities are from test, since train has no unknown words by
construction, and a model is more confident on the reviews that it was fitted to.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from sentiflow.config.model_settings import ModelSettings
from sentiflow.data import vocabulary
from sentiflow.data.vocabulary import Tokens, Vocabulary
from sentiflow.evaluation import error_analysis
from sentiflow.models import model_config
from sentiflow.system import artifacts
from sentiflow.system.errors import InputError

COLUMNS = {"split": "str", "label": "str", "length": "int32", "unknown": "float32"}
PROBABILITY = "p_"  # prefix of a class name


@dataclass(frozen=True)
class Reference:
    """One row per review of train and test: split, label, length, unknown and p_CLASS for each class.

    In train `unknown` and the probabilities are NaN.
    """

    table: pd.DataFrame

    @property
    def train(self) -> pd.DataFrame:
        return self.table[self.table["split"] == "train"]

    @property
    def test(self) -> pd.DataFrame:
        return self.table[self.table["split"] == "test"]

    @property
    def classes(self) -> list[str]:
        return [name.removeprefix(PROBABILITY) for name in map(str, self.table) if name.startswith(PROBABILITY)]

    @classmethod
    def of_model(cls, model_dir: Path, tokens_dir: Path, predictions_file: Path) -> Self:
        """Computes the reference from the outputs of the stages `train`, `tokenize` and `evaluate` (predictions on test)."""
        settings = model_config.read(model_dir).settings
        words = Vocabulary.read(tokens_dir / f"{settings.view}.json")
        names = np.array(vocabulary.read_classes(tokens_dir))
        parts = []
        for split in ("train", "test"):
            tokens = vocabulary.read_tokens(tokens_dir / f"{split}.parquet", settings.view)
            part = measures(tokens, words, settings).assign(split=split, label=names[tokens.labels])
            parts.append(part if split == "test" else part.drop(columns="unknown"))
        answers = artifacts.read_frame(predictions_file).set_index("row").filter(regex=f"^{PROBABILITY}")
        if not answers.index.sort_values().equals(parts[1].index.sort_values()):
            raise InputError(
                f"{predictions_file} ({len(answers)}) and test ({len(parts[1])}) are of different reviews; "
                "predict again: dvc repro evaluate"
            )
        parts[1] = parts[1].join(answers)
        types = COLUMNS | dict.fromkeys(answers, "float32")
        return cls(pd.concat(parts)[list(types)].astype(types).reset_index(drop=True))

    @classmethod
    def read(cls, file: Path) -> Self:
        """Reads and validates a file of `write`."""
        table = artifacts.read_frame(file)
        found = cls(table)
        if not set(COLUMNS) <= set(table) or len(found.classes) < 2 or found.train.empty or found.test.empty:
            raise InputError(f"{file.name} is not a table of train and test reviews with {', '.join(COLUMNS)} and probabilities")
        numbers = ["length", "unknown", *(f"{PROBABILITY}{name}" for name in found.classes)]
        try:
            is_valid = all(np.isfinite(part.to_numpy("float64")).all() for part in (found.train[["length"]], found.test[numbers]))
        except (ValueError, TypeError):
            is_valid = False
        if not is_valid:
            raise InputError(f"{file.name} has measures that are missing or not numbers")
        return found

    def write(self, file: Path) -> None:
        """Writes the table as Parquet; deterministic."""
        self.table.to_parquet(file, index=False)


def measures(tokens: Tokens, words: Vocabulary, settings: ModelSettings) -> pd.DataFrame:
    """Length in words, and the fraction of unknown words in what the model reads of each review; shape (n, 2), index `row`.

    Args:
        tokens: of the model's view.
        words: vocabulary of that view.
    """
    is_word = words.is_word[tokens.ids.values]  # a punctuation mark that is not in train is <unk>, and counts as a word
    length = np.bincount(tokens.ids.owners[is_word], minlength=len(tokens))
    reading = error_analysis.measures_of_reading(tokens, words, settings)
    return pd.DataFrame({"length": length, "unknown": reading["unknown words"].to_numpy()}, index=reading.index)

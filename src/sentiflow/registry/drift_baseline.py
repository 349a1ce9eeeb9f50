"""What a version was trained and tested on, in the numbers that incoming reviews are compared in.

Lengths and labels are those of train. Unknown words and probabilities are those of test, which the model never saw: in train
no word is unknown by construction, and a model is surer of what it has learned by heart.
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
PROBABILITY = "p_"  # before the name of a class


@dataclass(frozen=True)
class Reference:
    """One line a review of train and test: split, label, length, unknown and, for each class, p_CLASS.

    In train `unknown` and the probabilities are empty.
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
        """Reads what `train`, `tokenize` and `evaluate` wrote.

        Args:
            model_dir: the trained model, whose settings tell what it reads of a review.
            tokens_dir: train and test, with the vocabulary.
            predictions_file: what the model answers on test.
        """
        settings = model_config.read(model_dir).settings
        words = Vocabulary.read(tokens_dir / f"{settings.view}.json")
        names = np.array(vocabulary.read_classes(tokens_dir))
        parts = []
        for split in ("train", "test"):
            tokens = vocabulary.read_tokens(tokens_dir / f"{split}.parquet", settings.view)
            told = measures(tokens, words, settings).assign(split=split, label=names[tokens.labels])
            parts.append(told if split == "test" else told.drop(columns="unknown"))
        answers = artifacts.read_frame(predictions_file).set_index("row").filter(regex=f"^{PROBABILITY}")
        if not answers.index.sort_values().equals(parts[1].index.sort_values()):
            raise InputError(
                f"{predictions_file} is of other reviews ({len(answers)}) than test has ({len(parts[1])}); "
                "make the answers anew: dvc repro evaluate"
            )
        parts[1] = parts[1].join(answers)
        types = COLUMNS | dict.fromkeys(answers, "float32")
        return cls(pd.concat(parts)[list(types)].astype(types).reset_index(drop=True))

    @classmethod
    def read(cls, file: Path) -> Self:
        """Reads what `write` wrote."""
        table = artifacts.read_frame(file)
        found = cls(table)
        if not set(COLUMNS) <= set(table) or len(found.classes) < 2 or found.train.empty or found.test.empty:
            raise InputError(f"{file.name} is no table of train and test reviews with {', '.join(COLUMNS)} and probabilities")
        numbers = ["length", "unknown", *(f"{PROBABILITY}{name}" for name in found.classes)]
        try:
            is_whole = all(np.isfinite(part.to_numpy("float64")).all() for part in (found.train[["length"]], found.test[numbers]))
        except (ValueError, TypeError):
            is_whole = False
        if not is_whole:
            raise InputError(f"{file.name} has gaps, or something else than numbers, among its measures")
        return found

    def write(self, file: Path) -> None:
        """The same bytes for the same reviews and model."""
        self.table.to_parquet(file, index=False)


def measures(tokens: Tokens, words: Vocabulary, settings: ModelSettings) -> pd.DataFrame:
    """Length in words, and the share of unknown words in what the model reads of each review; shape (n, 2), index `row`.

    Args:
        tokens: of the view that the model reads, in its vocabulary.
        words: that vocabulary.
        settings: of the model.
    """
    is_word = words.is_word[tokens.ids.values]  # a mark that train never held is <unk>, and so counts as a word
    length = np.bincount(tokens.ids.owners[is_word], minlength=len(tokens))
    reading = error_analysis.measures_of_reading(tokens, words, settings)
    return pd.DataFrame({"length": length, "unknown": reading["unknown words"].to_numpy()}, index=reading.index)

"""The model that is registered: raw text in, label and probabilities out, by the same code as in training."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from sentiflow import classifier, cleaning, files
from sentiflow.classifier import Classifier
from sentiflow.vocabulary import Vocabulary


@dataclass(frozen=True)
class SentimentModel:
    """Cleaning, vocabulary, weights and class names in one."""

    classifier: Classifier
    vocabulary: Vocabulary
    view: str  # text | content
    keep_negations: bool

    def predict(self, texts: Sequence[str]) -> pd.DataFrame:
        """The answer to each raw text: `label` and `p_CLASS` for each class, in the order of `texts`."""
        views = cleaning.clean(pd.Series(list(texts), dtype="str"), keep_negations=self.keep_negations)
        probabilities = self.classifier.probabilities(self.vocabulary.ids(views[self.view]))
        names = self.classifier.classes
        answer = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in names])
        answer.insert(0, "label", [names[i] for i in probabilities.argmax(axis=1)])
        return answer

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what `bundle` wrote."""
        cleaned = files.read_json(folder / "cleaning.json")
        words = Vocabulary.read(folder / "vocabulary.json")
        return cls(classifier.load(folder / "model", words), words, cleaned["view"], cleaned["keep_negations"])


def bundle(folder: Path, *, model_dir: Path, tokens_dir: Path, keep_negations: bool) -> None:
    """Puts all that `SentimentModel` needs into one new folder."""
    view = classifier.read_config(model_dir)["settings"]["view"]
    folder.mkdir(parents=True)
    shutil.copytree(model_dir, folder / "model")
    shutil.copyfile(tokens_dir / f"{view}.json", folder / "vocabulary.json")
    told = {"keep_negations": keep_negations, "view": view}
    (folder / "cleaning.json").write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")

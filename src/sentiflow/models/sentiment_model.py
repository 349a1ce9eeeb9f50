"""The model that is registered: raw text in, label and probabilities out, by the same code as in training."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from sentiflow.data import cleaning
from sentiflow.data.stopwords import OLDER_LANGUAGE, Stopwords
from sentiflow.data.vocabulary import Vocabulary
from sentiflow.models import loading, model_config
from sentiflow.models.loading import Classifier
from sentiflow.system import artifacts
from sentiflow.system.errors import InputError

PROBE = ("A wonderful film, moving and funny.", "Two hours I will never get back.", "")
CLOSE = 1e-4  # by which the same weights may differ in probability between processors and versions of the libraries


@dataclass(frozen=True)
class SentimentModel:
    """Cleaning, vocabulary, weights and class names in one."""

    classifier: Classifier
    vocabulary: Vocabulary
    view: str  # text | content
    stopwords: Stopwords

    def predict(self, texts: Sequence[str]) -> pd.DataFrame:
        """The answer to each raw text: `label` and `p_CLASS` for each class, in the order of `texts`."""
        probabilities = self._probabilities(texts)
        names = self.classifier.config.classes
        answer = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in names])
        answer.insert(0, "label", [names[i] for i in probabilities.argmax(axis=1)])
        return answer

    def _probabilities(self, texts: Sequence[str]) -> np.ndarray:
        views = cleaning.clean(pd.Series(list(texts), dtype="str"), stopwords=self.stopwords, views=[self.view])
        return self.classifier.probabilities(self.vocabulary.ids(views[self.view]))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what `bundle` wrote."""
        cleaned = artifacts.read_json(folder / "cleaning.json")
        words = Vocabulary.read(folder / "vocabulary.json")
        stopwords = Stopwords(cleaned.get("language", OLDER_LANGUAGE), cleaned["keep_negations"])
        return cls(loading.load(folder / "model", words), words, cleaned["view"], stopwords)

    def prove(self, folder: Path) -> None:
        """Compares the answers with those that stood in the bundle when it was made.

        Raises:
            InputError: if they differ: the code or a library that reads the bundle is not what it was made with.
        """
        probe = artifacts.read_json(folder / "probe.json")
        found = self._probabilities(probe["texts"])
        expected = np.array(probe["probabilities"])
        if found.shape != expected.shape or not np.allclose(found, expected, rtol=0, atol=CLOSE):
            raise InputError(
                "the model does not answer as it did when it was registered, so this code or its libraries read it differently; "
                "use the commit and requirements.lock that it was registered with, or train it anew: sentiflow repro"
            )


def bundle(folder: Path, *, model_dir: Path, tokens_dir: Path, stopwords: Stopwords) -> None:
    """Puts all that `SentimentModel` needs into one new folder, with what it answers there to `PROBE`."""
    view = model_config.read(model_dir).settings.view
    folder.mkdir(parents=True)
    shutil.copytree(model_dir, folder / "model")
    shutil.copyfile(tokens_dir / f"{view}.json", folder / "vocabulary.json")
    told = asdict(stopwords) | {"view": view}
    (folder / "cleaning.json").write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    answered = SentimentModel.load(folder)._probabilities(PROBE)
    probe = {"texts": list(PROBE), "probabilities": answered.tolist()}
    (folder / "probe.json").write_text(json.dumps(probe, indent=2, sort_keys=True) + "\n", encoding="utf-8")

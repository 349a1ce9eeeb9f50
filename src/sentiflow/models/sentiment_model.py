"""The registered model: raw text in, label and probabilities out, through the same code as in training."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from sentiflow.data import cleaning
from sentiflow.data.stopwords import OLDER_LANGUAGE, Stopwords
from sentiflow.data.vocabulary import Ragged, Vocabulary
from sentiflow.models import loading, model_config
from sentiflow.models.loading import Classifier
from sentiflow.system import artifacts
from sentiflow.system.errors import InputError

PROBE = ("A wonderful film, moving and funny.", "Two hours I will never get back.", "")
CLOSE = 1e-4  # largest difference of probabilities of the same weights between processors and versions of the libraries


@dataclass(frozen=True)
class SentimentModel:
    classifier: Classifier
    stopwords: Stopwords

    def predict(self, texts: Sequence[str]) -> pd.DataFrame:
        """`label` and `p_CLASS` for each class, one row per raw text, in the order of `texts`."""
        probabilities = self._probabilities(texts)
        names = self.classifier.config.classes
        answers = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in names])
        answers.insert(0, "label", [names[i] for i in probabilities.argmax(axis=1)])
        return answers

    def ids(self, texts: Iterable[str]) -> Ragged:
        """Word ids of cleaned texts, in the view that the classifier reads."""
        view = self.classifier.config.settings.view
        views = cleaning.clean(pd.Series(list(texts), dtype="str"), stopwords=self.stopwords, views=[view])
        return self.classifier.vocabulary.ids(views[view])

    def _probabilities(self, texts: Sequence[str]) -> np.ndarray:
        return self.classifier.probabilities(self.ids(texts))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what `bundle` wrote."""
        options = artifacts.read_json(folder / "cleaning.json")
        classifier = loading.load(folder / "model", Vocabulary.read(folder / "vocabulary.json"))
        return cls(classifier, Stopwords(options.get("language", OLDER_LANGUAGE), options["keep_negations"]))

    def prove(self, folder: Path) -> None:
        """Compares the probabilities of `PROBE` with those stored in the bundle.

        Raises:
            InputError: if they differ: this code or a library reads the bundle differently than when it was registered.
        """
        probe = artifacts.read_json(folder / "probe.json")
        found = self._probabilities(probe["texts"])
        expected = np.array(probe["probabilities"])
        if found.shape != expected.shape or not np.allclose(found, expected, rtol=0, atol=CLOSE):
            raise InputError(
                "the model's probabilities differ from those when it was registered, so this code or its libraries read it "
                "differently; use the commit and requirements.lock it was registered with, or train it again: sentiflow repro"
            )


def bundle(folder: Path, *, model_dir: Path, tokens_dir: Path, stopwords: Stopwords) -> None:
    """Writes everything that `SentimentModel` needs to a new folder, and its probabilities for `PROBE`."""
    view = model_config.read(model_dir).settings.view
    folder.mkdir(parents=True)
    shutil.copytree(model_dir, folder / "model")
    shutil.copyfile(tokens_dir / f"{view}.json", folder / "vocabulary.json")
    _write(folder / "cleaning.json", asdict(stopwords) | {"view": view})
    probabilities = SentimentModel.load(folder)._probabilities(PROBE)
    _write(folder / "probe.json", {"texts": list(PROBE), "probabilities": probabilities.tolist()})


def _write(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")

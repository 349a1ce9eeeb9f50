"""A linear classifier over n-grams, each weighted by how rare it is: TF-IDF and logistic regression.

Source: Salton & Buckley (1988) for the weights, as scikit-learn has them (smooth idf, 1 + log of the counts).
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sentiflow.config.model_settings import LinearSettings
from sentiflow.config.params import Train

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from scipy import sparse

    from sentiflow.data.vocabulary import TrainingData, Vocabulary
    from sentiflow.models.model_config import ModelConfig
    from sentiflow.models.networks._linear import LinearClassifier


class Settings(LinearSettings):
    pass


def fit(config: "ModelConfig[Settings]", data: "TrainingData", *, how: Train) -> "tuple[LinearClassifier, pd.DataFrame]":
    """The fitted classifier and its history of one row.

    Raises:
        InputError: if no n-gram is in enough texts.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression

    from sentiflow.models.networks import _linear

    def fit_one(found: "sparse.csr_array", is_class: "np.ndarray") -> "tuple[np.ndarray, float]":
        regression = LogisticRegression(C=config.settings.regularisation, class_weight=how.class_weights, max_iter=1000)
        regression.fit(found, is_class)
        return regression.coef_[0], float(regression.intercept_[0])

    def idf(counts: "sparse.csr_array") -> "np.ndarray":
        return np.asarray(TfidfTransformer().fit(counts).idf_, np.float32)

    return _linear.fit(config, data, fit_one, idf=idf)


def load(folder: Path, config: "ModelConfig[Settings]", vocabulary: "Vocabulary") -> "LinearClassifier":
    """Reads what `LinearClassifier.save` wrote."""
    from sentiflow.models.networks import _linear

    return _linear.load(folder, config, vocabulary)

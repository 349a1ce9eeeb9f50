"""Logistic regression over TF-IDF values of n-grams.

Source: Salton & Buckley (1988) for the weights, in scikit-learn's form (smooth idf, 1 + log of the counts).
"""

from typing import TYPE_CHECKING

from sentiflow.config.model_settings import LinearSettings
from sentiflow.config.params import Train

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from scipy import sparse

    from sentiflow.data.vocabulary import TrainingData
    from sentiflow.models.model_config import ModelConfig
    from sentiflow.models.networks._linear import LinearClassifier


class Settings(LinearSettings):
    pass


def fit(config: "ModelConfig[Settings]", data: "TrainingData", *, options: Train) -> "tuple[LinearClassifier, pd.DataFrame]":
    """See `_linear.fit`."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression

    from sentiflow.models.networks import _linear

    def fit_one(features: "sparse.csr_array", is_class: "np.ndarray") -> "tuple[np.ndarray, float]":
        regression = LogisticRegression(C=config.settings.regularisation, class_weight=options.class_weights, max_iter=1000)
        regression.fit(features, is_class)
        return regression.coef_[0], float(regression.intercept_[0])

    def idf(counts: "sparse.csr_array") -> "np.ndarray":
        return np.asarray(TfidfTransformer().fit(counts).idf_, np.float32)

    return _linear.fit(config, data, fit_one, idf=idf)

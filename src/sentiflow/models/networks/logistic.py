"""A linear classifier over n-grams, each weighted by how rare it is: TF-IDF and logistic regression.

Source: Salton & Buckley (1988) for the weights, as scikit-learn has them (smooth idf, 1 + log of the counts).
"""

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression

from sentiflow.config.params import Train
from sentiflow.config.settings import Logistic
from sentiflow.data.vocabulary import TrainingData
from sentiflow.models.networks import _linear
from sentiflow.models.networks._linear import LinearClassifier, load

__all__ = ["fit", "load"]


def fit(settings: Logistic, data: TrainingData, *, how: Train) -> tuple[LinearClassifier, pd.DataFrame]:
    """The fitted classifier and its history of one row.

    Raises:
        InputError: if no n-gram is in enough reviews.
    """

    def fit_one(found: sparse.csr_array, is_class: np.ndarray) -> tuple[np.ndarray, float]:
        regression = LogisticRegression(C=settings.regularisation, class_weight=how.class_weights, max_iter=1000)
        regression.fit(found, is_class)
        return regression.coef_[0], float(regression.intercept_[0])

    def idf(counts: sparse.csr_array) -> np.ndarray:
        return np.asarray(TfidfTransformer().fit(counts).idf_, np.float32)

    return _linear.fit("logistic", settings, data, fit_one, idf=idf)

"""A linear classifier over n-grams, each weighted by how much more often one class holds it than the others.

Source: Wang & Manning (ACL 2012), with logistic loss in place of the hinge so that its scores are probabilities, and without
their interpolation.
"""

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from sentiflow.config.params import Train
from sentiflow.config.settings import NbSvm
from sentiflow.data.vocabulary import TrainingData
from sentiflow.models.networks import _linear
from sentiflow.models.networks._linear import LinearClassifier, load

__all__ = ["fit", "load"]


def fit(settings: NbSvm, data: TrainingData, *, how: Train) -> tuple[LinearClassifier, pd.DataFrame]:
    """The fitted classifier and its history of one row.

    Raises:
        InputError: if no n-gram is in enough reviews.
    """

    def fit_one(found: sparse.csr_array, is_class: np.ndarray) -> tuple[np.ndarray, float]:
        inside = found[is_class].sum(axis=0) + settings.smoothing
        outside = found[~is_class].sum(axis=0) + settings.smoothing
        ratio = np.log(inside / inside.sum()) - np.log(outside / outside.sum())
        regression = LogisticRegression(C=settings.regularisation, class_weight=how.class_weights, max_iter=1000)
        regression.fit(found @ sparse.diags_array(ratio), is_class)
        return regression.coef_[0] * ratio, float(regression.intercept_[0])

    return _linear.fit("nb_svm", settings, data, fit_one)

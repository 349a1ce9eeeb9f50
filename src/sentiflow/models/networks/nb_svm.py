"""Logistic regression over n-grams, each scaled by how much more often it occurs in one class than in the others.

Source: Wang & Manning (ACL 2012), with logistic loss in place of the hinge so that its scores are probabilities, and without
their interpolation.
"""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sentiflow.config.model_settings import LinearSettings
from sentiflow.config.params import Train

if TYPE_CHECKING:
    import pandas as pd

    from sentiflow.data.vocabulary import TrainingData
    from sentiflow.models.model_config import ModelConfig
    from sentiflow.models.networks._linear import LinearClassifier


class Settings(LinearSettings):
    smoothing: Annotated[float, Field(gt=0, description="ratios of rare n-grams are shrunk towards 1")]


def fit(config: "ModelConfig[Settings]", data: "TrainingData", *, options: Train) -> "tuple[LinearClassifier, pd.DataFrame]":
    """See `_linear.fit`."""
    import numpy as np
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    from sentiflow.models.networks import _linear

    settings = config.settings

    def fit_one(features: sparse.csr_array, is_class: np.ndarray) -> tuple[np.ndarray, float]:
        inside = features[is_class].sum(axis=0) + settings.smoothing
        outside = features[~is_class].sum(axis=0) + settings.smoothing
        ratio = np.log(inside / inside.sum()) - np.log(outside / outside.sum())
        regression = LogisticRegression(C=settings.regularisation, class_weight=options.class_weights, max_iter=1000)
        regression.fit(features @ sparse.diags_array(ratio), is_class)
        return regression.coef_[0] * ratio, float(regression.intercept_[0])

    return _linear.fit(config, data, fit_one)

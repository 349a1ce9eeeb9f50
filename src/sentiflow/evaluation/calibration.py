"""Temperature scaling: a model's logits are divided by a temperature fitted on valid. Predicted classes stay the same.

Source: Guo, Pleiss, Sun & Weinberger (ICML 2017).
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

NONE = 1.0  # the temperature without effect
BOUNDS = (0.1, 10.0)
MINIMUM = 50  # reviews; with fewer, one mistake determines the temperature
SMALLEST = 1e-12  # probabilities are clipped to it before taking logarithms


def fit(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature with the least log loss; NONE for fewer than MINIMUM reviews, or if every prediction is correct.

    Args:
        labels: index of each review's class, on valid; shape (n,).
        probabilities: of the model without a temperature; shape (n, K).

    Returns:
        Between 0.1 and 10, six digits; above 1 for an overconfident model, below 1 for an underconfident one.

    >>> fit(np.array([0, 0, 0, 1] * 25), np.array([[0.9, 0.1]] * 100))
    2.0
    """
    if len(labels) < MINIMUM or (probabilities.argmax(axis=1) == labels).all():
        return NONE
    logits, each = _logits(probabilities), np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[each, labels].mean())

    found = minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded", options={"xatol": 1e-8})
    return round(float(np.exp(found.x)), 6)


def scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities at a temperature; shape (n, K), rows sum to 1.

    >>> scaled(np.array([[0.9, 0.1]]), 2.0).round(3).tolist()
    [[0.75, 0.25]]
    """
    if temperature == NONE:
        return probabilities
    return np.asarray(softmax(_logits(probabilities) / temperature, axis=1))


def unscaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Inverse of `scaled`."""
    if temperature == NONE:
        return probabilities
    smallest = np.finfo(np.float64).tiny  # at a low temperature they may be far below SMALLEST
    return np.asarray(softmax(np.log(np.clip(probabilities, smallest, None)) * temperature, axis=1))


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.clip(probabilities, SMALLEST, None)))

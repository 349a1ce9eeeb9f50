"""One number that makes a model's confidence honest: its scores are divided by a temperature that valid chose.

What a model answers stays as it is, only how sure it says it is changes.

Source: Guo, Pleiss, Sun & Weinberger (ICML 2017), temperature scaling.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

NONE = 1.0  # the temperature that changes nothing
BOUNDS = (0.1, 10.0)
MINIMUM = 50  # reviews; with fewer, one wrong answer decides the temperature
SMALLEST = 1e-12  # probability; below it a logarithm says nothing more


def fit(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature with the least log loss; NONE where the reviews cannot tell.

    They cannot where there are fewer than MINIMUM of them, or where every answer is correct: then the loss falls without end.

    Args:
        labels: index of each review's class, on valid; shape (n,).
        probabilities: as the model gives them without a temperature; shape (n, K).

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
    """Probabilities as they are at a temperature; shape (n, K), rows adding up to 1.

    >>> scaled(np.array([[0.9, 0.1]]), 2.0).round(3).tolist()
    [[0.75, 0.25]]
    """
    if temperature == NONE:
        return probabilities
    return np.asarray(softmax(_logits(probabilities) / temperature, axis=1))


def unscaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """What `scaled` was given: the probabilities without the temperature that they are given at."""
    if temperature == NONE:
        return probabilities
    smallest = np.finfo(np.float64).tiny  # at a low temperature they may be far below SMALLEST
    return np.asarray(softmax(np.log(np.clip(probabilities, smallest, None)) * temperature, axis=1))


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.clip(probabilities, SMALLEST, None)))

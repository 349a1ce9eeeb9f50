"""How right a model's probabilities are. Names end in _score where more is better, in _loss or _error where less is."""

import numpy as np
from sklearn import metrics

SCORES = ("log_loss", "accuracy_score", "precision_score", "recall_score", "f1_score")


def higher_is_better(name: str) -> bool:
    return not name.endswith(("_loss", "_error"))


def scores(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Loss, accuracy, precision, recall and F1.

    Args:
        labels: index of each review's class; shape (n,).
        probabilities: of each class, rows adding up to 1; shape (n, K).

    Returns:
        By name in SCORES. Precision, recall and F1 are those of the second class where K is 2, otherwise unweighted means over
        the classes; a class that is never predicted has precision 0.

    >>> scores(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))["accuracy_score"]
    0.6666666666666666
    """
    probabilities = np.asarray(probabilities, np.float64)  # where log loss is cut off follows from the precision
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)  # in 32 bits they need not quite add up to 1
    predicted = probabilities.argmax(axis=1)
    classes = range(probabilities.shape[1])
    average = "binary" if len(classes) == 2 else "macro"
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, labels=None if average == "binary" else list(classes), average=average, zero_division=0.0
    )
    return {
        "log_loss": float(metrics.log_loss(labels, probabilities, labels=list(classes))),
        "accuracy_score": float(metrics.accuracy_score(labels, predicted)),
        "precision_score": float(precision),
        "recall_score": float(recall),
        "f1_score": float(f1),
    }

"""The output layer of every Keras network."""

from typing import Any

from sentiflow.models.tf import layers


def sentiment_head(x: Any, classes: int) -> Any:
    """Features (B, F) -> P(second class) (B, 1) for two classes, otherwise one probability per class (B, K)."""
    if classes == 2:
        return layers.Dense(1, activation="sigmoid", name="sentiment")(x)
    return layers.Dense(classes, activation="softmax", name="sentiment")(x)

"""Every word in its place: the embedded review as one long row, read by a dense layer.

Source: recipe 001-ffnn.
"""

from sentiflow.models.networks._head import sentiment_head
from sentiflow.models.tf import keras, layers


def build(*, vocabulary_size: int, length: int, embedding: int, hidden: int, dropout: float, classes: int) -> keras.Model:
    """Word ids (B, T) -> one probability a class (B, K); (B, 1) where K is 2."""
    ids = keras.Input((length,), dtype="int32", name="ids")  # (B, T)
    x = layers.Embedding(vocabulary_size, embedding, name="word")(ids)  # (B, T, E)
    x = layers.Flatten(name="review")(x)  # (B, T * E)
    x = layers.Dense(hidden, activation="relu", name="hidden")(x)  # (B, H)
    x = layers.Dropout(dropout, name="hide_features")(x)  # (B, H)
    return keras.Model(ids, sentiment_head(x, classes), name="ffnn")

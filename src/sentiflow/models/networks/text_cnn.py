"""Phrases wherever they stand: convolutions of several widths side by side, and of each kind of phrase the strongest place.

Source: Kim (EMNLP 2014).
"""

from sentiflow.models.networks._head import sentiment_head
from sentiflow.models.tf import keras, layers, ops


def build(
    *,
    vocabulary_size: int,
    length: int,
    embedding: int,
    filters: int,
    windows: list[int],
    spatial_dropout: float,
    dropout: float,
    classes: int,
) -> keras.Model:
    """Word ids (B, T) -> one probability a class (B, K); (B, 1) where K is 2."""
    ids = keras.Input((length,), dtype="int32", name="ids")  # (B, T)
    x = layers.Embedding(vocabulary_size, embedding, name="word")(ids)  # (B, T, E)
    x = layers.SpatialDropout1D(spatial_dropout, name="hide_features")(x)  # (B, T, E)
    strongest = []
    for window in windows:
        phrase = layers.Conv1D(filters, window, activation="relu", name=f"phrase_{window}")(x)  # (B, T-W+1, F)
        strongest.append(layers.GlobalMaxPooling1D(name=f"strongest_{window}")(phrase))  # (B, F)
    x = ops.concatenate(strongest, axis=-1)  # (B, F * widths)
    x = layers.Dropout(dropout, name="hide_phrases")(x)  # (B, F * widths)
    return keras.Model(ids, sentiment_head(x, classes), name="text_cnn")

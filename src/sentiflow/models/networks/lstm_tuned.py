"""The small LSTM made larger, with dropout on words, inputs and state.

Source: recipe 002-tuned.
"""

from sentiflow.models.networks._head import sentiment_head
from sentiflow.models.tf import keras, layers


def build(
    *,
    vocabulary_size: int,
    length: int,
    embedding: int,
    mask_zero: bool,
    spatial_dropout: float,
    units: int,
    dropout: float,
    recurrent_dropout: float,
    classes: int,
) -> keras.Model:
    """Word ids (B, T) -> one probability a class (B, K); (B, 1) where K is 2."""
    ids = keras.Input((length,), dtype="int32", name="ids")  # (B, T)
    x = layers.Embedding(vocabulary_size, embedding, mask_zero=mask_zero, name="word")(ids)  # (B, T, E)
    x = layers.SpatialDropout1D(spatial_dropout, name="hide_features")(x)  # (B, T, E)
    x = layers.LSTM(units, dropout=dropout, recurrent_dropout=recurrent_dropout, name="order")(x)  # (B, U)
    return keras.Model(ids, sentiment_head(x, classes), name="lstm_tuned")

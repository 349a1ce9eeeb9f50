"""Phrases, then order: a convolution finds short runs of words, an LSTM reads them in turn.

Source: recipe 000-cnn-lstm.
"""

from sentiflow.models.networks._head import sentiment_head
from sentiflow.models.tf import keras, layers


def build(
    *,
    vocabulary_size: int,
    length: int,
    embedding: int,
    filters: int,
    window: int,
    pool: int,
    spatial_dropout: float,
    units: int,
    dropout: float,
    recurrent_dropout: float,
    classes: int,
) -> keras.Model:
    """Word ids (B, T) -> one probability a class (B, K); (B, 1) where K is 2."""
    ids = keras.Input((length,), dtype="int32", name="ids")  # (B, T)
    x = layers.Embedding(vocabulary_size, embedding, name="word")(ids)  # (B, T, E)
    x = layers.Conv1D(filters, window, activation="relu", name="phrase")(x)  # (B, T-W+1, F)
    x = layers.MaxPooling1D(pool, name="strongest")(x)  # (B, T', F)
    x = layers.SpatialDropout1D(spatial_dropout, name="hide_features")(x)  # (B, T', F)
    x = layers.LSTM(units, dropout=dropout, recurrent_dropout=recurrent_dropout, name="order")(x)  # (B, U)
    return keras.Model(ids, sentiment_head(x, classes), name="cnn_lstm")

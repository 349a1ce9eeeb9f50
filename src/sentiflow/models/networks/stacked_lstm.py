"""Words in order, twice: the second LSTM reads the states of the first.

Source: recipe 004-lstm; 293,953 weights at its settings.
"""

from sentiflow.models.networks._head import sentiment_head
from sentiflow.models.tf import keras, layers


def build(
    *,
    vocabulary_size: int,
    length: int,
    embedding: int,
    mask_zero: bool,
    units: int,
    second_units: int,
    hidden: int,
    dropout: float,
    classes: int,
) -> keras.Model:
    """Word ids (B, T) -> one probability a class (B, K); (B, 1) where K is 2."""
    ids = keras.Input((length,), dtype="int32", name="ids")  # (B, T)
    x = layers.Embedding(vocabulary_size, embedding, mask_zero=mask_zero, name="word")(ids)  # (B, T, E)
    x = layers.LSTM(units, dropout=dropout, return_sequences=True, name="order")(x)  # (B, T, U)
    x = layers.LSTM(second_units, dropout=dropout, name="order_of_order")(x)  # (B, U')
    x = layers.Dense(hidden, activation="relu", name="hidden")(x)  # (B, H)
    return keras.Model(ids, sentiment_head(x, classes), name="stacked_lstm")

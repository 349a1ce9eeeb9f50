"""Words in order, plainly and twice: the second recurrent layer reads the states of the first.

Source: recipe 004-rnn; 197,185 weights at its settings.
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
    recurrent_dropout: float,
    classes: int,
) -> keras.Model:
    """Word ids (B, T) -> one probability a class (B, K); (B, 1) where K is 2."""
    ids = keras.Input((length,), dtype="int32", name="ids")  # (B, T)
    x = layers.Embedding(vocabulary_size, embedding, mask_zero=mask_zero, name="word")(ids)  # (B, T, E)
    recurrence = {"dropout": dropout, "recurrent_dropout": recurrent_dropout}
    x = layers.SimpleRNN(units, return_sequences=True, name="order", **recurrence)(x)  # (B, T, U)
    x = layers.SimpleRNN(second_units, name="order_of_order", **recurrence)(x)  # (B, U')
    x = layers.Dense(hidden, activation="relu", name="hidden")(x)  # (B, H)
    return keras.Model(ids, sentiment_head(x, classes), name="stacked_rnn")

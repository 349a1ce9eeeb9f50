"""Words in order, then those that matter: an LSTM's state after each word, weighted by attention and added up.

Source: recipe 001-attention. Padding gets no attention.
"""

from sentiflow.models.networks._head import sentiment_head
from sentiflow.models.tf import keras, layers, ops


def build(*, vocabulary_size: int, length: int, embedding: int, units: int, classes: int) -> keras.Model:
    """Word ids (B, T) -> one probability a class (B, K); (B, 1) where K is 2."""
    ids = keras.Input((length,), dtype="int32", name="ids")  # (B, T)
    x = layers.Embedding(vocabulary_size, embedding, name="word")(ids)  # (B, T, E)
    states = layers.LSTM(units, return_sequences=True, name="order")(x)  # (B, T, U)
    score = layers.Dense(1, name="score")(states)  # (B, T, 1)
    is_word = ops.expand_dims(ops.not_equal(ids, 0), -1)  # (B, T, 1)
    attention = layers.Softmax(axis=1, name="attention")(score, mask=is_word)  # (B, T, 1)
    x = layers.Dot(axes=1, name="attended")([attention, states])  # (B, 1, U)
    x = layers.Flatten(name="review")(x)  # (B, U)
    return keras.Model(ids, sentiment_head(x, classes), name="lstm_attention")

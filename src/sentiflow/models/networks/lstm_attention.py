"""An LSTM, whose state after each word is averaged with attention weights.

Source: recipe 001-attention. Padding gets no attention.
"""

from typing import TYPE_CHECKING

from sentiflow.config.model_settings import NeuralSettings, Units, dense, head

if TYPE_CHECKING:
    from sentiflow.models.tf import keras


class Settings(NeuralSettings):
    units: Units

    def weights(self, *, vocabulary_size: int, classes: int) -> int:
        order = 4 * dense(self.embedding + self.units, self.units)
        return vocabulary_size * self.embedding + order + dense(self.units, 1) + head(self.units, classes)

    def widest(self) -> int:
        return self.length * max(self.embedding, self.units)


def build(settings: Settings, *, vocabulary_size: int, classes: int) -> "keras.Model":
    """Word ids (B, T) -> one probability per class (B, K); P(second class) (B, 1) for two classes."""
    from sentiflow.models.networks._head import sentiment_head
    from sentiflow.models.tf import keras, layers, ops

    ids = keras.Input((settings.length,), dtype="int32", name="ids")  # (B, T)
    x = layers.Embedding(vocabulary_size, settings.embedding, name="word")(ids)  # (B, T, E)
    states = layers.LSTM(settings.units, return_sequences=True, name="order")(x)  # (B, T, U)
    score = layers.Dense(1, name="score")(states)  # (B, T, 1)
    is_word = ops.expand_dims(ops.not_equal(ids, 0), -1)  # (B, T, 1)
    attention = layers.Softmax(axis=1, name="attention")(score, mask=is_word)  # (B, T, 1)
    x = layers.Dot(axes=1, name="attended")([attention, states])  # (B, 1, U)
    x = layers.Flatten(name="review")(x)  # (B, U)
    return keras.Model(ids, sentiment_head(x, classes))

"""A dense layer over the concatenated embeddings of the words.

Source: recipe 001-ffnn.
"""

from typing import TYPE_CHECKING

from sentiflow.config.model_settings import Dropout, Hidden, NeuralSettings, dense, head

if TYPE_CHECKING:
    from sentiflow.models.tf import keras


class Settings(NeuralSettings):
    hidden: Hidden
    dropout: Dropout

    def weights(self, *, vocabulary_size: int, classes: int) -> int:
        row = self.length * self.embedding
        return vocabulary_size * self.embedding + dense(row, self.hidden) + head(self.hidden, classes)

    def widest(self) -> int:
        return max(self.length * self.embedding, self.hidden)


def build(settings: Settings, *, vocabulary_size: int, classes: int) -> "keras.Model":
    """Word ids (B, T) -> one probability per class (B, K); P(second class) (B, 1) for two classes."""
    from sentiflow.models.networks._head import sentiment_head
    from sentiflow.models.tf import keras, layers

    ids = keras.Input((settings.length,), dtype="int32", name="ids")  # (B, T)
    x = layers.Embedding(vocabulary_size, settings.embedding, name="word")(ids)  # (B, T, E)
    x = layers.Flatten(name="review")(x)  # (B, T * E)
    x = layers.Dense(settings.hidden, activation="relu", name="hidden")(x)  # (B, H)
    x = layers.Dropout(settings.dropout, name="hide_features")(x)  # (B, H)
    return keras.Model(ids, sentiment_head(x, classes))

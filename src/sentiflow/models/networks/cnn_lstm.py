"""A convolution over n-grams, then an LSTM over the resulting features.

Source: recipe 000-cnn-lstm.
"""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from sentiflow.config.model_settings import (
    Dropout,
    Filters,
    NeuralSettings,
    RecurrentDropout,
    Size,
    SpatialDropout,
    Units,
    dense,
    head,
)

if TYPE_CHECKING:
    from sentiflow.models.tf import keras


class Settings(NeuralSettings):
    filters: Filters
    window: Annotated[Size, Field(description="longer n-grams are learned; each occurs less often")]
    pool: Annotated[Size, Field(description="the recurrent layer takes fewer steps; positions within a pool are merged")]
    spatial_dropout: SpatialDropout
    units: Units
    dropout: Dropout
    recurrent_dropout: RecurrentDropout

    @model_validator(mode="after")
    def something_is_left_after_pooling(self) -> "Settings":
        places = self.length - self.window + 1
        if places < self.pool:
            raise ValueError(
                f"with length {self.length} and window {self.window} there are {max(places, 0)} positions to pool, fewer than "
                f"pool {self.pool}; increase length"
            )
        return self

    def weights(self, *, vocabulary_size: int, classes: int) -> int:
        phrases = dense(self.window * self.embedding, self.filters)
        order = 4 * dense(self.filters + self.units, self.units)
        return vocabulary_size * self.embedding + phrases + order + head(self.units, classes)

    def widest(self) -> int:
        return self.length * max(self.embedding, self.filters, self.units)


def build(settings: Settings, *, vocabulary_size: int, classes: int) -> "keras.Model":
    """Word ids (B, T) -> one probability per class (B, K); P(second class) (B, 1) for two classes."""
    from sentiflow.models.networks._head import sentiment_head
    from sentiflow.models.tf import keras, layers

    rates = {"dropout": settings.dropout, "recurrent_dropout": settings.recurrent_dropout}
    ids = keras.Input((settings.length,), dtype="int32", name="ids")  # (B, T)
    x = layers.Embedding(vocabulary_size, settings.embedding, name="word")(ids)  # (B, T, E)
    x = layers.Conv1D(settings.filters, settings.window, activation="relu", name="phrase")(x)  # (B, T-W+1, F)
    x = layers.MaxPooling1D(settings.pool, name="strongest")(x)  # (B, T', F)
    x = layers.SpatialDropout1D(settings.spatial_dropout, name="hide_features")(x)  # (B, T', F)
    x = layers.LSTM(settings.units, name="order", **rates)(x)  # (B, U)
    return keras.Model(ids, sentiment_head(x, classes))

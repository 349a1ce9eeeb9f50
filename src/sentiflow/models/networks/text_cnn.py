"""Parallel convolutions of several widths, and the maximum of each feature over the text.

Source: Kim (EMNLP 2014).
"""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from sentiflow.config.model_settings import Dropout, Filters, NeuralSettings, Size, SpatialDropout, dense, head

if TYPE_CHECKING:
    from sentiflow.models.tf import keras


class Settings(NeuralSettings):
    filters: Filters
    windows: Annotated[list[Size], Field(min_length=1, max_length=100, description="n-grams of more lengths are learned")]
    spatial_dropout: SpatialDropout
    dropout: Dropout

    @model_validator(mode="after")
    def every_window_fits_once(self) -> "Settings":
        if len(set(self.windows)) < len(self.windows):
            raise ValueError(f"windows {self.windows} contain the same width twice")
        if max(self.windows) > self.length:
            raise ValueError(f"window {max(self.windows)} is wider than length {self.length}; increase length")
        return self

    def weights(self, *, vocabulary_size: int, classes: int) -> int:
        phrases = sum(dense(window * self.embedding, self.filters) for window in self.windows)
        return vocabulary_size * self.embedding + phrases + head(self.filters * len(self.windows), classes)

    def widest(self) -> int:
        return self.length * max(self.embedding, self.filters * len(self.windows))


def build(settings: Settings, *, vocabulary_size: int, classes: int) -> "keras.Model":
    """Word ids (B, T) -> one probability per class (B, K); P(second class) (B, 1) for two classes."""
    from sentiflow.models.networks._head import sentiment_head
    from sentiflow.models.tf import keras, layers, ops

    ids = keras.Input((settings.length,), dtype="int32", name="ids")  # (B, T)
    x = layers.Embedding(vocabulary_size, settings.embedding, name="word")(ids)  # (B, T, E)
    x = layers.SpatialDropout1D(settings.spatial_dropout, name="hide_features")(x)  # (B, T, E)
    strongest = []
    for window in settings.windows:
        phrase = layers.Conv1D(settings.filters, window, activation="relu", name=f"phrase_{window}")(x)  # (B, T-W+1, F)
        strongest.append(layers.GlobalMaxPooling1D(name=f"strongest_{window}")(phrase))  # (B, F)
    x = ops.concatenate(strongest, axis=-1)  # (B, F * widths)
    x = layers.Dropout(settings.dropout, name="hide_phrases")(x)  # (B, F * widths)
    return keras.Model(ids, sentiment_head(x, classes))

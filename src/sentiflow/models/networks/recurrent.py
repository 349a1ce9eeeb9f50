"""One or two recurrent layers over the embedded words; the last state represents the text.

Sources: recipes 000-lstm, 001-rnn, 002, 003 and 004; Cho et al. (EMNLP 2014) for the GRU, Schuster & Paliwal (1997) for
reading in both directions.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from sentiflow.config.model_settings import (
    HIDDEN,
    Dropout,
    MaskZero,
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
    cell: Annotated[
        Literal["rnn", "gru", "lstm"], Field(description="gates keep more of the beginning of a text; more weights per unit")
    ]
    bidirectional: Annotated[bool, Field(description="reads from the end as well; twice the weights")]
    mask_zero: MaskZero
    units: Units
    second_units: Annotated[
        Size | None, Field(description="a second recurrent layer combines states of the first; more weights to overfit")
    ]
    hidden: Annotated[Size | None, HIDDEN]
    spatial_dropout: SpatialDropout
    dropout: Dropout
    recurrent_dropout: RecurrentDropout

    def weights(self, *, vocabulary_size: int, classes: int) -> int:
        gates, directions = {"rnn": 1, "gru": 3, "lstm": 4}[self.cell], 2 if self.bidirectional else 1
        biases = 2 if self.cell == "gru" else 1
        total, width = vocabulary_size * self.embedding, self.embedding
        for units in filter(None, (self.units, self.second_units)):
            total += directions * gates * units * (width + units + biases)
            width = directions * units
        if self.hidden:
            total, width = total + dense(width, self.hidden), self.hidden
        return total + head(width, classes)

    def widest(self) -> int:
        return max(self.length * max(self.embedding, 2 * self.units, 2 * (self.second_units or 0)), self.hidden or 0)


def build(settings: Settings, *, vocabulary_size: int, classes: int) -> "keras.Model":
    """Word ids (B, T) -> one probability per class (B, K); P(second class) (B, 1) for two classes."""
    from sentiflow.models.networks._head import sentiment_head
    from sentiflow.models.tf import keras, layers

    cell = {"rnn": layers.SimpleRNN, "gru": layers.GRU, "lstm": layers.LSTM}[settings.cell]
    rates = {"dropout": settings.dropout, "recurrent_dropout": settings.recurrent_dropout}

    def recurrent(units: int, name: str, *, sequences: bool) -> Any:
        layer = cell(units, return_sequences=sequences, name=name, **rates)
        return layers.Bidirectional(layer, name=f"both_{name}s") if settings.bidirectional else layer

    ids = keras.Input((settings.length,), dtype="int32", name="ids")  # (B, T)
    x = layers.Embedding(vocabulary_size, settings.embedding, mask_zero=settings.mask_zero, name="word")(ids)  # (B, T, E)
    if settings.spatial_dropout:
        x = layers.SpatialDropout1D(settings.spatial_dropout, name="hide_features")(x)  # (B, T, E)
    if settings.second_units is None:
        x = recurrent(settings.units, "order", sequences=False)(x)  # (B, U)
    else:
        x = recurrent(settings.units, "order", sequences=True)(x)  # (B, T, U)
        x = recurrent(settings.second_units, "order_of_order", sequences=False)(x)  # (B, U')
    if settings.hidden:
        x = layers.Dense(settings.hidden, activation="relu", name="hidden")(x)  # (B, H)
    return keras.Model(ids, sentiment_head(x, classes))

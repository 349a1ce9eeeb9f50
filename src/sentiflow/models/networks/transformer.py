"""A Transformer encoder of one block, and the mean of its outputs.

Source: Vaswani et al. (NeurIPS 2017), with normalisation before each part (Xiong et al., ICML 2020). Padding gets no attention.
"""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from sentiflow.config.model_settings import Dropout, Hidden, NeuralSettings, Size, SpatialDropout, dense, head

if TYPE_CHECKING:
    from sentiflow.models.tf import keras


class Settings(NeuralSettings):
    heads: Annotated[Size, Field(description="each head learns another relation between words")]
    hidden: Hidden
    spatial_dropout: SpatialDropout
    dropout: Dropout

    @model_validator(mode="after")
    def embedding_is_divided_among_the_heads(self) -> "Settings":
        if self.embedding % self.heads:
            raise ValueError(f"embedding {self.embedding} is not divisible by the number of heads, {self.heads}")
        return self

    def weights(self, *, vocabulary_size: int, classes: int) -> int:
        attention, normalisations = 4 * dense(self.embedding, self.embedding), 3 * 2 * self.embedding
        block = attention + normalisations + dense(self.embedding, self.hidden) + dense(self.hidden, self.embedding)
        return (vocabulary_size + self.length) * self.embedding + block + head(self.embedding, classes)

    def widest(self) -> int:
        return self.length * max(self.embedding, self.hidden, self.heads * self.length)


def build(settings: Settings, *, vocabulary_size: int, classes: int) -> "keras.Model":
    """Word ids (B, T) -> one probability per class (B, K); P(second class) (B, 1) for two classes."""
    from sentiflow.models.networks._head import sentiment_head
    from sentiflow.models.tf import keras, layers, ops

    width, dropout = settings.embedding, settings.dropout
    ids = keras.Input((settings.length,), dtype="int32", name="ids")  # (B, T)
    is_word = ops.not_equal(ids, 0)  # (B, T)
    places = ops.cumsum(ops.ones_like(ids), axis=1) - 1  # (B, T): 0, 1, 2 ...
    place = layers.Embedding(settings.length, width, name="place")(places)  # (B, T, E)
    x = layers.Embedding(vocabulary_size, width, name="word")(ids) + place  # (B, T, E)
    x = layers.SpatialDropout1D(settings.spatial_dropout, name="hide_features")(x)  # (B, T, E)
    look = layers.MultiHeadAttention(settings.heads, width // settings.heads, dropout=dropout, name="look")
    normal = layers.LayerNormalization(name="before_look")(x)  # (B, T, E)
    x = x + look(normal, normal, attention_mask=ops.expand_dims(is_word, 1))  # (B, T, E)
    normal = layers.LayerNormalization(name="before_think")(x)  # (B, T, E)
    thought = layers.Dense(settings.hidden, activation="relu", name="think")(normal)  # (B, T, H)
    x = x + layers.Dropout(dropout, name="hide_thoughts")(layers.Dense(width, name="conclude")(thought))  # (B, T, E)
    x = layers.LayerNormalization(name="before_mean")(x)  # (B, T, E)
    counts = ops.cast(is_word, "float32")  # (B, T)
    # a text without words has the mean 0
    x = ops.einsum("bte,bt->be", x, counts) / ops.maximum(ops.sum(counts, axis=1, keepdims=True), 1.0)  # (B, E)
    x = layers.Dropout(dropout, name="hide_review")(x)  # (B, E)
    return keras.Model(ids, sentiment_head(x, classes))

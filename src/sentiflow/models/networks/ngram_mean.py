"""The mean of the embeddings of words and of pairs of adjacent words.

Pairs are hashed to a fixed number of embeddings.

Source: Joulin, Grave, Bojanowski & Mikolov (EACL 2017), known as fastText.
"""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from sentiflow.config.model_settings import Dropout, NeuralSettings, Size, head

if TYPE_CHECKING:
    from sentiflow.models.tf import keras

MULTIPLIER = 1_000_003  # a prime larger than any vocabulary, so that the order of a pair matters


class Settings(NeuralSettings):
    buckets: Annotated[Size, Field(description="fewer pairs of words share an embedding by a hash collision")]
    dropout: Dropout

    @model_validator(mode="after")
    def a_pair_fits(self) -> "Settings":
        if self.length < 2:
            raise ValueError(f"received length {self.length}; a pair of words needs 2 or more")
        return self

    def weights(self, *, vocabulary_size: int, classes: int) -> int:
        return (vocabulary_size + self.buckets) * self.embedding + head(self.embedding, classes)

    def widest(self) -> int:
        return 2 * self.length * self.embedding


def build(settings: Settings, *, vocabulary_size: int, classes: int) -> "keras.Model":
    """Word ids (B, T) -> one probability per class (B, K); P(second class) (B, 1) for two classes."""
    from sentiflow.models.networks._head import sentiment_head
    from sentiflow.models.tf import keras, layers, ops

    ids = keras.Input((settings.length,), dtype="int32", name="ids")  # (B, T)
    is_word = ops.not_equal(ids, 0)  # (B, T)
    first, second = ops.cast(ids[:, :-1], "int64"), ops.cast(ids[:, 1:], "int64")  # (B, T-1)
    is_pair = ops.logical_and(is_word[:, :-1], is_word[:, 1:])  # (B, T-1)
    bucket = ops.cast(ops.mod(first * MULTIPLIER + second, settings.buckets), "int32")  # (B, T-1)
    words = layers.Embedding(vocabulary_size, settings.embedding, name="word")(ids)  # (B, T, E)
    pairs = layers.Embedding(settings.buckets, settings.embedding, name="pair")(bucket)  # (B, T-1, E)
    both = ops.concatenate([words, pairs], axis=1)  # (B, 2T-1, E)
    counts = ops.cast(ops.concatenate([is_word, is_pair], axis=1), "float32")  # (B, 2T-1)
    total = ops.einsum("bte,bt->be", both, counts)  # (B, E)
    # a text without words has the mean 0
    x = total / ops.maximum(ops.sum(counts, axis=1, keepdims=True), 1.0)  # (B, E)
    x = layers.Dropout(settings.dropout, name="hide_features")(x)  # (B, E)
    return keras.Model(ids, sentiment_head(x, classes))

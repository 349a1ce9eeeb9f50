"""The mean of what words and pairs of neighbours mean: no order beyond the pair, and quick to fit.

Pairs share a fixed number of embeddings by a hash, as there are too many of them to have one each.

Source: Joulin, Grave, Bojanowski & Mikolov (EACL 2017), known as fastText.
"""

from sentiflow.models.networks._head import sentiment_head
from sentiflow.models.tf import keras, layers, ops

MULTIPLIER = 1_000_003  # a prime larger than any vocabulary, so that the order of a pair matters


def build(*, vocabulary_size: int, length: int, embedding: int, buckets: int, dropout: float, classes: int) -> keras.Model:
    """Word ids (B, T) -> one probability a class (B, K); (B, 1) where K is 2."""
    ids = keras.Input((length,), dtype="int32", name="ids")  # (B, T)
    is_word = ops.not_equal(ids, 0)  # (B, T)
    first, second = ops.cast(ids[:, :-1], "int64"), ops.cast(ids[:, 1:], "int64")  # (B, T-1)
    is_pair = ops.logical_and(is_word[:, :-1], is_word[:, 1:])  # (B, T-1)
    bucket = ops.cast(ops.mod(first * MULTIPLIER + second, buckets), "int32")  # (B, T-1)
    words = layers.Embedding(vocabulary_size, embedding, name="word")(ids)  # (B, T, E)
    pairs = layers.Embedding(buckets, embedding, name="pair")(bucket)  # (B, T-1, E)
    both = ops.concatenate([words, pairs], axis=1)  # (B, 2T-1, E)
    counts = ops.cast(ops.concatenate([is_word, is_pair], axis=1), "float32")  # (B, 2T-1)
    total = ops.einsum("bte,bt->be", both, counts)  # (B, E)
    # a review without words has the mean 0
    x = total / ops.maximum(ops.sum(counts, axis=1, keepdims=True), 1.0)  # (B, E)
    x = layers.Dropout(dropout, name="hide_features")(x)  # (B, E)
    return keras.Model(ids, sentiment_head(x, classes), name="ngram_mean")

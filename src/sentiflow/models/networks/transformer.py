"""Every word looks at every other: an encoder of one block, and the mean of what the words have become.

Source: Vaswani et al. (NeurIPS 2017), with normalisation before each part (Xiong et al., ICML 2020). No word
looks at padding.
"""

from sentiflow.models.networks._head import sentiment_head
from sentiflow.models.tf import keras, layers, ops


def build(
    *,
    vocabulary_size: int,
    length: int,
    embedding: int,
    heads: int,
    hidden: int,
    spatial_dropout: float,
    dropout: float,
    classes: int,
) -> keras.Model:
    """Word ids (B, T) -> one probability a class (B, K); (B, 1) where K is 2."""
    ids = keras.Input((length,), dtype="int32", name="ids")  # (B, T)
    is_word = ops.not_equal(ids, 0)  # (B, T)
    places = ops.cumsum(ops.ones_like(ids), axis=1) - 1  # (B, T): 0, 1, 2 ...
    place = layers.Embedding(length, embedding, name="place")(places)  # (B, T, E)
    x = layers.Embedding(vocabulary_size, embedding, name="word")(ids) + place  # (B, T, E)
    x = layers.SpatialDropout1D(spatial_dropout, name="hide_features")(x)  # (B, T, E)
    look = layers.MultiHeadAttention(heads, embedding // heads, dropout=dropout, name="look")
    normal = layers.LayerNormalization(name="before_look")(x)  # (B, T, E)
    x = x + look(normal, normal, attention_mask=ops.expand_dims(is_word, 1))  # (B, T, E)
    normal = layers.LayerNormalization(name="before_think")(x)  # (B, T, E)
    thought = layers.Dense(hidden, activation="relu", name="think")(normal)  # (B, T, H)
    x = x + layers.Dropout(dropout, name="hide_thoughts")(layers.Dense(embedding, name="conclude")(thought))  # (B, T, E)
    x = layers.LayerNormalization(name="before_mean")(x)  # (B, T, E)
    counts = ops.cast(is_word, "float32")  # (B, T)
    # a review without words has the mean 0
    x = ops.einsum("bte,bt->be", x, counts) / ops.maximum(ops.sum(counts, axis=1, keepdims=True), 1.0)  # (B, E)
    x = layers.Dropout(dropout, name="hide_review")(x)  # (B, E)
    return keras.Model(ids, sentiment_head(x, classes), name="transformer")

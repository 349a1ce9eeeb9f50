"""Base classes of the settings of networks, and their types.

The settings class of a network is in its file. The tuning report shows the description of a setting.
"""

import math
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sentiflow.config.schema import Count, Section

Size = Annotated[int, Field(ge=1, le=1_000_000)]
Rate = Annotated[float, Field(ge=0, lt=1)]

HIDDEN = Field(description="a wider dense layer combines more features; more weights to overfit")

Units = Annotated[Size, Field(description="a larger state keeps more of the text; more weights to overfit")]
Hidden = Annotated[Size, HIDDEN]
Filters = Annotated[Size, Field(description="more n-gram features are learned")]
SpatialDropout = Annotated[Rate, Field(description="drops whole features of the embedding, so that no single one decides")]
Dropout = Annotated[Rate, Field(description="drops inputs in training, against overfitting")]
RecurrentDropout = Annotated[Rate, Field(description="drops parts of the recurrent state in training, against overfitting")]
MaskZero = Annotated[bool, Field(description="a recurrent layer that skips padding starts at the first word")]


class TextSettings(Section):
    """Settings of every model: the words it reads."""

    view: Annotated[
        Literal["text", "content"],
        Field(description="without stopwords and punctuation a text is shorter, but words such as not and but are lost"),
    ]
    vocabulary_size: Annotated[
        Annotated[int, Field(ge=3)] | None,
        Field(description="rarer words carry meaning, but occur too seldom to be learned well"),
    ]
    minimum_count: Annotated[Count, Field(description="words that occur a few times are memorised rather than learned")]


class WholeTextSettings(TextSettings):
    """Settings of a model that reads whole texts with their punctuation."""

    length: ClassVar[float] = math.inf
    truncating: ClassVar[str] = "post"
    punctuation: ClassVar[bool] = True


class LinearSettings(WholeTextSettings):
    """Settings of a linear classifier over n-grams."""

    ngrams: Annotated[int, Field(ge=1, le=3, description="longer n-grams capture negations and idioms; most occur only once")]
    minimum_documents: Annotated[
        Count, Field(description="n-grams that few texts contain describe those texts rather than the language")
    ]
    regularisation: Annotated[float, Field(gt=0, description="a weaker penalty fits the training set more closely")]


class NeuralSettings(TextSettings):
    """Settings of a network that embeds a sequence of word ids of fixed length."""

    length: Annotated[Count, Field(description="more of a long text is read; each step takes longer")]
    padding: Annotated[
        Literal["pre", "post"], Field(description="the end of the sequence has the most influence on a recurrent state")
    ]
    truncating: Annotated[Literal["pre", "post"], Field(description="the end of a review often states its verdict")]
    punctuation: Annotated[
        bool,
        Field(description="exclamation and question marks carry sentiment; they displace words in a truncated text"),
    ]
    batch: Annotated[Count, Field(description="larger batches make fewer and less noisy steps")]
    epochs: Annotated[Count, Field(description="more epochs fit the training set more closely")]
    learning_rate: Annotated[float, Field(gt=0, le=1, description="larger steps converge sooner and less precisely")]
    embedding: Annotated[Size, Field(description="more dimensions capture finer meaning; more weights to overfit")]

    @abstractmethod
    def weights(self, *, vocabulary_size: int, classes: int) -> int:
        """Number of weights of the network, to check a downloaded model before Keras allocates them."""

    @abstractmethod
    def widest(self) -> int:
        """Lower bound of the outputs of the widest layer for one text."""


ModelSettings = NeuralSettings | WholeTextSettings


def dense(inputs: int, outputs: int) -> int:
    """Number of weights of a dense layer."""
    return (inputs + 1) * outputs


def head(features: int, classes: int) -> int:
    """Number of weights of the output layer, the same in every network."""
    return dense(features, 1 if classes == 2 else classes)

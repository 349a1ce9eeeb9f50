"""What params.yaml says of each architecture: one class a section."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from sentiflow.config.schema import Count, Dropout, Section
from sentiflow.system.errors import InputError


class Reader(Section):
    """What every architecture says of the words it reads."""

    view: Literal["text", "content"]
    vocabulary_size: Annotated[int, Field(ge=3)] | None
    minimum_count: Count


class SequenceReader(Reader):
    """What every neural architecture says besides: how a review becomes a row of word ids, and how it is fitted."""

    length: Count
    padding: Literal["pre", "post"]
    truncating: Literal["pre", "post"]
    punctuation: bool
    batch: Count
    epochs: Count
    learning_rate: Annotated[float, Field(gt=0, le=1)]


class LinearReader(Reader):
    """What every linear classifier over n-grams says besides."""

    ngrams: Annotated[int, Field(ge=1, le=3)]
    minimum_documents: Count
    regularisation: Annotated[float, Field(gt=0)]


class Logistic(LinearReader):
    pass


class NbSvm(LinearReader):
    smoothing: Annotated[float, Field(gt=0)]


class EmbeddingReader(SequenceReader):
    """What every architecture says that begins with an embedding of its words."""

    embedding: Count


class RecurrentReader(EmbeddingReader):
    """What every recurrent architecture says besides."""

    mask_zero: bool
    units: Count


class NgramMean(EmbeddingReader):
    buckets: Count
    dropout: Dropout

    @model_validator(mode="after")
    def a_pair_fits(self) -> "NgramMean":
        if self.length < 2:
            raise ValueError(f"received length {self.length}; a pair of words needs 2 or more")
        return self


class Ffnn(EmbeddingReader):
    hidden: Count
    dropout: Dropout


class TextCnn(EmbeddingReader):
    filters: Count
    windows: Annotated[list[Count], Field(min_length=1)]
    spatial_dropout: Dropout
    dropout: Dropout

    @model_validator(mode="after")
    def every_window_fits_once(self) -> "TextCnn":
        if len(set(self.windows)) < len(self.windows):
            raise ValueError(f"a width stands twice in windows {self.windows}")
        if max(self.windows) > self.length:
            raise ValueError(f"window {max(self.windows)} is wider than length {self.length}; make length larger")
        return self


class Rnn(RecurrentReader):
    pass


class StackedRnn(RecurrentReader):
    second_units: Count
    hidden: Count
    dropout: Dropout
    recurrent_dropout: Dropout


class LstmSmall(RecurrentReader):
    pass


class LstmTuned(RecurrentReader):
    spatial_dropout: Dropout
    dropout: Dropout
    recurrent_dropout: Dropout


class Lstm(RecurrentReader):
    pass


class LstmDropout(LstmTuned):
    pass


class StackedLstm(RecurrentReader):
    second_units: Count
    hidden: Count
    dropout: Dropout


class Bilstm(RecurrentReader):
    spatial_dropout: Dropout
    dropout: Dropout


class Gru(Bilstm):
    pass


class CnnLstm(EmbeddingReader):
    filters: Count
    window: Count
    pool: Count
    spatial_dropout: Dropout
    units: Count
    dropout: Dropout
    recurrent_dropout: Dropout

    @model_validator(mode="after")
    def something_is_left_after_pooling(self) -> "CnnLstm":
        places = self.length - self.window + 1
        if places < self.pool:
            raise ValueError(
                f"with length {self.length} and window {self.window} there are {max(places, 0)} places to pool, fewer than "
                f"pool {self.pool}; make length larger"
            )
        return self


class LstmAttention(EmbeddingReader):
    units: Count


class Transformer(EmbeddingReader):
    heads: Count
    hidden: Count
    spatial_dropout: Dropout
    dropout: Dropout

    @model_validator(mode="after")
    def embedding_is_shared_out_among_the_heads(self) -> "Transformer":
        if self.embedding % self.heads:
            raise ValueError(f"embedding {self.embedding} cannot be shared out evenly among {self.heads} heads")
        return self


class Architectures(Section):
    logistic: Logistic
    nb_svm: NbSvm
    ngram_mean: NgramMean
    ffnn: Ffnn
    text_cnn: TextCnn
    rnn: Rnn
    stacked_rnn: StackedRnn
    lstm_small: LstmSmall
    lstm_tuned: LstmTuned
    lstm: Lstm
    lstm_dropout: LstmDropout
    stacked_lstm: StackedLstm
    bilstm: Bilstm
    gru: Gru
    cnn_lstm: CnnLstm
    lstm_attention: LstmAttention
    transformer: Transformer

    def __getitem__(self, name: str) -> Reader:
        if name not in type(self).model_fields:
            raise InputError(f"no architecture {name!r}; choose one of {', '.join(type(self).model_fields)}")
        settings: Reader = getattr(self, name)
        return settings


def _known(name: str) -> str:
    if name not in Architectures.model_fields:
        raise ValueError(f"received {name!r}, which is no architecture; choose among {', '.join(Architectures.model_fields)}")
    return name


Architecture = Annotated[str, AfterValidator(_known)]

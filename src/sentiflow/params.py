"""params.yaml as frozen, checked models.

Nothing here changes a value: what is checked is what stands in the file, and DVC tracks those values by itself.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from sentiflow.errors import InputError

Fraction = Annotated[float, Field(gt=0, lt=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Separator = Annotated[str, Field(pattern=r"^[^\"\r\n]$")]
Labels = Annotated[dict[str, str], Field(min_length=2)]
Words = Annotated[list[Annotated[str, Field(pattern=r"^[a-z']+$")]], Field(min_length=1)]


def _known(name: str) -> str:
    if name not in Architectures.model_fields:
        raise ValueError(f"received {name!r}, which is no architecture; choose among {', '.join(Architectures.model_fields)}")
    return name


Architecture = Annotated[str, AfterValidator(_known)]


class Section(BaseModel):
    """Unknown keys are refused, values are never coerced into another type, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class PackageSource(Section):
    part: Literal["imdb", "rotten_tomatoes"]
    sha256: Sha256 | None


class CsvSource(Section):
    location: Annotated[str, Field(min_length=1)]
    sha256: Sha256 | None
    separator: Separator
    encoding: str
    text: str
    label: str
    labels: Labels


class TsvSource(Section):
    location: Annotated[str, Field(min_length=1)]
    sha256: Sha256 | None
    separator: Separator
    encoding: str
    text: str | int
    label: str | int
    header: bool
    labels: Labels

    @model_validator(mode="after")
    def numbers_where_there_is_no_header(self) -> "TsvSource":
        wanted = str if self.header else int
        wrong = [f"{key} is {getattr(self, key)!r}" for key in ("text", "label") if not isinstance(getattr(self, key), wanted)]
        if wrong:
            kind = "name" if self.header else "number from 0"
            raise ValueError(
                f"{' and '.join(wrong)}, but with header: {str(self.header).lower()} a column is given by its {kind}"
            )
        return self


class AclimdbSource(Section):
    location: Annotated[str, Field(min_length=1)]
    sha256: Sha256 | None
    max_bytes: Count


class Download(Section):
    source: Literal["package", "csv", "aclimdb", "tsv"]
    sample: Annotated[int, Field(ge=20)] | None
    max_rejected: Annotated[float, Field(ge=0, le=1)]
    max_characters: Count
    package: PackageSource
    csv: CsvSource
    aclimdb: AclimdbSource
    tsv: TsvSource


class Clean(Section):
    keep_negations: bool
    partition_rows: Count


class Split(Section):
    method: Literal["stratified", "official", "hash"]
    valid: Fraction
    test: Fraction
    keep_films_together: bool

    @model_validator(mode="after")
    def something_is_left_for_train(self) -> "Split":
        if self.valid + self.test >= 1:
            raise ValueError(f"valid {self.valid} and test {self.test} add up to 1 or more, so nothing is left for train")
        return self


class Tokenize(Section):
    minimum_count: Count


class Train(Section):
    keep_best: Literal["accuracy_score", "f1_score", "log_loss"]
    patience: Count | None
    seed: Seed | None
    class_weights: Literal["balanced"] | None


class Evaluate(Section):
    resamples: Annotated[int, Field(ge=100)]
    confidence: Fraction
    bins: Count


class Compare(Section):
    baseline: Architecture
    tuned: Architecture


class Analyse(Section):
    samples: Count
    samples_with_text: Count
    mistakes: Count
    disagreements: Count
    negations: Words
    contrasts: Words


class Explain(Section):
    sentences: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    words_a_row: Annotated[int, Field(ge=1, le=40)]  # wider than a picture can be
    reviews: Count
    deleted: Fraction
    draws: Count


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


class Params(Section):
    seed: Seed
    run: Annotated[list[Architecture], Field(min_length=1)]
    download: Download
    clean: Clean
    split: Split
    tokenize: Tokenize
    train: Train
    evaluate: Evaluate
    compare: Compare
    analyse: Analyse
    explain: Explain
    architectures: Architectures

    @field_validator("run")
    @classmethod
    def no_name_stands_twice(cls, run: list[str]) -> list[str]:
        if twice := sorted({name for name in run if run.count(name) > 1}):
            raise ValueError(f"named twice: {', '.join(twice)}")
        return run


def load(path: Path = Path("params.yaml")) -> Params:
    """Reads and checks the whole file, so that a slip in any section is known before any work is done.

    Raises:
        InputError: naming every wrong key, what stands there and what is allowed.
    """
    try:
        # YAML 1.2, as DVC reads it: in 1.1 `1e-3` is a string and `yes` is true. A key that stands twice is an error.
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no {path} in {Path.cwd()}; run this from the top folder of the project") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"{path} is not valid YAML; {where}{error.problem}") from None
    except (YAMLError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML; expected sections of `key: value` lines: {error}") from None
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise InputError(_explain(path, error)) from None


def _explain(path: Path, error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "the file as a whole"
        if problem["type"] == "extra_forbidden":
            known = ", ".join(_keys_beside(problem["loc"]))
            lines.append(f"  {key}: unknown key; known here: {known}")
        elif problem["type"] == "missing":
            lines.append(f"  {key}: missing")
        elif problem["type"] == "value_error":
            lines.append(f"  {key}: {problem['ctx']['error']}")
        else:
            lines.append(f"  {key}: received {problem['input']!r}; {problem['msg'][0].lower()}{problem['msg'][1:]}")
    return f"{path} cannot be used:\n" + "\n".join(lines)


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Params
    for part in location[:-1]:
        annotation = section.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        section = annotation
    return list(section.model_fields)

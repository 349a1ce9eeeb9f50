"""Schema and validation of params.yaml.

Validation does not change values, so that they are those DVC tracks.
"""

import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from sentiflow.config.schema import (
    Count,
    Fraction,
    Labels,
    Language,
    ModelName,
    Positive,
    Section,
    Seed,
    Separator,
    Sha256,
    Share,
    Words,
    did_you_mean,
)
from sentiflow.system.errors import InputError

FILE = Path("params.yaml")


class PackageSource(Section):
    part: Literal["imdb", "rotten_tomatoes"]
    sha256: Sha256 | None


def _tagged(**kinds: type) -> Discriminator:
    """Discriminates by the type of a value, so that an error is about the intended type and not about every alternative."""
    return Discriminator(lambda value: next((f"[{tag}]" for tag, kind in kinds.items() if isinstance(value, kind)), "[other]"))


Location = Annotated[str, Field(min_length=1)]
Character = Annotated[str, Field(pattern=r"^[^\r\n]$")]
# Name of a column, or its number from 0 without a header
Column = Annotated[Annotated[Annotated[int, Field(ge=0)], Tag("[number]")] | Annotated[str, Tag("[other]")], _tagged(number=int)]


class Dialect(Section):
    """Format of delimited text; ignored for JSON lines and Parquet."""

    separator: Separator
    encoding: str
    quote: Character | None
    escape: Character | None
    skip_rows: Annotated[int, Field(ge=0)]
    header: bool

    @model_validator(mode="after")
    def each_character_has_one_meaning(self) -> "Dialect":
        special = [each for each in (self.separator, self.quote, self.escape) if each is not None]
        if len(set(special)) < len(special):
            raise ValueError(
                f"separator {self.separator!r}, quote {self.quote!r} and escape {self.escape!r} must be different characters; "
                "escape: null reads doubled quotes"
            )
        return self


class TableSource(Dialect):
    location: Annotated[
        Annotated[dict[Literal["train", "valid", "test"], Location], Field(min_length=1), Tag("[several]")]
        | Annotated[Location, Tag("[other]")],
        _tagged(several=dict),
    ]
    sha256: Sha256 | None
    text: Annotated[
        Annotated[list[Column], Field(min_length=1), Tag("[several]")] | Annotated[Column, Tag("[other]")], _tagged(several=list)
    ]
    label: Column
    split: Column | None
    group: Column | None
    labels: Labels

    @property
    def texts(self) -> list[Column]:
        """The columns that are joined to the text."""
        return self.text if isinstance(self.text, list) else [self.text]

    @model_validator(mode="after")
    def columns_have_names_only_under_a_header(self) -> "TableSource":
        named: dict[str, Sequence[Column | None]] = {
            "text": self.texts,
            "label": [self.label],
            "split": [self.split],
            "group": [self.group],
        }
        wrong = [
            f"{key} is {column!r}"
            for key, columns in named.items()
            for column in columns
            if column is not None and (isinstance(column, int) if self.header else not str(column).isdecimal())
        ]
        if wrong:
            kind = "name" if self.header else "number from 0"
            raise ValueError(f"{' and '.join(wrong)}, but header: {str(self.header).lower()} requires the {kind} of a column")
        return self


class FolderSource(Section):
    location: Location
    encoding: str
    max_bytes: Count
    labels: Labels


class AclimdbSource(Section):
    location: Location
    sha256: Sha256 | None
    max_bytes: Count


class Download(Section):
    source: Literal["package", "csv", "tsv", "folder", "aclimdb"]
    sample: Annotated[int, Field(ge=20)] | None
    max_rejected: Annotated[float, Field(ge=0, le=1)]
    max_characters: Count
    package: PackageSource
    csv: TableSource
    tsv: TableSource
    folder: FolderSource
    aclimdb: AclimdbSource

    @property
    def table(self) -> TableSource:
        """The format of tables of reviews in this project, also of those that are not the source."""
        return self.tsv if self.source == "tsv" else self.csv


class Clean(Section):
    language: Language
    keep_negations: bool
    partition_rows: Count


class Split(Section):
    method: Literal["stratified", "official", "hash"]
    valid: Fraction
    test: Fraction
    keep_films_together: bool
    leave_out_conflicts: bool

    @model_validator(mode="after")
    def something_is_left_for_train(self) -> "Split":
        if self.valid + self.test >= 1:
            raise ValueError(f"valid {self.valid} and test {self.test} add up to at least 1, so nothing is left for train")
        return self


class Tokenize(Section):
    minimum_count: Count


class Train(Section):
    keep_best: Literal["accuracy_score", "f1_score", "log_loss"]
    patience: Count | None
    seed: Seed | None
    class_weights: Literal["balanced"] | None
    threads: Count


class Evaluate(Section):
    resamples: Annotated[int, Field(ge=100)]
    confidence: Fraction
    bins: Count


class Compare(Section):
    baseline: ModelName
    tuned: ModelName


class Analyse(Section):
    samples: Count
    samples_with_text: Count
    mistakes: Count
    disagreements: Count
    negations: Words
    contrasts: Words


class Explain(Section):
    sentences: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None
    words_a_row: Annotated[int, Field(ge=1, le=40)]  # limited by the width of a figure
    reviews: Count
    deleted: Fraction
    draws: Count


class Promotion(Section):
    metric: Literal["accuracy_score", "precision_score", "recall_score", "f1_score"]
    floor: Share | None
    minimum_reviews: Annotated[int, Field(ge=10)]
    gain: Share
    p_value: Share
    slice_margin: Share
    slice_reviews: Count
    calibration_error: Share
    latency_ms: Positive
    latency_reviews: Annotated[int, Field(ge=20)]
    size_mb: Positive


class Drift(Section):
    incoming: Annotated[str, Field(min_length=1)]
    minimum_reviews: Annotated[int, Field(ge=20)]
    maximum_reviews: Count
    max_bytes: Count
    confidence: Fraction
    label_share: Share
    length: Share
    unknown_words: Share
    probability: Share

    @model_validator(mode="after")
    def enough_reviews_are_read(self) -> "Drift":
        if self.maximum_reviews < self.minimum_reviews:
            raise ValueError(
                f"maximum_reviews {self.maximum_reviews} is less than minimum_reviews {self.minimum_reviews}, so nothing would "
                "be compared; lower the minimum or raise the maximum"
            )
        return self


class Serve(Section):
    max_bytes: Count
    max_rows: Count
    max_characters: Count
    body_seconds: Positive
    poll_seconds: Positive


class Watch(Section):
    settle_seconds: Positive
    again_hours: Positive


class Retrain(Section):
    side_by_side: Count
    stage_minutes: Positive
    attempts: Count
    wait_seconds: Positive
    notify: list[Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")]]


class Verify(Section):
    tolerance: Share


class Params(Section):
    seed: Seed
    run: Annotated[dict[ModelName, str], Field(min_length=1)]  # model: network
    others: dict[ModelName, str]
    download: Download
    clean: Clean
    split: Split
    tokenize: Tokenize
    train: Train
    evaluate: Evaluate
    compare: Compare
    analyse: Analyse
    explain: Explain
    promotion: Promotion
    drift: Drift
    serve: Serve
    watch: Watch
    retrain: Retrain
    verify: Verify
    models: dict[ModelName, Any]  # `models.settings` validates them by the settings class of the network

    @model_validator(mode="after")
    def a_model_has_one_network(self) -> "Params":
        if different := [model for model in self.run.keys() & self.others.keys() if self.run[model] != self.others[model]]:
            raise ValueError(f"run and others have different networks for {', '.join(sorted(different))}")
        return self

    @property
    def networks(self) -> dict[str, str]:
        """The network of each model in `run` and `others`."""
        return self.run | self.others


def load(path: Path = FILE) -> Params:
    """Reads and validates the file without the settings of models: for stages, which depend on at most one network.

    Raises:
        InputError: with every wrong key, its value and what is allowed.
    """
    return checked(path, read(path))


def read(path: Path) -> Any:
    """The values of the file, not validated.

    Raises:
        InputError: if it is missing or not YAML.
    """
    try:
        # YAML 1.2 as in DVC: in 1.1, `1e-3` is a string and `yes` is true. Duplicate keys are errors.
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no {path} in {Path.cwd()}; run this from the top folder of the project") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"{path} is not valid YAML; {where}{error.problem}") from None
    except (YAMLError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML; expected sections of `key: value` lines: {error}") from None


def checked(path: Path, values: Any, *, also: Sequence[str] = ()) -> Params:
    """The validated values.

    Args:
        also: other problems to report together with those found here.

    Raises:
        InputError: with every problem.
    """
    try:
        p = Params.model_validate(values)
    except ValidationError as error:
        raise InputError(refusal(path, [*explained(error, Params), *also])) from None
    if also:
        raise InputError(refusal(path, also))
    return p


def refusal(path: Path, problems: Sequence[str]) -> str:
    """The error message for a file with these problems."""
    return f"{path} cannot be used:\n" + "\n".join(f"  {line}" for line in problems)


# Shortens values, because YAML aliases can expand a few lines to more than fits into memory
_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxlong, _SHOWN.maxother = 2, 120, 40, 120


def explained(error: ValidationError, model: type[BaseModel], *, at: tuple[str, ...] = ()) -> list[str]:
    """One line per problem: the key, what is wrong, and what is allowed.

    Args:
        at: key of `model` in the file.
    """
    lines = []
    for problem in error.errors():
        parts = (str(part) for part in (*at, *problem["loc"]))
        where = [part for part in parts if not part.startswith("[") or part == "[key]"]  # without tags
        key = ".".join(part for part in where if part != "[key]") or "the file as a whole"
        if where[-1:] == ["[key]"] and not isinstance(problem["input"], str):
            name = ".".join(where[:-2])
            lines.append(
                f'{name}: {problem["input"]!r} must be quoted because labels are strings: "{str(problem["input"]).lower()}"'
            )
            continue
        if problem["type"] == "extra_forbidden":
            known = _known_keys(model, problem["loc"])
            listed = f"; known here: {', '.join(known)}" if known else ""
            lines.append(f"{key}: unknown key{did_you_mean(str(problem['loc'][-1]), known)}{listed}")
        elif problem["type"] == "missing":
            lines.append(f"{key}: missing; add this key")
        elif problem["type"] == "value_error":
            lines.append(f"{key}: {problem['ctx']['error']}")
        else:
            lines.append(f"{key}: received {_SHOWN.repr(problem['input'])}; {problem['msg'][0].lower()}{problem['msg'][1:]}")
    return lines


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    section = model
    for part in location[:-1]:
        annotation = section.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        section = annotation
    return list(section.model_fields)

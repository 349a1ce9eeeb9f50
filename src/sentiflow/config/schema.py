"""Types of the values in params.yaml, and the base class of its sections."""

import difflib
import re
import unicodedata
from collections.abc import Iterable
from functools import partial
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

NO_LANGUAGE = "none"
LANGUAGES = (  # of NLTK's stopword lists
    "albanian", "arabic", "azerbaijani", "basque", "belarusian", "bengali", "catalan", "chinese", "danish", "dutch", "english",
    "finnish", "french", "german", "greek", "hebrew", "hinglish", "hungarian", "indonesian", "italian", "kazakh", "nepali",
    "norwegian", "portuguese", "romanian", "russian", "slovene", "spanish", "swedish", "tajik", "tamil", "turkish", "uzbek",
)  # fmt: skip


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the most similar known name, or an empty string."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{close[0]}`" if close else ""


def _known_language(name: str) -> str:
    known = (NO_LANGUAGE, *LANGUAGES)
    if name in known:
        return name
    hint = did_you_mean(name.lower(), known)
    raise ValueError(f"received {name[:100]!r}; no stopword list has this name{hint}; expected one of {', '.join(known)}")


Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Separator = Annotated[str, Field(pattern=r"^[^\"\r\n]$")]
MOST_CLASSES = 10_000
LONGEST_CLASS = 100  # characters in the name of a class
JOINERS = "\u200c\u200d"  # not printable, but needed in Persian, Hindi and emoji


def _class_name(name: str) -> str:
    if not 1 <= len(name) <= LONGEST_CLASS:
        raise ValueError(f"expected a class name of 1 to {LONGEST_CLASS} characters, got {len(name)}")
    if unprintable := [each for each in name if not each.isprintable() and each not in JOINERS]:
        raise ValueError(f"expected a class name without line breaks and invisible characters, got {unprintable[0]!a} in it")
    if name != name.strip():
        raise ValueError(f"expected a class name without surrounding spaces, got {name!r}")
    return name


def _at_most_classes(labels: dict[str, str | None]) -> dict[str, str | None]:
    if (count := len(set(labels.values()))) > MOST_CLASSES:
        raise ValueError(f"expected at most {MOST_CLASSES:,} classes, got {count:,}")
    return labels


def _model_name(name: str) -> str:
    """A name that is also valid for files, DVC stages and columns."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise ValueError(f"received {name[:100]!r}; a model name has at most 64 ASCII letters, digits, _ and -")
    if name == "comparison":  # files with this name contain the results of all models
        raise ValueError(f"received {name!r}; this name is reserved, choose another one")
    return name


ModelName = Annotated[str, AfterValidator(_model_name)]
ClassName = Annotated[str, AfterValidator(_class_name)]
# None excludes the rows with this label
Labels = Annotated[dict[str, ClassName | None], Field(min_length=2), AfterValidator(_at_most_classes)]
Language = Annotated[str, AfterValidator(_known_language)]
# Words as in a cleaned text: lower case, possibly with joiners
Word = Annotated[
    str, Field(pattern=r"^[\p{Ll}\p{Lm}\p{Lo}\p{M}'\u200c\u200d]+$"), AfterValidator(partial(unicodedata.normalize, "NFC"))
]
Words = Annotated[list[Word], Field(min_length=1)]


class Section(BaseModel):
    """Base class: unknown keys are errors, values are not coerced to another type, and instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

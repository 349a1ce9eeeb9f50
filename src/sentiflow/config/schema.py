"""The kinds of values that stand in params.yaml, and what holds for every section of it."""

import difflib
import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

NO_LANGUAGE = "none"
LANGUAGES = (  # of NLTK's stopword lists
    "albanian", "arabic", "azerbaijani", "basque", "belarusian", "bengali", "catalan", "chinese", "danish", "dutch", "english",
    "finnish", "french", "german", "greek", "hebrew", "hinglish", "hungarian", "indonesian", "italian", "kazakh", "nepali",
    "norwegian", "portuguese", "romanian", "russian", "slovene", "spanish", "swedish", "tajik", "tamil", "turkish", "uzbek",
)  # fmt: skip


def _known_language(name: str) -> str:
    known = (NO_LANGUAGE, *LANGUAGES)
    if name in known:
        return name
    close = difflib.get_close_matches(name.lower(), known, n=1)
    meant = f"; did you mean `{close[0]}`" if close else ""
    raise ValueError(f"received {name[:100]!r}; no stopword list has this name{meant}; expected one of {', '.join(known)}")


def _composed(word: str) -> str:
    return unicodedata.normalize("NFC", word)


Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Separator = Annotated[str, Field(pattern=r"^[^\"\r\n]$")]
MOST_CLASSES = 10_000
LONGEST_CLASS = 100  # characters in the name of a class
JOINERS = "\u200c\u200d"  # do not print, but Persian, Hindi and emoji are written with them


def _class_name(name: str) -> str:
    """A name that is one line wherever it is shown: in tables, on terminals, as the name of a column."""
    if not 1 <= len(name) <= LONGEST_CLASS:
        raise ValueError(f"expected the name of a class, 1 to {LONGEST_CLASS} characters, got {len(name)}")
    if unprintable := [each for each in name if not each.isprintable() and each not in JOINERS]:
        raise ValueError(
            f"expected the name of a class without line breaks and invisible characters, got {unprintable[0]!a} in it"
        )
    if name != name.strip():
        raise ValueError(f"expected the name of a class without spaces around it, got {name!r}")
    return name


def _at_most_classes(labels: dict[str, str | None]) -> dict[str, str | None]:
    if (count := len(set(labels.values()))) > MOST_CLASSES:
        raise ValueError(f"expected at most {MOST_CLASSES:,} classes, got {count:,}")
    return labels


def _model_name(name: str) -> str:
    """A name that files, stages of DVC and columns of tables can have."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise ValueError(f"received {name[:100]!r}; the name of a model has letters without accents, digits, _ and -, at most 64")
    if name == "comparison":  # the results of all models are in files of this name
        raise ValueError(f"received {name!r}; this name is reserved, choose another for the model")
    return name


ModelName = Annotated[str, AfterValidator(_model_name)]
ClassName = Annotated[str, AfterValidator(_class_name)]
# None: rows with this label are left out on purpose
Labels = Annotated[dict[str, ClassName | None], Field(min_length=2), AfterValidator(_at_most_classes)]
Language = Annotated[str, AfterValidator(_known_language)]
# Words as they are in a cleaned text: no capitals; joiners inside.
Word = Annotated[str, Field(pattern=r"^[\p{Ll}\p{Lm}\p{Lo}\p{M}'\u200c\u200d]+$"), AfterValidator(_composed)]
Words = Annotated[list[Word], Field(min_length=1)]


class Section(BaseModel):
    """Unknown keys are refused, values are never coerced into another type, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

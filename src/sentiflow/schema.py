"""The kinds of values that stand in params.yaml, and what holds for every section of it."""

import difflib
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
    raise ValueError(f"received {name[:100]!r}, which has no stopword list{meant}; expected one of {', '.join(known)}")


def _composed(word: str) -> str:
    return unicodedata.normalize("NFC", word)


Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Separator = Annotated[str, Field(pattern=r"^[^\"\r\n]$")]
Labels = Annotated[dict[str, str | None], Field(min_length=2)]  # None: rows with this label are left out on purpose
Language = Annotated[str, AfterValidator(_known_language)]
# Words as they are in a cleaned text: no capitals; joiners inside.
Word = Annotated[str, Field(pattern=r"^[\p{Ll}\p{Lm}\p{Lo}\p{M}'\u200c\u200d]+$"), AfterValidator(_composed)]
Words = Annotated[list[Word], Field(min_length=1)]


class Section(BaseModel):
    """Unknown keys are refused, values are never coerced into another type, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

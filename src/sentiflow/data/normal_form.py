r"""Text normalisation, applied at download and again before cleaning.

- Repairs mojibake and C1 controls if ftfy is certain, then applies Unicode's NFC.
- Removes invisible characters: soft hyphens, zero-width spaces, inner byte order marks, direction marks, variation selectors.
  Joiners are kept inside words, where Persian and Hindi need them, and inside emoji.
- Decodes unambiguous escapes left by JSON exporters (`\u2019`, `\n`, `\"`).
"""

import json
import re
import unicodedata
from itertools import chain, zip_longest

import ftfy
import pandas as pd
import regex
from ftfy.badness import is_bad

from sentiflow.data.emoji import EMOJI

# ASCII away from other characters. ftfy needs a microsecond per character, so it does not get these.
_FAR = re.compile(r"(?<=[\x00-\x7f]{3})[\x00-\x7f]+(?=[\x00-\x7f]{3})")
_IN_PLACE = "\0"

SOFT_HYPHEN = "\u00ad"
LONGEST_RUN = 30  # combining marks, the stream-safe limit of UAX 15: Python needs quadratic time to sort a run of them
_LONG_RUN = regex.compile(rf"\p{{M}}{{{LONGEST_RUN + 1}}}")

_TAGGED_FLAG = r"\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f"  # Scotland's, for example
_UNSEEN = r"[\p{Cf}\ufe00-\ufe0f\U000e0100-\U000e01ef]--[\p{Prepended_Concatenation_Mark}\u200c\u200d]"
_INVISIBLE = regex.compile(rf"{_TAGGED_FLAG}(*SKIP)(*FAIL)|[{_UNSEEN}]", regex.V1)
_INVISIBLE_BUT_SOFT_HYPHEN = regex.compile(rf"{_TAGGED_FLAG}(*SKIP)(*FAIL)|[{_UNSEEN}--{SOFT_HYPHEN}]", regex.V1)
_STRAY_JOINER = regex.compile(
    rf"(?:(?<=[\p{{L}}\p{{M}}])[\u200c\u200d](?=[\p{{L}}\p{{M}}])|(?<={EMOJI})\u200d(?=\p{{Extended_Pictographic}}))(*SKIP)(*FAIL)"
    r"|[\u200c\u200d]",
    regex.V1,
)

_PAIR = r"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = regex.compile(rf'(?<!\\)\\(?:{_PAIR}|u[0-9a-fA-F]{{4}}|[nrt"/])')
# Not in prose, LaTeX (`\newline`, `G\"odel`) or emoticons (`\o/`).
_CERTAIN = regex.compile(
    rf'(?<!\\)\\(?:{_PAIR}|u(?!00[0-7]|[dD][89a-fA-F])[0-9a-fA-F]{{4}}|u00(?:2[267]|3[ceCE])|[nrt](?![a-z])|"(?!\p{{L}}))'
    r'|(?<![\\\p{L}])\\"|(?<=<)\\/|\\/(?=>)|:\\/\\/|(?<=\d)\\/(?=\d)|(?<=[a-z]{2})\\/(?=[a-z]{2})'
)
_WINDOWS_PATH = regex.compile(r"(?<![a-zA-Z])[a-zA-Z]:\\")
_DECODED_ASCII = "\t\n\r\"&'/<>"  # the only ASCII escapes that are decoded, because exporters write them


def normalise(texts: pd.Series) -> pd.Series:
    """`normalised` over a column."""
    return pd.Series([normalised(text) for text in texts.tolist()], texts.index, texts.dtype, texts.name)


def normalised(text: str) -> str:
    r"""The normal form of a text, in linear time. Idempotent.

    >>> normalised("cafÃ©"), normalised("cafe\u0301 \u00adok\u200b"), normalised(r"wonderful.\n\nNot \u00e9t\u00e9")
    ('café', 'café ok', 'wonderful.\n\nNot été')
    """
    if text.isascii() and "\\" not in text:
        return text
    plain = _visible(text, _INVISIBLE_BUT_SOFT_HYPHEN)  # a soft hyphen may be part of mojibake
    repaired = _repaired(_unescaped(plain))
    if repaired == plain and SOFT_HYPHEN not in plain:
        return plain
    repaired = _visible(repaired, _INVISIBLE)
    if _unescaped(repaired) == repaired and _repaired(repaired) == repaired:
        return repaired
    return plain  # a repair that can be repaired again is not certain


def damage(text: str) -> list[str]:
    """Signs of damage in a normalised text, which cannot be repaired with certainty."""
    signs = {
        "lost characters (U+FFFD)": "\ufffd" in text,
        "characters as of a wrong encoding": not text.isascii() and is_bad(text.replace("\ufffd", "")),
        "escapes such as backslash n": "\\" in text and _ESCAPE.search(text) is not None,
    }
    return [sign for sign, is_there in signs.items() if is_there]


def composed(text: str) -> str:
    """The text in NFC; unchanged if it has more than LONGEST_RUN combining marks in a row, which no language has."""
    if text.isascii() or _LONG_RUN.search(text):
        return text
    return unicodedata.normalize("NFC", text)


def _visible(text: str, invisible: "regex.Pattern[str]") -> str:
    if text.isascii():
        return text
    text = invisible.sub("", text)
    if "\u200c" in text or "\u200d" in text:
        text = _STRAY_JOINER.sub("", text)
    return composed(text)


def _repaired(text: str) -> str:
    near = _FAR.sub(_IN_PLACE, text)
    fixed = ftfy.fix_encoding(near)
    if fixed == near:
        return text
    parts, far = fixed.split(_IN_PLACE), _FAR.findall(text)
    if len(parts) != len(far) + 1:  # the text contains NUL
        return str(ftfy.fix_encoding(text))
    return "".join(chain.from_iterable(zip_longest(parts, far, fillvalue="")))


def _unescaped(text: str) -> str:
    if "\\" not in text or _WINDOWS_PATH.search(text) or not _CERTAIN.search(text):
        return text
    return str(_ESCAPE.sub(_decoded, text))


def _decoded(escape: "regex.Match[str]") -> str:
    character = str(json.loads(f'"{escape[0]}"'))
    if character.isascii():
        return character if character in _DECODED_ASCII else escape[0]
    return escape[0] if unicodedata.category(character) == "Cs" else character  # half a surrogate pair

"""Fonts for text in any script: matplotlib's own font first, then installed fonts for the characters that it lacks."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager, get_font

LONGEST = 24  # characters of a class's name that a figure shows
ADVICE = "install one, for example: apt-get install fonts-noto-cjk (Chinese, Japanese, Korean) or fonts-noto-core (other scripts)"
UNUSABLE = ("color", "emoji", "lastresort")  # pictures instead of outlines, and boxes


def style(texts: Iterable[str]) -> dict[str, list[str]]:
    """The rcParams that draw these texts; empty where matplotlib's own font draws them all."""
    found = _families(_foreign(texts))
    return {"font.family": [*mpl.rcParams["font.family"], *found]} if found else {}


def undrawable(texts: Iterable[str]) -> frozenset[str]:
    """The characters of these texts that no installed font draws."""
    missing = _foreign(texts)
    return missing.difference(*(_characters(_file(family)) for family in _families(missing)))


def class_labels(classes: Sequence[str]) -> list[str]:
    """What figures call each class: its name, shortened if it is long.

    A class whose name no installed font draws, or whose shortened name is that of another, is called by its number from 1.

    >>> class_labels(["good", "a" * 30])
    ['good', 'aaaaaaaaaaaaaaaaaaaaaaa…']
    """
    short = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in classes]
    missing, times = undrawable(short), Counter(short)
    return [
        name if times[name] == 1 and missing.isdisjoint(name) else f"class {number}" for number, name in enumerate(short, start=1)
    ]


def _foreign(texts: Iterable[str]) -> frozenset[str]:
    """The characters that matplotlib's own font lacks, in its normal or its bold weight."""
    return frozenset("".join(texts)).difference({"\n"}).difference(_own_characters())


@cache
def _own_characters() -> frozenset[str]:
    with mpl.rc_context({"font.family": mpl.rcParamsDefault["font.family"]}):
        return frozenset.intersection(*(_characters(findfont(FontProperties(weight=weight))) for weight in ("normal", "bold")))


@cache
def _families(missing: frozenset[str]) -> tuple[str, ...]:
    """As few installed families as draw what can be drawn, the same ones on every run on a machine."""
    found: list[str] = []
    for file in _installed() if missing else ():
        if missing & _characters(file):
            fontManager.addfont(file)  # its list of fonts may be older than this font
            found.append(get_font(file).family_name)
            missing -= _characters(file)
        if not missing:
            break
    return tuple(found)


@cache
def _installed() -> tuple[str, ...]:
    """Files of fonts, sans serif and of normal weight first."""

    def order(file: str) -> tuple[bool, bool, str]:
        name = Path(file).stem.lower()
        return "sans" not in name, not name.endswith(("regular", "sans")), file

    files = [file for file in findSystemFonts() if not any(word in Path(file).name.lower() for word in UNUSABLE)]
    return tuple(sorted(files, key=order))


def _file(family: str) -> str:
    return str(findfont(FontProperties(family=family)))


@cache
def _characters(file: str) -> frozenset[str]:
    try:
        font = get_font(file)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):  # a damaged file, or a format that FreeType does not read
        return frozenset()

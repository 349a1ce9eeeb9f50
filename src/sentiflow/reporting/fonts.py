"""Fonts for text in any script: matplotlib's default font, and installed fonts for the characters that it lacks."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager, get_font

LONGEST = 24  # characters of a class name in a figure
ADVICE = "install one, for example: apt-get install fonts-noto-cjk (Chinese, Japanese, Korean) or fonts-noto-core (other scripts)"
UNUSABLE = ("color", "emoji", "lastresort")  # in names of fonts of bitmaps or placeholder boxes


def style(texts: Iterable[str]) -> dict[str, list[str]]:
    """The rcParams to draw these texts; empty if matplotlib's default font has all their characters."""
    found = _families(_foreign(texts))
    return {"font.family": [*mpl.rcParams["font.family"], *found]} if found else {}


def undrawable(texts: Iterable[str]) -> frozenset[str]:
    """The characters of these texts that no installed font has."""
    missing = _foreign(texts)
    return missing.difference(*(_characters(_file(family)) for family in _families(missing)))


def class_labels(classes: Sequence[str]) -> list[str]:
    """Labels of the classes in figures: their names, shortened if they are long.

    The label is a number, from 1, if no installed font has the characters or two shortened names are equal.

    >>> class_labels(["good", "a" * 30])
    ['good', 'aaaaaaaaaaaaaaaaaaaaaaa…']
    """
    short = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in classes]
    missing, times = undrawable(short), Counter(short)
    return [
        name if times[name] == 1 and missing.isdisjoint(name) else f"class {number}" for number, name in enumerate(short, start=1)
    ]


def _foreign(texts: Iterable[str]) -> frozenset[str]:
    """The characters that matplotlib's default font lacks in normal or bold weight."""
    return frozenset("".join(texts)).difference({"\n"}).difference(_own_characters())


@cache
def _own_characters() -> frozenset[str]:
    with mpl.rc_context({"font.family": mpl.rcParamsDefault["font.family"]}):
        return frozenset.intersection(*(_characters(findfont(FontProperties(weight=weight))) for weight in ("normal", "bold")))


@cache
def _families(missing: frozenset[str]) -> tuple[str, ...]:
    """Installed families that together have all available characters; the same ones in every run on a machine."""
    found: list[str] = []
    for file in _installed() if missing else ():
        if missing & _characters(file):
            fontManager.addfont(file)  # the font may be newer than matplotlib's cached list
            found.append(get_font(file).family_name)
            missing -= _characters(file)
        if not missing:
            break
    return tuple(found)


@cache
def _installed() -> tuple[str, ...]:
    """Font files, sans serif and normal weight first."""

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
    except (OSError, RuntimeError, ValueError):  # damaged, or in a format that FreeType does not support
        return frozenset()

"""Words shaded by their weight, as a figure and in the terminal.

Out-of-vocabulary words are in [brackets]. Texts are untrusted: control characters are escaped.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

from sentiflow.models.explanation import ATTENTION, STRONG_LOG_ODDS, STRONG_SHARE, Explanation
from sentiflow.reporting import fonts, png_plots

LONGEST = 24  # characters of a word that are shown
MOST_ROWS = 200  # in a figure; matplotlib's limit is 65,536 pixels per side

# Okabe & Ito's palette, light enough for black text: against the prediction, neutral, for it
COLOURS = LinearSegmentedColormap.from_list("weight", ["#E69F00", "#FFFFFF", "#56B4E9"])
# The same in the 256 colours of a terminal, weakest first
FOR, AGAINST = (195, 153, 117, 75), (230, 223, 222, 214)
BLACK, RESET = "\x1b[38;5;16m", "\x1b[0m"

# Sizes in the figure, in points
WORD_SIZE, WEIGHT_SIZE = 9.0, 6.5
CELL_HEIGHT, CELL_MARGIN, NARROWEST = 28.0, 5.0, 30.0
LINE_HEIGHT, EDGE = 16.0, 10.0
POINTS_PER_INCH = 72


def draw(explained: Explanation, title: str, file: Path, *, words_a_row: int) -> None:
    """Writes a PNG with the words of an explanation in cells that are shaded by weight, each weight below its word.

    The same explanation gives the same bytes.

    Args:
        title: printed before the prediction.
        words_a_row: at least 1.
    """
    with mpl.rc_context(png_plots.STYLE | fonts.style([*explained.words, title, explained.label])):
        words = [_drawable(word) for word in _marked(explained)]
        rows = [range(start, min(start + words_a_row, len(words))) for start in range(0, len(words), words_a_row)]
        lines = [_drawable(f"{title}: {shown(explained.label)}, probability {explained.probability:.3f}"), *_caption(explained)]
        if not words:
            lines.append("the model reads no word of this text")
        if len(rows) > MOST_ROWS:
            lines.append(f"the first {MOST_ROWS} of {len(rows)} rows")
            rows = rows[:MOST_ROWS]
        columns = [
            max(_width(words[row[place]]) for row in rows if place < len(row)) for place in range(len(rows[0]) if rows else 0)
        ]
        widths = [max(column + 2 * CELL_MARGIN, NARROWEST) for column in columns]

        width = 2 * EDGE + max([sum(widths), *map(_width, lines)])
        top = EDGE + LINE_HEIGHT * len(lines)
        height = top + CELL_HEIGHT * len(rows) + EDGE
        figure = Figure(figsize=(width / POINTS_PER_INCH, height / POINTS_PER_INCH))
        axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        axis.set_axis_off()
        for place, line in enumerate(lines):
            axis.text(EDGE, EDGE + LINE_HEIGHT * place, line, va="top", size=WORD_SIZE, weight="normal" if place else "bold")
        strength = explained.strengths
        left = EDGE + np.cumsum([0.0, *widths])
        for number, row in enumerate(rows):
            y = top + CELL_HEIGHT * number
            for place, i in enumerate(row):
                colour = COLOURS((strength[i] + 1) / 2)
                axis.add_patch(Rectangle((left[place], y), widths[place], CELL_HEIGHT, facecolor=colour, edgecolor="white"))
                middle = left[place] + widths[place] / 2
                axis.text(middle, y + 0.38 * CELL_HEIGHT, words[i], ha="center", va="center", size=WORD_SIZE)
                axis.text(
                    middle, y + 0.76 * CELL_HEIGHT, number_of(explained.weights[i]), ha="center", va="center", size=WEIGHT_SIZE
                )
        png_plots._save(figure, file)


def as_terminal(explained: Explanation, *, width: int, colour: bool) -> str:
    """The words of an explanation, wrapped at `width` columns: shaded with `colour`, otherwise as word(weight)."""
    strength = explained.strengths
    words = _marked(explained)
    if not colour:
        words = [f"{word}({number_of(weight)})" for word, weight in zip(words, explained.weights, strict=True)]
    pieces = [_shaded(word, value) if colour else word for word, value in zip(words, strength, strict=True)]
    return "\n".join(" ".join(pieces[i] for i in line) for line in _wrapped([_columns(word) for word in words], width))


def number_of(weight: float) -> str:
    """
    >>> number_of(0.25), number_of(-0.0001)
    ('0.250', '0.000')
    """
    return f"{weight:z.3f}"


def shown(text: str) -> str:
    """A text that is safe to print: unprintable characters are escaped, a long text is cut.

    >>> shown("caf\\u00e9"), shown("\\x1b[2J"), shown("a" * 30)
    ('café', '\\\\x1b[2J', 'aaaaaaaaaaaaaaaaaaaaaaa…')
    """
    short = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in short)


def meaning(explained: Explanation) -> str:
    """The meaning of the weights, in a line."""
    if explained.method == ATTENTION:
        return "attention: the share of the model's attention that each word gets; the shares add up to 1"
    return f"leave one out: how much the log-odds of {shown(explained.label)} fall without the word; below 0 they rise"


def shades(explained: Explanation) -> str:
    """The meaning of the shades, in a line."""
    if explained.method == ATTENTION:
        return f"white: an equal share or less; strongest shade: {STRONG_SHARE:g} times an equal share or more"
    return f"blue: for the answer, orange: against it; strongest shade: {STRONG_LOG_ODDS:g} or more"


def _caption(explained: Explanation) -> list[str]:
    lines = [_drawable(meaning(explained)), shades(explained)]
    if not all(explained.known):
        lines.append("in [brackets]: unknown to the model")
    return lines


def _marked(explained: Explanation) -> list[str]:
    return [shown(word) if known else f"[{shown(word)}]" for word, known in zip(explained.words, explained.known, strict=True)]


def _drawable(text: str) -> str:
    """The text with U+FFFD for every character that no installed font has."""
    return text.translate(dict.fromkeys(map(ord, fonts.undrawable([text])), "\N{REPLACEMENT CHARACTER}"))


def _width(text: str) -> float:
    """In points."""
    return float(TextPath((0, 0), text, size=WORD_SIZE, prop=FontProperties(weight="bold")).get_extents().width)


def _shaded(word: str, strength: float) -> str:
    ramp = FOR if strength > 0 else AGAINST
    step = round(abs(strength) * len(ramp))
    return f"\x1b[48;5;{ramp[step - 1]}m{BLACK}{word}{RESET}" if step else word


def _columns(text: str) -> int:
    """Columns of the terminal: two per wide character, none per combining mark."""
    return sum(0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


def _wrapped(widths: Sequence[int], width: int) -> Iterable[list[int]]:
    """Indices of the words on each line, at least one per line."""
    line: list[int] = []
    used = 0
    for i, columns in enumerate(widths):
        if line and used + 1 + columns > width:
            yield line
            line, used = [], 0
        used += columns + bool(line)
        line.append(i)
    if line:
        yield line

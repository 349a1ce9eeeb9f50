import itertools
import re
import unicodedata

import numpy as np
import pytest
from PIL import Image

from sentiflow.models.explanation import Explanation
from sentiflow.reporting import heatmap

TWELVE = ["a", "wonderful", "film", ",", "moving", "and", "funny", "to", "the", "very", "last", "scene"]
LONG = ["incomprehensibilities", "donaudampfschifffahrtsgesellschaft", "W" * 60, "x" * 1_000_000]
ODD = ["$x^2$", "$\\frac{", "\x1b[2J", "\u202e", "\u4e2d\u6587", "\U0001f600", "e\u0301", "\u0627\u0644", "\ufffe", "\\n", "a_b%"]


def explained(words, *, method="leave one out", weights=None, known=None, label="positive"):
    if weights is None:
        weights = np.random.default_rng(len(words)).normal(size=len(words))
    if method == "attention":
        weights = np.exp(weights) / np.exp(weights).sum()
    known = (True,) * len(words) if known is None else known
    return Explanation(method, tuple(words), tuple(known), np.asarray(weights, float), label, 0.9, 0)


FIGURES = {
    "one word": (explained(["good"]), 10),
    "two rows": (explained(TWELVE, method="attention"), 10),
    "sixty words": (explained(TWELVE * 5, method="attention"), 10),
    "one word per row": (explained(TWELVE), 1),
    "long words": (explained(LONG), 2),
    "odd words": (explained(ODD, known=[False] * len(ODD), label="$\x1b[2J \u4e2d\U0001f600\u0627|"), 5),
    "no word": (explained([]), 10),
    "no weight": (explained(TWELVE, weights=np.zeros(12)), 6),
}


@pytest.fixture(scope="module", params=FIGURES)
def figure(request, tmp_path_factory):
    file = tmp_path_factory.mktemp("heatmaps") / "figure.png"
    what, words_a_row = FIGURES[request.param]
    heatmap.draw(what, "lstm, sentence 1", file, words_a_row=words_a_row)
    return file, what, words_a_row


def pixels(file):
    with Image.open(file) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draws an explanation; returns axis, words, weights and title lines."""
    kept = []
    save = heatmap.png_plots._save
    monkeypatch.setattr(heatmap.png_plots, "_save", lambda figure, file: (kept.append(figure), save(figure, file)))

    def draw(what, *, words_a_row, title="lstm"):
        heatmap.draw(what, title, tmp_path / "figure.png", words_a_row=words_a_row)
        [axis] = kept.pop().axes
        texts = {kind: [text for text in axis.texts if wanted(text)] for kind, wanted in KINDS.items()}
        return axis, texts["words"], texts["weights"], [text.get_text() for text in texts["lines"]]

    return draw


KINDS = {
    "lines": lambda text: text.get_ha() == "left",
    "words": lambda text: text.get_ha() == "center" and text.get_size() == heatmap.WORD_SIZE,
    "weights": lambda text: text.get_ha() == "center" and text.get_size() == heatmap.WEIGHT_SIZE,
}


# the figure


def test_a_figure_is_a_png_with_reproducible_bytes(figure, tmp_path):
    file, what, words_a_row = figure
    assert (pixels(file).min(axis=2) < 100).any()
    heatmap.draw(what, "lstm, sentence 1", tmp_path / "again", words_a_row=words_a_row)
    assert (tmp_path / "again").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", FIGURES)
def test_every_word_is_within_its_own_cell(drawn, name):
    what, words_a_row = FIGURES[name]
    axis, words, weights, _ = drawn(what, words_a_row=words_a_row)
    cells = [patch.get_window_extent() for patch in axis.patches]
    assert len(words) == len(weights) == len(cells) == len(what.words)
    page = axis.figure.bbox
    for texts in (words, weights):
        for text, cell in zip(texts, cells, strict=True):
            box = text.get_window_extent()
            assert cell.x0 <= box.x0 < box.x1 <= cell.x1
            assert cell.y0 <= box.y0 < box.y1 <= cell.y1
    for i, cell in enumerate(cells):
        assert page.x0 <= cell.x0 < cell.x1 <= page.x1
        assert page.y0 <= cell.y0 < cell.y1 <= page.y1
        for other in cells[:i]:
            apart = cell.x0 >= other.x1 - 0.01 or other.x0 >= cell.x1 - 0.01 or cell.y1 <= other.y0 + 0.01
            assert apart
    for word, weight in zip(words, weights, strict=True):
        assert not word.get_window_extent().overlaps(weight.get_window_extent())


def test_words_are_in_reading_order(drawn):
    what = explained(TWELVE)
    _, words, weights, _ = drawn(what, words_a_row=5)
    assert [text.get_text() for text in words] == TWELVE
    assert [text.get_text() for text in weights] == [heatmap.number_of(weight) for weight in what.weights]
    heights = [round(text.get_position()[1]) for text in words]
    assert [heights.count(height) for height in sorted(set(heights))] == [5, 5, 2]


def test_no_title_line_is_cut(drawn):
    for label in ("positive", "a class with a name that is far too long for any title"):
        axis, _, _, lines = drawn(
            explained(["a"], known=[False], label=label), words_a_row=10, title="some_architecture, sentence 1"
        )
        assert len(lines) == 4
        for text in axis.texts:
            assert axis.figure.bbox.x0 < text.get_window_extent().x0 < text.get_window_extent().x1 < axis.figure.bbox.x1


def test_the_title_has_prediction_probability_and_meaning_of_the_weights(drawn):
    *_, lines = drawn(explained(["good", "zzz"], known=[True, False]), words_a_row=10, title="lstm, sentence 2")
    assert lines == [
        "lstm, sentence 2: positive, probability 0.900",
        "leave one out: how much the log-odds of positive fall without the word; below 0 they rise",
        "blue: for the answer, orange: against it; strongest shade: 2 or more",
        "in [brackets]: unknown to the model",
    ]
    *_, lines = drawn(explained(["good"], method="attention"), words_a_row=10)
    assert lines[1:] == [
        "attention: the share of the model's attention that each word gets; the shares add up to 1",
        "white: an equal share or less; strongest shade: 4 times an equal share or more",
    ]


def test_a_figure_without_a_word_says_so(drawn):
    *_, lines = drawn(explained([]), words_a_row=10)
    assert lines[-1] == "the model reads no word of this text"


def test_a_stronger_weight_is_a_deeper_shade_and_its_sign_a_hue(drawn):
    axis, *_ = drawn(explained(list("abcde"), weights=[-2, -1, 0, 1, 2]), words_a_row=5)
    red, green, blue = np.array([patch.get_facecolor()[:3] for patch in axis.patches]).T
    assert red[0] > blue[0]
    assert blue[4] > red[4]
    np.testing.assert_allclose([red[2], green[2], blue[2]], 1, atol=0.01)
    depth = 1 - np.minimum(red, blue)
    assert depth[0] > depth[1] > depth[2]
    assert depth[4] > depth[3] > depth[2]


def test_black_text_has_enough_contrast_on_every_shade():
    def luminance(colour):
        channels = np.array(colour[:3])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    assert min((luminance(heatmap.COLOURS(value)) + 0.05) / 0.05 for value in np.linspace(0, 1, 50)) > 7  # WCAG AAA


def test_number_of_rows_is_limited_and_the_title_says_so(drawn, monkeypatch):
    monkeypatch.setattr(heatmap, "MOST_ROWS", 3)
    _, words, _, lines = drawn(explained(TWELVE), words_a_row=2)
    assert [text.get_text() for text in words] == TWELVE[:6]
    assert lines[-1] == "the first 3 of 6 rows"


def test_the_maximum_number_of_rows_fits_into_a_png(tmp_path):
    heatmap.draw(explained(["a"] * heatmap.MOST_ROWS), "lstm", tmp_path / "figure.png", words_a_row=1)
    assert pixels(tmp_path / "figure.png").shape[0] < 2**16


# in the terminal

ESCAPE = re.compile(r"\x1b\[[\d;]*m")


def test_without_colours_each_word_is_followed_by_its_weight():
    what = explained(["good", "old", "zzz"], weights=[0.25, -0.125, 0.0], known=[True, True, False])
    assert heatmap.as_terminal(what, width=80, colour=False) == "good(0.250) old(-0.125) [zzz](0.000)"


def test_with_colours_words_are_shaded_and_colours_are_reset():
    what = explained(["good", "bad", "the", "zzz"], weights=[2, -2, 0, 1], known=[True, True, True, False])
    found = heatmap.as_terminal(what, width=80, colour=True)
    assert ESCAPE.sub("", found) == "good bad the [zzz]"
    backgrounds = re.findall(r"\x1b\[48;5;(\d+)m\x1b\[38;5;16m(.+?)\x1b\[0m", found)
    assert [word for _, word in backgrounds] == ["good", "bad", "[zzz]"]
    strongest, against, weaker = (int(colour) for colour, _ in backgrounds)
    assert (strongest, against) == (heatmap.FOR[-1], heatmap.AGAINST[-1])
    assert weaker in heatmap.FOR[:-1]


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("width", [20, 33, 80, 200])
def test_lines_are_wrapped_at_the_width_of_the_terminal(width, colour):
    what = explained([*TWELVE, "\u4e2d\u6587\u4e2d\u6587", "e\u0301t\u0301"] * 5)
    lines = ESCAPE.sub("", heatmap.as_terminal(what, width=width, colour=colour)).split("\n")

    def columns(text):
        return sum(2 if unicodedata.east_asian_width(c) == "W" else not unicodedata.combining(c) for c in text)

    assert [re.sub(r"\(-?[\d.]+\)$", "", word) for line in lines for word in line.split(" ")] == list(what.words)
    for line, after in itertools.pairwise(lines):
        assert columns(line) <= width
        assert columns(line) + 1 + columns(after.split(" ")[0]) > width


def test_a_word_wider_than_the_terminal_has_a_line_of_its_own():
    found = heatmap.as_terminal(explained(["a", "incomprehensibilities", "b"]), width=5, colour=True)
    assert ESCAPE.sub("", found).split("\n") == ["a", "incomprehensibilities", "b"]


def test_a_text_without_words_is_empty():
    for colour in (True, False):
        assert heatmap.as_terminal(explained([]), width=80, colour=colour) == ""


@pytest.mark.parametrize(
    "code", [*range(0x20), *range(0x7F, 0xA0), 0xAD, 0x200B, 0x200E, 0x202E, 0x2028, 0x2066, 0xFEFF, 0xE000, 0xD800]
)
def test_control_characters_are_escaped(code):
    what = explained([f"a{chr(code)}[31mb"], known=[False], label=f"x{chr(code)}y")
    for colour in (True, False):
        assert chr(code) not in ESCAPE.sub("", heatmap.as_terminal(what, width=80, colour=colour))
    assert chr(code) not in heatmap.meaning(what)
    assert heatmap.shown(chr(code)).startswith("\\")


def test_a_long_word_ends_in_an_ellipsis():
    assert heatmap.shown("w" * heatmap.LONGEST) == "w" * heatmap.LONGEST
    longer = heatmap.shown("w" * (heatmap.LONGEST + 1))
    assert longer == "w" * (heatmap.LONGEST - 1) + "…"

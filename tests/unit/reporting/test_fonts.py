import subprocess
import sys
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from sentiflow.reporting import fonts

LATIN = ["negative", "positive", "50 % (a/b)", "größer", "хорошо"]
UNKNOWN = "\ue000"  # private use: in no common font


def make_font(file, characters):
    """Writes a font with a square for each character."""
    pen = TTGlyphPen(None)
    for place, corner in enumerate([(100, 0), (100, 800), (900, 800), (900, 0)]):
        (pen.lineTo if place else pen.moveTo)(corner)
    pen.closePath()
    square, names = pen.glyph(), [".notdef", *(f"u{ord(each):X}" for each in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(each): f"u{ord(each):X}" for each in characters})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 100)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": file.stem, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900, usWinAscent=900, usWinDescent=100)
    builder.setupPost()
    file.parent.mkdir(parents=True, exist_ok=True)
    builder.save(file)


def drawn(folder, fonts_dir):
    """Bytes of a confusion matrix with the class UNKNOWN, and the output of `fonts`, with the fonts of a folder installed."""
    code = (
        "import sys, numpy as np; from pathlib import Path; from sentiflow.reporting import fonts, png_plots\n"
        f"labels = fonts.class_labels([{UNKNOWN!r}, 'good'])\n"
        "png_plots.confusion_matrix(np.eye(2, dtype=int), labels, 'x', Path(sys.argv[1]))\n"
        f"print(labels == [{UNKNOWN!r}, 'good'], fonts.style([{UNKNOWN!r}]).get('font.family'))"
    )
    figure = folder / "figure.png"
    env = {"XDG_DATA_HOME": str(fonts_dir), "HOME": str(folder), "PATH": "/usr/bin:/bin", "MPLCONFIGDIR": str(folder)}
    env["PYTHONPATH"] = str(Path(fonts.__file__).parents[2])
    ended = subprocess.run([sys.executable, "-c", code, figure], capture_output=True, text=True, env=env, check=True)
    assert "missing from" not in ended.stderr
    return figure.read_bytes(), ended.stdout.strip()


def test_latin_greek_and_cyrillic_names_need_no_other_font():
    assert fonts.style(LATIN) == {}
    assert fonts.class_labels(LATIN) == LATIN


def test_a_name_that_no_font_draws_becomes_a_number():
    assert fonts.undrawable([f"a{UNKNOWN}"]) == {UNKNOWN}
    assert fonts.class_labels(["good", f"a{UNKNOWN}"]) == ["good", "class 2"]


def test_long_names_are_shortened_and_numbered_if_ambiguous():
    assert fonts.class_labels(["a" * 24, "a" * 25 + "1", "a" * 25 + "2"]) == ["a" * 24, "class 2", "class 3"]


@pytest.mark.parametrize("name", ["Some Sans.ttf", "Other.ttf"])
def test_installed_fonts_supply_characters_that_the_default_font_lacks(tmp_path, name):
    """Also if the font is newer than matplotlib's cached list."""
    without = drawn(tmp_path, tmp_path / "share")
    assert without[1] == "False None"
    make_font(tmp_path / "share/fonts" / name, [UNKNOWN])
    found = drawn(tmp_path, tmp_path / "share")
    assert found[1] == f"True ['sans-serif', '{name.removesuffix('.ttf')}']"
    assert found[0] != without[0]
    assert found == drawn(tmp_path, tmp_path / "share")


def test_damaged_and_emoji_fonts_are_ignored(tmp_path):
    make_font(tmp_path / "share/fonts/Some Color Emoji.ttf", [UNKNOWN])
    (tmp_path / "share/fonts/Damaged.ttf").write_bytes(b"no font")
    assert drawn(tmp_path, tmp_path / "share")[1] == "False None"

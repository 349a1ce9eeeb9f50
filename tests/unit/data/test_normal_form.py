import pandas as pd
import pytest
from growth import growth
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentiflow.data.normal_form import LONGEST_RUN, normalise, normalised

reproducibly = settings(max_examples=300, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Le numéro était réussi", "Le numéro était réussi"),
        ("Le nume\u0301ro e\u0301tait re\u0301ussi", "Le numéro était réussi"),
        ("cafÃ©", "café"),
        ("Ã\u00adndice", "índice"),
        ("It wasnâ€™t â€œgoodâ€\u009d", "It wasn’t “good”"),
        ("ÐšÐ¸Ð½Ð¾", "Кино"),
        ("it\u0092s good \u0096 really\u0085", "it’s good – really…"),
        ("ï»¿Hello", "Hello"),
        ("\ufeffHello \ufeffagain", "Hello again"),
        ("mar\u00advel\u200blous\u2060 \u202aok\u202c\u200e", "marvellous ok"),
        ("“curly” ﬁ ｗｉｄｅ &amp; ½", "“curly” ﬁ ｗｉｄｅ &amp; ½"),
    ],
)
def test_equivalent_texts_have_the_same_normal_form(text, expected):
    assert normalised(text) == expected


@pytest.mark.parametrize("text", ["naïve", "voilà", "ÂNGELA", "Ça va ?", "5 € £ ©", "Größe", "«oui»", "señor ¿qué?", "100 °C"])
def test_correct_text_is_unchanged(text):
    assert normalised(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("می\u200cخواهم", None),
        ("क्\u200dष", None),
        ("\U0001f469\u200d\U0001f4bb", None),
        ("\u2764\ufe0f\u200d\U0001f525", "\u2764\u200d\U0001f525"),
        ("good\u200d \u200cfilm\u200d", "good film"),
        ("a\u200d\u200db", "ab"),
        ("\u0600\u0661 \u06dd", None),
        ("\U0001f3f4\U000e0067\U000e0062\U000e007f", None),
        ("x\U000e0067\U000e007f", "x"),
    ],
    ids=ascii,
)
def test_joiners_are_kept_where_needed_and_no_visible_character_is_removed(text, expected):
    assert normalised(text) == (expected or text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"wonderful.\n\nNot bad\nat all", "wonderful.\n\nNot bad\nat all"),
        (r"It\u2019s \u00e9t\u00e9", "It’s été"),
        (r"\ud83d\ude00 ok", "\U0001f600 ok"),
        (r"caf\u00c3\u00a9", "café"),
        (r"she said \"wow\" twice", 'she said "wow" twice'),
        (r"10\/10 and\/or http:\/\/a.b", "10/10 and/or http://a.b"),
        (r"\u003cbr \/\u003e \u0026", "<br /> &"),
        (r"tab\t2", "tab\t2"),
    ],
)
def test_unambiguous_json_escapes_are_decoded(text, expected):
    assert normalised(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *[r"yes\no", r"saved in C:\new\Films", r"C:\users\nina it\u2019s", r"\newline \textbf{a}", r"G\"odel", r"\m/ \o/ \/\/"],
        *[r"\\srv\Nina", r"\\u2019", r"\ud83d alone", r"\u0041", r"\u005cu2019", r"\u20", r"\x41", "\\", r"a\u20\u200b19"],
    ],
)
def test_ambiguous_escapes_are_kept(text):
    assert normalised(text) == text


def test_a_lone_surrogate_is_kept():
    assert normalised("bad \ud800 byte é") == "bad \ud800 byte é"


def test_a_column_keeps_its_index_name_and_dtype():
    texts = pd.Series(["cafÃ©", "ok"], index=[7, 3], name="text", dtype="str")
    pd.testing.assert_series_equal(normalise(texts), pd.Series(["café", "ok"], index=[7, 3], name="text", dtype="str"))


PIECES = [
    *["\u00ad", "\u200b", "\u200c", "\u200d", "\ufeff", "\ufe0f", "\u0301", "\u0315\u0300", "\u0600", "\U000e0067", "\U000e007f"],
    *["\U0001f3f4", "\u2764", "\U0001f525", "\u2194", "م", "क", "é", "e", "Ã", "©", "Â", " ", "â€", "‹", "™", "ï»¿"],
    *["\u0096", "\0"],
    *["\\", "\\u", "2019", "\\u200b", "\\ud83d", "\\ude00", "\\n", "n", "N", '\\"', "\\/", "/", "<", "C:", "\\u005c", "\\u00c3"],
]


@reproducibly
@given(text=st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text(max_size=30))
@example(text="Ã\u200b©")
@example(text="Ãâ€‹©")
@example(text=r"\u20\u200b19")
@example(text=r"\u20\u20\u200b0b19")
def test_normalisation_is_idempotent(text):
    once = normalised(text)
    assert normalised(once) == once


@pytest.mark.parametrize("count", [LONGEST_RUN - 1, LONGEST_RUN * 2])
def test_any_number_of_marks_on_a_letter_has_a_normal_form(count):
    once = normalised("e" + "\u0301" * count)
    assert normalised(once) == once


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_mojibake_of_mojibake_is_repaired(layers):
    text = "élève naïf"
    for _ in range(layers):
        text = text.encode().decode("cp1252")
    assert normalised(text) == "élève naïf"


@pytest.mark.parametrize(
    "piece",
    [
        *["Ã©", "Ã", "Ãƒ", "â€‹", "Ã\u200b", "Ã\u00ad", "\u0096", "é", "ÐšÐ", "Ã ", "\u0315\u0300", "a\u0301", "\u200d"],
        *["م\u200d"],
        *["\\", "\\u", "\\u20", "\\n", "\\n ", "\\u2019", "\\u20\\u200b", "\\ud83d", "\\/", '\\"', "a:\\"],
        *["\U0001f3f4\U000e0067"],
    ],
    ids=ascii,
)
def test_time_is_linear_in_the_length_of_a_malicious_text(piece):
    small, large = (piece * (size // len(piece)) for size in (10_000, 80_000))
    assert growth(normalised, small, large) < 8 * 4

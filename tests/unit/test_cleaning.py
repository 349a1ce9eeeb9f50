import re
import shutil
import time
import unicodedata

import nltk
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nltk.corpus import stopwords as nltk_stopwords

from sentiflow import cleaning
from sentiflow.errors import InputError

reproducibly = settings(max_examples=80, deadline=None, derandomize=True, database=None)

PIECES = [
    *[
        "The",
        "film",
        "isn't",
        "NOT",
        "don\u2019t",
        "A's",
        "rock'n'roll",
        "'tis",
        "s",
        "cannot",
        "na\u00efve",
        "\u00c9T\u00c9",
        "e\u0301",
    ],
    *[
        "<br />",
        "</p>",
        "<b",
        ">",
        "<",
        "<3",
        "<!-- x -->",
        '<a href="http://a.b">',
        "&amp;",
        "&lt;i&gt;",
        "&#39;",
        "&nbsp;",
        "&",
    ],
    *[
        "http://a.b/c?d=1",
        "www.a.b",
        "HTTPS://",
        "10",
        "10/10",
        "\u00bd",
        "...",
        "!",
        "\u2026",
        "\U0001f600",
        "\u2764\ufe0f",
        "$",
    ],
    *[" ", "\n", "\t", "\u00a0", "\u2003", "\x85", "\u200b", "\x00", "'", "`", "-"],
]
characters = st.characters(exclude_categories=("Cs", "Cn"))
reviews = st.one_of(
    st.lists(st.one_of(st.sampled_from(PIECES), characters), max_size=30).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join),
)


def views(review, *, keep_negations=True):
    """Both views of one review."""
    return tuple(cleaning.clean(pd.Series([review]), keep_negations=keep_negations).iloc[0])


def text(review):
    return views(review)[0]


def content(review, *, keep_negations=True):
    return views(review, keep_negations=keep_negations)[1]


# text


@pytest.mark.parametrize(
    ("review", "cleaned"),
    [
        ("Fine film", "fine film"),
        ("one<br /><br />two", "one two"),
        ("<p class='x'>one</p>", "one"),
        ("one<!-- two -->three", "one three"),
        ('see <a href="http://www.a.b/c">this</a>', "see this"),
        ("a <b>very</b> good one", "a very good one"),
        ("I <3 it", "i < 3 it"),
        ("a < b and c > d", "a < b and c > d"),
        ("good <", "good <"),
        ("a <b", "a < b"),
    ],
)
def test_markup_goes_and_a_lone_angle_stays(review, cleaned):
    assert text(review) == cleaned


@pytest.mark.parametrize(
    ("review", "cleaned"),
    [
        ("salt &amp; pepper", "salt & pepper"),
        ("good&hellip;", "good \u2026"),
        ("don&#39;t", "don't"),
        ("don&rsquo;t", "don't"),
        ("caf&eacute;", "caf\u00e9"),
        ("&lt;br /&gt;one", "one"),
        ("&#60;i&#62;one", "one"),
        ("one&nbsp;two", "one two"),
        ("AT&T & co", "at & t & co"),
        ("&#0;&#xD800;", "\ufffd \ufffd"),
    ],
)
def test_entities_become_characters_before_markup_is_looked_for(review, cleaned):
    assert text(review) == cleaned


@pytest.mark.parametrize(
    ("review", "cleaned"),
    [
        ("see http://www.imdb.com/title/tt0111161/?ref_=fn now", "see now"),
        ("see HTTPS://A.B", "see"),
        ("at www.a-b.com.", "at"),
        ('"http://a.b"', '" "'),
        ("http:// is no address", "http : / / is no address"),
        ("http://a.b/x&amp;y=1 ok", "ok"),
    ],
)
def test_an_address_goes_whole_before_punctuation_could_take_it_apart(review, cleaned):
    assert text(review) == cleaned


@pytest.mark.parametrize(
    ("review", "cleaned"),
    [
        ("10/10, wow!!", "10 / 10 , wow ! !"),
        ("the 80s", "the 80 s"),
        ("Na\u00efve \u00c9T\u00c9", "na\u00efve \u00e9t\u00e9"),
        ("e\u0301te\u0301", "e\u0301te\u0301"),
        ("DON\u2019T don`t don\u00b4t don\u02bct don\u2018t", "don't don't don't don't don't"),
        ("'quoted'", "' quoted '"),
        ("rock'n'roll", "rock'n'roll"),
        ("well-made", "well - made"),
        ("\U0001f600\U0001f600 ok", "\U0001f600 \U0001f600 ok"),
        ("\u597d\u770b", "\u597d\u770b"),
        ("a\x00b", "a b"),
        ("  a \t\r\n b  ", "a b"),
    ],
)
def test_each_word_number_and_mark_is_a_token_of_its_own(review, cleaned):
    assert text(review) == cleaned


@pytest.mark.parametrize("space", [c for c in map(chr, range(0x3001)) if c.isspace()], ids=lambda c: f"U+{ord(c):04X}")
def test_every_kind_of_space_separates_tokens_and_is_none(space):
    assert text(f"good{space}film{space}") == "good film"


# content


@pytest.mark.parametrize(
    ("review", "cleaned"),
    [
        ("The film was 100 times better!", "film times better"),
        ("It's a na\u00efve rock'n'roll film, isn\u2019t it", "na\u00efve rocknroll film"),
        ("He'd say you're right & they've lost", "say right lost"),
        ("\U0001f600 :-) 10/10", ""),
        ("the of and", ""),
    ],
)
def test_content_has_words_without_digits_marks_and_stopwords(review, cleaned):
    assert content(review, keep_negations=False) == cleaned


def test_negations_stay_in_content_if_asked():
    review = "No, this is NOT good nor fun; I don't, won\u2019t and couldn't like it"
    assert content(review, keep_negations=True) == "no not good nor fun dont wont couldnt like"
    assert content(review, keep_negations=False) == "good fun like"


def test_text_is_the_same_whether_negations_are_kept_or_not():
    review = "I don't say no"
    assert views(review, keep_negations=True)[0] == views(review, keep_negations=False)[0] == "i don't say no"


def test_words_that_negate_but_are_no_stopwords_always_stay():
    assert content("never cannot nothing without", keep_negations=False) == "never cannot nothing without"


def test_a_letter_with_an_apostrophe_does_not_become_a_stopword():
    assert not {"as", "is"} & set(content("straight A's and dotted i's").split())


def test_an_emoji_leaves_nothing_behind_in_content():
    """A red heart is a heart and an invisible mark that asks for colour."""
    assert content("I love it \u2764\ufe0f") == "love"


# stopwords


def copied_data(folder, mode):
    """NLTK's data, with these bits for what owner, group and others may do to files."""
    shutil.copytree(cleaning.NLTK_DATA, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(mode | 0o111 if path.is_dir() else mode)
    return folder


def test_stopwords_are_those_of_nltk_read_by_nltk(monkeypatch, tmp_path):
    monkeypatch.setattr(nltk.data, "path", [str(copied_data(tmp_path / "data", 0o644))])
    words = cleaning.stopwords(keep_negations=False)
    assert words == frozenset(nltk_stopwords.words("english"))
    assert len(words) == 198
    assert {"the", "a", "i", "it's", "don't", "not"} <= words


def test_stopwords_are_read_from_a_checkout_that_its_group_may_write(monkeypatch, tmp_path):
    """As every clone is under a umask of 002."""
    monkeypatch.setattr(cleaning, "NLTK_DATA", copied_data(tmp_path / "data", 0o664))
    before = list(nltk.data.path)
    assert len(cleaning.stopwords.__wrapped__(keep_negations=False)) == 198
    assert nltk.data.path == before


def test_kept_negations_are_all_that_is_left_out_of_the_stopwords():
    kept = cleaning.stopwords(keep_negations=False) - cleaning.stopwords(keep_negations=True)
    assert {"no", "nor", "not", "don't", "isn't", "wouldn't", "don", "isn", "ain"} <= kept
    assert {word for word in kept if not re.fullmatch(r"no|nor|not|\w+n't|\w+n", word)} == set()
    assert not {"in", "on", "an", "been", "then", "when", "own", "than", "between"} & kept


# rows


def test_a_review_of_nothing_but_markup_is_empty_and_keeps_its_row():
    cleaned = cleaning.clean(pd.Series(["", " \n", "<br />", "http://a.b", "The 10!", "ok"]), keep_negations=True)
    assert cleaned["text"].to_list() == ["", "", "", "", "the 10 !", "ok"]
    assert cleaned["content"].to_list() == ["", "", "", "", "", "ok"]


@pytest.mark.parametrize(
    "index", [pd.Index([7, 3, 5]), pd.Index(["a", "b", "a"]), pd.RangeIndex(4, 10, 2), pd.Index([1, 2, 3], name="row")]
)
def test_both_views_stand_under_the_index_of_the_reviews(index):
    cleaned = cleaning.clean(pd.Series(["One", "Two", "Three"], index=index), keep_negations=True)
    pd.testing.assert_index_equal(cleaned.index, index)
    assert cleaned["text"].to_list() == ["one", "two", "three"]


def test_the_reviews_themselves_stay_as_they_were():
    raw = pd.Series(["A &amp; B", "C<br>"])
    before = raw.copy()
    cleaning.clean(raw, keep_negations=True)
    pd.testing.assert_series_equal(raw, before)


@pytest.mark.parametrize("dtype", ["str", "object", "string"])
def test_any_dtype_of_strings_gives_the_same(dtype):
    cleaned = cleaning.clean(pd.Series(["A &amp; B", "C<br>"], dtype=dtype), keep_negations=True)
    assert cleaned["text"].to_list() == ["a & b", "c"]
    assert [str(kind) for kind in cleaned.dtypes] == ["str", "str"]


def test_reviews_put_together_from_several_tables_are_cleaned():
    """pandas keeps such a column in several pieces of Arrow memory."""
    together = pd.concat([pd.Series(["Good &amp; <b>fine</b>"]), pd.Series(["Bad"])], ignore_index=True)
    assert cleaning.clean(together, keep_negations=True)["text"].to_list() == ["good & fine", "bad"]


@pytest.mark.parametrize("view", ["text", "content"])
def test_one_view_alone_is_as_it_is_beside_the_other(view):
    raw = pd.Series(["It's <b>NOT</b> good&hellip; 2/10!", "", "The end."], index=[3, 1, 2])
    alone = cleaning.clean(raw, keep_negations=True, views=[view])
    pd.testing.assert_frame_equal(alone, cleaning.clean(raw, keep_negations=True)[[view]])


def test_no_reviews_give_no_rows():
    assert len(cleaning.clean(pd.Series([], dtype="str"), keep_negations=True)) == 0


@pytest.mark.parametrize("partition_rows", [1, 7, 60, 61])
def test_partitions_give_the_same_as_the_whole(partition_rows):
    draw = np.random.default_rng(1)
    raw = pd.Series([" ".join(draw.choice(PIECES, 20)) for _ in range(60)], index=range(100, 160))
    whole = cleaning.clean(raw, keep_negations=True)
    pd.testing.assert_frame_equal(cleaning.clean_all(raw, keep_negations=True, partition_rows=partition_rows), whole)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
@pytest.mark.parametrize("dtype", ["str", "object", "string"])
def test_a_missing_review_is_an_error_that_says_where(missing, dtype):
    with pytest.raises(InputError, match=r"2 of 4 reviews have no text, first number 2; expected a text for each"):
        cleaning.clean(pd.Series(["good & fine", missing, "", missing], dtype=dtype), keep_negations=True)


# tokens

TOKEN = r"\pL[\pL\pM]*(?:'\pL[\pL\pM]*)*|\pN+|[^ \pL\pN]\pM*"


def tokens_by_a_regular_expression(texts):
    """Slow, since Arrow compiles all of Unicode's letters at every call, but plain."""
    folded = pc.replace_substring_regex(pa.array(texts, pa.large_string()), r"[\pZ\p{Cc}]+", " ")
    return [" ".join(text.split()) for text in pc.replace_substring_regex(folded, TOKEN, r" \0 ").to_pylist()]


def lower_case(texts):
    return pc.utf8_lower(pa.array(texts, pa.large_string()))


@reproducibly
@given(texts=st.lists(st.text(st.sampled_from("ab'' .1\n\u0301\u0903\u4e00\u00bd\U0001f600") | characters, max_size=30)))
@example(texts=["e\u0301'e\u0301l", "!\u0301'a", "1\u03012", " \u0301\u0301a", "''a''b'", "\n'\n"])
def test_tokens_are_those_of_one_regular_expression(texts):
    lower = lower_case(texts)
    codes, kind, starts = cleaning._tokens(lower)
    text = cleaning._rows(codes, kind != cleaning.SPACE, starts)
    words = cleaning._rows(codes, kind == cleaning.LETTER, starts)
    assert text.to_pylist() == tokens_by_a_regular_expression(lower)
    without_others = pc.replace_substring_regex(text, r"(?:^| )[^ \pL][^ ]*", " ").to_pylist()
    assert words.to_pylist() == [" ".join(row.split()) for row in without_others]


@pytest.mark.parametrize("around", ["a{}b", "a'{}'b", "!{}\u0301", "1{}1"])
def test_every_character_is_of_the_kind_that_arrow_says(around):
    every = [around.format(chr(code)) for code in range(0x30000) if not 0xD800 <= code < 0xE000]
    lower = lower_case([" . ".join(every[start : start + 1000]) for start in range(0, len(every), 1000)])
    codes, kind, starts = cleaning._tokens(lower)
    assert cleaning._rows(codes, kind != cleaning.SPACE, starts).to_pylist() == tokens_by_a_regular_expression(lower)


# any review at all


@reproducibly
@given(review=reviews)
@example(review="a\u00a0b")
def test_text_has_neither_capitals_nor_markup_nor_any_space_but_one_between_tokens(review):
    cleaned = text(review)
    assert not [character for character in cleaned if character.lower() != character]
    assert not re.search(r"<[a-z/!]", cleaned)
    assert cleaned.split() == cleaned.split(" ") or cleaned == ""


@reproducibly
@given(review=reviews, keep_negations=st.booleans())
@example(review="straight A's", keep_negations=True)
@example(review="\u2764\ufe0f", keep_negations=True)
def test_content_has_nothing_but_letters_with_their_marks_and_no_stopword(review, keep_negations):
    for token in content(review, keep_negations=keep_negations).split(" "):
        kinds = {unicodedata.category(character)[0] for character in token}
        assert kinds <= {"L", "M"}
        assert "L" in kinds or token == ""
        assert token not in cleaning.stopwords(keep_negations=keep_negations)


@reproducibly
@given(review=reviews)
@example(review="A's")
def test_cleaning_a_cleaned_review_changes_nothing(review):
    first = views(review)
    again = cleaning.clean(pd.Series(first), keep_negations=True)
    assert (again["text"].iloc[0], again["content"].iloc[0]) == first
    assert again["content"].iloc[1] == first[1]


@reproducibly
@given(first=reviews, second=reviews)
def test_a_review_is_cleaned_alike_whatever_stands_beside_it(first, second):
    together = cleaning.clean(pd.Series([first, second]), keep_negations=True)
    assert [tuple(row) for row in together.to_numpy()] == [views(first), views(second)]


@pytest.mark.parametrize(
    "review",
    [
        *["<" * 10**6, "<a" * 500_000, "<" * 500_000 + ">" * 500_000, "<b>" * 300_000],
        *["&lt;" * 250_000, f"&{'a' * 32}" * 30_000, "http://" * 140_000, "a'" * 500_000],
        *[" " * 10**6, "a" * 10**6, "\x00" * 10**6, "\u0301" * 300_000, "\U0001f600" * 250_000],
    ],
    ids=lambda review: repr(review[:8]),
)
def test_a_megabyte_of_hostile_text_is_answered_in_seconds(review):
    started = time.monotonic()
    cleaned = text(review)
    assert time.monotonic() - started < 10
    assert len(cleaned) <= 2 * len(review)


def test_an_entity_of_thousands_of_digits_is_text_like_any_other():
    """Python refuses to read a number that long."""
    review = f"good &#{'9' * 5000}; film"
    assert text(review).split()[0] == "good"
    assert text(review).split()[-1] == "film"


def test_view_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="received contents as views, expected some of text, content"):
        cleaning.clean(pd.Series(["good"]), keep_negations=True, views=["contents"])

import hashlib
import re

import pandas as pd
import pytest

from sentiflow.config.schema import LANGUAGES, NO_LANGUAGE
from sentiflow.data import cleaning, stopwords
from sentiflow.data.stopwords import NEGATIONS, Stopwords
from sentiflow.system.errors import InputError

ENGLISH_SHA256 = "f6d005956f407dbc6ea32e5ff0c7e8e6f71488d3239b9023efdc7fc139d6375b"


def test_every_list_of_nltk_is_a_language_and_every_language_has_a_list():
    assert sorted(file.name for file in stopwords.LISTS.iterdir() if file.name != "README") == list(LANGUAGES)
    for language in LANGUAGES:
        assert len(Stopwords(language, keep_negations=False).words()) > 50


def test_the_english_list_equals_that_of_nltk():
    assert hashlib.sha256((stopwords.LISTS / "english").read_bytes()).hexdigest() == ENGLISH_SHA256
    words = Stopwords("english", keep_negations=False).words()
    assert len(words) == 198
    assert {"the", "a", "i", "it's", "don't", "not"} <= words


@pytest.mark.parametrize("keep_negations", [True, False])
def test_without_a_language_there_are_no_stopwords(keep_negations):
    assert Stopwords(NO_LANGUAGE, keep_negations=keep_negations).words() == frozenset()


@pytest.mark.parametrize("language", NEGATIONS)
def test_keep_negations_excludes_only_negations_from_the_stopwords(language):
    every = Stopwords(language, keep_negations=False).words()
    assert every - Stopwords(language, keep_negations=True).words() == set(NEGATIONS[language].split())


def test_english_negations_are_the_words_in_nt_and_few_others():
    negations = set(NEGATIONS["english"].split())
    assert {word for word in Stopwords("english", keep_negations=False).words() if word.endswith("n't")} <= negations
    assert {word for word in negations if not re.fullmatch(r"no|nor|not|\w+n't|\w+n", word)} == set()
    assert not {"in", "on", "an", "been", "then", "when", "own", "than", "between"} & negations


@pytest.mark.parametrize(
    ("language", "review", "kept"),
    [
        ("german", "Das ist NICHT gut", "nicht gut"),
        ("russian", "Не очень хороший фильм", "не очень хороший фильм"),
        ("french", "Ce n’est pas bon", "nest pas bon"),
        ("spanish", "No es la mejor", "no mejor"),
    ],
)
def test_negations_are_kept_in_content_if_configured(language, review, kept):
    cleaned = cleaning.clean(pd.Series([review]), stopwords=Stopwords(language, keep_negations=True))
    assert cleaned["content"].to_list() == [kept]


def test_a_language_without_known_negations_is_an_error_that_says_what_to_set():
    unknown = sorted(set(LANGUAGES) - set(NEGATIONS))
    assert "tamil" in unknown
    for language in unknown:
        with pytest.raises(InputError, match=rf"the negations of {language} are not known.*keep_negations: false or clean\.l"):
            Stopwords(language, keep_negations=True).words()
        assert Stopwords(language, keep_negations=False).words()

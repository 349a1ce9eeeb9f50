"""NLTK's stopword lists, which are bundled with this package, and the negations in them."""

from dataclasses import dataclass
from pathlib import Path

from sentiflow.config.schema import NO_LANGUAGE, Language
from sentiflow.system.errors import InputError

OLDER_LANGUAGE: Language = "english"  # of model versions registered before the language was configurable
LISTS = Path(__file__).parent / "nltk_data" / "corpora/stopwords"

# Negations in each list
NEGATIONS = {
    "albanian": "nuk mos s jo pa",
    "arabic": "لا ليس ليست ليسا ليستا ليسوا لسن لست لستم لستما لستن لسنا لم لن غير دون كلا",
    "azerbaijani": "yox yoxdur deyil heç olmadı olmaz xeyr",
    "basque": "ez ezta gabe",
    "belarusian": "не нi без нiчога",
    "bengali": "না নেই নয় নাই ছাড়া",
    "catalan": "no ni sense tampoc",
    "chinese": "别 不是 不会 不能 不要 没有",
    "danish": "ikke",
    "dutch": "niet geen niets zonder",
    "english": (
        "no nor not ain aren aren't couldn couldn't didn didn't doesn doesn't don don't hadn hadn't hasn hasn't haven haven't "
        "isn isn't mightn mightn't mustn mustn't needn needn't shan shan't shouldn shouldn't wasn wasn't weren weren't won won't "
        "wouldn wouldn't"
    ),
    "finnish": "en et ei emme ette eivät",
    "french": "ne n pas",
    "german": "nicht nichts kein keine keinem keinen keiner keines ohne",
    "greek": "δεν δε μη μην μή μὴ μήτε οὐ οὐδ οὐδέ οὐδείσ οὐδεὶς οὐδὲ οὐδὲν οὐκ οὐχ οὐχὶ οὔτε",
    "hebrew": "לא אין לאו אי בלי מבלי",
    "hungarian": "nem ne sem semmi nincs nélkül",
    "indonesian": (
        "tidak tidakkah tidaklah tak bukan bukankah bukanlah bukannya belum belumlah jangan janganlah tanpa enggak enggaknya"
    ),
    "italian": "non",
    "kazakh": "емес жоқ",
    "nepali": "छैन न",
    "norwegian": "ikke ikkje ingen ingi inkje uten",
    "portuguese": "não nem sem",
    "romanian": "nu nici nimeni nimic fara fără",
    "russian": "не нет ни ничего никогда нельзя без",
    "slovene": "ne ni nič niti brez nisem nisi nismo niso nista nisva niste nihče nobena noben",
    "spanish": "no ni nada sin",
    "swedish": "inte icke ej ingen utan",
    "turkish": "hiç",
    "uzbek": "emas yoʻq hech",
}


@dataclass(frozen=True)
class Stopwords:
    """Words excluded from the view `content`."""

    language: str  # one of NLTK's lists, or none
    keep_negations: bool  # whether words such as `not` stay in the view

    def words(self) -> frozenset[str]:
        """The words as in NLTK's file.

        Raises:
            InputError: if negations should be kept, but those of the language are not known.

        >>> "not" in Stopwords("english", keep_negations=False).words()
        True
        >>> "not" in Stopwords("english", keep_negations=True).words()
        False
        """
        if self.language == NO_LANGUAGE:
            return frozenset()
        if self.keep_negations and self.language not in NEGATIONS:
            raise InputError(
                f"clean.keep_negations is true, but the negations of {self.language} are not known, expected one of "
                f"{', '.join(NEGATIONS)}; set clean.keep_negations: false or clean.language: {NO_LANGUAGE} in params.yaml"
            )
        words = frozenset((LISTS / self.language).read_text(encoding="utf-8").split())
        return words - frozenset(NEGATIONS[self.language].split()) if self.keep_negations else words


NO_STOPWORDS = Stopwords(NO_LANGUAGE, keep_negations=False)

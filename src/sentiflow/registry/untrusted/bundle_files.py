"""What our own code reads of a bundle, but for the weights: settings, vocabulary, and answers to compare its own with."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from sentiflow.config.model_settings import ModelSettings
from sentiflow.config.schema import MOST_CLASSES, ClassName, Language, ModelName, Section, Share
from sentiflow.data.stopwords import OLDER_LANGUAGE
from sentiflow.data.vocabulary import Vocabulary
from sentiflow.evaluation import calibration
from sentiflow.models import networks
from sentiflow.registry.untrusted.reading import json_of, refusal_of, valid
from sentiflow.system.errors import InputError

LONGEST_WORD = 1_000_000  # characters
MOST_BRACKETS = 10_000  # in a vocabulary, whose words may hold some; a file of nothing else takes gigabytes when it is parsed


class Config(Section):
    model: ModelName
    network: str
    classes: Annotated[list[ClassName], Field(min_length=2, max_length=MOST_CLASSES)]
    settings: dict[str, Any]
    temperature: Annotated[float, Field(ge=calibration.BOUNDS[0], le=calibration.BOUNDS[1])]


class Cleaning(Section):
    keep_negations: bool
    language: Language = OLDER_LANGUAGE
    view: Literal["text", "content"]


class Probe(Section):
    texts: Annotated[list[Annotated[str, Field(max_length=100_000)]], Field(min_length=1, max_length=1_000)]
    probabilities: list[list[Share]]


def settings(file: Path, config: Config) -> ModelSettings:
    """The settings of a network that is known here."""
    if config.network not in networks.NETWORKS:
        raise refusal_of(file, f"has the network {config.network[:100]!r}, which is not known here")
    if len(set(config.classes)) < len(config.classes):
        raise refusal_of(file, f"has the classes {config.classes}; distinct names are expected")
    return valid(file, networks.settings_class(config.network), config.settings)


def vocabulary(file: Path) -> Vocabulary:
    """Words and their counts, as Keras's Tokenizer has them."""
    content = file.read_bytes()
    if content.count(b"[") + content.count(b"{") > MOST_BRACKETS:
        raise refusal_of(file, f"holds more than {MOST_BRACKETS} brackets")
    try:
        words = Vocabulary.read(file)
        "".join(words.words).encode()  # half a surrogate pair is a string that Arrow cannot hold
    except (InputError, RecursionError, OverflowError, UnicodeEncodeError):
        raise refusal_of(file, "is not a tokenizer as Keras's Tokenizer.to_json() writes it") from None
    if not all(0 < len(word) < LONGEST_WORD for word in words.words):
        raise refusal_of(file, "holds an empty or endless word")
    if words.counts.dtype.kind != "i" or words.counts.shape != (len(words),) or words.counts.min() < 0:
        raise refusal_of(file, "holds counts that are no whole numbers from 0 up")
    return words


def check_probe(file: Path, classes: tuple[str, ...]) -> None:
    """Refuses answers that are no probabilities of these classes."""
    probe = valid(file, Probe, json_of(file))
    shapes = {len(row) for row in probe.probabilities}
    if len(probe.probabilities) != len(probe.texts) or shapes != {len(classes)}:
        raise refusal_of(file, f"must hold {len(classes)} probabilities for each of its {len(probe.texts)} texts")
    if not all(math.isclose(sum(row), 1, abs_tol=1e-3) for row in probe.probabilities):
        raise refusal_of(file, "holds probabilities that do not add up to 1")
    if any(0xD800 <= ord(character) <= 0xDFFF for text in probe.texts for character in text):
        raise refusal_of(file, "holds a text with half a surrogate pair")

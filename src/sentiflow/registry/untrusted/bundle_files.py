"""Settings, vocabulary and probe of a bundle."""

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
MOST_BRACKETS = 10_000  # in a vocabulary; a file of nothing but brackets takes gigabytes of memory to parse


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
    """Validated settings of a known network."""
    if config.network not in networks.NETWORKS:
        raise refusal_of(file, f"has the network {config.network[:100]!r}, which is unknown")
    if len(set(config.classes)) < len(config.classes):
        raise refusal_of(file, f"has the classes {config.classes}, expected distinct names")
    return valid(file, networks.settings_class(config.network), config.settings)


def vocabulary(file: Path) -> Vocabulary:
    """Words and their counts."""
    content = file.read_bytes()
    if content.count(b"[") + content.count(b"{") > MOST_BRACKETS:
        raise refusal_of(file, f"has more than {MOST_BRACKETS} brackets")
    try:
        words = Vocabulary.read(file)
        "".join(words.words).encode()  # Arrow cannot store a lone surrogate
    except (InputError, RecursionError, OverflowError, UnicodeEncodeError):
        raise refusal_of(file, "is not a tokenizer as Keras's Tokenizer.to_json() writes it") from None
    if not all(0 < len(word) < LONGEST_WORD for word in words.words):
        raise refusal_of(file, f"has a word that is empty or longer than {LONGEST_WORD} characters")
    if words.counts.dtype.kind != "i" or words.counts.shape != (len(words),) or words.counts.min() < 0:
        raise refusal_of(file, "has counts that are not integers >= 0")
    return words


def check_probe(file: Path, classes: tuple[str, ...]) -> None:
    """Refuses a probe without valid probabilities for each of its texts."""
    probe = valid(file, Probe, json_of(file))
    shapes = {len(row) for row in probe.probabilities}
    if len(probe.probabilities) != len(probe.texts) or shapes != {len(classes)}:
        raise refusal_of(file, f"must have {len(classes)} probabilities for each of its {len(probe.texts)} texts")
    if not all(math.isclose(sum(row), 1, abs_tol=1e-3) for row in probe.probabilities):
        raise refusal_of(file, "has probabilities that do not add up to 1")
    if any(0xD800 <= ord(character) <= 0xDFFF for text in probe.texts for character in text):
        raise refusal_of(file, "has a text with a lone surrogate")

"""Explain a model's answer to any text: which words it rests on, in the terminal and as a picture.

Explains the champion, as `sentiflow predict` reads it, or a trained model of the project in the working folder.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from sentiflow.config.params import Params
from sentiflow.data.stopwords import Stopwords
from sentiflow.models import explanation, settings
from sentiflow.models.explanation import Explanation, Reader
from sentiflow.models.sentiment_model import SentimentModel
from sentiflow.pipeline import stage_paths
from sentiflow.registry import model_versions, store
from sentiflow.reporting import heatmap
from sentiflow.system import artifacts, terminal
from sentiflow.system.errors import InputError

MODELS, TOKENS, COMPARISON = Path("models"), Path("data/tokens"), Path("metrics/comparison.json")
STANDARD_INPUT = "-"
PICTURE = Path("reports/explanation.png")
LISTED = 10  # unknown words


def run(text: str, model: str | None = None, out: Path = PICTURE) -> None:
    """Prints the model's answer with the weight of each word, and draws it.

    Args:
        text: "-" reads it from the standard input.
        model: a trained model of this project; by default the champion.
        out: the picture, a name that ends in .png.

    Raises:
        InputError: if the text is empty or the model reads no word of it, or there is no such model.
    """
    p = settings.load()
    if out.suffix.lower() != ".png":
        raise InputError(f"received --out {heatmap.shown(str(out))}; expected a name that ends in .png")
    stage_paths.refuse(out, elsewhere=str(PICTURE))
    raw = sys.stdin.buffer.read() if text == STANDARD_INPUT else os.fsencode(text)
    text = raw.decode("utf-8", "replace")
    if not text.strip():
        raise InputError('received no text; expected a review, for example: sentiflow explain "A film I loved."')

    name, chosen, note = _trained(model, text, p) if model else _champion_or_best(p)
    reader = cast(Reader, chosen.classifier)
    [explained] = explanation.explain(reader, [text], stopwords=chosen.stopwords)
    if not explained.words:
        raise InputError(f"{name} reads no word of this text{_unread(reader)}; give another text or another model: --model")
    out.parent.mkdir(parents=True, exist_ok=True)
    heatmap.draw(explained, name, out, words_a_row=p.explain.words_a_row)

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    lines = [*_lines(name, reader, explained, colour=colour), *_whole_answer(chosen, explained, text), note]
    page = "\n".join([*filter(None, lines), f"picture: {terminal.printable(str(out))}"])
    encoding = sys.stdout.encoding
    print(page.encode(encoding, "backslashreplace").decode(encoding))  # a text may hold what this terminal cannot show


def _champion_or_best(p: Params) -> tuple[str, SentimentModel, str]:
    """The model to explain where none is named: its name, the model, and a note."""
    if champion := _champion():
        return _named(champion), champion.model, ""
    every = _trained_names(p)
    trained = [each for each in p.run if each in every]
    best = artifacts.read_json(COMPARISON)["best"] if COMPARISON.exists() else None
    chosen, which = (best, "the best on valid") if best in trained else (trained[0], "the first in `run`")
    return chosen, _read(chosen, p), f"no version is champion, so this is {chosen}, {which}"


def _trained(name: str, text: str, p: Params) -> tuple[str, SentimentModel, str]:
    """A model of the last run: its name, the model, and a note on what the champion answers to the same text."""
    every = _trained_names(p)
    if name not in every:
        raise InputError(
            f"received --model {heatmap.shown(name)}, which is not trained here; expected one of "
            f"{', '.join(every)}. To train another model, add it to `run` in params.yaml and run: sentiflow repro"
        )
    return name, _read(name, p), _beside_champion(name, text)


def _beside_champion(name: str, text: str) -> str:
    try:
        champion = _champion()
    except InputError as error:  # such as a server that is away: the explanation needs none
        return f"what the champion answers is not known: {error}"
    if champion is None:
        return "no version is champion yet"
    answered = f"{_named(champion)}, which answers {_answer(champion.model, text)}"
    if champion.architecture == name:
        return f"{name} as trained last; the champion is {answered}"
    return f"{name} is not the champion; the champion is {answered}"


@store.errors_handled()
def _champion() -> model_versions.Opened | None:
    client = store.connect()
    found = model_versions.champion(client)
    return None if found is None else model_versions.opened(client, found)


def _named(opened: model_versions.Opened) -> str:
    return f"version {opened.version} ({opened.architecture})"


def _trained_names(p: Params) -> list[str]:
    every = [each for each in p.models if (MODELS / each / "config.json").exists()]
    if not set(every) & set(p.run):
        raise InputError(f"no model is trained yet, expected {' or '.join(p.run)} in {MODELS}; train them: sentiflow repro")
    return every


def _read(name: str, p: Params) -> SentimentModel:
    reader = explanation.read(MODELS / name, TOKENS)
    stopwords = Stopwords(p.clean.language, p.clean.keep_negations)
    return SentimentModel(reader, reader.vocabulary, reader.config.settings.view, stopwords)


def _answer(model: SentimentModel, text: str) -> str:
    answer = model.predict([text]).iloc[0]
    return _shown(answer["label"], answer[f"p_{answer['label']}"])


def _shown(label: str, probability: float) -> str:
    return f"{heatmap.shown(label)}, probability {probability:.3f}"


def _lines(name: str, reader: Reader, explained: Explanation, *, colour: bool) -> Iterator[str]:
    yield f"{name} answers {_shown(explained.label, explained.probability)}"
    yield ""
    yield heatmap.as_terminal(explained, width=shutil.get_terminal_size().columns, colour=colour)
    yield ""
    yield heatmap.meaning(explained)
    if colour:
        yield heatmap.shades(explained)
    unknown = dict.fromkeys(word for word, known in zip(explained.words, explained.known, strict=True) if not known)
    if unknown:
        more = f" and {len(unknown) - LISTED:,} more" if len(unknown) > LISTED else ""
        yield f"unknown to the model, in [brackets]: {', '.join(map(heatmap.shown, list(unknown)[:LISTED]))}{more}"
    if explained.cut_off:
        end = "first" if reader.config.settings.truncating == "pre" else "last"
        yield f"cut off: the {end} {explained.cut_off:,} words; the answer is of the other {len(explained.words):,}"


def _whole_answer(model: SentimentModel, explained: Explanation, text: str) -> Iterator[str]:
    """What `sentiflow predict` answers, where that is of more words than can be weighed one by one."""
    if explained.cut_off and (whole := _answer(model, text)) != _shown(explained.label, explained.probability):
        yield f"of the whole text it answers {whole}, as `sentiflow predict` does"


def _unread(reader: Reader) -> str:
    if reader.config.settings.view == "content":
        return ", of which stopwords, numbers and punctuation are left out"
    return "" if reader.config.settings.punctuation else ", of which punctuation is left out"

"""Explains a prediction: the weight of each word, in the terminal and as a picture.

Explains the champion, as `sentiflow predict` reads it, or a trained model of the project in the working folder.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from sentiflow.config.params import Params
from sentiflow.data.stopwords import Stopwords
from sentiflow.models import explanation, settings
from sentiflow.models.explanation import Explanation
from sentiflow.models.loading import Classifier
from sentiflow.models.sentiment_model import SentimentModel
from sentiflow.pipeline import stage_paths
from sentiflow.registry import model_versions
from sentiflow.reporting import heatmap
from sentiflow.serving import predict
from sentiflow.system import artifacts, terminal
from sentiflow.system.errors import InputError

MODELS, TOKENS, COMPARISON = Path("models"), Path("data/tokens"), Path("metrics/comparison.json")
PICTURE = Path("reports/explanation.png")
LISTED = 10  # unknown words


def run(text: str, model: str | None = None, out: Path = PICTURE) -> None:
    """Prints the prediction with the weight of each word, and draws it; see `cli.predictions`."""
    p = settings.load()
    if out.suffix.lower() != ".png":
        raise InputError(f"received --out {heatmap.shown(str(out))}; expected a name that ends in .png")
    stage_paths.refuse(out, elsewhere=str(PICTURE))
    raw = sys.stdin.buffer.read() if text == predict.STANDARD_INPUT else os.fsencode(text)
    text = raw.decode("utf-8", "replace")
    if not text.strip():
        raise InputError(predict.NO_TEXT.format("explain"))

    name, chosen, note = _trained(model, text, p) if model else _champion_or_best(p)
    classifier = chosen.classifier
    [explained] = explanation.explain(classifier, [text], stopwords=chosen.stopwords)
    if not explained.words:
        raise InputError(f"{name} reads no word of this text{_unread(classifier)}; give another text or another model: --model")
    out.parent.mkdir(parents=True, exist_ok=True)
    heatmap.draw(explained, name, out, words_a_row=p.explain.words_a_row)

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    lines = [*_lines(name, chosen, explained, text, colour=colour), note]
    page = "\n".join([*filter(None, lines), f"picture: {terminal.printable(str(out))}"])
    encoding = sys.stdout.encoding
    print(page.encode(encoding, "backslashreplace").decode(encoding))  # the terminal's encoding may lack characters of the text


def _champion_or_best(p: Params) -> tuple[str, SentimentModel, str]:
    """Name, model and note of the champion, or else of the best trained model."""
    if champion := predict.champion():
        return _named(champion), champion.model, ""
    every = _trained_names(p)
    trained = [each for each in p.run if each in every]
    best = artifacts.read_json(COMPARISON)["best"] if COMPARISON.exists() else None
    chosen, which = (best, "the best on valid") if best in trained else (trained[0], "the first in `run`")
    return chosen, _read(chosen, p), f"no version is champion, so this is {chosen}, {which}"


def _trained(name: str, text: str, p: Params) -> tuple[str, SentimentModel, str]:
    """Name and model of the last run, and a note on the champion's prediction for the same text."""
    every = _trained_names(p)
    if name not in every:
        raise InputError(
            f"received --model {heatmap.shown(name)}, which is not trained here; expected one of "
            f"{', '.join(every)}. To train another model, add it to `run` in params.yaml and run: sentiflow repro"
        )
    return name, _read(name, p), _compared_with_champion(name, text)


def _compared_with_champion(name: str, text: str) -> str:
    try:
        champion = predict.champion()
    except InputError as error:  # such as a store that is unavailable, which the explanation does not need
        return f"the champion's prediction is unknown: {error}"
    if champion is None:
        return "no version is champion yet"
    prediction = f"{_named(champion)}, which predicts {_answer(champion.model, text)}"
    if champion.architecture == name:
        return f"{name} as trained last; the champion is {prediction}"
    return f"{name} is not the champion; the champion is {prediction}"


def _named(opened: model_versions.Opened) -> str:
    return f"version {opened.version} ({opened.architecture})"


def _trained_names(p: Params) -> list[str]:
    every = [each for each in p.models if (MODELS / each / "config.json").exists()]
    if not set(every) & set(p.run):
        raise InputError(f"no model is trained yet, expected {' or '.join(p.run)} in {MODELS}; train them: sentiflow repro")
    return every


def _read(name: str, p: Params) -> SentimentModel:
    return SentimentModel(explanation.read(MODELS / name, TOKENS), Stopwords(p.clean.language, p.clean.keep_negations))


def _answer(model: SentimentModel, text: str) -> str:
    answer = model.predict([text]).iloc[0]
    return _shown(answer["label"], answer[f"p_{answer['label']}"])


def _shown(label: str, probability: float) -> str:
    return f"{heatmap.shown(label)}, probability {probability:.3f}"


def _lines(name: str, model: SentimentModel, explained: Explanation, text: str, *, colour: bool) -> Iterator[str]:
    prediction = _shown(explained.label, explained.probability)
    yield f"{name} predicts {prediction}"
    yield heatmap.as_terminal(explained, width=shutil.get_terminal_size().columns, colour=colour)
    yield heatmap.meaning(explained)
    if colour:
        yield heatmap.shades(explained)
    unknown = dict.fromkeys(word for word, known in zip(explained.words, explained.known, strict=True) if not known)
    if unknown:
        yield f"out-of-vocabulary, in [brackets]: {terminal.some(map(heatmap.shown, unknown), most=LISTED)}"
    if explained.cut_off:
        end = "first" if model.classifier.config.settings.truncating == "pre" else "last"
        yield f"truncated: the {end} {explained.cut_off:,} words; the prediction is for the other {len(explained.words):,}"
        if (whole := _answer(model, text)) != prediction:
            yield f"for the whole text it predicts {whole}, as `sentiflow predict` does"


def _unread(classifier: Classifier) -> str:
    if classifier.config.settings.view == "content":
        return ", of which stopwords, numbers and punctuation are removed"
    return "" if classifier.config.settings.punctuation else ", of which punctuation is removed"

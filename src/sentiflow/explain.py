"""Explain a model's answer to any text: which words it rests on, in the terminal and as a picture.

Reads the trained models and the vocabularies of the project in the working folder.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from sentiflow import architectures, classifier, explanation, files, heatmap, params, stage, terminal
from sentiflow.errors import InputError
from sentiflow.explanation import LEAVE_ONE_OUT, Explanation, Reader
from sentiflow.params import Params

MODELS, TOKENS, COMPARISON = Path("models"), Path("data/tokens"), Path("metrics/comparison.json")
STANDARD_INPUT = "-"
LISTED = 10  # unknown words


def main(
    text: Annotated[str, typer.Argument(help="the text, in quotes; - reads it from the standard input")],
    model: Annotated[
        str | None,
        typer.Option(help="an architecture; without it the first trained one that has attention, otherwise the best on valid"),
    ] = None,
    out: Annotated[Path, typer.Option(help="the picture, a name that ends in .png")] = Path("reports/explanation.png"),
) -> None:
    p = params.load()
    if out.suffix.lower() != ".png":
        raise InputError(f"received --out {heatmap.shown(str(out))}; expected a name that ends in .png")
    raw = sys.stdin.buffer.read() if text == STANDARD_INPUT else os.fsencode(text)
    text = raw.decode("utf-8", "replace")
    if not text.strip():
        raise InputError('received no text; expected a review, for example: make explain TEXT="A film I loved."')

    name, reader = _choose(model, p)
    [explained] = explanation.explain(reader, [text], keep_negations=p.clean.keep_negations)
    if not explained.words:
        raise InputError(f"{name} reads no word of this text{_unread(reader)}; give another text or another --model")
    out.parent.mkdir(parents=True, exist_ok=True)
    heatmap.draw(explained, name, out, words_a_row=p.explain.words_a_row)

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    page = "\n".join([*_lines(name, reader, explained, colour=colour), f"picture: {terminal.printable(str(out))}"])
    encoding = sys.stdout.encoding
    print(page.encode(encoding, "backslashreplace").decode(encoding))  # a text may hold what this terminal cannot show


def _choose(name: str | None, p: Params) -> tuple[str, Reader]:
    every = [each for each in architectures.ARCHITECTURES if (MODELS / each / "config.json").exists()]
    trained = [each for each in p.run if each in every]
    if not trained:
        raise InputError(f"no model is trained yet, expected {' or '.join(p.run)} in {MODELS}; train them: make repro")
    if name:
        if name not in every:
            raise InputError(
                f"received --model {heatmap.shown(name)}, which is not trained here; expected one of {', '.join(every)}. "
                "To train another architecture, add it to `run` in params.yaml and run: make repro"
            )
        return name, explanation.read(MODELS / name, TOKENS)
    for each in trained:
        if "length" not in classifier.read_config(MODELS / each)["settings"]:
            continue  # linear: loading it would be in vain
        reader = explanation.read(MODELS / each, TOKENS)
        if explanation.has_attention(reader):
            return each, reader
    best = files.read_json(COMPARISON)["best"] if COMPARISON.exists() else None
    chosen = best if best in trained else trained[0]
    return chosen, explanation.read(MODELS / chosen, TOKENS)


def _lines(name: str, reader: Reader, explained: Explanation, *, colour: bool) -> Iterator[str]:
    yield f"{name} answers {heatmap.shown(explained.label)}, probability {explained.probability:.3f}"
    yield ""
    yield heatmap.as_terminal(explained, width=shutil.get_terminal_size().columns, colour=colour)
    yield ""
    yield heatmap.meaning(explained)
    if colour:
        strongest = f"strongest shade: {heatmap.number_of(max(explained.weights, key=abs))}"
        yield f"blue: falls, orange: rises; {strongest}" if explained.method == LEAVE_ONE_OUT else strongest
    unknown = dict.fromkeys(word for word, known in zip(explained.words, explained.known, strict=True) if not known)
    if unknown:
        more = f" and {len(unknown) - LISTED:,} more" if len(unknown) > LISTED else ""
        yield f"unknown to the model, in [brackets]: {', '.join(map(heatmap.shown, list(unknown)[:LISTED]))}{more}"
    if explained.cut_off:
        end = "first" if reader.settings.get("truncating") == "pre" else "last"
        yield f"cut off: the {end} {explained.cut_off:,} words; the answer is of the other {len(explained.words):,}"


def _unread(reader: Reader) -> str:
    if reader.settings["view"] == "content":
        return ", of which stopwords, numbers and punctuation are left out"
    return "" if reader.settings.get("punctuation", True) else ", of which punctuation is left out"


if __name__ == "__main__":
    stage.run(main)

"""Answers of a model."""

from pathlib import Path
from typing import Annotated

import typer

from sentiflow.cli.command import in_project

app = typer.Typer()


@app.command()
@in_project(computes=True)
def predict(
    file: Annotated[Path | None, typer.Argument(help="a file as `download` reads it, or CSV in UTF-8 with a header")] = None,
    text: Annotated[str | None, typer.Option(help="one text, in quotes; - reads it from the standard input")] = None,
    column: Annotated[
        str | None, typer.Option(help="of the texts in the file; by default that of params.yaml, or `text` or `review`")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="by default predictions/FILE.predictions.csv")] = None,
    version: Annotated[str | None, typer.Option(help="of the registered model; by default the champion")] = None,
) -> None:
    """Predict labels and probabilities with the champion.

    It answers one text in the terminal, or every row of a file in another file.

    Examples: sentiflow predict --text "A film I loved." and sentiflow predict reviews.csv --column text
    """
    from sentiflow.serving import predict as prediction

    prediction.run(text, file, column, out, version)


@app.command()
@in_project(computes=True)
def explain(
    text: Annotated[str, typer.Argument(help="in quotes; - reads it from the standard input")],
    model: Annotated[str | None, typer.Option(help="a model that is trained here; by default the champion")] = None,
    out: Annotated[Path, typer.Option(help="the picture, a name that ends in .png")] = Path("reports/explanation.png"),
) -> None:
    """Show which words a model's answer depends on.

    It is shown in the terminal and as a picture.

    Example: sentiflow explain "A film I loved." --model lstm
    """
    from sentiflow.serving import explain as explanation

    explanation.run(text, model, out)

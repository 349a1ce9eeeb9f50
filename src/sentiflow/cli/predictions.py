"""Commands for predictions."""

from pathlib import Path
from typing import Annotated

import typer

from sentiflow.cli.command import in_project

app = typer.Typer()


@app.command()
@in_project(computes=True)
def predict(
    file: Annotated[Path | None, typer.Argument(help="Reviews as the download stage reads them, or CSV with a header.")] = None,
    text: Annotated[str | None, typer.Option(help="One text; - reads standard input.")] = None,
    column: Annotated[str | None, typer.Option(help="Text column; by default that of params.yaml, `text` or `review`.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="CSV file; by default predictions/FILE.predictions.csv.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Version of the registered model; by default the champion.")] = None,
) -> None:
    """Predict labels and probabilities with the champion.

    Prints the prediction for one text, or writes those for every row of a file.

    \b
    Examples:
      sentiflow predict reviews.csv --column text
      sentiflow predict --text "A film I loved."
    """
    from sentiflow.serving import predict as prediction

    prediction.run(text, file, column, out, version)


@app.command()
@in_project(computes=True)
def explain(
    text: Annotated[str, typer.Argument(help="Text to explain; - reads standard input.")],
    model: Annotated[str | None, typer.Option(help="Trained model of this project; by default the champion.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture to write; ends in .png.")] = Path("reports/explanation.png"),
) -> None:
    """Show which words a prediction depends on.

    Prints the weight of each word, and draws them in a picture.

    Example: sentiflow explain "A film I loved." --model lstm
    """
    from sentiflow.serving import explain as explanation

    explanation.run(text, model, out)

"""Commands for the reviews and their versions."""

from pathlib import Path
from typing import Annotated

import typer

from sentiflow.cli.command import in_project

app = typer.Typer(help="List, compare and extend the versions of the data.")


@app.command()
@in_project(computes=True)
def versions() -> None:
    """List the versions of the data in git's history.

    Example: sentiflow data versions
    """
    from sentiflow.sharing.versions import history

    history.report()


@app.command()
@in_project(computes=True)
def diff(
    before: Annotated[str, typer.Argument(help="First commit.")] = "HEAD",
    after: Annotated[str | None, typer.Argument(help="Second commit; by default the data in this folder.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="CSV file for the whole list.")] = None,
) -> None:
    """Compare the texts of two versions of the data.

    Shows texts added, removed, relabelled, or moved between the splits.

    Example: sentiflow data diff main feature --out changes.csv
    """
    from sentiflow.sharing.versions import diff as difference

    difference.report(before, after, out)


@app.command()
@in_project(computes=True)
def add(
    file: Annotated[Path | None, typer.Argument(help="New reviews, in the format of the project's reviews file.")] = None,
    commit: Annotated[str | None, typer.Option(help="Add the project's reviews file as of this commit, instead of FILE.")] = None,
    start: Annotated[bool, typer.Option("--start", help="Start a reviews file from the reviews of the package.")] = False,
    skip_rejected: Annotated[bool, typer.Option("--skip-rejected", help="Leave out rows that cannot be used.")] = False,
) -> None:
    """Add reviews as a new version of the data.

    Adds all rows of the file to the project's reviews file, or none.

    Example: sentiflow data add new.csv --skip-rejected
    """
    from sentiflow.sharing.versions import add as adding

    adding.run(file, commit, start=start, skip_rejected=skip_rejected)


@app.command("near-copies")
@in_project(computes=True)
def near_copies(similarity: Annotated[float, typer.Option(help="Lowest Jaccard similarity of near-copies.")] = 0.8) -> None:
    """List near-copies across the splits.

    Also shows the test accuracy without them.

    Example: sentiflow data near-copies --similarity 0.9
    """
    from sentiflow.evaluation import near_copies as copies

    copies.report(similarity)


@app.command()
@in_project(computes=True)
def drift(
    file: Annotated[Path | None, typer.Argument(help="File or folder; by default `drift.incoming` of params.yaml.")] = None,
) -> None:
    """Compare incoming reviews with the champion's training data.

    Example: sentiflow data drift incoming.csv
    """
    from sentiflow.serving import drift as comparison

    comparison.report(file)

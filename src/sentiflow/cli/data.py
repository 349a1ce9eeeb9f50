"""The reviews and their versions."""

from pathlib import Path
from typing import Annotated

import typer

from sentiflow.cli.command import in_project

app = typer.Typer(help="List, compare and extend the versions of the data.")


@app.command()
@in_project(computes=True)
def versions() -> None:
    """List the versions of the data over git's history.

    Example: sentiflow data versions
    """
    from sentiflow.sharing.versions import listing

    listing.report()


@app.command()
@in_project(computes=True)
def diff(
    before: Annotated[str, typer.Argument(help="a commit")] = "HEAD",
    after: Annotated[str | None, typer.Argument(help="a commit; without it this folder as it is")] = None,
    out: Annotated[Path | None, typer.Option(help="a CSV file for the whole list")] = None,
) -> None:
    """Show which texts differ between two commits.

    They are added, removed, relabelled, or moved between the splits.

    Example: sentiflow data diff main feature --out changes.csv
    """
    from sentiflow.sharing.versions import diff as difference

    difference.report(before, after, out)


@app.command()
@in_project(computes=True)
def add(
    file: Annotated[Path | None, typer.Argument(help="the new reviews, in the format of the project's own file")] = None,
    commit: Annotated[str | None, typer.Option(help="instead of a file: what the project's own file was in a commit")] = None,
    start: Annotated[bool, typer.Option("--start", help="start an own file with the package's reviews")] = False,
    skip_rejected: Annotated[bool, typer.Option("--skip-rejected", help="leave out rows that cannot be used")] = False,
) -> None:
    """Add reviews as a new version of the data.

    All rows of the file are added to the project's own file, or none.

    Example: sentiflow data add new.csv --skip-rejected
    """
    from sentiflow.sharing.versions import add as adding

    adding.run(file, commit, start=start, skip_rejected=skip_rejected)


@app.command("near-copies")
@in_project(computes=True)
def near_copies(
    similarity: Annotated[float, typer.Option(help="lowest Jaccard similarity of near-copies")] = 0.8,
) -> None:
    """List near-copies across the splits.

    It also shows the accuracy on test without them.

    Example: sentiflow data near-copies --similarity 0.9
    """
    from sentiflow.evaluation import near_copies as copies

    copies.report(similarity)


@app.command()
@in_project(computes=True)
def drift(
    file: Annotated[Path | None, typer.Argument(help="a file or a folder of files; by default `drift.incoming`")] = None,
) -> None:
    """Compare incoming reviews with those the champion knows.

    Example: sentiflow data drift incoming.csv
    """
    from sentiflow.serving import drift as comparison

    comparison.report(file)

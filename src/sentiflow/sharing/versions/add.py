"""Add the reviews of a file to the project's own as a new version of the data: all rows, or none.

They are checked as the download checks them. A text that is there already is left out; one with another label is refused.
"""

from pathlib import Path
from typing import Annotated

import typer

from sentiflow.models import settings
from sentiflow.pipeline import repro
from sentiflow.sharing.versions import appending, recorded
from sentiflow.system import git, stage, terminal
from sentiflow.system.errors import InputError

NEXT = [
    "Next:",
    "  make repro",
    "  git add data/external params.yaml dvc.lock metrics reports && git commit",
    "  make push      # the data before the commit: docs/team.md",
    "  git push",
]


def main(
    file: Annotated[Path | None, typer.Option(help="the new reviews, written as the project's own file is")] = None,
    commit: Annotated[str, typer.Option(help="instead of a file: what the project's own file was in a commit")] = "",
    start: Annotated[bool, typer.Option("--start", help="start an own file with the package's reviews")] = False,
    skip_rejected: Annotated[bool, typer.Option("--skip-rejected", help="leave out rows that cannot be used")] = False,
) -> None:
    if (file is None) == (not commit):
        raise InputError("expected either a file or a commit, for example: make add-reviews FILE=new.csv")
    with repro.at_work():
        p = settings.load()
        if file is not None:
            new, name = file, str(file)
        else:
            own = appending.target(p.download)
            sha = git.commit(commit)
            [new] = recorded.files(sha, [str(own)])
            name = f"{own} of {sha[: recorded.SHORT]}"
        add = appending.start if start else appending.append
        added = add(p, new, name=name, skip_rejected=skip_rejected)
        own = appending.target(settings.load().download)
    terminal.tell("\n".join(_told(added, own, p.split.method)))


def _told(added: appending.Added, own: Path, method: str) -> list[str]:
    told = [f"added {added.rows:,} reviews to {own}, which has {added.total:,} now"]
    if added.copies:
        told.append(f"left out {added.copies:,} that were there already")
    if added.rejected:
        told.append(f"left out {added.rejected:,} that cannot be used")
    if method != "hash":
        told.append(
            f"split.method is {method}: with more reviews texts of test may come into train, and scores before and after are not "
            "comparable; with `split.method: hash` in params.yaml a text never leaves its split"
        )
    return [*told, *NEXT]


if __name__ == "__main__":
    stage.run(main)

"""Add the reviews of a file to the project's own as a new version of the data: all rows, or none.

They are checked as the download checks them. A text that is there already is left out; one with another label is refused.
"""

from pathlib import Path

from sentiflow.models import settings
from sentiflow.pipeline import repro
from sentiflow.sharing.versions import appending, recorded
from sentiflow.system import git, terminal
from sentiflow.system.errors import InputError

NEXT = [
    "Next:",
    "  sentiflow repro",
    "  git add data/external params.yaml dvc.lock metrics reports && git commit",
    "  sentiflow remote push      # the data before the commit: docs/team.md",
    "  git push",
]


def run(file: Path | None = None, commit: str | None = None, *, start: bool = False, skip_rejected: bool = False) -> None:
    """Adds reviews to the project's own file and prints what to do next.

    Args:
        file: the new reviews, written as the project's own file is.
        commit: instead of a file, the commit whose version of the project's own file is added.
        start: start an own file with the package's reviews.
        skip_rejected: leave out rows that cannot be used.

    Raises:
        InputError: if not exactly one of file and commit is given, or a row cannot be used.
    """
    if (file is None) == (commit is None):
        raise InputError("expected either a file or a commit, for example: sentiflow data add new.csv")
    with repro.at_work():
        p = settings.load()
        if commit is None:
            assert file is not None
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

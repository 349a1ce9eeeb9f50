"""Prove that the remote has every file that a commit names, so that whoever pulls the commit gets all of it.

The remote itself is asked. `--pushed` is what the pre-push hook of git runs: it reads from its input what is about to be pushed.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sentiflow.data.sources import fetching
from sentiflow.pipeline import objects
from sentiflow.pipeline.objects import Output, Piece
from sentiflow.sharing.remote_settings import CONFIG, secrets_in
from sentiflow.system import git
from sentiflow.system.errors import InputError

log = logging.getLogger("sentiflow")

NO_COMMIT = "0" * 40
DATA = ("dvc.lock", "*.dvc")  # as git takes paths: what names objects
ALL_THE_SAME = "To push all the same: git push --no-verify"


class Missing(NamedTuple):
    piece: Piece
    commit: str

    def __str__(self) -> str:
        return f"{self.piece}, of {self.commit}"


def check_commit(commit: str) -> str:
    """Asks the remote for every object of a commit; says in words that all are there.

    Raises:
        InputError: if some are not, naming stage and file, or git does not know the commit.
    """
    git.commit(commit)
    return check([commit])


def check_pushed(told: Iterable[str], git_remote: str) -> str | None:
    """What git's pre-push hook asks: whether the remote has every object of the commits about to be pushed.

    Args:
        told: the lines that git writes to the hook's standard input.
        git_remote: the git remote that is pushed to.

    Returns:
        In words that all are there; None where no commit references data.

    Raises:
        InputError: if some are not there, or a commit holds a secret.
    """
    try:
        commits = pushed(told, git_remote)
        refuse_secrets(commits)
        named = [commit.sha for commit in commits if commit.names_data]
        return check(named) if named else None
    except InputError as error:
        raise type(error)(f"{error}\n{ALL_THE_SAME}") from None


def check(commits: Iterable[str]) -> str:
    """Asks the remote for every object of the commits; says in words that all are there."""
    with objects.opened() as project:
        remote = project.remote()
        named = {commit: project.outputs(commit) for commit in commits}
        pieces = [
            Missing(piece, _short(commit))
            for commit, outputs in named.items()
            for piece in project.pieces(outputs, project.cache, remote)
        ]
        there = remote.sizes({each.piece.oid for each in pieces})
        lost = [each for each in pieces if each.piece.oid not in there]
        for commit, outputs in named.items():
            if told := untracked_source(commit, outputs):
                log.warning("%s", told)
    if lost:
        raise InputError(
            f"{remote.name} lacks {len(lost)} of {len(pieces)} files:\n{objects.listed(lost)}\n"
            "whoever pulls would not get them; where they were made, hand them over: sentiflow remote push"
        )
    of = ", ".join(_short(commit) for commit in named)
    return f"All {len(there)} files that dvc.lock names are on {remote.name} ({of})."


def untracked_source(commit: str, outputs: list[Output]) -> str | None:
    """That the reviews' source is a file of the user's which no .dvc file tracks, in words; None if it is not."""
    try:
        download = YAML(typ="safe", pure=True).load(git.ask("show", f"{commit}:./params.yaml"))["download"]
        location = str(download[download["source"]]["location"])
    except (InputError, YAMLError, KeyError, TypeError):  # no such file, or the package, which comes with the environment
        return None
    if fetching.is_url(location):
        return None
    path = Path(os.path.normpath(location))
    tracked = (Path(output.path) for output in outputs)
    if any(path == each or each in path.parents or path in each.parents for each in tracked):
        return None
    how = f"track it: dvc add '{path}', then commit" if path.is_relative_to(fetching.WATCHED) else "see docs/remotes.md"
    return (
        f"{path}, which download reads in {_short(commit)}, is your own file and no .dvc file tracks it, so it is on no remote: "
        f"whoever pulls can use what was made of it, and cannot run download again; {how}"
    )


class Commit(NamedTuple):
    sha: str
    names_data: bool


def pushed(lines: Iterable[str], git_remote: str) -> list[Commit]:
    """The commits that git is about to push, oldest first, each line being `local ref, its commit, remote ref, its commit`."""
    found: dict[str, bool] = {}
    for line in lines:
        _, local, _, there = line.split()
        if local == NO_COMMIT:  # a branch is deleted
            continue
        known = there != NO_COMMIT and git.ask_if_possible("cat-file", "-e", f"{there}^{{commit}}") is not None
        new = [local, f"^{there}"] if known else [local, "--not", f"--remotes={git_remote}"]
        data = set(git.ask("rev-list", *new, "--", *DATA).split())
        found |= {sha: sha in data for sha in reversed(git.ask("rev-list", *new).split())}
    return [Commit(sha, names_data) for sha, names_data in found.items()]


def refuse_secrets(commits: Iterable[Commit]) -> None:
    """Raises InputError if a commit holds a password of a remote."""
    for commit in commits:
        if found := secrets_in(git.show(commit.sha, CONFIG) or ""):
            raise InputError(
                f"{CONFIG} of {_short(commit.sha)} holds {', '.join(found)}, which git would show to everybody; take it "
                "out of the commit, give it to this machine alone (dvc remote modify --local NAME OPTION ...)"
            )


def _short(commit: str) -> str:
    return commit[:10] if len(commit) == len(NO_COMMIT) else commit

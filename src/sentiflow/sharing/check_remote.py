"""Check that the remote has every file that a commit references, so that a pull of the commit is complete.

The remote itself is queried, not DVC's index of it. With `--pushed` the commits come from git's pre-push hook.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sentiflow.data.sources import fetching
from sentiflow.pipeline import objects
from sentiflow.pipeline.objects import Output
from sentiflow.sharing.remote_settings import CONFIG, secrets_in
from sentiflow.system import git
from sentiflow.system.errors import InputError

log = logging.getLogger("sentiflow")

NO_COMMIT = "0" * 40


def check_pushed(lines: Iterable[str], git_remote: str) -> str | None:
    """Check the commits that git is about to push.

    Args:
        lines: standard input of git's pre-push hook.
        git_remote: name of the git remote.

    Returns:
        Summary for the user; None if no commit references data.

    Raises:
        InputError: if the remote lacks a file, or a commit contains a secret.
    """
    try:
        commits = pushed(lines, git_remote)
        refuse_secrets(commits)
        with_data = [commit for commit, has_data in commits.items() if has_data]
        return check(with_data) if with_data else None
    except InputError as error:
        raise type(error)(f"{error}\nTo push anyway: git push --no-verify") from None


def check(commits: Sequence[str]) -> str:
    """Query the remote for every file of the commits. Returns a summary for the user.

    Raises:
        InputError: if the remote lacks a file, or git does not know a commit.
    """
    for commit in commits:
        git.commit(commit)
    with objects.opened() as project:
        remote = project.remote()
        outputs = {commit: project.outputs(commit) for commit in commits}
        pieces = [(piece, commit) for commit in outputs for piece in project.pieces(outputs[commit], project.cache, remote)]
        found = remote.sizes({piece.oid for piece, _ in pieces})
        missing = [f"{piece}, of {_short(commit)}" for piece, commit in pieces if piece.oid not in found]
        for commit in outputs:
            if warning := untracked_source(commit, outputs[commit]):
                log.warning("%s", warning)
    if missing:
        raise InputError(
            f"{remote.name} lacks {len(missing)} of {len(pieces)} files:\n{objects.listed(missing)}\n"
            "Upload them from the machine that created them: sentiflow remote push"
        )
    return f"All {len(found)} files that dvc.lock references are on {remote.name} ({', '.join(map(_short, outputs))})."


def untracked_source(commit: str, outputs: list[Output]) -> str | None:
    """Warning if the source of the reviews is a local file that no .dvc file tracks."""
    try:
        download = YAML(typ="safe", pure=True).load(git.ask("show", f"{commit}:./params.yaml"))["download"]
        location = str(download[download["source"]]["location"])
    except (InputError, YAMLError, KeyError, TypeError):  # no params.yaml, or a source that is a Python package
        return None
    if fetching.is_url(location):
        return None
    path = Path(os.path.normpath(location))
    tracked = (Path(output.path) for output in outputs)
    if any(path == each or each in path.parents or path in each.parents for each in tracked):
        return None
    hint = f"track it: dvc add '{path}', then commit" if path.is_relative_to(fetching.WATCHED) else "see docs/remotes.md"
    return (
        f"{path}, the source of the reviews in {_short(commit)}, is not tracked by a .dvc file, so no remote has it: "
        f"other clones can use its results, but cannot run the download stage; {hint}"
    )


def pushed(lines: Iterable[str], git_remote: str) -> dict[str, bool]:
    """Commits about to be pushed, oldest first, and whether each changes dvc.lock or a .dvc file.

    Each line is `local ref, its commit, remote ref, its commit`.
    """
    found: dict[str, bool] = {}
    for line in lines:
        _, local, _, remote = line.split()
        if local == NO_COMMIT:  # the branch is being deleted
            continue
        known = remote != NO_COMMIT and git.ask_if_possible("cat-file", "-e", f"{remote}^{{commit}}") is not None
        new = [local, f"^{remote}"] if known else [local, "--not", f"--remotes={git_remote}"]
        with_data = set(git.ask("rev-list", *new, "--", "dvc.lock", "*.dvc").split())
        found |= {commit: commit in with_data for commit in reversed(git.ask("rev-list", *new).split())}
    return found


def refuse_secrets(commits: Iterable[str]) -> None:
    """Raise InputError if the .dvc/config of a commit contains a secret."""
    for commit in commits:
        if found := secrets_in(git.show(commit, CONFIG) or ""):
            raise InputError(
                f"{CONFIG} of {_short(commit)} contains {', '.join(found)}, which everyone with the repository can read; "
                "remove it from the commit and store it on this machine only: dvc remote modify --local NAME OPTION ..."
            )


def _short(commit: str) -> str:
    return commit[:10] if len(commit) == len(NO_COMMIT) else commit

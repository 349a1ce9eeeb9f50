"""Run git commands, with errors that say what to do."""

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from sentiflow.system.errors import InputError


def ask(*arguments: str, folder: Path | None = None, errors: str = "replace") -> str:
    """Standard output of a git command.

    Args:
        folder: working folder of the command; by default that of this process.
        errors: error handler for bytes that are not UTF-8.
    """
    try:
        ended = subprocess.run(["git", *arguments], capture_output=True, text=True, errors=errors, check=False, cwd=folder)
    except FileNotFoundError:
        raise InputError("git is not installed, and this command reads the git history; install git and run again") from None
    if ended.returncode:
        raise InputError(f"git {arguments[0]} failed: {ended.stderr.strip()}; run this in a clone of the project")
    return ended.stdout


def ask_if_possible(*arguments: str, folder: Path | None = None) -> str | None:
    """Standard output of a git command; None if git is not installed or the command failed."""
    try:
        return ask(*arguments, folder=folder)
    except InputError:
        return None


def show(commit: str, file: Path | str) -> str | None:
    """Content of a file in a commit; None if it does not exist. The path is relative to the working folder."""
    return ask_if_possible("show", f"{commit}:./{file}")


def require_commits() -> None:
    """Raise InputError unless this is a git repository with at least one commit."""
    ask("rev-parse", "--git-dir")
    if not _commit("HEAD"):
        raise InputError("this git repository has no commit yet; run `sentiflow repro`, then git add and git commit the results")


def missing_history() -> str | None:
    """What to do about the missing history of a shallow clone; None in a full clone."""
    if ask("rev-parse", "--is-shallow-repository").strip() != "true":
        return None
    return "This clone is shallow, so older commits are missing: git fetch --unshallow"


def commit(name: str) -> str:
    """Full hash of the commit that a branch, tag or abbreviated hash refers to."""
    require_commits()
    if not (found := _commit(name)):
        hint = missing_history() or "Expected a branch, a tag or a hash of: git log --oneline"
        raise InputError(f"{name} is not a commit of this repository. {hint}")
    return found


def _commit(name: str) -> str:
    found = ask_if_possible("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return (found or "").strip()


def contents(names: Iterable[str]) -> Iterator[bytes | None]:
    """Contents of files in commits, None for each that does not exist; one process for all.

    Args:
        names: such as "HEAD:./dvc.lock"; paths are relative to the working folder.
    """
    with subprocess.Popen(["git", "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name in names:
            process.stdin.write(f"{name}\n".encode())
            process.stdin.flush()
            header = process.stdout.readline().split()
            if len(header) != 3:  # "NAME missing"
                yield None
                continue
            content = process.stdout.read(int(header[2]) + 1)[:-1]
            yield content if header[1] == b"blob" else None
        process.stdin.close()

"""Asks git, and says what to do where it has no answer."""

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from sentiflow.system.errors import InputError

NOT_INSTALLED = "git is not installed, and what is asked for stands in its history; install git and run again"


def ask(*arguments: str, folder: Path | None = None, errors: str = "replace") -> str:
    """What a git command prints.

    Args:
        folder: where it runs; the working folder if none is given.
        errors: how bytes are decoded that are not UTF-8.
    """
    try:
        ended = subprocess.run(["git", *arguments], capture_output=True, text=True, errors=errors, check=False, cwd=folder)
    except FileNotFoundError:
        raise InputError(NOT_INSTALLED) from None
    if ended.returncode:
        raise InputError(f"git {arguments[0]} failed: {ended.stderr.strip()}; run this in a clone of the project")
    return ended.stdout


def ask_if_possible(*arguments: str, folder: Path | None = None) -> str | None:
    """What a git command prints; None if git is not installed or the command failed."""
    try:
        return ask(*arguments, folder=folder)
    except InputError:
        return None


def show(commit: str, file: Path | str) -> str | None:
    """The content of a file in a commit; None if there is none.

    Args:
        file: path from the working folder.
    """
    return ask_if_possible("show", f"{commit}:./{file}")


def require_commits() -> None:
    """Raises InputError unless this is a git repository with a commit."""
    ask("rev-parse", "--git-dir")
    if not _commit("HEAD"):
        raise InputError("this git repository has no commit yet; run `sentiflow repro`, then git add and git commit what it made")


def missing_history() -> str | None:
    """In a shallow clone, a sentence that says so and what to do; else None."""
    if ask("rev-parse", "--is-shallow-repository").strip() != "true":
        return None
    return "This clone is shallow, so commits and what they brought are missing: git fetch --unshallow"


def commit(name: str) -> str:
    """The full hash of the commit that a branch, a tag, a hash or the like names."""
    require_commits()
    if not (found := _commit(name)):
        hint = missing_history() or "Give a branch, a tag or a hash of: git log --oneline"
        raise InputError(f"received {name}, which names no commit here. {hint}")
    return found


def _commit(name: str) -> str:
    found = ask_if_possible("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return (found or "").strip()


def contents(names: Iterable[str]) -> Iterator[bytes | None]:
    """The content of each file as a commit has it, None where it has none; of many files, one process.

    Args:
        names: such as "HEAD:./dvc.lock"; a path is from this folder.
    """
    with subprocess.Popen(["git", "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name in names:
            process.stdin.write(f"{name}\n".encode())
            process.stdin.flush()
            header = process.stdout.readline().split()
            if len(header) != 3:  # NAME missing
                yield None
                continue
            content = process.stdout.read(int(header[2]) + 1)[:-1]
            yield content if header[1] == b"blob" else None
        process.stdin.close()

"""Reads what DVC recorded in dvc.lock, without loading DVC."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sentiflow.system import git
from sentiflow.system.errors import InputError

FILE = Path("dvc.lock")


def parse(text: str) -> dict[str, Any]:
    """The stages by name.

    Raises:
        ValueError: if the file was cut off, has the marks of a merge conflict or is no dvc.lock.
    """
    try:
        # libyaml's parser, as DVC itself uses: five times as fast as the one in Python
        return dict(YAML(typ="safe").load(text)["stages"] or {})
    except (YAMLError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no readable {FILE}: {error}") from None


def read(file: Path = FILE) -> dict[str, Any]:
    """The stages of a file; none if there is no such file yet."""
    if not file.exists():
        return {}
    try:
        return parse(file.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(f"{file} was cut off or changed by hand; bring the committed one back: git checkout {file}") from None


def of_commit(commit: str) -> dict[str, Any] | None:
    """The stages that a git commit has; None if it has no dvc.lock.

    Raises:
        ValueError: if that file is damaged.
    """
    text = git.show(commit, FILE)
    return None if text is None else parse(text)

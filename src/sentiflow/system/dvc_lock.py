"""Read dvc.lock without loading DVC."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sentiflow.system import git
from sentiflow.system.errors import InputError

FILE = Path("dvc.lock")


def parse(text: str) -> dict[str, Any]:
    """Entries of the stages, by stage name.

    Raises:
        ValueError: if the text is truncated, has merge conflict markers or is not a dvc.lock.
    """
    try:
        # libyaml's parser, as in DVC: five times as fast as the pure Python one
        return dict(YAML(typ="safe").load(text)["stages"] or {})
    except (YAMLError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a valid {FILE}: {error}") from None


def read(file: Path = FILE) -> dict[str, Any]:
    """Entries of the stages in a file; empty if the file does not exist."""
    if not file.exists():
        return {}
    try:
        return parse(file.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(f"{file} is truncated or was edited; restore the committed version: git checkout {file}") from None


def of_commit(commit: str) -> dict[str, Any] | None:
    """Entries of the stages in a git commit; None if the commit has no dvc.lock.

    Raises:
        ValueError: if that file is damaged.
    """
    text = git.show(commit, FILE)
    return None if text is None else parse(text)

"""Paths that the stages of dvc.yaml read or write. Other commands must not write there: it makes stages stale, or is removed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sentiflow.system.errors import InputError

PIPELINE_FILE = Path("dvc.yaml")


def refuse(out: Path, *, elsewhere: str) -> None:
    """Raises InputError, which suggests to write `elsewhere`, if a stage reads or writes this path."""
    for stage, path in _paths():
        if out.resolve().is_relative_to(path.resolve()):
            raise InputError(
                f"received --out {out}, which is in {path}, a path of the stage {stage}: writing there would "
                f"make `sentiflow repro` run it again; expected another place, such as --out {elsewhere}"
            )


def _paths() -> Iterator[tuple[str, Path]]:
    """Each stage with its inputs and outputs; of a path that contains ${...}, the folder before it."""
    if not PIPELINE_FILE.exists():
        return
    stages: dict[str, Any] = YAML(typ="safe", pure=True).load(PIPELINE_FILE.read_text(encoding="utf-8"))["stages"]
    for name, definition in stages.items():
        stage = definition.get("do", definition)  # of a `foreach`
        for entry in (each for kind in ("deps", "outs", "metrics", "plots") for each in stage.get(kind, [])):
            path, template, _ = (entry if isinstance(entry, str) else next(iter(entry))).partition("${")
            yield name, Path(path).parent if template and not path.endswith("/") else Path(path)

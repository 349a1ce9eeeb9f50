"""Reasons to run the pipeline again, according to DVC: changed source, parameters or code, or missing results."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from sentiflow.data.sources.fetching import WATCHED
from sentiflow.pipeline.workers import Stage
from sentiflow.system import files, terminal

SHOWN = 5  # names per reason


def of(plan: Sequence[Stage]) -> list[str]:
    """One sentence per kind of reason; none if everything is up to date.

    A stage that is stale only because an earlier stage is stale is not a reason of its own. It is one if the earlier stage is up
    to date by now, as after an interrupted run.
    """
    made = {path for stage in plan for path in stage.makes}
    about_to_change = {path for stage in plan if stage.is_new or stage.changed for path in stage.makes}
    if all(stage.is_new for stage in plan):
        return ["the pipeline never ran here"]
    kinds: dict[str, list[str]] = {}
    for stage in plan:
        causes = [("new stages", [stage.name])] if stage.is_new else _causes(stage.changed, made, about_to_change)
        for kind, names in causes:
            kinds.setdefault(kind, []).extend(names)
    return [f"{kind}: {terminal.some(dict.fromkeys(names), most=SHOWN)}" for kind, names in kinds.items()]


def _causes(changed: Sequence[Any], made: set[str], about_to_change: set[str]) -> Iterator[tuple[str, list[str]]]:
    for each in changed:
        if isinstance(each, str):  # changed command | always changed
            yield "code changed", ["dvc.yaml"]
            continue
        for path, change in each.get("changed deps", {}).items():
            if isinstance(change, dict):
                yield "parameters changed", list(change)
            elif any(files.overlap(path, each) for each in made):
                if not any(files.overlap(path, each) for each in about_to_change):
                    yield "results that were not used yet", [path]
            else:
                is_source = PurePosixPath(path).is_relative_to(WATCHED.as_posix()) or path.endswith(".dvc")
                yield "source data changed" if is_source else "code changed", [path]
        for path in each.get("changed outs", {}):
            yield "results missing or changed", [path]

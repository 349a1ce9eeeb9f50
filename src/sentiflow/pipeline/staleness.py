"""Why the pipeline has to run again, as far as DVC tells: the source, parameters, code, or results that are gone."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from sentiflow.data.sources.fetching import WATCHED
from sentiflow.pipeline.workers import Stage
from sentiflow.system import files, terminal

SHOWN = 5  # names of each kind


def of(plan: Sequence[Stage]) -> list[str]:
    """One sentence a kind of reason; none where everything is up to date.

    What is stale only since a stage before it is, is no reason of its own. Where that stage is up to date by now, as after a run
    that was cut short, it is one.
    """
    made = {path for stage in plan for path in stage.makes}
    about_to_change = {path for stage in plan if stage.is_new or stage.changed for path in stage.makes}
    never_run = [stage.name for stage in plan if stage.is_new]
    if len(never_run) == len(plan):
        return ["the pipeline never ran here"]
    kinds: dict[str, dict[str, None]] = {}  # an ordered set of names each
    for stage in plan:
        if stage.is_new:
            _note(kinds, "new stages", [stage.name])
            continue
        for kind, names in _causes(stage.changed, made, about_to_change):
            _note(kinds, kind, names)
    return [f"{kind}: {terminal.some(names, most=SHOWN)}" for kind, names in kinds.items()]


def _note(kinds: dict[str, dict[str, None]], kind: str, names: Iterable[str]) -> None:
    kinds.setdefault(kind, {}).update(dict.fromkeys(names))


def _causes(changed: Sequence[Any], made: set[str], about_to_change: set[str]) -> Iterator[tuple[str, list[str]]]:
    for each in changed:
        if isinstance(each, str):  # changed command | always changed
            yield "code changed", ["dvc.yaml"]
            continue
        for path, how in each.get("changed deps", {}).items():
            if isinstance(how, dict):
                yield "parameters changed", list(how)
            elif any(files.overlap(path, each) for each in made):
                if not any(files.overlap(path, each) for each in about_to_change):
                    yield "results that were not used yet", [path]
            else:
                is_source = PurePosixPath(path).is_relative_to(WATCHED.as_posix()) or path.endswith(".dvc")
                yield "source data changed" if is_source else "code changed", [path]
        for path in each.get("changed outs", {}):
            yield "results missing or changed", [path]

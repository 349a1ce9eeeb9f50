"""Files of the data as a commit recorded them, from DVC's cache or, if it lacks them, from the remote."""

from collections.abc import Sequence
from pathlib import Path

from sentiflow.pipeline import objects
from sentiflow.system.errors import InputError

SHORT = 10  # digits of a hash in messages


def files(commit: str, wanted: Sequence[str]) -> list[Path]:
    """Paths in DVC's cache of files as a commit recorded them.

    Args:
        commit: full hash.
        wanted: files tracked by DVC, or files in folders tracked by DVC.

    Raises:
        InputError: if the commit has no such file, or neither the cache nor the remote has an intact copy.
        UnavailableError: if the remote does not respond.
    """
    with objects.opened() as project:
        outputs = {output.path: output for output in project.outputs(commit)}
        return [_cached(project, commit, file, outputs) for file in wanted]


def _cached(project: objects.Project, commit: str, file: str, outputs: dict[str, objects.Output]) -> Path:
    tracked = next((path for path in (file, *map(str, Path(file).parents)) if path in outputs), None)
    if tracked is None:
        raise InputError(
            f"DVC does not track {file} in {commit[:SHORT]}; `sentiflow data versions` lists the commits that changed the data, "
            "git log -- '*.dvc' those that changed a tracked file"
        )
    oid = outputs[tracked].oid
    if tracked != file:
        _ensure_cached(project, commit, tracked, oid)
        members = project.cache.files_of(oid) or {}
        name = str(Path(file).relative_to(tracked))
        if name not in members:
            raise InputError(f"{tracked} of {commit[:SHORT]} lacks {name}; it contains {', '.join(sorted(members))}")
        oid = members[name]
    _ensure_cached(project, commit, file, oid)
    return project.cache.path(oid)


def _ensure_cached(project: objects.Project, commit: str, file: str, oid: str) -> None:
    if project.cache.is_right(oid):
        return
    remote = project.remote_if_set()
    try:
        if remote and project.cache.take(oid, remote):
            return
    except FileNotFoundError:
        pass
    where = f"nor is it on {remote.name}" if remote else "and no remote is set: set one with `sentiflow remote set`"
    raise InputError(
        f"{file} of {commit[:SHORT]} is not in DVC's cache, or damaged there, {where}; "
        "upload it from the machine that created it (`sentiflow remote push`), then run again"
    )

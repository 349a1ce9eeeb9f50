"""The files that a commit's data consist of, out of DVC's cache; what that lacks, or has damaged, comes from the remote."""

from collections.abc import Sequence
from pathlib import Path

from sentiflow.pipeline import objects, stores
from sentiflow.system.errors import InputError

SHORT = 10  # digits of a hash in messages


def files(commit: str, wanted: Sequence[str]) -> list[Path]:
    """Where in the cache files lie, as the commit has them.

    Args:
        commit: its full hash.
        wanted: files that DVC tracks, or that lie in folders of its.

    Raises:
        InputError: if the commit has no such file, or neither the cache nor the remote has it as it was.
        UnavailableError: if the remote does not answer.
    """
    with objects.opened() as project:
        outputs = {output.path: output for output in project.outputs(commit)}
        return [_cached(project, commit, file, outputs) for file in wanted]


def _cached(project: objects.Project, commit: str, file: str, outputs: dict[str, objects.Output]) -> Path:
    tracked = next((path for path in (file, *map(str, Path(file).parents)) if path in outputs), None)
    if tracked is None:
        raise InputError(
            f"DVC tracks no {file} in {commit[:SHORT]}; `sentiflow data versions` lists the commits that brought data, "
            f"git log -- '*.dvc' those that brought a file"
        )
    oid = outputs[tracked].oid
    if tracked != file:
        _brought(project, commit, tracked, oid)
        members = project.cache.files_of(oid) or {}
        name = str(Path(file).relative_to(tracked))
        if name not in members:
            raise InputError(f"{tracked} of {commit[:SHORT]} holds {', '.join(sorted(members))}, expected {name} too")
        oid = members[name]
    return _brought(project, commit, file, oid)


def _brought(project: objects.Project, commit: str, file: str, oid: str) -> Path:
    if not project.cache.is_right(oid):
        remote = project.remote_if_set()
        if remote is None or not _taken(project.cache, remote, oid):
            where = f"{remote.name} neither" if remote else "no remote is set: `sentiflow remote set` sets one"
            raise InputError(
                f"DVC's cache has not {file} of {commit[:SHORT]}, or not as it was, and {where}; "
                "whoever made it hands it over with `sentiflow remote push`, then run again"
            )
    return project.cache.path(oid)


def _taken(cache: stores.Store, remote: stores.Store, oid: str) -> bool:
    try:
        return cache.take(oid, remote)
    except FileNotFoundError:
        return False

"""Find damaged and missing files of data and models in DVC's cache, on the remote and in this folder, and repair them.

DVC trusts a file that exists. Here every file is read, and its MD5 compared with the one in dvc.lock, in a .dvc file or in the
list of a folder's files. A file that is damaged in one place is replaced from another place where it is intact.
"""

import contextlib
import enum
import hashlib
import shutil
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from sentiflow.pipeline import objects, recovery, stores
from sentiflow.pipeline.objects import Piece, Project
from sentiflow.pipeline.stores import Store
from sentiflow.system import files, locks, terminal
from sentiflow.system.errors import InputError

DAMAGED = Path(".cache/damaged")  # where files without an intact copy are moved, so that their stage runs again


class State(enum.Enum):
    INTACT = "intact"
    DAMAGED = "damaged"
    MISSING = "missing"


@dataclass
class Object:
    """File content, identified by its hash, and its state in each place.

    pieces: files with this content.
    remote: None if no remote is set.
    damaged: files of this folder that DVC believes to have this content, and that do not.
    intact_file: a file of this folder that has it.
    """

    oid: str
    pieces: list[Piece]
    cache: State = State.INTACT
    remote: State | None = None
    damaged: list[Path] = field(default_factory=list)
    intact_file: Path | None = None

    @property
    def is_intact(self) -> bool:
        return self.cache is State.INTACT and self.remote in (None, State.INTACT) and not self.damaged

    def __str__(self) -> str:
        places = {"in the cache": self.cache, "on the remote": self.remote}
        flaws = [f"{state.value} {place}" for place, state in places.items() if state not in (None, State.INTACT)]
        flaws += [f"damaged in this folder ({file})" for file in self.damaged]
        return f"{', '.join(map(str, self.pieces))}: {' and '.join(flaws)}"


def check(*, repair: bool) -> str:
    """Check every file that dvc.lock and the .dvc files of this folder reference, and print those that are not intact.

    Args:
        repair: replace damaged and missing files by intact copies.

    Returns:
        Summary for the user.

    Raises:
        InputError: if a file is not intact, or not after the repair.
    """
    with objects.opened() as project:
        remote = project.remote_if_set()
        outputs = project.outputs()
        lists = [piece for piece in project.pieces(outputs) if piece.is_list]
        checked = [_check(project, remote, lists, repair)]  # first, because the lists reference the other files
        pieces = project.pieces(outputs, project.cache, *([remote] if remote else []))
        checked.append(_check(project, remote, [piece for piece in pieces if not piece.is_list], repair))
    count, found, left = (sum(numbers) for numbers in zip(*checked, strict=True))
    if left:
        hint = "the lines above say what to do" if repair else "`sentiflow remote repair` repairs those with an intact copy"
        raise InputError(f"{left} of {count} files that dvc.lock references are damaged or missing; {hint}")
    where = f"in the cache and on {remote.name}" if remote else "in the cache (no remote is set)"
    return f"Checked {count} files {where}: {f'{found} repaired' if found else 'all intact'}."


def _check(project: Project, remote: Store | None, pieces: Iterable[Piece], repair: bool) -> tuple[int, int, int]:
    """Number of objects, of those that were not intact, and of those that still are not."""
    by_oid: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_oid[piece.oid].append(piece)
    found = _not_intact(project, remote, by_oid)
    left = 0
    # a concurrent run could read, or write, what is being replaced
    with locks.locked(recovery.TMP / "sentiflow.lock") if repair and found else contextlib.nullcontext():
        for each in found:
            line = str(each)
            if repair:
                with objects.named(each.pieces[0].output):
                    line += f"; {_repair(project, remote, each)}"
            left += not each.is_intact
            terminal.tell(line, flush=True)
    return len(by_oid), len(found), left


def _not_intact(project: Project, remote: Store | None, by_oid: dict[str, list[Piece]]) -> list[Object]:
    in_cache = project.cache.sizes(by_oid)
    on_remote = remote.sizes(by_oid) if remote else {}

    def examine(oid: str) -> Object:
        found = Object(oid, by_oid[oid])
        found.cache = _state(project.cache, oid) if oid in in_cache else State.MISSING
        if remote:
            found.remote = _state(remote, oid) if oid in on_remote else State.MISSING
        for file in dict.fromkeys(Path(piece.file) for piece in found.pieces if not piece.is_list):
            if file.is_file() and not file.is_symlink():  # a link points into the cache
                if _md5(file) == oid:
                    found.intact_file = found.intact_file or file
                elif project.is_taken_for(file, oid):  # otherwise the user changed it, and DVC knows
                    found.damaged.append(file)
        return found

    with ThreadPoolExecutor(stores.THREADS) as threads:
        bar = tqdm(threads.map(examine, by_oid), total=len(by_oid), desc="check", unit="file", leave=False, disable=None)
        return [each for each in bar if not each.is_intact]


def _state(store: Store, oid: str) -> State:
    return State.INTACT if store.is_right(oid) else State.DAMAGED


def _md5(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _repair(project: Project, remote: Store | None, each: Object) -> str:
    """Repair an object in every place. Returns what was done, or what the user can do."""
    done = []
    if each.cache is not State.INTACT:
        if not (source := _restore_cache(project, remote, each)):
            return f"no intact copy: {_set_aside(project, each)}"
        each.cache = State.INTACT
        done.append(f"the cache from {source}")
    if remote and each.remote is not State.INTACT and remote.take(each.oid, project.cache):
        each.remote = State.INTACT
        done.append("the remote")
    for file in each.damaged:
        with files.replacing(file) as partial:
            # a copy, even if DVC uses links: writing to one must not change the other
            shutil.copyfile(project.cache.path(each.oid), partial)
        done.append(str(file))
    each.damaged = []
    return f"repaired {', '.join(done)}"


def _restore_cache(project: Project, remote: Store | None, each: Object) -> str | None:
    """Copy intact content into the cache. Returns its source, or None if there is none."""
    if remote and each.remote is State.INTACT and project.cache.take(each.oid, remote):
        return "the remote"
    if each.intact_file and _md5(each.intact_file) == each.oid:
        project.cache.take_file(each.oid, each.intact_file)
        return f"this folder ({each.intact_file})"
    for piece in each.pieces:
        if piece.is_list and (content := project.list_from(Path(piece.file), each.oid)) is not None:
            project.cache.take_bytes(each.oid, content)
            return f"this folder ({piece.file})"
    return None


def _set_aside(project: Project, each: Object) -> str:
    """Move damaged files of a stage away, so that DVC runs the stage again. Returns what the user can do."""
    output = each.pieces[0].output
    if output.stage.endswith(".dvc"):
        return f"restore {each.pieces[0].file} from its original source, then `dvc add {output.path}`"
    moved: list[str] = []
    for file in filter(Path.exists, [project.cache.path(each.oid), *each.damaged]):
        DAMAGED.mkdir(parents=True, exist_ok=True)
        moved.append(str(shutil.move(file, DAMAGED / (f"{each.oid}-{len(moved)}" if moved else each.oid))))
    stages = ", ".join(dict.fromkeys(piece.output.stage for piece in each.pieces))
    kept = f" (the damaged content is now in {', '.join(moved)})" if moved else ""
    return f"run `sentiflow repro`, which runs {stages} again{kept}, then `sentiflow remote repair`"

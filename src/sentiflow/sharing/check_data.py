"""Find every damaged or missing file of data and models, in DVC's cache, on the remote and in this folder; and heal it.

DVC trusts a file that is there by name. Here each is read to its end and its MD5 compared with the one that dvc.lock, a .dvc
file or a folder's list has for it. What is not right in one place is replaced from another where it is.
"""

import contextlib
import enum
import hashlib
import logging
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

log = logging.getLogger("sentiflow")

DAMAGED = Path(".cache/damaged")  # where a file is put that is right nowhere, so that its stage makes it anew


class State(enum.Enum):
    RIGHT = "right"
    DAMAGED = "damaged"
    MISSING = "missing"


@dataclass
class Object:
    """A file's content by its hash, and how it is in each place.

    pieces: the files that it is the content of.
    cache, remote: how it is there; remote is None where none is set.
    damaged: files of this folder that DVC takes for it and that are not.
    good: a file of this folder that is.
    """

    oid: str
    pieces: list[Piece]
    cache: State = State.RIGHT
    remote: State | None = None
    damaged: list[Path] = field(default_factory=list)
    good: Path | None = None

    @property
    def is_right(self) -> bool:
        return self.cache is State.RIGHT and self.remote in (None, State.RIGHT) and not self.damaged

    @property
    def flaws(self) -> str:
        """Where it is not right, in words."""
        places = {"in the cache": self.cache, "on the remote": self.remote}
        flaws = [f"{state.value} {place}" for place, state in places.items() if state in (State.DAMAGED, State.MISSING)]
        return " and ".join(flaws + [f"damaged in this folder ({file})" for file in self.damaged])

    @property
    def names(self) -> str:
        return ", ".join(map(str, self.pieces))


def check(*, heal: bool) -> str:
    """Reads every file that this folder's dvc.lock and .dvc files name; tells on stdout of each that was not right.

    Args:
        heal: replace what is not right by what is.
    """
    with objects.opened() as project:
        remote = project.remote_if_set()
        outputs = project.outputs()
        lists = [piece for piece in project.pieces(outputs) if piece.is_list]
        checked = [_checked(project, remote, lists, heal)]  # first, as they say which files there are
        stores = [project.cache, *([remote] if remote else [])]
        files = [piece for piece in project.pieces(outputs, *stores) if not piece.is_list]
        checked.append(_checked(project, remote, files, heal))
    count, wrong, left = (sum(numbers) for numbers in zip(*checked, strict=True))
    where = f"in the cache and on {remote.name}" if remote else "in the cache (no remote is set)"
    if left:
        how = "see above what to do" if heal else "`sentiflow remote repair` heals what is right somewhere"
        raise InputError(f"of {count} files that dvc.lock names {left} are not right; {how}")
    healed = f"{wrong} of them were not, and are again" if wrong else "every one is what dvc.lock says"
    return f"Read {count} files {where}: {healed}."


def _checked(project: Project, remote: Store | None, pieces: Iterable[Piece], heal: bool) -> tuple[int, int, int]:
    """How many objects there are, how many were not right, and how many are not right now."""
    by_oid: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_oid[piece.oid].append(piece)
    wrong = _looked_at(project, remote, by_oid)
    left = 0
    # no run meanwhile: it could use, or make anew, what is being replaced
    with locks.locked(recovery.TMP / "sentiflow.lock") if heal and wrong else contextlib.nullcontext():
        for each in wrong:
            with objects.named(each.pieces[0].output):
                told = _healed(project, remote, each) if heal else None
            left += told is None or not each.is_right
            terminal.tell(f"{each.names}: {told or each.flaws}", flush=True)
    return len(by_oid), len(wrong), left


def _looked_at(project: Project, remote: Store | None, by_oid: dict[str, list[Piece]]) -> list[Object]:
    """Those that are not right."""
    here = project.cache.sizes(by_oid)
    there = remote.sizes(by_oid) if remote else {}

    def look(oid: str) -> Object:
        found = Object(oid, by_oid[oid])
        found.cache = _state(project.cache, oid) if oid in here else State.MISSING
        if remote:
            found.remote = _state(remote, oid) if oid in there else State.MISSING
        for file in dict.fromkeys(Path(piece.file) for piece in found.pieces if not piece.is_list):
            if file.is_file() and not file.is_symlink():  # a link leads into the cache
                if _md5(file) == oid:
                    found.good = found.good or file
                elif project.is_taken_for(file, oid):  # else somebody changed it, and DVC sees that
                    found.damaged.append(file)
        return found

    with ThreadPoolExecutor(stores.THREADS) as threads:
        bar = tqdm(threads.map(look, by_oid), total=len(by_oid), desc="read", unit="file", leave=False, disable=None)
        return [each for each in bar if not each.is_right]


def _state(store: Store, oid: str) -> State:
    return State.RIGHT if store.is_right(oid) else State.DAMAGED


def _md5(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _healed(project: Project, remote: Store | None, each: Object) -> str:
    """Makes an object right wherever it is not; tells what was wrong and what was done."""
    flaws, cache, oid = each.flaws, project.cache, each.oid
    done = []
    if each.cache is not State.RIGHT and (source := _into_cache(project, remote, each)):
        each.cache = State.RIGHT
        done.append(f"the cache from {source}")
    if each.cache is State.RIGHT:
        if remote and each.remote is not State.RIGHT and remote.take(oid, cache):
            each.remote = State.RIGHT
            done.append("the remote from the cache" if not done else "the remote")
        for file in each.damaged:
            with files.replacing(file) as partial:
                # a copy, also where DVC links: what is written to one must not change the other
                shutil.copyfile(cache.path(oid), partial)
            done.append(str(file))
        each.damaged = []
        return f"{flaws}; healed {', '.join(done)}"
    return f"{flaws}, and right nowhere; {_put_aside(project, each)}"


def _into_cache(project: Project, remote: Store | None, each: Object) -> str | None:
    """Brings the right bytes into the cache; from where, or None if they are nowhere."""
    if remote and each.remote is State.RIGHT and project.cache.take(each.oid, remote):
        return "the remote"
    if each.good and _md5(each.good) == each.oid:
        project.cache.take_file(each.oid, each.good)
        return f"this folder ({each.good})"
    for piece in each.pieces:
        if piece.is_list and (content := project.list_from(Path(piece.file), each.oid)) is not None:
            project.cache.take_bytes(each.oid, content)
            return f"this folder ({piece.file})"
    return None


def _put_aside(project: Project, each: Object) -> str:
    """Moves away what DVC would take for right, so that the stage runs again; says what to do."""
    output = each.pieces[0].output
    if output.stage.endswith(".dvc"):
        return f"bring {each.pieces[0].file} back from where it came from, and `dvc add {output.path}`"
    aside = [project.cache.path(each.oid), *each.damaged]
    moved = []
    for number, file in enumerate(each for each in aside if each.exists()):
        DAMAGED.mkdir(parents=True, exist_ok=True)
        place = DAMAGED / f"{each.oid}{f'-{number}' if number else ''}"
        shutil.move(file, place)
        moved.append(place)
    kept = f" (what was there is now {', '.join(map(str, moved))})" if moved else ""
    stages = ", ".join(dict.fromkeys(piece.output.stage for piece in each.pieces))
    return f"make it anew: `sentiflow repro` runs {stages} again{kept}, then `sentiflow remote repair`"

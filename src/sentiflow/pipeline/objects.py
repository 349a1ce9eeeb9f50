"""What DVC keeps of this project: the files that a commit names, in its cache and on its remote.

Every question to a remote goes to the remote. DVC itself keeps an index of what it believes to be there, and takes the files
of a folder for pushed where the folder's list is.
"""

import contextlib
import logging
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import CheckoutError, DvcException, FileTransferError
from dvc.fs import localfs
from dvc.repo import Repo
from dvc.repo.brancher import switch
from dvc.repo.index import index_from_targets
from dvc.stage import PipelineStage
from dvc_data.hashfile.build import build
from dvc_data.hashfile.tree import Tree
from dvc_objects.errors import ObjectFormatError

from sentiflow.pipeline import confined, site
from sentiflow.pipeline.confined import HASH, LIST, UnsafeError
from sentiflow.pipeline.stores import DamagedError, Store, is_loss
from sentiflow.system import urls
from sentiflow.system.errors import InputError

CHATTY = ("aiobotocore", "botocore", "asyncssh", "httpx")  # of remotes; they log each request or login
SHOWN = 20  # files that a message names
NOTHING_WRITTEN = (
    "nothing was written; restore dvc.lock or the .dvc file from a commit that you trust (git checkout COMMIT -- FILE)"
)


@dataclass(frozen=True)
class Output:
    """What a stage makes, or data that a .dvc file tracks, as DVC recorded it.

    stage: as `dvc repro` takes it, such as train@lstm; or the .dvc file.
    path: of a file, or of a folder where `oid` is that of a list.
    """

    stage: str
    path: str
    oid: str


@dataclass(frozen=True)
class Piece:
    """One object that an output needs: its file, a file of its folder, or the folder's list."""

    oid: str
    file: str
    output: Output

    @property
    def is_list(self) -> bool:
        return self.oid.endswith(LIST)

    def __str__(self) -> str:
        return f"{self.output.stage}: {self.file}{' (the list of its files)' if self.is_list else ''}"


class Project:
    """This folder as DVC knows it."""

    def __init__(self, repo: Any) -> None:
        self._repo = repo
        self._root = Path(repo.root_dir)
        for remote in repo.config["remote"].values():
            remote["verify"] = True  # or what was replaced there comes as if it were right
        self.cache = Store("the cache", repo.cache.local)

    def remote(self, name: str | None = None) -> Store:
        """A remote, by default the one that is set."""
        remote = self.remote_if_set(name)
        if remote is None:
            raise InputError(
                "no remote is set; set one with `sentiflow remote set URL`, or a folder next to the project: sentiflow remote set"
            )
        return remote

    def remote_if_set(self, name: str | None = None) -> Store | None:
        name = name or self._repo.config["core"].get("remote")
        if not name:
            return None
        opened = self._repo.cloud.get_remote(name)
        url = str(self._repo.config["remote"][name]["url"])
        kind = url.partition("://")[0] if "://" in url else ""
        return Store(f"the remote {name} ({urls.without_secrets(url)})", opened.odb, kind, name)

    def outputs(self, commit: str | None = None, *, imported: bool = False) -> list[Output]:
        """Everything that DVC caches, as dvc.lock and the .dvc files name it: those of this folder, or of a commit.

        Args:
            imported: also what is stored in another project's cache or remote.

        Raises:
            UnsafeError: if one lies outside the project, in .git or .dvc, or, in this folder, behind a symbolic link.
            InputError: if git does not know the commit, or its files cannot be read.
        """
        with switch(self._repo, commit) if commit is not None else contextlib.nullcontext():
            outs = [out for out in self._repo.index.outs if out.use_cache]
            found = [(out, self._output(out, is_here=commit is None)) for out in outs]
            return [
                output for out, output in found if output.oid and (imported or (out.can_push and not out.stage.is_repo_import))
            ]

    def _output(self, out: Any, *, is_here: bool) -> Output:
        path = str(self._repo.fs.relpath(out.fs_path, self._repo.root_dir)) if out.is_in_repo else out.def_path
        output = Output(_name(out.stage), path, _hash_of(out) if out.hash_info else "")
        with named(output):
            confined.require_path(path)
            if output.oid:
                confined.require_hash(output.oid)
            if is_here:
                confined.require_unlinked(self._root, path, is_folder=output.oid.endswith(LIST))
            if out.files:  # a list within the .dvc file
                confined.files_of_entries(out.files)
        return output

    def require_confined(self) -> None:
        """Raises UnsafeError if DVC, checking out what this folder names, would write anywhere but in its outputs."""
        for output in self.outputs(imported=True):
            if output.oid.endswith(LIST):
                with named(output):
                    files = self.cache.files_of(output.oid) or {}
                    confined.require_files_unlinked(self._root, output.path, files)

    def pieces(self, outputs: Iterable[Output], *stores: Store) -> list[Piece]:
        """The objects of outputs; of a folder as its list has them, which is read from the first store where it is right.

        Without a store a folder is its list alone.
        """
        known: dict[str, dict[str, str] | None] = {}
        found = []
        for output in outputs:
            found.append(Piece(output.oid, output.path, output))
            if output.oid.endswith(LIST) and stores:
                if output.oid not in known:
                    with named(output):
                        known[output.oid] = next((files for store in stores if (files := store.files_of(output.oid))), None)
                files = known[output.oid] or {}
                found += [Piece(oid, f"{output.path}/{file}", output) for file, oid in files.items()]
        return found

    def is_taken_for(self, file: Path, oid: str) -> bool:
        """Whether DVC believes that a file of this folder still has this hash: by its time, size and inode, unread."""
        _, known = self._repo.state.get(str(file.absolute()), localfs)
        return known is not None and known.value == oid

    def list_from(self, folder: Path, oid: str) -> bytes | None:
        """The list of files that a folder output had, made anew from the folder; None if that gives another one."""
        if not folder.is_dir():
            return None
        cache, ignore = self._repo.cache.local, self._repo.dvcignore
        _, _, made = build(cache, str(folder.absolute()), localfs, HASH, dry_run=True, ignore=ignore)
        return made.as_bytes() if isinstance(made, Tree) and made.oid == oid else None

    def push(self) -> int:
        """Uploads everything that this folder's dvc.lock and .dvc files name; how many files.

        Raises:
            InputError: if the remote then lacks something that the cache does not have either.
            UnavailableError: if it does not answer.
        """
        remote = self.remote()
        count = self._replace_damaged_lists(remote)
        with self._exchanging(remote):
            count += int(self._repo.push())
        pieces = self.pieces(self.outputs(), self.cache, remote)
        # What DVC takes for pushed: a file of a folder whose list is there, and one that was cut on its way.
        here, there = (store.sizes({piece.oid for piece in pieces}) for store in (self.cache, remote))
        again = {oid for oid, size in here.items() if there.get(oid) != size}
        pushed = {oid for oid in again if self.cache.is_right(oid) and remote.take(oid, self.cache)}
        lost = [piece for piece in pieces if piece.oid not in {*there, *pushed} or piece.oid in again - pushed]
        if lost:
            raise InputError(
                f"{len(lost)} of {len(pieces)} files could not be pushed, since the cache has them not, or not as they were:\n"
                f"{listed(lost)}\n`sentiflow remote repair` says which, and heals what it can"
            )
        return count + len(pushed - set(there))

    def _replace_damaged_lists(self, remote: Store) -> int:
        """Uploads again the lists of files that a killed push left cut, since DVC reads the remote's and stops; how many."""
        lists = remote.sizes({output.oid for output in self.outputs() if output.oid.endswith(LIST)})
        damaged = [oid for oid in lists if not remote.is_right(oid)]
        return sum(remote.take(oid, self.cache) for oid in damaged if self.cache.is_right(oid))

    def pull(self, targets: Sequence[str] = (), remote_name: str | None = None) -> int:
        """Downloads the same from a remote, into the cache and into this folder; how many files.

        Run-cache entries are not exchanged with a remote: nothing in git says which of them are right, and they name any
        outputs at all.

        Args:
            targets: the outputs or .dvc files, as DVC takes them; all where none is given.
            remote_name: as DVC calls it; by default the one that is set.

        Raises:
            UnsafeError: if that would write anywhere but in the outputs; nothing was written.
            InputError: if something that dvc.lock names did not come, or changed files in this folder are in the way.
            UnavailableError: if the remote does not answer.
        """
        remote = self.remote(remote_name)
        try:
            with self._exchanging(remote):
                wanted = {out.hash_info.value for out in index_from_targets(self._repo, list(targets)).outs if out.hash_info}
                count = self._fetch_lists([output for output in self.outputs() if output.oid in wanted], remote)
                count += int(self._repo.fetch(list(targets), remote=remote_name))
                self.checkout(targets)
                return count
        except (FileTransferError, CheckoutError, DamagedError) as error:
            pieces = self.pieces(self.outputs(), self.cache, remote)
            here = self.cache.sizes({piece.oid for piece in pieces})
            lost = [piece for piece in pieces if piece.oid not in here]
            if not isinstance(error, DamagedError):  # of a folder that lacks a file DVC keeps the list back too
                lost = [piece for piece in lost if not piece.is_list] or lost
            if not lost:
                raise
            raise InputError(
                f"{len(lost)} of {len(pieces)} files did not come from {remote.name}, or came damaged:\n{listed(lost)}\n"
                "`sentiflow remote check` says what it lacks; who made them can push them again: sentiflow remote repair"
            ) from error

    def checkout(self, targets: Sequence[str] = (), *, force: bool = False) -> None:
        """Puts what dvc.lock and the .dvc files name into the folder, from the cache.

        Raises:
            UnsafeError: if that would write anywhere but in the outputs; nothing was written.
        """
        self.require_confined()
        self._repo.checkout(list(targets), force=force)

    def fetch(self, commit: str | None = None) -> int:
        """Downloads the same, or what a commit names, into the cache alone, as far as it is there; how many files.

        Raises:
            UnsafeError: if a checkout of it would write anywhere but in the outputs.
            UnavailableError: if the remote does not answer.
            RefusedError: if authentication fails.
        """
        remote = self.remote()
        with self._exchanging(remote):
            count = self._fetch_lists(self.outputs(commit), remote)
            if commit is None:
                return count + int(self._repo.fetch())
            # the commit may be older than the remote, and DVC would read the remotes of its own .dvc/config
            config = {name: self._repo.config[name] for name in ("core", "remote")}
            return count + int(self._repo.fetch(revs=[commit], workspace=False, config=config))

    def _fetch_lists(self, outputs: Iterable[Output], remote: Store) -> int:
        """Downloads the lists of files that the cache lacks, and checks the remote's before DVC reads any of them; how many.

        Raises:
            InputError: if a list on the remote is not what its hash says.
            UnsafeError: if one that the outputs name would make DVC write outside its folder.
        """
        wanted = {output.oid: output for output in outputs if output.oid.endswith(LIST)}
        count = 0
        lost = {}
        for oid, output in wanted.items():
            with named(output):
                if remote.files_of(oid) is None:  # asked in any case: DVC may read the remote's list although the cache has it
                    lost[oid] = Piece(oid, output.path, output)
                elif self.cache.files_of(oid) is None:
                    count += self.cache.take(oid, remote)
        if damaged := [f"{lost[oid]}, object {oid}" for oid in remote.sizes(lost)]:
            raise InputError(
                f"{len(damaged)} lists of files did not come from {remote.name}, which has something else under their hash:\n"
                f"{listed(damaged)}\nNothing was written. Where the right files are, `sentiflow remote repair` repairs the remote"
            )
        return count

    @contextlib.contextmanager
    def _exchanging(self, remote: Store) -> Iterator[None]:
        """Turns what goes wrong between cache and remote into our errors."""
        with _heard() as errors:
            try:
                yield
            except InputError:
                raise
            except DvcException:
                if all(map(is_loss, errors)):  # the caller says which
                    raise
            except ObjectFormatError as error:
                raise DamagedError(f"a list of files is damaged ({error}); `sentiflow remote repair` restores it") from None
            except Exception as error:  # of the remote's library
                raise remote.explained(error) from None
            # DVC goes on with other files
            if refused := [error for error in errors if not is_loss(error)]:
                raise remote.explained(refused[0])


def listed(pieces: Collection[Any]) -> str:
    """Lines of a message, SHOWN at most."""
    lines = list(dict.fromkeys(f"  {piece}" for piece in pieces))
    return "\n".join(lines[:SHOWN] + ([f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []))


@contextlib.contextmanager
def opened(folder: Path | None = None) -> Iterator[Project]:
    """The project in a folder, by default this process's; whatever DVC refuses within the block is an InputError."""
    for library in CHATTY:
        logging.getLogger(library).setLevel(logging.WARNING)
    # s3fs leaves questions unasked when it is refused, and Python would tell of them after our own message
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    with dvc_errors_told(), repository(folder) as repo:
        yield Project(repo)


def repository(folder: Path | None = None) -> Any:
    """DVC's view of a folder, which waits for DVC's lock and keeps its indexes private."""
    os.environ.update(site.environment())
    return Repo(None if folder is None else str(folder.absolute()), _wait_for_lock=True)


@contextlib.contextmanager
def named(output: Output) -> Iterator[None]:
    """Says in an UnsafeError which output is meant, and what to do."""
    try:
        yield
    except UnsafeError as error:
        raise UnsafeError(f"{output.stage}: {output.path}: {error}; {NOTHING_WRITTEN}") from None


@contextlib.contextmanager
def dvc_errors_told() -> Iterator[None]:
    try:
        yield
    except DvcException as error:
        raise InputError(f"DVC says: {urls.without_secrets(str(error))}") from None


def _name(stage: Any) -> str:
    return str(stage.name if isinstance(stage, PipelineStage) else stage.path_in_repo)


def _hash_of(out: Any) -> str:
    if out.hash_info.name != HASH:
        raise InputError(
            f"{out} is recorded as DVC 2 did ({out.hash_info.name}); record it anew: dvc cache migrate --dvc-files, then commit"
        )
    return str(out.hash_info.value)


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Exception] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, Exception):
            self.found.append(error)


@contextlib.contextmanager
def _heard() -> Iterator[list[Exception]]:
    """What DVC logs of files that it could not transfer; it goes on with the others, and counts these in the end."""
    handler = _Errors()
    loggers = [logging.getLogger(name) for name in ("dvc", "dvc_data", "dvc_objects")]
    before = [(each, each.handlers, each.propagate) for each in loggers]
    for each in loggers:
        each.handlers, each.propagate = [handler], False
    try:
        yield handler.found
    finally:
        for each, handlers, propagate in before:
            each.handlers, each.propagate = handlers, propagate

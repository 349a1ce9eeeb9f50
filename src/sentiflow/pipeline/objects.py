"""The data and models of this project as DVC stores them: files that a commit references, in the cache and on the remote.

Every query to a remote goes to the remote itself. DVC instead trusts a local index, and assumes that all files of a folder are
pushed if the folder's list is.
"""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from logging.handlers import BufferingHandler
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

SHOWN = 20  # files that a message names


@dataclass(frozen=True)
class Output:
    """An output of a stage, or data tracked by a .dvc file, as DVC recorded it.

    stage: DVC's name of the stage, such as train@lstm; or the .dvc file.
    path: of a file, or of a folder if `oid` is the hash of a list.
    """

    stage: str
    path: str
    oid: str


@dataclass(frozen=True)
class Piece:
    """An object that an output consists of: its file, a file of its folder, or the folder's list."""

    oid: str
    file: str
    output: Output

    @property
    def is_list(self) -> bool:
        return self.oid.endswith(LIST)

    def __str__(self) -> str:
        return f"{self.output.stage}: {self.file}{' (the list of its files)' if self.is_list else ''}"


class Project:
    """DVC's view of a project."""

    def __init__(self, repo: Any) -> None:
        self._repo = repo
        self._root = Path(repo.root_dir)
        for remote in repo.config["remote"].values():
            remote["verify"] = True  # or DVC does not notice a replaced object
        self.cache = Store("the cache", repo.cache.local)

    @property
    def cache_folder(self) -> Path:
        return Path(self._repo.cache.local_cache_dir)

    def remote(self, name: str | None = None) -> Store:
        """A remote, by default the default one."""
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
        url = str(self._repo.config["remote"][name]["url"])
        kind = url.partition("://")[0] if "://" in url else ""
        return Store(f"the remote {name} ({urls.without_secrets(url)})", self._repo.cloud.get_remote(name).odb, kind, name)

    def outputs(self, commit: str | None = None, *, imported: bool = False) -> list[Output]:
        """All cached outputs in dvc.lock and the .dvc files, of this folder or of a commit.

        Args:
            imported: include those stored in another project's cache or remote.

        Raises:
            UnsafeError: if one is outside the project, in .git or .dvc, or, in this folder, behind a symbolic link.
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
        stage = str(out.stage.name if isinstance(out.stage, PipelineStage) else out.stage.path_in_repo)
        if out.hash_info and out.hash_info.name != HASH:
            raise InputError(
                f"{out} was recorded by DVC 2 ({out.hash_info.name}); convert it: dvc cache migrate --dvc-files, then commit"
            )
        output = Output(stage, path, str(out.hash_info.value) if out.hash_info else "")
        with named(output):
            confined.require_path(path)
            if output.oid:
                confined.require_hash(output.oid)
            if is_here:
                confined.require_unlinked(self._root, path, is_folder=output.oid.endswith(LIST))
            if out.files:  # a list inside the .dvc file
                confined.files_of_entries(out.files)
        return output

    def require_confined(self) -> None:
        """Raises UnsafeError if a checkout of this folder's outputs would write anywhere else."""
        for output in self.outputs(imported=True):
            if output.oid.endswith(LIST):
                with named(output):
                    files = self.cache.files_of(output.oid) or {}
                    confined.require_files_unlinked(self._root, output.path, files)

    def pieces(self, outputs: Iterable[Output], *stores: Store) -> list[Piece]:
        """The objects of outputs.

        Args:
            stores: where to read the lists of folders, the first intact one is used; without stores, a folder is its list only.
        """
        known: dict[str, dict[str, str]] = {}
        found = []
        for output in outputs:
            found.append(Piece(output.oid, output.path, output))
            if output.oid.endswith(LIST) and stores:
                if output.oid not in known:
                    with named(output):
                        known[output.oid] = next((files for store in stores if (files := store.files_of(output.oid))), {})
                found += [Piece(oid, f"{output.path}/{file}", output) for file, oid in known[output.oid].items()]
        return found

    def is_taken_for(self, file: Path, oid: str) -> bool:
        """Whether DVC assumes, from time, size and inode, that a file of this folder still has this hash."""
        _, known = self._repo.state.get(str(file.absolute()), localfs)
        return known is not None and known.value == oid

    def list_from(self, folder: Path, oid: str) -> bytes | None:
        """The list of files of a folder output, rebuilt from the folder; None if that has another hash."""
        if not folder.is_dir():
            return None
        cache, ignore = self._repo.cache.local, self._repo.dvcignore
        _, _, made = build(cache, str(folder.absolute()), localfs, HASH, dry_run=True, ignore=ignore)
        return made.as_bytes() if isinstance(made, Tree) and made.oid == oid else None

    def push(self) -> int:
        """Uploads everything that this folder's dvc.lock and .dvc files reference; returns the number of files.

        Raises:
            InputError: if the remote then lacks a file that the cache lacks too.
            UnavailableError: if the remote does not answer.
        """
        remote = self.remote()
        count = self._replace_damaged_lists(remote)
        with self._exchanging(remote):
            count += int(self._repo.push())
        pieces = self.pieces(self.outputs(), self.cache, remote)
        # DVC assumes that these are pushed: a file of a folder whose list is, and a file whose upload was interrupted
        here, there = (store.sizes({piece.oid for piece in pieces}) for store in (self.cache, remote))
        again = {oid for oid, size in here.items() if there.get(oid) != size}
        pushed = {oid for oid in again if self.cache.is_right(oid) and remote.take(oid, self.cache)}
        lost = [piece for piece in pieces if piece.oid not in {*there, *pushed} or piece.oid in again - pushed]
        if lost:
            raise InputError(
                f"{len(lost)} of {len(pieces)} files could not be pushed, because they are missing or damaged in the cache:\n"
                f"{listed(lost)}\n`sentiflow remote repair` lists them and repairs what it can"
            )
        return count + len(pushed - set(there))

    def _replace_damaged_lists(self, remote: Store) -> int:
        """Uploads again the lists of files that a killed push truncated, on which DVC would fail; returns their number."""
        lists = remote.sizes({output.oid for output in self.outputs() if output.oid.endswith(LIST)})
        damaged = [oid for oid in lists if not remote.is_right(oid)]
        return sum(remote.take(oid, self.cache) for oid in damaged if self.cache.is_right(oid))

    def pull(self, targets: Sequence[str] = (), remote_name: str | None = None) -> int:
        """Downloads everything that this folder's dvc.lock and .dvc files reference; returns the number of files.

        Run-cache entries are not downloaded: they can name any output, and nothing in git says which of them are right.

        Args:
            targets: outputs or .dvc files, as for `dvc pull`; by default all.
            remote_name: DVC's name of the remote; by default the default one.

        Raises:
            UnsafeError: if that would write anywhere but in the outputs; nothing was written.
            InputError: if a file is missing on the remote, or a local change would be overwritten.
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
            if not isinstance(error, DamagedError):  # DVC does not store the list of a folder with a missing file
                lost = [piece for piece in lost if not piece.is_list] or lost
            if not lost:
                raise
            raise InputError(
                f"{len(lost)} of {len(pieces)} files are missing or damaged on {remote.name}:\n{listed(lost)}\n"
                "`sentiflow remote check` lists what is missing; anyone who has the files can push them: sentiflow remote repair"
            ) from error

    def checkout(self, targets: Sequence[str] = (), *, force: bool = False) -> None:
        """Copies or links outputs from the cache into the folder.

        Raises:
            UnsafeError: if that would write anywhere but in the outputs; nothing was written.
        """
        self.require_confined()
        self._repo.checkout(list(targets), force=force)

    def fetch(self, commit: str | None = None) -> int:
        """Downloads what this folder or a commit references, as far as the remote has it, into the cache only.

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
            # the commit may be older than the remote, and DVC would use the remotes of the commit's .dvc/config
            config = {name: self._repo.config[name] for name in ("core", "remote")}
            return count + int(self._repo.fetch(revs=[commit], workspace=False, config=config))

    def _fetch_lists(self, outputs: Iterable[Output], remote: Store) -> int:
        """Downloads the lists of files that the cache lacks, after checking the remote's: DVC would follow any path in them.

        Raises:
            InputError: if a list on the remote does not match its hash.
            UnsafeError: if a list would make DVC write outside its folder.
        """
        wanted = {output.oid: output for output in outputs if output.oid.endswith(LIST)}
        count = 0
        lost = {}
        for oid, output in wanted.items():
            with named(output):
                if remote.files_of(oid) is None:  # even if the cache has it: DVC may read the remote's
                    lost[oid] = Piece(oid, output.path, output)
                elif self.cache.files_of(oid) is None:
                    count += self.cache.take(oid, remote)
        if damaged := [f"{lost[oid]}, object {oid}" for oid in remote.sizes(lost)]:
            raise InputError(
                f"{len(damaged)} lists of files on {remote.name} do not match their hash:\n"
                f"{listed(damaged)}\nNothing was written. Where the right files are, `sentiflow remote repair` repairs the remote"
            )
        return count

    @contextlib.contextmanager
    def _exchanging(self, remote: Store) -> Iterator[None]:
        """Translates the errors of a transfer into ours, including those that DVC only logs before it continues."""
        with _captured_log() as records:
            try:
                yield
            except InputError:
                raise
            except DvcException:
                if all(map(is_loss, _exceptions(records))):  # the caller lists the files
                    raise
            except ObjectFormatError as error:
                raise DamagedError(f"a list of files is damaged ({error}); `sentiflow remote repair` restores it") from None
            except Exception as error:  # of the remote's library
                raise remote.explained(error) from None
            if refused := [error for error in _exceptions(records) if not is_loss(error)]:
                raise remote.explained(refused[0])


def listed(pieces: Collection[Any]) -> str:
    """Lines of a message, at most SHOWN."""
    lines = list(dict.fromkeys(f"  {piece}" for piece in pieces))
    return "\n".join(lines[:SHOWN] + ([f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []))


@contextlib.contextmanager
def opened(folder: Path | None = None) -> Iterator[Project]:
    """The project in a folder, by default the working folder. Errors of DVC within the block become InputErrors."""
    for library in ("aiobotocore", "botocore", "asyncssh", "httpx"):  # libraries of remotes, which log every request
        logging.getLogger(library).setLevel(logging.WARNING)
    # s3fs abandons coroutines after a failed login, and Python would print warnings after our message
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    with dvc_errors_told(), repository(folder) as repo:
        yield Project(repo)


def repository(folder: Path | None = None) -> Any:
    """A DVC repository that waits for DVC's lock and keeps its indexes private."""
    os.environ.update(site.environment())
    return Repo(None if folder is None else str(folder.absolute()), _wait_for_lock=True)


@contextlib.contextmanager
def named(output: Output) -> Iterator[None]:
    """Adds the output and the next step to an UnsafeError."""
    try:
        yield
    except UnsafeError as error:
        raise UnsafeError(
            f"{output.stage}: {output.path}: {error}; nothing was written; "
            "restore dvc.lock or the .dvc file from a commit that you trust (git checkout COMMIT -- FILE)"
        ) from None


@contextlib.contextmanager
def dvc_errors_told() -> Iterator[None]:
    try:
        yield
    except DvcException as error:
        raise InputError(f"DVC: {urls.without_secrets(str(error))}") from None


@contextlib.contextmanager
def _captured_log() -> Iterator[list[logging.LogRecord]]:
    """What DVC logs within the block, instead of printing it."""
    handler = BufferingHandler(sys.maxsize)
    loggers = [logging.getLogger(name) for name in ("dvc", "dvc_data", "dvc_objects")]
    before = [(each, each.handlers, each.propagate) for each in loggers]
    for each in loggers:
        each.handlers, each.propagate = [handler], False
    try:
        yield handler.buffer
    finally:
        for each, handlers, propagate in before:
            each.handlers, each.propagate = handlers, propagate


def _exceptions(records: Iterable[logging.LogRecord]) -> list[Exception]:
    found = [record.exc_info[1] for record in records if record.exc_info]
    return [error for error in found if isinstance(error, Exception)]

"""What DVC keeps of this project: the files that a commit names, its cache, its remote. Of this package the one that reads DVC.

Every question to a remote goes to the remote. DVC itself keeps an index of what it believes to be there, and takes the files
of a folder for pushed where the folder's list is.
"""

import contextlib
import hashlib
import io
import itertools
import json
import logging
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from dvc.config import Config
from dvc.exceptions import CheckoutError, DvcException, FileTransferError
from dvc.fs import localfs
from dvc.repo import Repo
from dvc.repo.brancher import switch
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotSupported
from dvc_data.hashfile.build import build
from dvc_data.hashfile.tree import Tree
from dvc_objects.errors import ObjectFormatError
from tqdm import tqdm

from sentiflow.errors import InputError, UnavailableError

CHUNK = 1 << 20  # bytes of an object in memory at once
BLOCK = 4 << 20  # bytes asked of a remote at once
THREADS = 4  # that talk to a remote at once
CHATTY = ("aiobotocore", "botocore", "asyncssh", "httpx")  # of remotes; they log each request or login
LIST = ".dir"  # how the hash of a folder's list of files ends
SHOWN = 20  # files that a message names
HASH = "md5"
CONFIG, OWN_CONFIG = Path(".dvc/config"), Path(".dvc/config.local")  # of these git tracks the first
# Options of a remote that are secrets, of any kind that DVC knows.
SECRETS = re.compile(
    r"password|passphrase|token|access_key_id|secret_access_key|session_token|account_key|sas_token|"
    r"connection_string|client_secret|oss_key_id|oss_key_secret|custom_auth_header|sse_customer_key|bearer_token_command"
)

log = logging.getLogger("sentiflow")


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


class RefusedError(InputError):
    """A remote does not let this user in."""


class DamagedError(InputError):
    """What lies there is not what was once put there: by the remote's own checksum, or as DVC found a list of files."""


class Store:
    """A place of objects: DVC's cache, or a remote.

    name: for messages, without secrets.
    kind: scheme of a remote's URL; empty for a folder.
    remote: how DVC calls it, if it is one.
    """

    def __init__(self, name: str, odb: Any, kind: str = "", remote: str = "") -> None:
        self.name = name
        self._odb = odb
        self._kind = kind
        self._remote = remote

    def sizes(self, oids: Collection[str]) -> dict[str, int]:
        """Bytes of those objects that are there."""
        folders = [list(found) for _, found in itertools.groupby(sorted(oids), key=lambda oid: oid[:2])]
        with self._talking(), ThreadPoolExecutor(THREADS) as threads:
            self._odb.fs.fs.invalidate_cache()
            listed = threads.map(self._sizes_in_one_folder, folders)
            bar = tqdm(listed, desc=f"look into {self.name}", total=len(folders), unit="folder", leave=False, disable=None)
            there = {oid: size for found in bar for oid, size in found.items()}
        return {oid: there[oid] for oid in oids if oid in there}

    def _sizes_in_one_folder(self, oids: Sequence[str]) -> dict[str, int]:
        fs, prefix = self._odb.fs, oids[0][:2]
        try:
            entries = fs.ls(fs.join(self._odb.path, prefix), detail=True)
            return {prefix + fs.name(each["name"]): int(each["size"]) for each in entries if each["type"] == "file"}
        except (FileNotFoundError, NotADirectoryError) as error:
            if type(error.__cause__).__name__ == "NoSuchBucket":
                raise
            return {}
        except NotImplementedError:  # plain HTTP lists nothing
            found = {}
            for oid in oids:
                with contextlib.suppress(FileNotFoundError):
                    found[oid] = int(fs.info(self._odb.oid_to_path(oid))["size"])
            return found

    def hash(self, oid: str) -> str | None:
        """The MD5 of what lies there under this name, read to its end; None if nothing does, empty if the remote disowns it."""
        found = hashlib.md5(usedforsecurity=False)
        try:
            with self._talking(), self._opened(oid) as file:
                while piece := file.read(CHUNK):
                    found.update(piece)
        except FileNotFoundError:
            return None
        except DamagedError:
            return ""
        return found.hexdigest()

    def is_right(self, oid: str) -> bool:
        return self.hash(oid) == oid.removesuffix(LIST)

    def files_of(self, oid: str) -> dict[str, str] | None:
        """The files of a folder's list, path: hash; None if the list is not there, or not what it was."""
        try:
            with self._talking(), self._opened(oid) as file:
                content = file.read()
        except (FileNotFoundError, DamagedError):
            return None
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != oid.removesuffix(LIST):
            return None
        return {entry["relpath"]: entry[HASH] for entry in json.loads(content)}

    def _opened(self, oid: str) -> BinaryIO:
        path = self._odb.oid_to_path(oid)
        how = {"block_size": BLOCK} if self._kind else {}
        file: BinaryIO = self._odb.fs.open(path, "rb", **how)
        return file

    def take(self, oid: str, source: "Store") -> bool:
        """Replaces what lies here under this name by the other store's; False if that did not bring the right bytes."""
        with self._talking(), source._talking():
            self.remove(oid)
            self._odb.add(source._odb.oid_to_path(oid), source._odb.fs, oid, check_exists=False, verify=False)
        if self.is_right(oid):
            return True
        self.remove(oid)
        return False

    def take_file(self, oid: str, file: Path) -> None:
        """Replaces what lies here under this name by a file of this machine that has the right bytes."""
        with self._talking():
            self.remove(oid)
            self._odb.add(str(file.absolute()), localfs, oid, check_exists=False, verify=False)

    def take_bytes(self, oid: str, content: bytes) -> None:
        with self._talking():
            self.remove(oid)
            self._odb.add_bytes(oid, content)

    def remove(self, oid: str) -> None:
        with self._talking(), contextlib.suppress(FileNotFoundError, NotImplementedError):  # plain HTTP can only write over it
            self._odb.delete(oid)

    def path(self, oid: str) -> Path:
        """Where an object of the cache lies."""
        return Path(self._odb.oid_to_path(oid))

    def try_out(self) -> None:
        """Writes a small object beside the others, reads it and removes it.

        Raises:
            RefusedError: if the remote does not let this user in.
            UnavailableError: if it does not answer.
            InputError: if there is no such place.
        """
        fs, content = self._odb.fs, b"written by `make remote`, which removes it again\n"
        place = fs.join(fs.parent(self._odb.path), "tried-out-by-make-remote")
        with self._talking(told_missing=True):
            fs.makedirs(fs.parent(place), exist_ok=True)
            fs.put_file(io.BytesIO(content), place, size=len(content))
            with fs.open(place, "rb") as file:
                same = file.read() == content
            fs.remove(place)
        if not same:
            raise InputError(f"{self.name} gave back other bytes than were written; it cannot hold data")

    @contextlib.contextmanager
    def _talking(self, told_missing: bool = False) -> Iterator[None]:
        """Turns the errors of the remote's library into ours; of a missing file only where that is asked for."""
        try:
            yield
        except (InputError, DvcException):
            raise
        except Exception as error:
            if not self._kind and not isinstance(error, OSError):
                raise
            if _is_damage(error):
                raise DamagedError(f"{self.name} holds a damaged file: {error}") from None
            if isinstance(error, FileNotFoundError) and not told_missing and type(error.__cause__).__name__ != "NoSuchBucket":
                raise
            raise self.explained(error) from None

    def explained(self, error: Exception) -> InputError:
        reason = without_secrets(" ".join(str(error).split()) or type(error).__name__)
        if isinstance(error, PermissionError) or re.search(r"\b(401|403)\b|[Cc]redentials|authentication fail", reason):
            how = HOW_TO_GET_IN.get(self._kind, HOW_TO_WRITE).replace("NAME", self._remote)
            return RefusedError(f"{self.name} does not let this user in: {reason}; {how}")
        if isinstance(error, FileNotFoundError):
            return InputError(f"{self.name} is not there: {reason}; make that bucket or folder first, or correct the URL")
        return UnavailableError(f"{self.name} does not answer: {reason}; check that it runs and is within reach, then run again")


def _is_damage(error: BaseException) -> bool:
    # the first is botocore's, which is loaded only where the remote is S3
    return type(error).__name__ == "FlexibleChecksumError" or isinstance(error, ObjectFormatError)


def _is_loss(error: BaseException) -> bool:
    return isinstance(error, FileNotFoundError) or _is_damage(error)


HOW_TO_WRITE = "make it readable and writable for this user"
HOW_TO_GET_IN = {
    "s3": "give a key that may read and write there: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, AWS's own "
    "files, or `dvc remote modify --local NAME access_key_id ...` and `... secret_access_key ...` (docs/remotes.md)",
    "ssh": "give the user and the key, or the password, of this machine alone: `dvc remote modify --local NAME user ...`, "
    "`... keyfile ...`, `... password ...` (docs/remotes.md)",
    "webdav": "give the user and the password of this machine alone: `dvc remote modify --local NAME user ...`, "
    "`... password ...` (docs/remotes.md)",
}
HOW_TO_GET_IN["webdavs"] = HOW_TO_GET_IN["webdav"]


def without_secrets(text: str) -> str:
    """A text whose URLs show neither user nor password nor query.

    >>> without_secrets("no answer from https://ann:secret@example.org/a?token=1")
    'no answer from https://example.org/a'
    """
    return re.sub(r"([a-z][a-z0-9+.-]*://)(?:[^/@\s]*@)?([^\s'\"?#]*)[^\s'\"]*", r"\1\2", text)


class Project:
    """This folder as DVC knows it."""

    def __init__(self, repo: Any) -> None:
        self._repo = repo
        self.cache = Store("the cache", repo.cache.local)

    def remote(self) -> Store:
        """The default remote.

        Raises:
            InputError: if none is set, or its settings cannot be used.
        """
        remote = self.remote_if_set()
        if remote is None:
            raise InputError("no remote is set; set one with `make remote URL=...`, or a folder beside the project: make remote")
        return remote

    def remote_if_set(self) -> Store | None:
        name = self._repo.config["core"].get("remote")
        if not name:
            return None
        opened = self._repo.cloud.get_remote(name)
        url = str(self._repo.config["remote"][name]["url"])
        kind = url.partition("://")[0] if "://" in url else ""
        return Store(f"the remote {name} ({without_secrets(url)})", opened.odb, kind, name)

    def outputs(self, commit: str | None = None) -> list[Output]:
        """All that DVC caches, as dvc.lock and the .dvc files name it: those of this folder, or of a commit.

        Raises:
            InputError: if git does not know the commit, or its files cannot be read.
        """
        with switch(self._repo, commit) if commit is not None else contextlib.nullcontext():
            index = self._repo.index
            outs = [out for out in index.outs if out.use_cache and out.can_push and out.hash_info and out.is_in_repo]
            root = self._repo.root_dir
            return [
                Output(_name(out.stage), self._repo.fs.relpath(out.fs_path, root), _hash_of(out))
                for out in outs
                if not out.stage.is_repo_import  # what comes from another project lies there
            ]

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
        """Hands to the remote what this folder's dvc.lock and .dvc files name, and what the run cache knows; how many files.

        Raises:
            InputError: if the remote then lacks something that the cache does not have either.
            UnavailableError: if it does not answer.
        """
        remote = self.remote()
        with self._exchanging(remote):
            with contextlib.suppress(RunCacheNotSupported):  # of a remote over plain HTTP, which lists no files
                self._repo.stage_cache.push(None)  # by itself, or it counts with the files, each time anew
            count = int(self._repo.push())
        pieces = self.pieces(self.outputs(), self.cache, remote)
        # What DVC takes for pushed: a file of a folder whose list is there, and one that was cut on its way.
        here, there = (store.sizes({piece.oid for piece in pieces}) for store in (self.cache, remote))
        again = {oid for oid, size in here.items() if there.get(oid) != size}
        pushed = {oid for oid in again if self.cache.is_right(oid) and remote.take(oid, self.cache)}
        lost = [piece for piece in pieces if piece.oid not in {*there, *pushed} or piece.oid in again - pushed]
        if lost:
            raise InputError(
                f"{len(lost)} of {len(pieces)} files could not be pushed, since the cache has them not, or not as they were:\n"
                f"{listed(lost)}\n`make check-data` says which, and heals what it can"
            )
        return count + len(pushed - set(there))

    def pull(self) -> int:
        """Brings the same from the remote, into the cache and into this folder; how many files.

        Raises:
            InputError: if something that dvc.lock names did not come, or changed files in this folder are in the way.
            UnavailableError: if the remote does not answer.
        """
        remote = self.remote()
        try:
            with self._exchanging(remote):
                return int(self._repo.pull(run_cache=True)["stats"]["fetched"])
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
                "`make check-remote` says what it lacks; who made them can push them again: make check-data"
            ) from error

    def fetch(self) -> int:
        """Brings the same from the remote into the cache alone, as far as it is there; how many files.

        Raises:
            UnavailableError: if the remote does not answer.
            RefusedError: if it does not let this user in.
        """
        with self._exchanging(self.remote()):
            return int(self._repo.fetch(run_cache=True))

    @contextlib.contextmanager
    def _exchanging(self, remote: Store) -> Iterator[None]:
        """Turns what goes wrong between cache and remote into our errors."""
        with _heard() as errors:
            try:
                yield
            except DvcException:
                if all(map(_is_loss, errors)):  # the caller says which
                    raise
            except ObjectFormatError as error:
                raise DamagedError(f"a list of files is damaged ({error}); `make check-data` finds and heals it") from None
            except Exception as error:  # of the remote's library
                raise remote.explained(error) from None
            # DVC goes on with other files; of the run cache's it only logs that they failed
            if refused := [error for error in errors if not _is_loss(error)]:
                raise remote.explained(refused[0])


def listed(pieces: Collection[Any]) -> str:
    """Lines of a message, SHOWN at most."""
    lines = list(dict.fromkeys(f"  {piece}" for piece in pieces))
    return "\n".join(lines[:SHOWN] + ([f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []))


@contextlib.contextmanager
def opened() -> Iterator[Project]:
    """The project in this process's folder; whatever DVC refuses within the block is an InputError."""
    for library in CHATTY:
        logging.getLogger(library).setLevel(logging.WARNING)
    # s3fs leaves questions unasked when it is refused, and Python would tell of them after our own message
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    with dvc_errors_told(), Repo(_wait_for_lock=True) as repo:
        yield Project(repo)


@contextlib.contextmanager
def dvc_errors_told() -> Iterator[None]:
    try:
        yield
    except DvcException as error:
        raise InputError(f"DVC says: {without_secrets(str(error))}") from None


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


# --- settings ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def configured(name: str, shared: Mapping[str, str] | None, own: Mapping[str, str]) -> Iterator[None]:
    """Makes a remote of this name the default; what was set before is back if the block fails, unless a password is all it lacks.

    Args:
        shared: options for .dvc/config, which git tracks; None leaves that file as it is.
        own: options for .dvc/config.local, which git ignores; they are added to those that stand there for this remote, if it
            is still on the same host.

    Raises:
        InputError: if DVC does not take them.
    """
    files = {file: file.read_bytes() if file.exists() else None for file in (CONFIG, OWN_CONFIG)}
    OWN_CONFIG.touch(mode=0o600)  # before DVC writes into it: it may come to hold passwords
    try:
        with dvc_errors_told():
            config = Config(dvc_dir=str(CONFIG.parent), validate=False)
            old = config["remote"].get(name, {}).get("url", "")
            with config.edit("local", validate=False) as local:
                kept = local["remote"].get(name, {}) if _host(old) == _host((shared or own).get("url", "")) else {}
                local["remote"][name] = {**kept, **own}
                local["core"]["remote"] = name
                if shared is not None:
                    del local["core"]["remote"]  # or it would hide that of .dvc/config
            if shared is not None:
                with config.edit("repo", validate=False) as repo:
                    kept = repo["remote"].get(name, {}) if old == shared["url"] else {}
                    repo["remote"][name] = {**kept, **shared}
                    repo["core"]["remote"] = name
            Config(dvc_dir=str(CONFIG.parent))
        yield
    except BaseException as error:
        if not isinstance(error, RefusedError):
            for file, content in files.items():
                file.unlink(missing_ok=True) if content is None else file.write_bytes(content)
        raise


def _host(url: str) -> str:
    """What a password is for."""
    return urlsplit(url).netloc.rpartition("@")[2] if "://" in url else url


def secrets_in(config: str) -> list[str]:
    r"""Options of a .dvc/config that must not be in git: passwords, keys and tokens, and URLs that hold one.

    >>> secrets_in("['remote \"a\"']\n    url = ssh://ann:pw@host/x\n    password = pw\n")
    ['url', 'password']
    """
    options = re.findall(r"^\s*(\w+)\s*=\s*(\S.*)$", config, re.MULTILINE)
    with_password = re.compile(r"[^/]+://[^/@]*:[^/@]*@")
    return [name for name, value in options if SECRETS.fullmatch(name) or (name == "url" and with_password.match(value))]

"""Where DVC keeps objects, each under its hash: its cache, or a remote of any kind."""

import contextlib
import hashlib
import io
import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from dvc.exceptions import DvcException
from dvc.fs import localfs
from dvc_objects.errors import ObjectFormatError
from tqdm import tqdm

from sentiflow.pipeline import confined
from sentiflow.pipeline.confined import LIST, UnsafeError
from sentiflow.system import urls
from sentiflow.system.errors import InputError, UnavailableError

CHUNK = 1 << 20  # bytes of an object in memory at once
BLOCK = 4 << 20  # bytes asked of a remote at once
THREADS = 4  # that talk to a remote at once


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
        """The files of a folder's list, path: hash; None if the list is not there, or not what it was.

        Raises:
            UnsafeError: if the list would make DVC write outside its folder.
        """
        try:
            with self._talking(), self._opened(oid) as file:
                content = file.read(confined.MAX_LIST_BYTES + 1)
        except (FileNotFoundError, DamagedError):
            return None
        try:
            if len(content) > confined.MAX_LIST_BYTES:
                raise UnsafeError(f"it has more than {confined.MAX_LIST_BYTES // 1_000_000} MB")
            return confined.files_in(content, oid)
        except UnsafeError as error:
            raise UnsafeError(f"the list of files {oid} in {self.name} is not one that DVC wrote: {error}") from None

    def _opened(self, oid: str) -> BinaryIO:
        path = self._odb.oid_to_path(oid)
        how = {"block_size": BLOCK} if self._kind else {}
        file: BinaryIO = self._odb.fs.open(path, "rb", **how)
        return file

    def take(self, oid: str, source: "Store") -> bool:
        """Replaces what is stored here under this name by the other store's; False if that did not copy the right bytes.

        Raises:
            UnsafeError: if it is a list that would make DVC write outside its folder; nothing was replaced.
        """
        if oid.endswith(LIST) and source.files_of(oid) is None:
            return False
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
        fs, content = self._odb.fs, b"written by `sentiflow remote set`, which removes it again\n"
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
        reason = urls.without_secrets(" ".join(str(error).split()) or type(error).__name__)
        if isinstance(error, PermissionError) or re.search(r"\b(401|403)\b|[Cc]redentials|authentication fail", reason):
            how = HOW_TO_GET_IN.get(self._kind, HOW_TO_WRITE).replace("NAME", self._remote)
            return RefusedError(f"{self.name} does not let this user in: {reason}; {how}")
        if isinstance(error, FileNotFoundError):
            return InputError(f"{self.name} is not there: {reason}; make that bucket or folder first, or correct the URL")
        return UnavailableError(f"{self.name} does not answer: {reason}; check that it runs and is within reach, then run again")


def _is_damage(error: BaseException) -> bool:
    # the first is botocore's, which is loaded only where the remote is S3
    return type(error).__name__ == "FlexibleChecksumError" or isinstance(error, ObjectFormatError)


def is_loss(error: BaseException) -> bool:
    """Whether an object was not there, or not what it was; anything else is about the store itself."""
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

"""Object stores of DVC, its cache or a remote of any kind: each object under its hash."""

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

CHUNK = 1 << 20  # bytes read at once
BLOCK = 4 << 20  # bytes requested from a remote at once
THREADS = 4  # parallel requests to a remote
ADVICE = "make it readable and writable for this user"
CREDENTIALS = {  # how to set them, by the scheme of the remote
    "s3": "give a key that can read and write there: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, AWS's own "
    "files, or `dvc remote modify --local NAME access_key_id ...` and `... secret_access_key ...` (docs/remotes.md)",
    "ssh": "set user and key, or password, for this machine only: `dvc remote modify --local NAME user ...`, "
    "`... keyfile ...`, `... password ...` (docs/remotes.md)",
    "webdav": "set user and password for this machine only: `dvc remote modify --local NAME user ...`, "
    "`... password ...` (docs/remotes.md)",
}


class RefusedError(InputError):
    """A remote rejected the credentials."""


class DamagedError(InputError):
    """A stored object is corrupt, by the remote's own checksum or as DVC found it."""


class Store:
    """DVC's cache, or a remote.

    name: for messages, without secrets.
    kind: scheme of a remote's URL; empty for a folder.
    remote: DVC's name of the remote; empty for the cache.
    """

    def __init__(self, name: str, odb: Any, kind: str = "", remote: str = "") -> None:
        self.name = name
        self._odb = odb
        self._kind = kind
        self._remote = remote

    def sizes(self, oids: Collection[str]) -> dict[str, int]:
        """Bytes of each object that exists."""
        folders = [list(found) for _, found in itertools.groupby(sorted(oids), key=lambda oid: oid[:2])]
        with self._errors_handled(), ThreadPoolExecutor(THREADS) as threads:
            self._odb.fs.fs.invalidate_cache()
            listed = threads.map(self._sizes_in_folder, folders)
            bar = tqdm(listed, desc=f"list {self.name}", total=len(folders), unit="folder", leave=False, disable=None)
            existing = {oid: size for found in bar for oid, size in found.items()}
        return {oid: existing[oid] for oid in oids if oid in existing}

    def _sizes_in_folder(self, oids: Sequence[str]) -> dict[str, int]:
        fs, prefix = self._odb.fs, oids[0][:2]
        try:
            entries = fs.ls(fs.join(self._odb.path, prefix), detail=True)
            return {prefix + fs.name(each["name"]): int(each["size"]) for each in entries if each["type"] == "file"}
        except (FileNotFoundError, NotADirectoryError) as error:
            if _is_missing_bucket(error):
                raise
            return {}
        except NotImplementedError:  # plain HTTP cannot list
            found = {}
            for oid in oids:
                with contextlib.suppress(FileNotFoundError):
                    found[oid] = int(fs.info(self._odb.oid_to_path(oid))["size"])
            return found

    def is_right(self, oid: str) -> bool:
        """Whether the object exists and its content has this hash."""
        found = hashlib.md5(usedforsecurity=False)
        try:
            with self._errors_handled(), self._open(oid) as file:
                while chunk := file.read(CHUNK):
                    found.update(chunk)
        except (FileNotFoundError, DamagedError):
            return False
        return found.hexdigest() == oid.removesuffix(LIST)

    def files_of(self, oid: str) -> dict[str, str] | None:
        """The hash of each file of a folder, by path; None if the folder's list is missing or corrupt.

        Raises:
            UnsafeError: if the list would make DVC write outside its folder.
        """
        try:
            with self._errors_handled(), self._open(oid) as file:
                content = file.read(confined.MAX_LIST_BYTES + 1)
        except (FileNotFoundError, DamagedError):
            return None
        try:
            if len(content) > confined.MAX_LIST_BYTES:
                raise UnsafeError(f"it has more than {confined.MAX_LIST_BYTES // 1_000_000} MB")
            return confined.files_in(content, oid)
        except UnsafeError as error:
            raise UnsafeError(f"the list of files {oid} in {self.name} was not written by DVC: {error}") from None

    def _open(self, oid: str) -> BinaryIO:
        options = {"block_size": BLOCK} if self._kind else {}
        file: BinaryIO = self._odb.fs.open(self._odb.oid_to_path(oid), "rb", **options)
        return file

    def take(self, oid: str, source: "Store") -> bool:
        """Replaces an object by that of another store; False if the result has the wrong hash.

        Raises:
            UnsafeError: if it is a list that would make DVC write outside its folder; nothing was replaced.
        """
        if oid.endswith(LIST) and source.files_of(oid) is None:
            return False
        with self._errors_handled(), source._errors_handled():
            self.remove(oid)
            self._odb.add(source._odb.oid_to_path(oid), source._odb.fs, oid, check_exists=False, verify=False)
        if self.is_right(oid):
            return True
        self.remove(oid)
        return False

    def take_file(self, oid: str, file: Path) -> None:
        """Replaces an object by a local file, which must have the right hash."""
        with self._errors_handled():
            self.remove(oid)
            self._odb.add(str(file.absolute()), localfs, oid, check_exists=False, verify=False)

    def take_bytes(self, oid: str, content: bytes) -> None:
        with self._errors_handled():
            self.remove(oid)
            self._odb.add_bytes(oid, content)

    def remove(self, oid: str) -> None:
        with self._errors_handled(), contextlib.suppress(FileNotFoundError, NotImplementedError):  # plain HTTP cannot delete
            self._odb.delete(oid)

    def path(self, oid: str) -> Path:
        """Path of an object in the cache."""
        return Path(self._odb.oid_to_path(oid))

    def try_out(self) -> None:
        """Writes a small file next to the objects, reads it and removes it.

        Raises:
            RefusedError: if authentication fails.
            UnavailableError: if the remote does not answer.
            InputError: if the bucket or folder does not exist.
        """
        fs, content = self._odb.fs, b"written and removed by `sentiflow remote set`\n"
        place = fs.join(fs.parent(self._odb.path), "tried-out-by-make-remote")
        with self._errors_handled(missing_too=True):
            fs.makedirs(fs.parent(place), exist_ok=True)
            fs.put_file(io.BytesIO(content), place, size=len(content))
            with fs.open(place, "rb") as file:
                same = file.read() == content
            fs.remove(place)
        if not same:
            raise InputError(f"{self.name} returned other bytes than were written; it cannot store data")

    @contextlib.contextmanager
    def _errors_handled(self, missing_too: bool = False) -> Iterator[None]:
        """Translates the errors of the remote's library into ours; a missing file only if `missing_too`."""
        try:
            yield
        except (InputError, DvcException):
            raise
        except Exception as error:
            if not self._kind and not isinstance(error, OSError):
                raise
            if _is_damage(error):
                raise DamagedError(f"{self.name} has a damaged file: {error}") from None
            if isinstance(error, FileNotFoundError) and not missing_too and not _is_missing_bucket(error):
                raise
            raise self.explained(error) from None

    def explained(self, error: Exception) -> InputError:
        reason = urls.without_secrets(" ".join(str(error).split()) or type(error).__name__)
        if isinstance(error, PermissionError) or re.search(r"\b(401|403)\b|[Cc]redentials|authentication fail", reason):
            advice = CREDENTIALS.get(self._kind.replace("webdavs", "webdav"), ADVICE).replace("NAME", self._remote)
            return RefusedError(f"{self.name}: authentication failed: {reason}; {advice}")
        if isinstance(error, FileNotFoundError):
            return InputError(f"{self.name} does not exist: {reason}; create that bucket or folder, or correct the URL")
        return UnavailableError(f"{self.name} does not answer: {reason}; check that it is running and reachable, then run again")


def _is_missing_bucket(error: OSError) -> bool:
    return type(error.__cause__).__name__ == "NoSuchBucket"


def _is_damage(error: BaseException) -> bool:
    # the first is botocore's, which is only loaded for S3
    return type(error).__name__ == "FlexibleChecksumError" or isinstance(error, ObjectFormatError)


def is_loss(error: BaseException) -> bool:
    """Whether an object is missing or corrupt; any other error is about the store itself."""
    return isinstance(error, FileNotFoundError) or _is_damage(error)

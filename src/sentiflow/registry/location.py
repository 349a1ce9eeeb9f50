"""Where MLflow's store and its artifacts are, checked without loading MLflow, which takes seconds.

MLflow stores every artifact location as an absolute path, so a copied or moved project would read and write the artifacts of the
folder in which its store was made. Relative locations would not help: MLflow reads them from the working folder of each process,
and a notebook, a side run and `sentiflow models rebuild` work in other folders than `make`.
"""

import contextlib
import logging
import re
import shlex
import sqlite3
import urllib.parse
from pathlib import Path

from sentiflow.system import urls
from sentiflow.system.errors import InputError, UnavailableError

log = logging.getLogger("sentiflow")

DEFAULT_STORE = "sqlite:///mlflow.db"
EXPERIMENT = "sentiflow"
VERDICT = Path(".cache/verdict.md")  # on the last challenger, as the stage `judge` wrote it
REPORT = Path("reports/report.html")
DECISION = Path("reports/decision.html")  # the report with the verdict on top
PUBLISHED = Path("mlartifacts/published.json")  # best model and keys of the last run, as the stage `register` wrote it
ARTIFACTS = "mlartifacts"  # next to the database
OF_MLFLOW = "mlruns"  # next to it as well: where MLflow puts the artifacts of experiments that are not this project's
KINDS = ("sqlite", "postgresql", "http", "https")
REMOTE = ("mlflow-artifacts", "s3", "gs", "abfss", "wasbs")  # schemes of artifact locations that are no files of this machine
BUSY_SECONDS = 20.0  # that MLflow, too, waits for another process that writes to the file


def check(uri: str) -> None:
    """Refuses an address that this project cannot use, and points the artifact locations of a moved store at its new folder.

    Raises:
        InputError: if the store is of an unsupported kind or damaged, or keeps its artifacts where this project must not write.
        UnavailableError: if another process has locked it.
    """
    kind, separator, _ = uri.partition("://")
    if not separator or kind.partition("+")[0] not in KINDS or uri.rstrip("/") == "sqlite:":
        raise InputError(
            f"MLFLOW_TRACKING_URI is {urls.without_user(uri)}, which is no database or server; expected sqlite:///FILE, "
            "postgresql://... or http(s)://...; unset it to use sqlite:///mlflow.db"
        )
    file = database(uri)
    if file is not None and file.is_file():
        try:
            _check_artifacts(file)
        except sqlite3.Error as error:
            if is_locked(error):
                raise locked(uri) from None
            raise InputError(
                f"MLflow's store at {uri} cannot be used ({error}); if the file is damaged, move it away, and everything is "
                "published again"
            ) from None


def database(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def is_locked(error: Exception) -> bool:
    return "database is locked" in str(error)  # SQLite's words, also within SQLAlchemy's and MLflow's


def locked(uri: str) -> UnavailableError:
    """The error of a SQLite store that another process has locked for longer than MLflow waits."""
    return UnavailableError(
        f"MLflow's store at {uri} is locked: another process is writing to it and did not finish in time; "
        f"wait until it ends (`fuser {shlex.quote(str(database(uri)))}` prints its id), then run the same command again"
    )


def is_remote(location: str) -> bool:
    """Whether an artifact location is in shared storage rather than in files of this machine or behind any other address."""
    return location.partition(":")[0] in REMOTE


def local_path(location: str) -> Path | None:
    """The folder that an artifact location names on this machine; None for a location of another scheme."""
    if location.startswith("file:"):
        location = urllib.parse.urlsplit(location).path
    return None if re.match(r"[A-Za-z][\w+.-]*:", location) else Path(urllib.parse.unquote(location))


def of_path(path: Path) -> str:
    """The location of a folder on this machine: MLflow unquotes a plain path as well."""
    return str(path).replace("%", "%25")


def is_within(path: Path, folder: Path) -> bool:
    """Whether a path is in a folder or is the folder, wherever links lead."""
    return path.is_absolute() and path.resolve().is_relative_to(folder.resolve())


def _check_artifacts(file: Path) -> None:
    name = urllib.parse.quote(str(file.absolute()))
    with contextlib.closing(
        sqlite3.connect(f"file:{name}?mode=rw", uri=True, isolation_level=None, timeout=BUSY_SECONDS)
    ) as connection:
        location = _location(connection)
        if location is None:  # an empty database, or one in which nothing was published
            return
        folder = file.absolute().parent.resolve()
        old = _old_folder(location, folder)
        if old is not None:
            # A lock of SQLite's rather than the project's: the stages that come here run while their starter holds that one.
            connection.execute("BEGIN IMMEDIATE")
            location = _location(connection) or location
            if (old := _old_folder(location, folder)) is not None:  # no other process was faster
                _rewrite(connection, old, of_path(folder))
                location = _location(connection) or location
        stray = _stray(connection, location, folder / ARTIFACTS)
        if connection.in_transaction:
            connection.execute("ROLLBACK" if stray else "COMMIT")
        if stray:
            raise InputError(
                f"MLflow's store at {file} has artifacts of experiment {EXPERIMENT!r} in {stray}; expected {folder / ARTIFACTS}, "
                "and nothing is written elsewhere; fill a new store from git's history: "
                f"mv {shlex.quote(str(file))} {shlex.quote(f'{file}.old')} && sentiflow models rebuild"
            )
        if old is not None:
            log.warning("the MLflow store was made in %s; its artifact locations now point to %s", local_path(old), folder)


def _location(connection: sqlite3.Connection) -> str | None:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
        return None
    found = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", (EXPERIMENT,)).fetchone()
    return str(found[0]) if found else None


def _old_folder(location: str, folder: Path) -> str | None:
    """The folder in which the store was made, as its locations spell it; None if that is this folder or cannot be told."""
    path = local_path(location)
    if path is None or is_within(path, folder / ARTIFACTS):
        return None
    made_in = re.fullmatch(rf"(/.*|file:///.*)/{ARTIFACTS}(?:/.*)?", location, re.DOTALL)
    return made_in.group(1) if made_in else None


def _rewrite(connection: sqlite3.Connection, old: str, new: str) -> None:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        for _, column, kind, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
            if not re.match("VARCHAR|TEXT", kind):
                continue
            for name in (ARTIFACTS, OF_MLFLOW):
                before, after = f"{old}/{name}", f"{new}/{name}"
                connection.execute(
                    f'UPDATE "{table}" SET "{column}" = :after || substr("{column}", length(:before) + 1)'
                    f' WHERE "{column}" = :before OR substr("{column}", 1, length(:before) + 1) = :before || \'/\'',
                    {"before": before, "after": after},
                )


def _stray(connection: sqlite3.Connection, location: str, artifacts: Path) -> str | None:
    """A location to which this project would write although it is neither in its folder nor remote storage, if there is one."""
    path = local_path(location)
    if not (is_remote(location) if path is None else is_within(path, artifacts)):
        return location
    # MLflow derives these from the experiment's location
    expected = "rtrim(artifact_location, '/') || '/' || run_uuid || '/artifacts'"
    run = connection.execute(
        "SELECT artifact_uri FROM runs JOIN experiments USING (experiment_id)"
        f" WHERE experiments.name = ? AND (artifact_uri != {expected} OR run_uuid GLOB '*[^0-9a-f]*')",
        (EXPERIMENT,),
    ).fetchone()
    return str(run[0]) if run else None

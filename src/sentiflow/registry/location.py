"""Locations of MLflow's store, artifacts and UI, checked without importing MLflow, which takes seconds.

MLflow stores artifact locations as absolute paths, so a copied or moved project would use the artifacts of the folder in which
its store was created. Relative locations would not help: MLflow resolves them against the working folder of each process, which
differs between a notebook, a side run, `sentiflow models rebuild` and `make`.
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
VERDICT = Path(".cache/verdict.md")  # on the last challenger, written by the stage `judge`
REPORT = Path("reports/report.html")
DECISION = Path("reports/decision.html")  # the report with the verdict on top
PUBLISHED = Path("mlartifacts/published.json")  # best model and keys of the last run, written by the stage `register`
COMPARISON = Path(".cache/comparison_page")  # of the last run in MLflow's UI, written by the stage `register`
UI = Path(".prefect/mlflow")  # address at which `sentiflow ui` last served MLflow
ARTIFACTS = "mlartifacts"  # next to the database
OTHER_ARTIFACTS = "mlruns"  # next to the database: MLflow's default for other experiments
KINDS = ("sqlite", "postgresql", "http", "https")
REMOTE = ("mlflow-artifacts", "s3", "gs", "abfss", "wasbs")  # schemes of artifact locations in shared storage
BUSY_SECONDS = 20.0  # SQLite's timeout for a lock, the same as MLflow's


def check(uri: str) -> None:
    """Checks the URI of a store, and rewrites the artifact locations of a store that was moved.

    Raises:
        InputError: if the store is of an unsupported kind or damaged, or its artifacts are where this project must not write.
        UnavailableError: if another process has locked it.
    """
    kind, separator, _ = uri.partition("://")
    if not separator or kind.partition("+")[0] not in KINDS or uri.rstrip("/") == "sqlite:":
        raise InputError(
            f"MLFLOW_TRACKING_URI: expected sqlite:///FILE, postgresql://... or http(s)://..., got {urls.without_user(uri)}; "
            f"unset it to use {DEFAULT_STORE}"
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
    """File of a SQLite store; None for any other store."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def is_locked(error: Exception) -> bool:
    return "database is locked" in str(error)  # SQLite's message, also in errors of SQLAlchemy and MLflow


def locked(uri: str) -> UnavailableError:
    """The error about a SQLite store that another process has locked for too long."""
    return UnavailableError(
        f"MLflow's store at {uri} is locked: another process is writing to it; "
        f"wait until it ends (`fuser {shlex.quote(str(database(uri)))}` prints its id), then run the same command again"
    )


def is_remote(location: str) -> bool:
    """Whether an artifact location is in shared storage."""
    return location.partition(":")[0] in REMOTE


def local_path(location: str) -> Path | None:
    """Folder of an artifact location on this machine; None for any other location."""
    if location.startswith("file:"):
        location = urllib.parse.urlsplit(location).path
    return None if re.match(r"[A-Za-z][\w+.-]*:", location) else Path(urllib.parse.unquote(location))


def of_path(path: Path) -> str:
    """Artifact location of a folder; escaped, since MLflow unquotes plain paths too."""
    return str(path).replace("%", "%25")


def is_within(path: Path, folder: Path) -> bool:
    """Whether a path, with links resolved, is a folder or in it."""
    return path.is_absolute() and path.resolve().is_relative_to(folder.resolve())


def _check_artifacts(file: Path) -> None:
    name = urllib.parse.quote(str(file.absolute()))
    with contextlib.closing(
        sqlite3.connect(f"file:{name}?mode=rw", uri=True, isolation_level=None, timeout=BUSY_SECONDS)
    ) as connection:
        location = _location(connection)
        if location is None:  # nothing was published yet
            return
        folder = file.absolute().parent.resolve()
        old = _old_folder(location, folder)
        if old is not None:
            # SQLite's lock and not the project's, which the process that runs the stages holds
            connection.execute("BEGIN IMMEDIATE")
            location = _location(connection) or location
            if (old := _old_folder(location, folder)) is not None:  # not yet rewritten by another process
                _rewrite(connection, old, of_path(folder))
                location = _location(connection) or location
        stray = _stray(connection, location, folder / ARTIFACTS)
        if connection.in_transaction:
            connection.execute("ROLLBACK" if stray else "COMMIT")
        if stray:
            raise InputError(
                f"MLflow's store at {file} has artifacts of experiment {EXPERIMENT!r} in {stray}; expected {folder / ARTIFACTS}; "
                "fill a new store from git's history: "
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
    """Folder in which the store was created, as in its locations; None if that is this folder or unknown."""
    path = local_path(location)
    if path is None or is_within(path, folder / ARTIFACTS):
        return None
    match = re.fullmatch(rf"(/.*|file:///.*)/{ARTIFACTS}(?:/.*)?", location, re.DOTALL)
    return match.group(1) if match else None


def ui_address() -> str:
    """Address at which `sentiflow ui` serves MLflow on a store that is not a server."""
    return UI.read_text(encoding="utf-8").strip() if UI.exists() else "http://127.0.0.1:5000"


def comparison(server: str | None) -> str | None:
    """Address of the page in MLflow's UI that compares the models of the last run; None before the first run.

    Args:
        server: address of MLflow's server; None if the store is a database.
    """
    if not COMPARISON.exists():
        return None
    return f"{server or ui_address()}/{COMPARISON.read_text(encoding='utf-8').strip()}"


def _rewrite(connection: sqlite3.Connection, old: str, new: str) -> None:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        for _, column, kind, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
            if not re.match("VARCHAR|TEXT", kind):
                continue
            for name in (ARTIFACTS, OTHER_ARTIFACTS):
                before, after = f"{old}/{name}", f"{new}/{name}"
                connection.execute(
                    f'UPDATE "{table}" SET "{column}" = :after || substr("{column}", length(:before) + 1)'
                    f' WHERE "{column}" = :before OR substr("{column}", 1, length(:before) + 1) = :before || \'/\'',
                    {"before": before, "after": after},
                )


def _stray(connection: sqlite3.Connection, location: str, artifacts: Path) -> str | None:
    """An artifact location that is neither in the project's folder nor in shared storage, if there is one."""
    path = local_path(location)
    if not (is_remote(location) if path is None else is_within(path, artifacts)):
        return location
    # MLflow derives the locations of runs from the experiment's
    expected = "rtrim(artifact_location, '/') || '/' || run_uuid || '/artifacts'"
    run = connection.execute(
        "SELECT artifact_uri FROM runs JOIN experiments USING (experiment_id)"
        f" WHERE experiments.name = ? AND (artifact_uri != {expected} OR run_uuid GLOB '*[^0-9a-f]*')",
        (EXPERIMENT,),
    ).fetchone()
    return str(run[0]) if run else None

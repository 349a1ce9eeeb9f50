"""Repairs what a killed run or a shortened list of models left behind, as far as that is safe.

Each repair is logged in one line. A process that is still running is waited for, and files of the user are never removed.
"""

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import psutil
from dvc.exceptions import DvcException
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.stage import PipelineStage, create_stage
from dvc.stage.loader import StageLoader
from dvc.utils.serialize import dumps_yaml, parse_yaml, parse_yaml_for_update
from voluptuous import Invalid

from sentiflow.pipeline import confined, objects
from sentiflow.pipeline.confined import UnsafeError
from sentiflow.system import dvc_lock, files, git, locks

log = logging.getLogger("sentiflow")

TMP = Path(".dvc/tmp")
LOCK_FILE = dvc_lock.FILE
PIPELINE_FILE = Path("dvc.yaml")
CLOCK_ERROR = 2.0  # seconds by which the reported start of a process may be wrong


@contextlib.contextmanager
def dvc_at_rest() -> Iterator[None]:
    """Holds DVC's lock, after waiting until no other DVC process is running in this project.

    DVC releases its lock while a stage's command runs, and records in `.dvc/tmp/rwlock` what that stage reads and writes.
    """
    with contextlib.ExitStack() as lock:

        def running() -> str | None:
            lock.enter_context(locks.locked(TMP / "lock"))
            process = _process_in(TMP / "rwlock")
            if process:
                lock.close()
            return process

        locks.wait_for(running)
        yield


def _process_in(rwlock: Path) -> str | None:
    """A running process of the file. Removes the entries of dead processes, and a file that a killed run left truncated."""
    try:
        text, written = rwlock.read_text(encoding="utf-8", errors="replace"), rwlock.stat().st_mtime
    except FileNotFoundError:
        return None
    try:
        entries = json.loads(text)
        write: dict[str, dict[str, Any]] = entries.get("write", {})
        read: dict[str, list[dict[str, Any]]] = entries.get("read", {})
        commands = {int(e["pid"]): str(e["cmd"]) for e in [*write.values(), *(e for some in read.values() for e in some)]}
    except (ValueError, TypeError, KeyError, AttributeError):
        if running := _dvc_process_here():
            return running
        rwlock.unlink()
        log.warning("removed %s, which a killed run left %s", rwlock, "truncated" if text else "empty")
        return None

    dead = {pid for pid in commands if not _may_be_dvc(pid, written)}
    if dead:
        kept_write = {path: e for path, e in write.items() if e["pid"] not in dead}
        kept_read = {path: left for path, some in read.items() if (left := [e for e in some if e["pid"] not in dead])}
        files.write(rwlock, json.dumps({"write": kept_write, "read": kept_read}))
    for pid in sorted(dead):
        log.warning("removed the entries of process %d (%s), which has ended, from %s", pid, commands[pid], rwlock)
    return next((f"process {pid} ({commands[pid]})" for pid in sorted(commands) if pid not in dead), None)


def _may_be_dvc(pid: int, written: float) -> bool:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:  # DVC takes it for alive
            return False
        if process.create_time() > written + CLOCK_ERROR:  # the id was reused
            return False
        if not Path(process.cwd()).is_relative_to(Path.cwd()):  # a copy made during a run has the entries of that run
            return False
        return any("python" in word or "dvc" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _dvc_process_here() -> str | None:
    here = Path.cwd()
    for process in psutil.process_iter(["pid", "cmdline", "cwd", "status"]):
        words, folder = process.info["cmdline"] or [""], Path(process.info["cwd"] or "/")
        runs_dvc = "python" in words[0] and any(Path(word).name == "dvc" for word in words[1:6])
        if runs_dvc and process.info["status"] != psutil.STATUS_ZOMBIE and folder.is_relative_to(here):
            return locks.described(str(process.info["pid"]))
    return None


def repair_lock_file(before: Path | None = None) -> None:
    """Replaces a dvc.lock that a killed run or a full disk left truncated; the damaged one is kept as dvc.lock.broken.

    `before` is a copy from before the run: newer than the file of git's last commit, and moving it needs no disk space.
    """
    if not LOCK_FILE.exists():
        return
    flaw = _flaw(LOCK_FILE.read_bytes())
    if not flaw:
        return
    broken = LOCK_FILE.with_name("dvc.lock.broken")
    if before is not None and before.exists() and not _flaw(before.read_bytes()):
        LOCK_FILE.replace(broken)
        before.replace(LOCK_FILE)
        log.warning("dvc.lock was %s: restored the one from before the run; the damaged file is %s", flaw, broken)
        return
    shutil.copyfile(LOCK_FILE, broken)
    committed = git.show("HEAD", LOCK_FILE)
    if committed and not _flaw(committed.encode()):
        files.write(LOCK_FILE, committed)
        log.warning("dvc.lock was %s: restored the one of git's last commit; the damaged file is %s", flaw, broken)
    else:
        LOCK_FILE.unlink()
        log.warning("dvc.lock was %s and git has none: moved it to %s; what DVC's cache lacks runs again", flaw, broken)


def _flaw(content: bytes) -> str | None:
    if not content.strip():
        return "empty"
    try:
        COMPILED_LOCKFILE_SCHEMA(parse_yaml(content.decode(), LOCK_FILE))
    except (UnicodeDecodeError, DvcException):
        return "not readable as YAML"
    except Invalid:
        return "incomplete"
    return None


def remove_leftovers() -> None:
    """Removes the outputs of stages that are no longer in the pipeline, and their entries in dvc.lock.

    DVC keeps both, and a stage that depends on a whole folder would continue to read the files of a model that was removed from
    `run:`. A file that its stage did not write in this form belongs to the user, and stays.
    """
    entries = lock_entries()
    if not entries:
        return
    with objects.repository() as repo:
        try:
            names = {stage.name for stage in repo.index.stages if stage.path_in_repo == str(PIPELINE_FILE)}
            outputs = [Path(out.fs_path) for out in repo.index.outs]
            dependencies = [Path(dependency.fs_path) for dependency in repo.index.deps]
        except DvcException:  # dvc.yaml is invalid, as `dvc repro` is about to report
            return
        dropped = [name for name in entries if name not in names]
        for name in dropped:
            for out in _outputs_of(repo, entries[name]):
                path = Path(out.fs_path)
                # a folder that a stage reads may contain leftovers; a folder that a stage writes belongs to that stage
                is_used = any(files.overlap(path, it) for it in outputs) or any(it.is_relative_to(path) for it in dependencies)
                if not path.exists() or is_used:
                    continue
                if out.changed_checksum():
                    log.warning("kept %s: its stage %s is no longer in the pipeline, but the file was changed since", out, name)
                else:
                    _remove(path)
                    log.warning("removed %s: its stage %s is no longer in the pipeline", out, name)
    if dropped:
        _reorder([name for name in entries if name not in dropped])


def lock_entries(lock_file: Path = LOCK_FILE) -> dict[str, Any]:
    """The entries of dvc.lock by stage; empty if there is no such file.

    Raises:
        UnsafeError: if an output is outside the project, in .git or .dvc, or behind a symbolic link.
        InputError: if the file cannot be read.
    """
    stages = dvc_lock.read(lock_file)
    for name, entry in stages.items():
        for out in entry.get("outs", []):
            path = str(PurePosixPath(str(out["path"])))
            try:
                confined.require_path(path)
                confined.require_unlinked(Path(), path, is_folder=str(out.get(confined.HASH)).endswith(confined.LIST))
            except UnsafeError as error:
                advice = f"`git checkout {lock_file}` restores the committed file, if you trust that"
                raise UnsafeError(f"{lock_file}: {name}: {error}; nothing was run; {advice}") from None
    return stages


def output_paths(lock_file: Path = LOCK_FILE) -> list[Path]:
    return [Path(out["path"]) for entry in lock_entries(lock_file).values() for out in entry.get("outs", [])]


def ordered(names: Sequence[str]) -> bool:
    """Sorts the stages of dvc.lock in this order, all others at the end; returns whether that changed the file.

    DVC appends each stage when it is done, so without this the order would depend on which parallel stage ended first.
    """
    entries = lock_entries()
    wanted = [name for name in names if name in entries] + [name for name in entries if name not in names]
    if list(entries) == wanted:
        return False
    _reorder(wanted)
    return True


def _reorder(names: Sequence[str]) -> None:
    """Keeps these stages of dvc.lock, in this order."""
    lock = parse_yaml_for_update(LOCK_FILE.read_text(encoding="utf-8"), LOCK_FILE)
    stages = lock["stages"]
    for name in [name for name in stages if name not in names]:
        del stages[name]
    for name in names:
        stages[name] = stages.pop(name)
    files.write(LOCK_FILE, dumps_yaml(lock))


def _outputs_of(repo: Any, entry: dict[str, Any]) -> list[Any]:
    paths = [out["path"] for out in entry.get("outs", [])]
    stage = create_stage(PipelineStage, repo=repo, path=str(PIPELINE_FILE), cmd=entry["cmd"], outs=paths)
    StageLoader.fill_from_lock(stage, entry)
    return [out for out in stage.outs if out.is_in_repo]


def _remove(path: Path) -> None:
    files.remove(path)
    for folder in path.parents:
        if folder == Path.cwd() or any(folder.iterdir()):
            break
        folder.rmdir()

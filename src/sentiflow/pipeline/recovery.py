"""Puts right what a killed run or a shortened list of models left behind, and only what is safe to put right.

Each repair is said in one line. A process that still lives is waited for, never pushed aside; nothing a user wrote is lost.
"""

import contextlib
import json
import logging
import shutil
from collections.abc import Collection, Iterator, Sequence
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
CLOCK_ERROR = 2.0  # seconds by which a process's start, as the system tells it, may be off


@contextlib.contextmanager
def dvc_at_rest() -> Iterator[None]:
    """Holds DVC's own lock while no other DVC process is at work in this project.

    DVC lets its lock go while a stage's command runs, and notes in `.dvc/tmp/rwlock` what that stage reads and writes.
    """
    with contextlib.ExitStack() as lock:

        def at_work() -> str | None:
            lock.enter_context(locks.locked(TMP / "lock"))
            holder = _holder_in(TMP / "rwlock")
            if holder:
                lock.close()
            return holder

        locks.wait_for(at_work)
        yield


def _holder_in(rwlock: Path) -> str | None:
    """Who holds an entry; entries whose process is gone are removed, and so is a file that a killed run left cut off."""
    try:
        text, written = rwlock.read_text(encoding="utf-8", errors="replace"), rwlock.stat().st_mtime
    except FileNotFoundError:
        return None
    try:
        entries = json.loads(text)
        write: dict[str, dict[str, Any]] = entries.get("write", {})
        read: dict[str, list[dict[str, Any]]] = entries.get("read", {})
        everyone = {(int(e["pid"]), str(e["cmd"])) for e in [*write.values(), *(e for some in read.values() for e in some)]}
    except (ValueError, TypeError, KeyError, AttributeError):
        if running := _dvc_process_here():
            return running
        rwlock.unlink()
        log.warning("removed %s, which a killed run left %s", rwlock, "cut off" if text else "empty")
        return None

    gone = {pid for pid, _ in everyone if not _may_be_dvc(pid, written)}
    if gone:
        kept_write = {path: e for path, e in write.items() if e["pid"] not in gone}
        kept_read = {path: left for path, some in read.items() if (left := [e for e in some if e["pid"] not in gone])}
        files.write(rwlock, json.dumps({"write": kept_write, "read": kept_read}))
    for pid, command in sorted(everyone):
        if pid in gone:
            log.warning("removed the entries of process %d (%s), which is gone, from %s", pid, command, rwlock)
    return next((f"process {pid} ({command})" for pid, command in sorted(everyone) if pid not in gone), None)


def _may_be_dvc(pid: int, written: float) -> bool:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:  # dead, only not yet collected by its parent; DVC takes it for alive
            return False
        if process.create_time() > written + CLOCK_ERROR:  # younger than the file: the id was given to another process
            return False
        if not Path(process.cwd()).is_relative_to(Path.cwd()):  # a copy that was made during a run has that run's entries
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


def lock_file(before: Path | None = None) -> None:
    """Puts a whole dvc.lock back where a killed run or a full disk left it empty or cut; the broken one stays beside it.

    Args:
        before: a copy from before the run, which knows more than the one of git's last commit and needs no space any more.
    """
    if not LOCK_FILE.exists():
        return
    broken = _flaw(LOCK_FILE.read_bytes())
    if not broken:
        return
    beside = LOCK_FILE.with_name("dvc.lock.broken")
    if before is not None and before.exists() and not _flaw(before.read_bytes()):
        LOCK_FILE.replace(beside)
        before.replace(LOCK_FILE)
        log.warning("dvc.lock was %s: put back the one from before the run; what stood there is in %s", broken, beside)
        return
    shutil.copyfile(LOCK_FILE, beside)
    committed = git.show("HEAD", LOCK_FILE)
    if committed and not _flaw(committed.encode()):
        files.write(LOCK_FILE, committed)
        log.warning("dvc.lock was %s: put back the one of git's last commit; what stood there is in %s", broken, beside)
    else:
        LOCK_FILE.unlink()
        log.warning("dvc.lock was %s and git has none: moved it to %s; what DVC's cache lacks runs again", broken, beside)


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


def leftovers(models: Collection[str]) -> None:
    """Removes the outputs of stages that are no longer in the pipeline, and their entries in dvc.lock.

    DVC keeps both, and a stage that depends on a whole folder would go on reading the files of a model that was
    taken out of `run:`. A file that is not what its stage wrote is the user's by now, and stays.
    """
    entries = lock_entries()
    if all(_expected(name, _pipeline(), models) for name in entries):
        return
    with objects.repository() as repo:
        try:
            wanted = {stage.name for stage in repo.index.stages if stage.path_in_repo == str(PIPELINE_FILE)}
            made = [Path(out.fs_path) for out in repo.index.outs]
            read = [Path(dependency.fs_path) for dependency in repo.index.deps]
        except DvcException:  # a slip in dvc.yaml; `dvc repro` is about to explain it
            return
        dropped = [name for name in entries if name not in wanted]
        for name in dropped:
            for out in _outputs_of(repo, entries[name]):
                path = Path(out.fs_path)
                if not path.exists() or _needed(path, made, read):
                    continue
                if out.changed_checksum():
                    log.warning("kept %s: no stage makes it any more, but it is not what %s wrote", out, name)
                else:
                    _remove(path)
                    log.warning("removed %s: its stage %s is no longer in the pipeline", out, name)
    if dropped:
        lock = parse_yaml_for_update(LOCK_FILE.read_text(encoding="utf-8"), LOCK_FILE)
        for name in dropped:
            del lock["stages"][name]
        files.write(LOCK_FILE, dumps_yaml(lock))


def lock_entries(lock_file: Path = LOCK_FILE) -> dict[str, Any]:
    """The stages of dvc.lock by name; none where there is no such file yet.

    Raises:
        UnsafeError: if an output lies outside the project, in .git or .dvc, or behind a symbolic link.
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


def ordered(names: Sequence[str]) -> bool:
    """Puts the stages of dvc.lock in this order, what is not named at the end; whether that changed the file.

    DVC adds a stage at the end when it is done, so that the order of stages that ran side by side, or of a run that was cut
    short, would follow from chance.
    """
    entries = lock_entries()
    wanted = [name for name in names if name in entries] + [name for name in entries if name not in names]
    if list(entries) == wanted:
        return False
    lock = parse_yaml_for_update(LOCK_FILE.read_text(encoding="utf-8"), LOCK_FILE)
    stages = lock["stages"]
    for name in wanted:
        stages[name] = stages.pop(name)
    files.write(LOCK_FILE, dumps_yaml(lock))
    return True


def _pipeline() -> dict[str, Any]:
    try:
        return dict(parse_yaml(PIPELINE_FILE.read_text(encoding="utf-8"), PIPELINE_FILE).get("stages") or {})
    except (DvcException, ValueError):
        return {}


def _expected(name: str, stages: dict[str, Any], models: Collection[str]) -> bool:
    # spares half a second: only where a name is not plainly expected is DVC asked which stages there are
    base, _, item = name.partition("@")
    repeated = {"matrix", "foreach"} & set(stages.get(base) or {})
    return item in models if repeated else base in stages and not item


def _outputs_of(repo: Any, entry: dict[str, Any]) -> list[Any]:
    paths = [out["path"] for out in entry.get("outs", [])]
    stage = create_stage(PipelineStage, repo=repo, path=str(PIPELINE_FILE), cmd=entry["cmd"], outs=paths)
    StageLoader.fill_from_lock(stage, entry)
    return [out for out in stage.outs if out.is_in_repo]


def _needed(path: Path, made: list[Path], read: list[Path]) -> bool:
    # a folder that a stage reads may hold leftovers; a folder that a stage makes is that stage's altogether
    return any(files.overlap(path, it) for it in made) or any(it.is_relative_to(path) for it in read)


def _remove(path: Path) -> None:
    files.remove(path)
    folder = path.parent
    while folder != Path.cwd() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent

"""A project on a small disk that is filled while a stage runs."""

import contextlib
import errno
import os
import re
import shutil
import subprocess
import sys
import threading
from typing import NamedTuple

import processes
import yaml

PAGE = 4096  # block size of tmpfs in bytes
SIZE = "400m"
SECONDS = 900.0  # timeout of every step


class CannotMountError(Exception):
    """Mounting requires root, and is not permitted in every container."""


@contextlib.contextmanager
def mounted(folder, size=SIZE):
    """Mount a disk of this size at a folder.

    Raises:
        CannotMountError: if that is not permitted.
    """
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotMountError(f"mounting a disk is not permitted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def full(folder, room=0):
    """Keep the disk of a folder full within the block, except for `room` bytes."""
    filler = folder / ".filler"
    ended = threading.Event()
    with filler.open("ab") as file:
        fill(file, room)
        thread = threading.Thread(target=_keep_full, args=(file, room, ended))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            filler.unlink()


def fill(file, room):
    """Fill the disk except for `room` bytes, while others may write and delete."""
    while (free := _free(file) - room) > 0:
        size = os.fstat(file.fileno()).st_size
        try:
            os.posix_fallocate(file.fileno(), size, free)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def _keep_full(file, room, ended):
    while not ended.wait(0.001):
        room = min(room, _free(file))
        fill(file, room)


def _free(file):
    return os.fstatvfs(file.fileno()).f_bavail * PAGE


def size_on_disk(paths):
    """Disk usage of files and folders in bytes."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return sum(-(-file.stat().st_size // PAGE) * PAGE for file in files)


class Step(NamedTuple):
    """Result of a run with a full disk."""

    stage: str
    was_filled: bool  # the disk was filled while the stage was running
    status: int
    said: list[str]  # lines that start with `error:` or mention the full disk
    traceback: bool
    kept: bool  # all earlier outputs are unchanged
    half: list[str]  # partial files that were left
    lock: str  # dvc.lock is right | broken


def walk(project, contents, stages, room=0):
    """Make stages stale, then run the project once per stage, with the disk full while that stage runs.

    Args:
        project: a finished project with these contents.
        stages: in the order of execution.
        room: free bytes beyond the size of the outputs, so that the stage succeeds and DVC's cache is being written; 0 for a
            full disk.
    """
    outputs = {
        name: [project.folder / out["path"] for out in entry["outs"]]
        for name, entry in yaml.safe_load(project.lock_text)["stages"].items()
    }
    project.make_stale(*stages)
    if room:
        shutil.rmtree(project.cache / "files")
    for stage in stages:
        left = room and room + size_on_disk(outputs[stage])
        run = begin(project)
        processes.wait_until(lambda run=run, stage=stage: run.poll() is not None or project.stage(stage), SECONDS, glance=0.005)
        was_filled = run.poll() is None
        with full(project.folder, left):
            output, _ = run.communicate(timeout=SECONDS)
        yield Step(
            stage,
            was_filled,
            run.returncode,
            [line.strip() for line in output.splitlines() if re.search("^error: |disk is full|No space left", line.strip())],
            "Traceback" in output,
            project.contents() == contents,
            [str(each.relative_to(project.folder)) for each in project.folder.rglob("*.partial")],
            "right" if _is_whole(project) else "broken",
        )


def _is_whole(project):
    with contextlib.suppress(yaml.YAMLError, OSError, TypeError, KeyError):
        return bool(yaml.safe_load(project.lock_text)["stages"])
    return False


def repro(project, *targets):
    """Exit status and output of `sentiflow repro TARGETS`."""
    run = begin(project, *targets)
    output, _ = run.communicate(timeout=SECONDS)
    return run.returncode, output


def begin(project, *targets):
    own = project.environment(DVC_SITE_CACHE_DIR=str(project.folder.with_name("site")))
    command = [sys.executable, "-m", "sentiflow", "repro", *targets]
    return subprocess.Popen(
        command,
        cwd=project.folder,
        env=own,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

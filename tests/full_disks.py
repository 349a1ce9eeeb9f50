"""A project on a small disk of its own, which is filled while a stage of it runs."""

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

PAGE = 4096  # bytes that tmpfs hands out at once
SIZE = "400m"
SECONDS = 900.0  # for anything here, on a busy machine


class CannotMountError(Exception):
    """Mounting is for root, and not for every root."""


@contextlib.contextmanager
def mounted(folder, size=SIZE):
    """A disk of this size at this folder.

    Raises:
        CannotMountError: if that is not permitted here.
    """
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotMountError(f"mounting a disk that can be filled is not permitted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def full(folder, room=0):
    """Within the block the disk of this folder has room for no more bytes than these, and what is freed is taken at once."""
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
    """Takes all but this room, whatever others take or free meanwhile."""
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
    """Bytes that these files and folders take."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return sum(-(-file.stat().st_size // PAGE) * PAGE for file in files)


class Step(NamedTuple):
    """How a run ended whose disk was full, and what it left."""

    stage: str
    was_filled: bool  # while the stage ran
    status: int
    said: list[str]  # the lines that begin with `error:` or name the full disk
    traceback: bool
    kept: bool  # every earlier output, as it was
    half: list[str]  # files that a stage was writing
    lock: str  # dvc.lock is right | broken


def walk(project, contents, stages, room=0):
    """Makes all these stages stale, and runs the project over and over, each time with the disk full when the next of them runs.

    Args:
        project: finished, with these contents.
        stages: in their order.
        room: bytes that are left for each beyond what its outputs take, so that they are written and then get into DVC's cache;
            0 leaves none at all.
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
    """`sentiflow repro`, or of these stages alone and those they need; its exit status, and what it printed."""
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

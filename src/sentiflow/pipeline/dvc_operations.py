"""DVC operations that `workers` requests from a `dvc_worker` process, which prints their output."""

import errno
import json
import logging
import os
import re
import shutil
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from dvc.exceptions import DvcException, FileTransferError, ReproductionError
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.reproduce import plan_repro
from dvc.stage import PipelineStage
from dvc.stage.exceptions import StageCmdFailedError

from sentiflow.pipeline import recovery
from sentiflow.pipeline.objects import Project, repository
from sentiflow.pipeline.workers import Stage, StageError, UnavailableStageError
from sentiflow.system.entry_point import TEMPORARY
from sentiflow.system.errors import InputError, UnavailableError

FRESH, RESTORED, RAN = "fresh", "restored", "ran"
TRAININGS = Path(".cache/training")  # epochs of unfinished trainings
FULL_BELOW = 1_000_000  # free bytes of a disk that counts as full


def serve(pipe: int) -> None:
    """Answers requests, each the name of an operation and its arguments, until the request is None."""
    connection = Connection(pipe)
    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).addHandler(_events)
    while (request := connection.recv()) is not None:
        operation, arguments = request
        answer = _answer(operation, arguments)
        sys.stdout.flush()
        connection.send(answer)


def _answer(operation: str, arguments: dict[str, Any]) -> Any:
    """The result of an operation, or the StageError in which it ended."""
    try:
        with repository() as repo:  # waits for DVC's lock while another stage ends
            return OPERATIONS[operation](repo, **arguments)
    except DvcException as error:
        causes = list(_causes(error))
        specific = [cause for cause in causes if not isinstance(cause, ReproductionError)] or causes  # it only names the stage
        lines = dict.fromkeys(text for cause in specific if (text := str(cause).strip()))
        message = re.sub(r"exited with (-?\d+)$", partial(_exit_reason, arguments.get("name", "")), ": ".join(lines))
        return _failure(error, message, any(map(_is_temporary, causes)))
    except InputError as error:
        return _failure(error, str(error), isinstance(error, UnavailableError))
    except Exception as error:  # such as those of a remote's library
        failure = _failure(error, f"{type(error).__name__}: {error}", operation in ("fetch", "push", "pull_sources"))
        if not failure.disk_full:
            traceback.print_exc(file=sys.stdout)
        return failure


def _failure(error: Exception, message: str, is_temporary: bool) -> StageError:
    failure = (UnavailableStageError if is_temporary else StageError)(message)
    failure.reported, failure.disk_full = True, _is_of_full_disk(error)
    return failure


def _exit_reason(stage: str, exited: re.Match[str]) -> str:
    """The signal that killed a stage's command, if one did: a shell reports it as 128 + the signal's number."""
    status = int(exited[1])
    number = -status if status < 0 else status - 128
    if number not in set(signal.Signals):
        return exited[0]
    why = ", often because memory ran out: close other programs, or lower retrain.side_by_side" * (number == signal.SIGKILL)
    kept = f"; epoch {epochs} is kept, and the next run resumes after it" if (epochs := _epochs_kept(stage)) else ""
    return f"killed by signal {number} ({signal.Signals(number).name}){why}{kept}"


def _epochs_kept(stage: str) -> int:
    _, _, model = stage.partition("train@")
    backups = sorted(TRAININGS.glob(f"{model}-*.npz"), key=lambda file: file.stat().st_mtime) if model else []
    if not backups:
        return 0
    with np.load(backups[-1], allow_pickle=False) as saved:
        return len(json.loads(str(saved["history"])))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_temporary(error: BaseException) -> bool:
    if isinstance(error, StageCmdFailedError):  # only its message has the exit status
        return str(error).endswith(f"exited with {TEMPORARY}")
    return isinstance(error, (LockError, FileTransferError, OSError))


def _is_of_full_disk(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, sqlite3.OperationalError):  # of DVC's databases; a disk I/O error can have other causes
            nearly_full = shutil.disk_usage(".").free < FULL_BELOW
            if "disk is full" in str(error) or ("disk I/O error" in str(error) and nearly_full):
                return True
        elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


# --- operations ----------------------------------------------------------------------------------------------------------


def _plan(repo: Repo, targets: Sequence[str]) -> list[Stage]:
    """The stages in the order of `dvc repro`."""
    Project(repo).require_confined()  # DVC checks out missing outputs of stages that are otherwise up to date
    with repo.lock:
        graph = repo.index.graph
        wanted = [stage for target in targets for stage in repo.stage.collect(target)]
        known = recovery.lock_entries()
        return [
            Stage(
                name=stage.addressing,
                needs=tuple(sorted(needed.addressing for needed in graph.successors(stage))),
                makes=tuple(map(str, stage.outs)),
                changed=stage.status().get(stage.addressing, []),
                is_new=isinstance(stage, PipelineStage) and stage.name not in known,
            )
            for stage in plan_repro(graph, wanted or None)
            if isinstance(stage, PipelineStage) or stage.is_data_source
        ]


def _run(repo: Repo, name: str, force: bool) -> str:
    _events.reset()
    repo.scm_context.quiet = True  # no advice to `git add dvc.lock` after every stage
    repo.reproduce(name, single_item=True, force=force)
    if _events.disk_full:  # DVC ignores that a folder did not fit into its cache
        raise DvcException("the outputs do not fit into DVC's cache") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return _events.how


def _pull_sources(repo: Repo) -> list[str]:
    """Downloads missing data that .dvc files track; returns its .dvc files."""
    sources = [stage for stage in repo.index.stages if not isinstance(stage, PipelineStage)]
    missing = [str(stage.addressing) for stage in sources if any(not out.exists for out in stage.outs)]
    if missing:
        Project(repo).pull(missing)
    return missing


def _order(repo: Repo) -> bool:
    """Sorts the stages of dvc.lock in the order of `dvc repro`; returns whether that changed the file."""
    with repo.lock:
        return recovery.ordered([stage.name for stage in plan_repro(repo.index.graph) if isinstance(stage, PipelineStage)])


OPERATIONS: dict[str, Callable[..., Any]] = {
    "plan": _plan,
    "run": _run,
    "remote": lambda repo: repo.config["core"].get("remote"),
    "pull_sources": _pull_sources,
    "fetch": lambda repo: Project(repo).fetch(),
    "push": lambda repo: Project(repo).push(),
    "order": _order,
}


class _Events(logging.Handler):
    """Derives from DVC's log whether a stage ran, was restored or was up to date, and whether the disk was full."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self.how = FRESH
        self.disk_full = False

    def emit(self, record: logging.LogRecord) -> None:
        if str(record.msg).startswith("Running stage"):
            self.how = RAN
        elif "is cached - skipping run" in str(record.msg):
            self.how = RESTORED
        if record.exc_info and _is_of_full_disk(record.exc_info[1]):
            self.disk_full = True


_events = _Events()

"""What `workers` has DVC do, in a process of `dvc_worker`; what is printed meanwhile goes to its output."""

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
from sentiflow.system.entry_point import TEMPORARY
from sentiflow.system.errors import InputError, UnavailableError

FRESH, RESTORED, RAN = "fresh", "restored", "ran"
END = "end"  # what ends the process instead of asking for something
FULL = (errno.ENOSPC, errno.EDQUOT)
EXITED = re.compile(r"exited with (-?\d+)$")
TRAININGS = Path(".cache/training")  # epochs of trainings that have not ended
SPARE = 1_000_000  # bytes that a disk has free at least which is not full


def serve(requests: int, answers: int) -> None:
    """Reads requests from one pipe and writes answers to another, each a line of JSON, until it is asked to end."""
    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).addHandler(_heard)
    with os.fdopen(requests, encoding="utf-8") as asked, os.fdopen(answers, "w", encoding="utf-8") as told:
        for line in asked:
            request = json.loads(line)
            if request["what"] == END:
                return
            answer = _answered(OPERATIONS[request.pop("what")], request)
            sys.stdout.flush()
            told.write(json.dumps(answer) + "\n")
            told.flush()


def _answered(operation: Callable[..., Any], named: dict[str, Any]) -> dict[str, Any]:
    try:
        with repository() as repo:  # a stage that ends waits for the lock that another stage's end has taken
            return {"value": operation(repo, **named)}
    except DvcException as error:
        causes = list(_causes(error))
        telling = [cause for cause in causes if not isinstance(cause, ReproductionError)] or causes  # that one tells the stage
        lines = dict.fromkeys(text for cause in telling if (text := str(cause).strip()))
        told = EXITED.sub(partial(_killed, named.get("name", "")), ": ".join(lines))
        return _failure(error, told, any(map(_is_temporary, causes)))
    except InputError as error:
        return _failure(error, str(error), isinstance(error, UnavailableError))
    except Exception as error:  # such as those of a remote's library; the one who asked decides
        failure = _failure(error, f"{type(error).__name__}: {error}", operation in TALKING)
        if not failure["disk_full"]:
            traceback.print_exc(file=sys.stdout)
        return failure


def _killed(stage: str, exited: re.Match[str]) -> str:
    """How a stage's command ended, if a signal ended it: a shell reports that as 128 + the signal's number."""
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


def _failure(error: BaseException, told: str, is_temporary: bool) -> dict[str, Any]:
    return {"error": told, "is_temporary": is_temporary, "disk_full": _is_of_full_disk(error)}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_temporary(error: BaseException) -> bool:
    if isinstance(error, StageCmdFailedError):  # it keeps the exit status in its text alone
        return str(error).endswith(f"exited with {TEMPORARY}")
    return isinstance(error, (LockError, FileTransferError, OSError))


def _is_of_full_disk(error: BaseException | None) -> bool:
    while error is not None and not _tells_of_full_disk(error):
        error = error.__cause__ or error.__context__
    return error is not None


def _tells_of_full_disk(error: BaseException) -> bool:
    if isinstance(error, sqlite3.OperationalError):  # of DVC's own databases; the second may have other reasons too
        nearly_full = shutil.disk_usage(".").free < SPARE
        return "disk is full" in str(error) or ("disk I/O error" in str(error) and nearly_full)
    return isinstance(error, OSError) and error.errno in FULL


# --- what can be asked ---------------------------------------------------------------------------------------------------


def _plan(repo: Repo, targets: Sequence[str]) -> list[dict[str, Any]]:
    """The stages in the order of `dvc repro`: names, paths, and what DVC finds changed."""
    Project(repo).require_confined()  # stages that are up to date but for their outputs are checked out
    with repo.lock:
        graph = repo.index.graph
        wanted = [stage for target in targets for stage in repo.stage.collect(target)]
        planned = plan_repro(graph, wanted or None)
        stages = [stage for stage in planned if isinstance(stage, PipelineStage) or stage.is_data_source]
        known = recovery.lock_entries()
        return [
            {
                "name": stage.addressing,
                "needs": sorted(needed.addressing for needed in graph.successors(stage)),
                "makes": [str(out) for out in stage.outs],
                "changed": stage.status().get(stage.addressing, []),
                "is_new": isinstance(stage, PipelineStage) and stage.name not in known,
            }
            for stage in stages
        ]


def _run(repo: Repo, name: str, force: bool) -> str:
    _heard.reset()
    repo.scm_context.quiet = True  # or it says at every stage how to add dvc.lock to git
    repo.reproduce(name, single_item=True, force=force)
    if _heard.disk_full:  # DVC goes on where a folder did not get into its cache
        raise DvcException("it did not get into DVC's cache") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return _heard.how


def _fetch(repo: Repo) -> int:
    return Project(repo).fetch()


def _push(repo: Repo) -> int:
    return Project(repo).push()


def _pull_sources(repo: Repo) -> list[str]:
    """Downloads data that .dvc files track where it is missing; returns its paths."""
    sources = [stage for stage in repo.index.stages if not isinstance(stage, PipelineStage)]
    missing = [str(stage.addressing) for stage in sources if any(not out.exists for out in stage.outs)]
    if missing:
        Project(repo).pull(missing)
    return missing


def _remote(repo: Repo) -> str | None:
    remote = repo.config["core"].get("remote")
    return str(remote) if remote else None


def _order(repo: Repo) -> bool:
    """Puts the stages of dvc.lock in the order of `dvc repro`, whichever ended first; whether that changed anything."""
    with repo.lock:
        return recovery.ordered([stage.name for stage in plan_repro(repo.index.graph) if isinstance(stage, PipelineStage)])


OPERATIONS: dict[str, Callable[..., Any]] = {
    "plan": _plan,
    "run": _run,
    "remote": _remote,
    "pull_sources": _pull_sources,
    "fetch": _fetch,
    "push": _push,
    "order": _order,
}
TALKING = (_fetch, _push, _pull_sources)  # to a remote


# --- what DVC says -------------------------------------------------------------------------------------------------------


class _Heard(logging.Handler):
    """Tells from DVC's own log whether it ran a stage's command, restored its outputs, or found nothing to do; and had room."""

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


_heard = _Heard()

"""Runs the stages with DVC, and does what a user would otherwise do by hand before and after.

before    check params.yaml, repair what a killed run left, remove outputs of models that are no longer in the pipeline
after     restore the outputs that DVC removed for a stage that failed or was stopped, and leave no process behind
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dvc.config import Config

from sentiflow.models import settings
from sentiflow.pipeline import experiments, progress, recovery, scheduling
from sentiflow.pipeline.workers import Stage, StageError, Workers
from sentiflow.registry import location
from sentiflow.system import files, locks, markdown, process_groups, urls
from sentiflow.system.errors import InputError, UnavailableError

log = logging.getLogger("sentiflow")

BEFORE = recovery.TMP / "sentiflow-before"  # hard links to the outputs as they were before the run
COMPARISON = Path("reports/comparison.md")
PUBLISHED = [location.PUBLISHED, Path("mlartifacts/judged.json")]
STORE = Path("mlartifacts/store")  # identifies the MLflow store of the last run, as `_store` does


class RunError(InputError):
    """A stage failed, or DVC did."""


def run(targets: Sequence[str] = (), *, force: bool = False, again: str = "sentiflow repro") -> None:
    """Runs the stale stages of the project in the working folder, after waiting for any other run of it.

    Args:
        targets: stages to run, with those that they depend on; by default all.
        force: also run stages that are up to date.
        again: command that resumes the run, for messages.

    Raises:
        InputError: if params.yaml is invalid or this is not the top folder of the project; nothing was run.
        RunError: if a stage failed; the outputs of earlier runs are restored.
        SystemExit: 128 + the signal's number, if a signal stopped the run; all its processes have ended.
    """
    with at_work() as restore:
        failures, signal_number = _run_stale(targets, force, settings.load().retrain.side_by_side)
        restored = restore() if failures or signal_number else []
        also = f"; restored from before the run: {', '.join(restored)}" if restored else ""
        if signal_number:
            log.warning("stopped by %s%s; `%s` resumes", signal.Signals(signal_number).name, also, again)
            sys.exit(128 + signal_number)
        if failures:
            what = "; ".join(map(str, failures))
            if any(each.disk_full for each in failures):
                raise RunError(f"{what}: the disk is full{also}. Free some space, then `{again}` resumes")
            end = "\n" if "\n" in what else ". "  # what may end with lines to paste
            raise RunError(f"{what}{also}{end}Correct it, then `{again}` resumes")


@contextlib.contextmanager
def at_work(patience: float | None = None) -> Iterator[Callable[[], list[str]]]:
    """Prevents other runs of this project within the block, after repairing what a killed run left.

    At the end, outputs that DVC removed for a stage that did not succeed are restored. The yielded function restores them earlier
    and returns their paths.

    Args:
        patience: seconds to wait for another run; by default `locks.PATIENCE`.

    Raises:
        InputError: if params.yaml is invalid or this is not the top folder of the project; nothing was changed.
        locks.BusyError: if another run is still running after that time.
    """
    settings.load()
    _check_project()
    with locks.locked(recovery.TMP / "sentiflow.lock", patience):
        with recovery.dvc_at_rest():
            if lost := _restore_outputs():
                log.warning("restored what a killed run had removed: %s", ", ".join(lost))
            recovery.remove_leftovers()
            location.check(tracking_uri())
            forget_publication()
            _keep_outputs()
        try:
            yield _restore_outputs
        finally:
            _restore_outputs()
        if PUBLISHED[0].exists():
            _write_decision()
            if _noted_store() != (now := _store()):
                files.write(STORE, now)


def _write_decision() -> None:
    """Writes reports/decision.html, unless it is newer than the report, the notes and the store that it shows."""
    inputs = [location.REPORT, *PUBLISHED]
    if not all(file.exists() for file in inputs):
        return
    written = location.DECISION.stat().st_mtime if location.DECISION.exists() else 0.0
    if _noted_store() == _store() and max(file.stat().st_mtime for file in inputs) <= written:
        return
    from sentiflow.registry import decision  # MLflow takes seconds to import

    decision.write()


def summary() -> str:
    """What `sentiflow repro` prints at the end: the comparison, the verdict, and where to find the rest."""
    mlflow_ui = f"MLflow UI: {mlflow_server() or 'sentiflow ui'}"
    if address := location.comparison(mlflow_server()):
        mlflow_ui += f"\nCompare these models there: {address}"
    if not COMPARISON.exists():
        return mlflow_ui
    verdict = ""
    if location.VERDICT.exists():
        page = location.VERDICT.read_text(encoding="utf-8")
        bold = re.search(r"^\*\*(.+)\*\*$", page, re.MULTILINE)
        sentence = bold.group(1) if bold else page.partition("\n")[0]
        verdict = f"{markdown.plain(sentence)}\n\n"
    report = page_of(Path()) if page_of(Path()).exists() else COMPARISON
    return f"{COMPARISON.read_text(encoding='utf-8').strip()}\n\n{verdict}Report: {report}\n{mlflow_ui}"


def page_of(folder: Path) -> Path:
    """The page to open in a project's folder: the report with the verdict, or without it if there is none."""
    decision = folder / location.DECISION
    return decision if decision.exists() else folder / location.REPORT


# ---- MLflow's store


def forget_publication() -> None:
    """Removes the outputs of the stages that publish and judge if the MLflow store does not have the results that they record.

    DVC then runs these stages again, and a lost database is filled from the outputs of the other stages. They must be uncached
    outputs: DVC would restore a cached one instead of running the stage.
    """
    if any(note.exists() for note in PUBLISHED) and (reason := _reason_to_publish()):
        for note in (*PUBLISHED, location.COMPARISON):
            note.unlink(missing_ok=True)
        log.warning(reason)


def _reason_to_publish() -> str | None:
    if any(experiments.is_note(note) for note in PUBLISHED):
        return "the last results are of an experiment: this run publishes them to MLflow"
    uri = tracking_uri()
    database = location.database(uri)
    noted = _noted_store()
    if database is not None and not database.exists():
        reason = f"{database} is missing"
    elif noted and noted.partition(" ")[0] != _hash(uri):
        reason = "MLFLOW_TRACKING_URI names another store than before"
    elif (database is None or noted != _store()) and not _is_published():  # MLflow is slow: ask only if the file has changed
        reason = "models or runs that this project published were deleted in MLflow"
    else:
        return None
    return (
        f"{reason}: this run's models will be published to MLflow again (`sentiflow models rebuild`, before that, restores those "
        "of earlier commits and the history of champions)"
    )


def _is_published() -> bool:
    try:
        keys = json.loads(PUBLISHED[0].read_text(encoding="utf-8"))["keys"]
    except (OSError, ValueError, KeyError, TypeError):  # missing or edited, so DVC runs the stage again
        return True
    from sentiflow.registry import publishing  # MLflow takes seconds to import

    client = _connect()
    return client is None or publishing.are_published(client, keys)


def require_entry() -> None:
    """Connects to the store once, so that a wrong password or an unusable database is reported before minutes of training.

    A store that does not answer now may do so later.
    """
    file = location.database(tracking_uri())
    if file is None or (file.exists() and file.stat().st_size):  # the stage that publishes creates a missing database
        _connect()


def _connect() -> Any:
    """A client of the store; None, with a warning, if it does not answer."""
    from sentiflow.registry import store  # MLflow takes seconds to import

    try:
        return store.connect()
    except UnavailableError as error:
        log.warning("%s; the run continues, and needs the store when it publishes", error)
        return None


def _noted_store() -> str:
    return STORE.read_text(encoding="utf-8") if STORE.exists() else ""


def _store() -> str:
    """Identifies the store and, if it is a SQLite file, its current content."""
    uri = tracking_uri()
    database = location.database(uri)
    if database is None or not database.exists():
        return _hash(uri)
    found = database.stat()
    return f"{_hash(uri)} {found.st_size} {found.st_mtime_ns}"


def _hash(uri: str) -> str:
    return hashlib.sha256(urls.without_user(uri).encode()).hexdigest()  # independent of user and password


def tracking_uri() -> str:
    """The MLflow store that this project publishes to; a relative path is relative to the project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or location.DEFAULT_STORE


def mlflow_server() -> str | None:
    """URL of the MLflow server that this project publishes to, without credentials; None if the store is a database."""
    uri = tracking_uri()
    return urls.without_user(uri).rstrip("/") if uri.startswith(("http://", "https://")) else None


# ---- the project


def _check_project() -> None:
    here = Path.cwd()
    if not recovery.PIPELINE_FILE.exists():
        raise InputError(f"no {recovery.PIPELINE_FILE} in {here}; run this in the top folder of the project")
    if not Path(".dvc").is_dir():
        raise InputError(
            f"no .dvc folder in {here}, so it was copied without its hidden files; copy all of it or `git clone` it, "
            "or create one with `dvc init` (`dvc init --no-scm` without git)"
        )
    if not any((folder / ".git").exists() for folder in (here, *here.parents)):
        _set_no_scm()


def _set_no_scm() -> None:
    config = Config(dvc_dir=".dvc", validate=False)  # DVC itself reports errors in it
    if not config["core"].get("no_scm"):
        with config.edit("local", validate=False) as local:
            local.setdefault("core", {})["no_scm"] = True
        log.warning(
            "no git repository here: configured DVC to work without (.dvc/config.local); "
            "after a `git init`, undo it with `dvc config --local --unset core.no_scm`"
        )


def _keep_outputs() -> None:
    """Hard-links the outputs, which needs no space: DVC unlinks the outputs of a stage before it runs it."""
    partial = BEFORE.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for path in recovery.output_paths():
        kept = partial / path
        kept.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, kept, symlinks=True, copy_function=_link)
        elif path.exists():
            _link(path, kept)
    if recovery.LOCK_FILE.exists():
        shutil.copyfile(recovery.LOCK_FILE, partial / recovery.LOCK_FILE)  # not linked: DVC writes to the file in place
    partial.rename(BEFORE)


def _restore_outputs() -> list[str]:
    """Restores missing outputs and a damaged dvc.lock, and removes the links; returns the paths of the restored outputs."""
    restored = []
    paths = recovery.output_paths(BEFORE / recovery.LOCK_FILE)
    recovery.repair_lock_file(BEFORE / recovery.LOCK_FILE)
    for path in paths:
        if not os.path.lexists(path) and os.path.lexists(BEFORE / path):
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(BEFORE / path, path)
            restored.append(str(path))
    shutil.rmtree(BEFORE, ignore_errors=True)
    return restored


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target, follow_symlinks=False)


# ---- the run


class _Stopped(Exception):  # noqa: N818  # not an error: a signal was received
    pass


@dataclass
class _Threads:
    """Runs each stage in a worker, with a thread that waits for it, and displays its output."""

    workers: Workers
    pool: ThreadPoolExecutor
    force: bool
    signals: list[int]
    display: progress.Display
    failure: StageError | None = None

    def begin(self, stage: Stage, _after: Sequence[Future[Any]]) -> Future[Any]:
        self.display.begin(stage.name)
        print_line, show_bar = partial(self.display.print_line, stage.name), partial(self.display.show_bar, stage.name)
        return self.pool.submit(self.workers.run, stage.name, force=self.force, log=print_line, show_bar=show_bar)

    def first_ended(self, running: Sequence[Future[Any]]) -> Future[Any]:
        """Raises _Stopped when a signal is received."""
        while not (ended := wait(running, timeout=0.05, return_when=FIRST_COMPLETED).done):
            if self.signals:
                raise _Stopped
        return next(iter(ended))

    def outcome(self, stage: Stage, ended: Future[Any]) -> None:
        self.display.end(stage.name)
        try:
            ended.result()
        except StageError as error:
            self.failure = error
            raise

    def show(self, running: Sequence[str]) -> None:
        if self.failure and running:
            self.display.print(f"{self.failure}; still running: {', '.join(running)}")


def _run_stale(targets: Sequence[str], force: bool, at_once: int) -> tuple[list[StageError], int | None]:
    """Runs the stale stages; returns the failures, and the number of the signal that stopped the run, if any."""
    signals: list[int] = []
    failures: list[StageError] = []
    with (
        process_groups.signals_to(lambda number, _: signals.append(number)),
        progress.Display() as display,
        ThreadPoolExecutor(at_once) as pool,
        Workers(at_once, signals, display.columns) as workers,  # end before the threads, which wait for them
        contextlib.suppress(_Stopped),
    ):
        try:
            runner = _Threads(workers, pool, force, signals, display)
            plan: list[Stage] = runner.first_ended([pool.submit(workers.plan, targets)]).result()
            stages = plan if force else scheduling.stale(plan)
            if any(str(note) in stage.makes for stage in stages for note in PUBLISHED):
                require_entry()
            display.plan(plan, stages)
            failures = scheduling.side_by_side(stages, at_once, runner)
            try:
                if stages:
                    workers.ask("order")
            except StageError:
                if not failures:  # otherwise the first failure is the one to correct
                    raise
        except StageError as error:
            failures = [*failures, error]
    return failures, signals[0] if signals else None

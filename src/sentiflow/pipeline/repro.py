"""Runs the stages through DVC, and everything a user would otherwise do by hand around it.

before    params.yaml is checked, what a killed run left is repaired, leftovers of removed models go
after     a failed or stopped run brings back the outputs that DVC had removed, and leaves no process behind
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
from typing import TypeVar

from dvc.config import Config
from dvc.exceptions import DvcException

from sentiflow.models import settings
from sentiflow.pipeline import experiments, objects, progress, recovery, scheduling
from sentiflow.pipeline.workers import Outcome, Stage, StageError, Workers
from sentiflow.registry import location
from sentiflow.system import files, locks, markdown, process_groups, urls
from sentiflow.system.errors import InputError, UnavailableError

log = logging.getLogger("sentiflow")

BEFORE = recovery.TMP / "sentiflow-before"  # hard links of the outputs as they were before the run
COMPARISON = Path("reports/comparison.md")
PUBLISHED = [location.PUBLISHED, Path("mlartifacts/judged.json")]
STORE = Path("mlartifacts/store")  # a hash of the name of the store that the last run published to; when it was written

Result = TypeVar("Result")


class RunError(InputError):
    """A stage failed, or DVC refused."""


def run(targets: Sequence[str] = (), *, force: bool = False, again: str = "sentiflow repro") -> None:
    """Runs the stages that are stale, in this process's folder; a second run in the same project waits for the first.

    Raises:
        InputError: if params.yaml has a slip or this is not the top of the project; nothing was run.
        RunError: if a stage failed, which it names; the outputs of earlier runs are back.
        SystemExit: 128 + the signal's number, if one stopped the run; every process of it has ended.
    """
    with at_work() as restored:
        failures, stopped_by = _repro(targets, force, settings.load().retrain.side_by_side)
        back = (
            f"; brought back what was there before: {', '.join(paths)}"
            if (failures or stopped_by) and (paths := restored())
            else ""
        )
        if stopped_by:
            log.warning("stopped by %s%s; `%s` goes on from here", signal.Signals(stopped_by).name, back, again)
            sys.exit(128 + stopped_by)
        if failures:
            what = "; ".join(map(str, failures))
            end = "\n" if "\n" in what else ". "  # after lines to paste
            if any(each.disk_full for each in failures):
                raise RunError(f"{what}: the disk is full{back}. Free some space, and `{again}` goes on from here")
            raise RunError(f"{what}{back}{end}Put it right, and `{again}` goes on from here")


@contextlib.contextmanager
def at_work(patience: float | None = None) -> Iterator[Callable[[], list[str]]]:
    """Within the block nobody else runs the stages of this project, and what a killed run left is put right.

    When it ends, outputs that DVC removed of stages that did not end well are back. The block can have them brought back before,
    by a call of what it is given, which names them.

    Args:
        patience: seconds to wait for another run; without it `locks.PATIENCE`.

    Raises:
        InputError: if params.yaml has a slip or this is not the top of the project; nothing was touched.
        locks.BusyError: if another run is at work for longer.
    """
    models = settings.load().run
    _check_project()
    with locks.locked(recovery.TMP / "sentiflow.lock", patience):
        with recovery.dvc_at_rest():
            if lost := _bring_outputs_back():  # of a run that was killed
                log.warning("brought back what a killed run had removed: %s", ", ".join(map(str, lost)))
            recovery.leftovers(models)
            location.check(tracking_uri())
            forget_publication()
            _keep_outputs()
        try:
            yield lambda: [str(path) for path in _bring_outputs_back()]
        finally:
            _bring_outputs_back()
        if PUBLISHED[0].exists():
            _write_decision()
            if _noted_store() != (now := _store()):
                files.write(STORE, now)


def _write_decision() -> None:
    """Writes reports/decision.html, unless it is newer than the report, the notes and the store that it shows."""
    shown = [location.REPORT, *PUBLISHED]
    if not all(file.exists() for file in shown):
        return
    written = location.DECISION.stat().st_mtime if location.DECISION.exists() else 0.0
    if _noted_store() == _store() and max(file.stat().st_mtime for file in shown) <= written:
        return
    from sentiflow.registry import decision  # MLflow's import takes seconds

    decision.write()


def fetch(commit: str) -> str:
    """Downloads what a commit's dvc.lock references from the remote into DVC's cache, as far as it is there.

    Returns:
        What was asked, for a message: that there is no remote, or which one.
    """
    with objects.opened() as project:
        remote = project.remote_if_set()
        if remote is None:
            return "(no remote is set)"
        try:
            project.fetch(commit)
        except (DvcException, UnavailableError) as error:
            return f"and {remote.name} ({str(error).splitlines()[0]})"
        return f"and {remote.name}"


def summary() -> str:
    """What a finished run has to show: the comparison, and where the rest is."""
    mlflow_ui = f"MLflow UI: {mlflow_server() or 'sentiflow ui'}"
    if page := location.comparison(mlflow_server()):
        mlflow_ui += f"\nCompare these models there: {page}"
    if not COMPARISON.exists():
        return mlflow_ui
    verdict = f"{_sentence(location.VERDICT)}\n\n" if location.VERDICT.exists() else ""
    report = page_of(Path()) if page_of(Path()).exists() else COMPARISON
    return f"{COMPARISON.read_text(encoding='utf-8').strip()}\n\n{verdict}Report: {report}\n{mlflow_ui}"


def page_of(folder: Path) -> Path:
    """The page to open in a project's folder: the report with the verdict, or without it if there is none."""
    decision = folder / location.DECISION
    return decision if decision.exists() else folder / location.REPORT


def _sentence(page: Path) -> str:
    """What a page on a verdict says in bold, or its first line."""
    text = page.read_text(encoding="utf-8")
    found = re.search(r"^\*\*(.+)\*\*$", text, re.MULTILINE)
    return markdown.plain(found.group(1) if found else text.partition("\n")[0])


def forget_publication() -> None:
    """Removes the notes that everything is published and judged where the store is gone, is another one, or has lost some of it,
    and those of an experiment of DVC, which publishes nothing.

    The notes are outputs of the stages that publish and judge, so without them DVC runs those again and a lost database fills
    from what the other stages kept. They must be uncached outputs: DVC would bring a cached one back instead of publishing.
    """
    if any(note.exists() for note in PUBLISHED) and (reason := _why_to_publish()):
        for note in (*PUBLISHED, location.COMPARISON):
            note.unlink(missing_ok=True)
        log.warning(reason)


def _why_to_publish() -> str | None:
    if any(experiments.is_note(note) for note in PUBLISHED):
        return "the last results are of an experiment: this run publishes them to MLflow"
    uri = tracking_uri()
    database = location.database(uri)
    if database is not None and not database.exists():
        reason = f"{database} is missing"
    elif (noted := _noted_store()) and noted.partition(" ")[0] != _hashed(uri):
        reason = "MLFLOW_TRACKING_URI names another store than before"
    elif (database is None or noted != _store()) and not _is_published():  # not asked where nobody wrote to it: MLflow is slow
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
    except (OSError, ValueError, KeyError, TypeError):  # DVC runs the stage again whose note is missing or was edited
        return True
    from sentiflow.registry import publishing, store  # MLflow's import takes seconds

    try:
        return publishing.are_published(store.connect(), keys)
    except UnavailableError as error:
        log.warning("%s; the run goes on, and needs it when it publishes", error)
        return True


def _noted_store() -> str:
    return STORE.read_text(encoding="utf-8") if STORE.exists() else ""


def _store() -> str:
    """Which store it is and, of a SQLite file, which state of it."""
    uri = tracking_uri()
    database = location.database(uri)
    if database is None or not database.exists():
        return _hashed(uri)
    found = database.stat()
    return f"{_hashed(uri)} {found.st_size} {found.st_mtime_ns}"


def tracking_uri() -> str:
    """The store that this project publishes to; a relative file is one in its folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or location.DEFAULT_STORE


def mlflow_server() -> str | None:
    """Address of the server that this project publishes to, without user and password; None where the store is a database."""
    uri = tracking_uri()
    return urls.without_user(uri).rstrip("/") if uri.startswith(("http://", "https://")) else None


def require_entry() -> None:
    """Connects to the store once, so that a wrong password or an unusable database is reported before minutes of training.

    A store that does not answer now may do so by then.
    """
    file = location.database(tracking_uri())
    if file is not None and not (file.exists() and file.stat().st_size):  # the stage that publishes makes it
        return
    from sentiflow.registry import store  # MLflow's import takes seconds

    try:
        store.connect()
    except UnavailableError as error:
        log.warning("%s; the run goes on, and needs it when it publishes", error)


def _hashed(uri: str) -> str:
    """The same whoever asks the store: a password may be another, or be named elsewhere."""
    return hashlib.sha256(urls.without_user(uri).encode()).hexdigest()


def _check_project() -> None:
    here = Path.cwd()
    if not recovery.PIPELINE_FILE.exists():
        raise InputError(f"no {recovery.PIPELINE_FILE} in {here}; run this from the top folder of the project")
    if not Path(".dvc").is_dir():
        raise InputError(
            f"no .dvc folder in {here}, so it was copied without its hidden files; copy it whole or `git clone` it, "
            "or make a new one with `dvc init` (`dvc init --no-scm` without git)"
        )
    if not any((folder / ".git").exists() for folder in (here, *here.parents)):
        _tell_dvc_there_is_no_git()


def _tell_dvc_there_is_no_git() -> None:
    config = Config(dvc_dir=".dvc", validate=False)  # a slip in it is for `dvc repro` to explain
    if not config["core"].get("no_scm"):
        with config.edit("local", validate=False) as local:
            local.setdefault("core", {})["no_scm"] = True
        log.warning(
            "no git repository here: told DVC to work without (.dvc/config.local); "
            "after a `git init`, undo it with `dvc config --local --unset core.no_scm`"
        )


def _keep_outputs() -> None:
    """Hard links, which cost no space: DVC unlinks a stage's outputs before it runs the stage."""
    partial = BEFORE.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for path in _outputs(recovery.LOCK_FILE):
        kept = partial / path
        kept.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, kept, symlinks=True, copy_function=_link)
        elif path.exists():
            _link(path, kept)
    if recovery.LOCK_FILE.exists():
        shutil.copyfile(recovery.LOCK_FILE, partial / recovery.LOCK_FILE)  # no link: DVC writes into the file as it stands
    partial.rename(BEFORE)


def _bring_outputs_back() -> list[Path]:
    """Fills what is missing and replaces nothing but a broken dvc.lock; the copies are gone afterwards."""
    restored = []
    paths = _outputs(BEFORE / recovery.LOCK_FILE)
    recovery.lock_file(BEFORE / recovery.LOCK_FILE)
    for path in paths:
        if not os.path.lexists(path) and os.path.lexists(BEFORE / path):
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(BEFORE / path, path)
            restored.append(path)
    shutil.rmtree(BEFORE, ignore_errors=True)
    return restored


def _outputs(lock_file: Path) -> list[Path]:
    return [Path(out["path"]) for entry in recovery.lock_entries(lock_file).values() for out in entry.get("outs", [])]


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, or one that knows no hard links
        shutil.copy2(source, target, follow_symlinks=False)


@dataclass
class _Threads:
    """Runs each stage in a worker that a thread waits for, and shows in the terminal what comes of it."""

    workers: Workers
    pool: ThreadPoolExecutor
    force: bool
    received: list[int]
    shown: progress.Stages
    failure: StageError | None = None

    def begin(self, stage: Stage, _after: Sequence[Future[Outcome]]) -> Future[Outcome]:
        self.shown.begin(stage.name)
        told, shown = partial(self.shown.tell, stage.name), partial(self.shown.update, stage.name)
        return self.pool.submit(self.workers.run, stage.name, force=self.force, told=told, shown=shown)

    def first_ended(self, running: Sequence[Future[Outcome]]) -> Future[Outcome]:
        return _first_ended(running, self.received)

    def outcome(self, stage: Stage, ended: Future[Outcome]) -> None:
        self.shown.end(stage.name)
        try:
            ended.result()
        except StageError as error:
            self.failure = error
            raise

    def show(self, running: Sequence[str]) -> None:
        """Says why nothing else begins; else the lines and the bars of each tell enough."""
        if self.failure and running:
            self.shown.say(f"{self.failure}; what is at work goes on: {', '.join(running)}")


class _Stopped(Exception):  # noqa: N818  # no error: somebody asked for it
    pass


def _first_ended(running: Sequence[Future[Result]], received: Sequence[int]) -> Future[Result]:
    """The first that ended, or one of them.

    Raises:
        _Stopped: when a signal has come.
    """
    while not (ended := wait(running, timeout=0.05, return_when=FIRST_COMPLETED).done):
        if received:
            raise _Stopped
    return next(iter(ended))


def _repro(targets: Sequence[str], force: bool, at_once: int) -> tuple[list[StageError], int | None]:
    """Runs what is stale; gives what failed, and the signal that stopped it, if any."""
    received: list[int] = []
    failures: list[StageError] = []
    with (
        process_groups.signals_to(lambda number, _: received.append(number)),
        progress.Stages() as shown,
        ThreadPoolExecutor(at_once) as pool,
        Workers(at_once, received, shown.columns) as workers,  # ended before the threads, which wait for them
        contextlib.suppress(_Stopped),
    ):
        try:
            plan = _first_ended([pool.submit(workers.plan, targets)], received).result()
            stages = plan if force else scheduling.stale(plan)
            if any(str(note) in stage.makes for stage in stages for note in PUBLISHED):
                require_entry()
            shown.plan(plan, stages)
            failures = scheduling.side_by_side(stages, at_once, _Threads(workers, pool, force, received, shown))
            try:
                if stages:
                    workers.ask("order")
            except StageError:
                if not failures:  # else what failed first is what has to be put right
                    raise
        except StageError as error:
            failures = [*failures, error]
    return failures, received[0] if received else None

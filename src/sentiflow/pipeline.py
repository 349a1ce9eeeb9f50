"""Runs the stages through DVC, and everything a user would otherwise do by hand around it.

before    params.yaml is checked, what a killed run left is repaired, leftovers of removed architectures go
after     a failed or stopped run brings back the outputs that DVC had removed, and leaves no process behind
"""

import argparse
import contextlib
import errno
import hashlib
import html
import json
import logging
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sentiflow import locks, params, process_groups, repair, terminal, workers
from sentiflow.errors import InputError

log = logging.getLogger("sentiflow")

BEFORE = repair.TMP / "sentiflow-before"  # hard links of the outputs as they were before the run
FULL = (errno.ENOSPC, errno.EDQUOT)
SPARE = 1_000_000  # bytes that a disk has free at least which is not full
COMPARISON = Path("reports/comparison.md")
DATABASE = Path("mlflow.db")
PUBLISHED = [Path("mlartifacts/published.json"), Path("mlartifacts/judged.json")]
STORE = Path("mlartifacts/store")  # a hash of the name of the store that the last run published to
VERDICT = Path(".cache/verdict.md")


class RunError(InputError):
    """A stage failed, or DVC refused; `stage` is its name where DVC gave one."""

    def __init__(self, message: str, stage: str | None) -> None:
        super().__init__(message)
        self.stage = stage


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sentiflow.pipeline", description="Run what a change made stale.")
    parser.add_argument("targets", nargs="*", help="stages to run, with those they depend on; all where none is given")
    parser.add_argument("--again", default="make repro", help="the command that goes on after a failure, for messages")
    parser.add_argument("--force", action="store_true", help="run stages that are up to date as well")
    arguments = parser.parse_args()
    process_groups.die_with_starter()
    terminal.show_log()
    with errors_told():
        run(arguments.targets, force=arguments.force, again=arguments.again)
        if not arguments.targets:
            terminal.tell(summary())


@contextlib.contextmanager
def errors_told() -> Iterator[None]:
    """Where the block fails by a mistake of the user's, or a refusal of the machine's: one message, and exit status 1."""
    try:
        yield
    except InputError as error:
        terminal.refuse(str(error))
    except OSError as error:
        if error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        terminal.refuse(f"{where}{error.strerror}; put that right and run again")
    except KeyboardInterrupt:  # before or after DVC ran; while it runs, that takes the signal
        sys.exit(128 + signal.SIGINT)


def run(targets: Sequence[str] = (), *, force: bool = False, again: str = "make repro") -> None:
    """Runs the stages that are stale, in this process's folder; a second run in the same project waits for the first.

    Raises:
        InputError: if params.yaml has a slip or this is not the top of the project; nothing was run.
        RunError: if a stage failed; the outputs of earlier runs are back.
        SystemExit: 128 + the signal's number, if one stopped the run; every process of it has ended.
    """
    with at_work() as restored:
        status, stopped_by, failed = _repro([*(["--force"] if force else []), *targets])
        back = f"; brought back what was there before: {', '.join(paths)}" if status and (paths := restored()) else ""
        if stopped_by:
            log.warning("stopped by %s%s; `%s` goes on from here", signal.Signals(stopped_by).name, back, again)
            sys.exit(128 + stopped_by)
        what = f"stage {failed.stage!r} failed" if failed.stage else f"dvc repro ended with status {status}"
        if failed.disk_full:  # DVC ends with status 0 where a folder did not get into its cache
            raise RunError(f"{what}: the disk is full{back}. Free some space, and `{again}` goes on from here", failed.stage)
        if status != 0:
            raise RunError(f"{what}; DVC says why, above{back}. Put it right, and `{again}` goes on from here", failed.stage)


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
    architectures = params.load().run
    _check_project()
    with locks.locked(repair.TMP / "sentiflow.lock", patience):
        with repair.dvc_at_rest():
            if lost := _bring_outputs_back():  # of a run that was killed
                log.warning("brought back what a killed run had removed: %s", ", ".join(map(str, lost)))
            repair.leftovers(architectures)
            forget_publication()
            _keep_outputs()
        try:
            yield lambda: [str(path) for path in _bring_outputs_back()]
        finally:
            _bring_outputs_back()
        _note_store()


def fetch(commit: str) -> str:
    """Brings what a commit's dvc.lock names from the remote into DVC's cache, as far as it is there.

    Returns:
        What was asked, for a message: that there is no remote, or which one.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with Repo() as repo:
        remote = repo.config["core"].get("remote")
        if not remote:
            return "(no remote is set)"
        # the commit may be older than the remote, and DVC would read the remotes of its own .dvc/config
        named = {"core": {"remote": remote}, "remote": repo.config["remote"]}
        try:
            repo.fetch(revs=[commit], workspace=False, config=named)
        except DvcException as error:
            return f"and the remote {remote} ({str(error).splitlines()[0]})"
        return f"and the remote {remote}"


def summary() -> str:
    """What a finished run has to show: the comparison, and where the rest is."""
    if not COMPARISON.exists():
        return "MLflow UI: make ui"
    verdict = f"{_sentence(VERDICT)}\n\n" if VERDICT.exists() else ""
    return f"{COMPARISON.read_text(encoding='utf-8').strip()}\n\n{verdict}Report: {COMPARISON}\nMLflow UI: make ui"


def _sentence(page: Path) -> str:
    """What a page on a verdict says in bold, or its first line."""
    text = page.read_text(encoding="utf-8")
    found = re.search(r"^\*\*(.+)\*\*$", text, re.MULTILINE)
    return plain(found.group(1) if found else text.partition("\n")[0])


def plain(page: str) -> str:
    """Markdown as a terminal shows it best: without what `tables.cell` put before and in place of characters.

    >>> plain("nb\\\\_svm &lt; lstm")
    'nb_svm < lstm'
    """
    return html.unescape(re.sub(r"\\([\\|`*_~$\[\]])", r"\1", page))


def forget_publication() -> None:
    """Removes the notes that everything is published and judged where the store is a file that is gone, or another one by now.

    The notes are outputs of the stages that publish and judge, so without them DVC runs those again and a lost database fills
    from what the other stages kept. They must be uncached outputs: DVC would bring a cached one back instead of publishing.
    """
    uri = tracking_uri()
    database = Path(uri.removeprefix("sqlite:///"))
    is_lost = uri.startswith("sqlite:///") and not database.exists()
    is_another = STORE.exists() and STORE.read_text(encoding="utf-8") != _hashed(uri)
    if (is_lost or is_another) and any(note.exists() for note in PUBLISHED):
        for note in PUBLISHED:
            note.unlink(missing_ok=True)
        log.warning(
            "%s: this run's models will be published to MLflow again (`make rebuild-tracking`, before that, brings back those "
            "of earlier commits and who was champion)",
            f"{database} is missing" if is_lost else "MLFLOW_TRACKING_URI names another store than before",
        )


def _note_store() -> None:
    if PUBLISHED[0].exists() and not (STORE.exists() and STORE.read_text(encoding="utf-8") == _hashed(tracking_uri())):
        partial = STORE.with_name(f".{STORE.name}.partial")
        partial.write_text(_hashed(tracking_uri()), encoding="utf-8")
        partial.replace(STORE)


def tracking_uri() -> str:
    """The store that this project publishes to; a relative file is one in its folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE}"


def _hashed(uri: str) -> str:
    """The same whoever asks the store: a password may be another, or be named elsewhere."""
    return hashlib.sha256(re.sub(r"//[^/@\s]*@", "//", uri).encode()).hexdigest()


def _check_project() -> None:
    here = Path.cwd()
    if not repair.PIPELINE_FILE.exists():
        raise InputError(f"no {repair.PIPELINE_FILE} in {here}; run this from the top folder of the project")
    if not Path(".dvc").is_dir():
        raise InputError(
            f"no .dvc folder in {here}, so it was copied without its hidden files; copy it whole or `git clone` it, "
            "or make a new one with `dvc init` (`dvc init --no-scm` without git)"
        )
    if not any((folder / ".git").exists() for folder in (here, *here.parents)):
        _tell_dvc_there_is_no_git()


def _tell_dvc_there_is_no_git() -> None:
    from dvc.config import Config

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
    for path in _outputs(repair.LOCK_FILE):
        kept = partial / path
        kept.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, kept, symlinks=True, copy_function=_link)
        elif path.exists():
            _link(path, kept)
    if repair.LOCK_FILE.exists():
        shutil.copyfile(repair.LOCK_FILE, partial / repair.LOCK_FILE)  # no link: DVC writes into the file as it stands
    partial.rename(BEFORE)


def _bring_outputs_back() -> list[Path]:
    """Fills what is missing and replaces nothing but a broken dvc.lock; the copies are gone afterwards."""
    restored = []
    paths = _outputs(BEFORE / repair.LOCK_FILE)
    repair.dvc_lock(BEFORE / repair.LOCK_FILE)
    for path in paths:
        if not os.path.lexists(path) and os.path.lexists(BEFORE / path):
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(BEFORE / path, path)
            restored.append(path)
    shutil.rmtree(BEFORE, ignore_errors=True)
    return restored


def _outputs(lock_file: Path) -> list[Path]:
    paths = [Path(out["path"]) for entry in repair.lock_entries(lock_file).values() for out in entry.get("outs", [])]
    return [path for path in paths if "://" not in str(path) and not path.is_absolute() and ".." not in path.parts]


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, or one that knows no hard links
        shutil.copy2(source, target, follow_symlinks=False)


class _Failed(NamedTuple):
    """What DVC's child noted of a failure: the stage, where it was one's, and whether DVC itself found no space."""

    stage: str | None = None
    disk_full: bool = False


def _repro(arguments: list[str]) -> tuple[int, int | None, _Failed]:
    """Runs `dvc repro` in a process group of its own; gives its status, the signal that stopped it, if any, and what failed."""
    told, note = os.pipe()  # a file could not be written where the disk is full
    child = [sys.executable, "-P", "-c", "from sentiflow import pipeline; pipeline._dvc()", str(note)]
    received: list[int] = []
    with process_groups.signals_to(lambda number, _: received.append(number)), os.fdopen(told, "rb") as notes:
        sys.stdout.flush()
        # its input is empty: a process group in the background that reads the terminal would be halted
        dvc = subprocess.Popen(
            [*child, "dvc", "--wait-for-lock", "repro", *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=[note],
            env=workers.environment(1) | process_groups.of_this_process(),
            process_group=0,
        )
        os.close(note)
        try:
            while dvc.poll() is None and not received:
                time.sleep(0.05)
        finally:
            if received or dvc.poll() != 0:  # a DVC that was killed leaves its stage running
                process_groups.end(dvc, received)
        status = dvc.wait()
        noted = notes.readlines()
    failures = [_Failed(*json.loads(line)) for line in noted]
    stage = next((each.stage for each in reversed(failures) if each.stage), None)
    return status, received[0] if received else None, _Failed(stage, any(each.disk_full for each in failures))


def _dvc() -> None:
    """The child: DVC's own command line, which besides notes what failed."""
    process_groups.die_with_starter()
    from dvc.cli import main as dvc

    note = int(sys.argv[1])
    os.set_inheritable(note, False)  # or a stage that outlives DVC would keep it open
    del sys.argv[:2]

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1]:
                os.write(note, f"{json.dumps(_what_failed(record.exc_info[1]))}\n".encode())

    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).addHandler(Noting())
    sys.exit(dvc(sys.argv[1:]))


def _what_failed(error: BaseException | None) -> _Failed:
    from dvc.exceptions import ReproductionError

    failed = _Failed()
    while error is not None:
        if isinstance(error, ReproductionError) and (name := re.search("'(.+)'", str(error))):
            failed = failed._replace(stage=name[1])
        if _is_of_full_disk(error):
            failed = failed._replace(disk_full=True)
        error = error.__cause__ or error.__context__
    return failed


def _is_of_full_disk(error: BaseException) -> bool:
    if isinstance(error, sqlite3.OperationalError):  # of DVC's own databases; the second may have other reasons too
        nearly_full = shutil.disk_usage(".").free < SPARE
        return "disk is full" in str(error) or ("disk I/O error" in str(error) and nearly_full)
    return isinstance(error, OSError) and error.errno in FULL


if __name__ == "__main__":
    main()

"""Fill an empty MLflow store from git's history, DVC's cache or remote, and the history of champions.

Each commit that changed dvc.lock is checked out into a folder of its own, with the outputs that it recorded, and its own code
publishes them as it did then. Runs, metrics and versions are restored in the order of the commits; results that were never
committed are lost.
"""

import contextlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dvc.exceptions import DvcException
from pydantic import AfterValidator, BaseModel, StringConstraints, TypeAdapter
from tqdm import tqdm

from sentiflow.pipeline import confined, isolated_run, objects, repro
from sentiflow.pipeline.confined import UnsafeError
from sentiflow.registry import champion_history, model_versions, store
from sentiflow.system import dvc_lock, files, git, locks, terminal
from sentiflow.system.errors import InputError, UnavailableError

log = logging.getLogger("sentiflow")

FOLDER = Path(".cache/rebuild")
TREE = FOLDER / "tree"
RECORDS = Path(".cache/training")
STAGE = "register"

Argument = Annotated[str, StringConstraints(pattern=r"\A[^\x00]*\z")]  # of a process


class Place(BaseModel):
    """A dependency or an output."""

    path: Argument


class Recorded(BaseModel):
    """The part of a stage's entry in dvc.lock that is used here."""

    cmd: Annotated[Argument, AfterValidator(lambda cmd: shlex.join(shlex.split(cmd)))]  # rejects unclosed quotes
    deps: list[Place] = []
    outs: list[Place] = []


@dataclass(frozen=True)
class Commit:
    """A commit that changed dvc.lock."""

    sha: str
    subject: str
    lock: dict[str, Recorded]  # by stage

    @property
    def title(self) -> str:
        return f"{self.sha[:10]} {self.subject[:60]}"

    @property
    def outputs(self) -> list[str]:
        """Outputs of other stages that the publishing stage reads."""
        read = [dependency.path for dependency in self.lock[STAGE].deps]
        made = [out.path for entry in self.lock.values() for out in entry.outs]
        return [path for path in made if any(files.overlap(path, each) for each in read)]


@store.errors_handled()
def show() -> None:
    """Lists what `rebuild` would publish."""
    found = commits()
    for commit in found:
        names = ", ".join(name.partition("@")[2] for name in commit.lock if name.startswith("evaluate@"))
        terminal.tell(f"{commit.title}: {names}")
    journal = champion_history.JOURNAL
    entries = len(journal.read_text(encoding="utf-8").splitlines()[1:]) if journal.exists() else 0
    print(f"Dry run: {len(found)} commits would be published, and {entries} changes of champion entered. Nothing was changed.")


@store.errors_handled()
def rebuild() -> None:
    """Publishes the results of every commit that the store lacks, oldest first, and enters the history of champions.

    Raises:
        InputError: if this is not a git repository, or no commit has published results.
    """
    found = commits()
    client = store.connect()
    uri = isolated_run.tracking_uri()
    before = len(model_versions.versions(client))
    if before:
        log.warning("the store is not empty: its %d versions stay, and new ones get higher numbers", before)
    skipped: dict[str, str] = {}
    with locks.locked(FOLDER / "lock"):
        for commit in tqdm(found, desc="publish", unit="commit", disable=None):
            try:
                with _checked_out(commit) as tree:
                    _publish(commit, tree, uri)
            except InputError as error:
                skipped[commit.title] = str(error)
        entered, lost = champion_history.replay(client)
        for note in repro.PUBLISHED:  # so that `sentiflow repro` publishes what is in no commit, and names the challenger
            note.unlink(missing_ok=True)
    for title, reason in skipped.items():
        log.warning("not published: %s: %s", title, reason)
    for line in lost:
        log.warning("not entered, because its version is missing: %s", line)
    versions = model_versions.versions(client)
    champion = model_versions.champion(client)
    now = f"Champion: version {champion.version}." if champion else "No champion: `sentiflow models promote ...` promotes one."
    print(
        f"{len(found) - len(skipped)} of {len(found)} commits are published: "
        f"{len(versions)} versions, {len(versions) - before} of them new.\n"
        f"{entered} changes of champion entered. {now}\n"
        "`sentiflow repro` publishes this folder's results if no commit has them, and names the challenger."
    )
    if len(skipped) == len(found):
        raise InputError("nothing could be published; restore DVC's cache, or add a remote: dvc remote add -d NAME URL")


def commits() -> list[Commit]:
    """The commits that changed dvc.lock and have results to publish, oldest first."""
    logged = git.ask("log", "--reverse", "--first-parent", "--format=%H %s", "--", "dvc.lock")
    found = []
    for line in logged.splitlines():
        sha, _, subject = line.partition(" ")
        with contextlib.suppress(ValueError):  # a damaged dvc.lock has nothing to publish
            stages = dvc_lock.of_commit(sha) or {}
            if STAGE in stages:
                found.append(Commit(sha, subject, TypeAdapter(dict[str, Recorded]).validate_python(stages)))
    if hint := git.missing_history():
        log.warning(hint)
    if not found:
        raise InputError(
            "no dvc.lock in git's history has published results, so there is nothing to rebuild from; "
            "commit dvc.lock after `sentiflow repro`, or publish this run: sentiflow repro"
        )
    return found


@contextlib.contextmanager
def _checked_out(commit: Commit) -> Iterator[Path]:
    """A folder with the files of a commit and the outputs that it recorded."""
    _remove_tree()
    git.ask("worktree", "add", "--detach", "--force", str(TREE), commit.sha)
    try:
        confined.require_links_inside(TREE)
        searched = _fetch(commit.sha)
        # the outputs are already in DVC's cache, so links are enough
        cache = isolated_run.cache_of_project()
        isolated_run.write_config(TREE / ".dvc/config.local", cache, no_scm=True, links="hardlink,symlink,copy")
        problem = ""
        try:
            with objects.opened(TREE) as project:
                project.checkout([str((TREE / path).absolute()) for path in commit.outputs], force=True)
        except UnsafeError:
            raise
        except InputError as error:
            problem = str(error)
        missing = [path for path in commit.outputs if not (TREE / path).exists() and not path.startswith("mlartifacts/")]
        if problem or missing:
            raise InputError(f"its results are not all in {searched}: {terminal.some(missing, most=3) or problem}")
        records = TREE / RECORDS  # training times are only known to the machine that trained
        records.parent.mkdir(parents=True, exist_ok=True)
        if RECORDS.exists() and not records.exists():
            records.symlink_to(RECORDS.absolute())
        yield TREE
    finally:
        _remove_tree()


def _fetch(commit: str) -> str:
    """Downloads what a commit references into DVC's cache, as far as the remote has it; returns the places that were searched."""
    with objects.opened() as project:
        remote = project.remote_if_set()
        if remote is None:
            return "DVC's cache (no remote is set)"
        try:
            project.fetch(commit)
        except (DvcException, UnavailableError) as error:
            return f"DVC's cache and {remote.name} ({str(error).splitlines()[0]})"
        return f"DVC's cache and {remote.name}"


def _publish(commit: Commit, tree: Path, uri: str) -> None:
    _, *arguments = shlex.split(commit.lock[STAGE].cmd)
    paths = [str((tree / "src").absolute()), str(tree.absolute())]
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "MLFLOW_TRACKING_URI": uri},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if ended.returncode:
        raise InputError(f"its own `{' '.join(arguments[:2])}` ended with status {ended.returncode}; its message is above")


def _remove_tree() -> None:
    shutil.rmtree(TREE, ignore_errors=True)
    git.ask("worktree", "prune")

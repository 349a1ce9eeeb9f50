"""Fill an empty MLflow store from what does not need it: git's history, DVC's cache or remote, the history of champions.

Each commit that changed dvc.lock is laid out in a folder of its own, with the outputs that it recorded, and its own code
publishes them there as it did then. So runs, metrics and versions come back in the order of the commits; what was never
committed cannot.
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

from pydantic import AfterValidator, BaseModel, StringConstraints, TypeAdapter
from tqdm import tqdm

from sentiflow.pipeline import confined, isolated_run, objects, repro
from sentiflow.pipeline.confined import UnsafeError
from sentiflow.registry import champion_history, model_versions, store
from sentiflow.system import dvc_lock, files, git, locks, terminal
from sentiflow.system.errors import InputError

log = logging.getLogger("sentiflow")

FOLDER = Path(".cache/rebuild")
TREE = FOLDER / "tree"
RECORDS = Path(".cache/training")
STAGE = "register"
NO_CHAMPION = "There is no champion: `sentiflow models promote ...` promotes one."


Argument = Annotated[str, StringConstraints(pattern=r"\A[^\x00]*\z")]  # that a process can be given


class Place(BaseModel):
    """A dependency or an output."""

    path: Argument


class Recorded(BaseModel):
    """What DVC recorded of a stage, as far as it is used here."""

    cmd: Annotated[Argument, AfterValidator(lambda cmd: shlex.join(shlex.split(cmd)))]  # refuses open quotes
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
        """The outputs of other stages that publishing read."""
        read = [dependency.path for dependency in self.lock[STAGE].deps]
        made = [out.path for entry in self.lock.values() for out in entry.outs]
        return [path for path in made if any(files.overlap(path, each) for each in read)]


@store.errors_handled()
def show() -> None:
    """Lists what `rebuild` would publish."""
    there = commits()
    for commit in there:
        names = ", ".join(name.partition("@")[2] for name in commit.lock if name.startswith("evaluate@"))
        terminal.tell(f"{commit.title}: {names}")
    entries = (
        max(len(champion_history.JOURNAL.read_text(encoding="utf-8").splitlines()) - 1, 0)
        if champion_history.JOURNAL.exists()
        else 0
    )
    print(f"Dry run: {len(there)} commits would be published, and {entries} changes of champion entered. Nothing was changed.")


@store.errors_handled()
def rebuild() -> None:
    """Publishes the recorded results of every commit that the store lacks, oldest first, and enters the history of champions.

    Raises:
        InputError: if this is no git repository, or nothing in its history was ever published.
    """
    there = commits()
    client = store.connect()
    uri = isolated_run.tracking_uri()
    before = len(model_versions.versions(client))
    if before:
        log.warning("the store is not empty: it has %d versions, which stay; what it lacks gets later numbers", before)
    skipped: dict[str, str] = {}
    with locks.locked(FOLDER / "lock"):
        for commit in tqdm(there, desc="publish", unit="commit", disable=None):
            try:
                with _laid_out(commit) as tree:
                    _publish(commit, tree, uri)
            except InputError as error:
                skipped[commit.title] = str(error)
        entered, lost = champion_history.replay(client)
        for note in repro.PUBLISHED:  # so that `sentiflow repro` publishes what no commit has, and names the challenger
            note.unlink(missing_ok=True)
    for title, reason in skipped.items():
        log.warning("not published: %s: %s", title, reason)
    for line in lost:
        log.warning("not entered, as its version is not there: %s", line)
    versions = model_versions.versions(client)
    champion = model_versions.champion(client)
    done = f"{len(there) - len(skipped)} of {len(there)} commits are published"
    print(f"{done}: {len(versions)} versions, {len(versions) - before} of them new.")
    print(f"{entered} changes of champion entered. " + (f"Champion: version {champion.version}." if champion else NO_CHAMPION))
    print("`sentiflow repro` publishes this folder's results if no commit has them, and names the challenger.")
    if there and len(skipped) == len(there):
        raise InputError("nothing could be published; bring DVC's cache back, or name a remote: dvc remote add -d NAME URL")


def commits() -> list[Commit]:
    """The commits that changed dvc.lock and had results to publish, oldest first."""
    logged = git.ask("log", "--reverse", "--first-parent", "--format=%H %s", "--", "dvc.lock")
    found = []
    for line in logged.splitlines():
        sha, _, subject = line.partition(" ")
        with contextlib.suppress(ValueError):  # a commit of a damaged file had nothing to publish
            stages = dvc_lock.of_commit(sha) or {}
            if STAGE in stages:
                found.append(Commit(sha, subject, TypeAdapter(dict[str, Recorded]).validate_python(stages)))
    if hint := git.missing_history():
        log.warning(hint)
    if not found:
        raise InputError(
            "git's history holds no dvc.lock with published results, so there is nothing to rebuild from; "
            "commit dvc.lock after `sentiflow repro`, or publish this run: sentiflow repro"
        )
    return found


@contextlib.contextmanager
def _laid_out(commit: Commit) -> Iterator[Path]:
    """A folder with the commit's files and the outputs that it recorded."""
    _remove_tree()
    git.ask("worktree", "add", "--detach", "--force", str(TREE), commit.sha)
    try:
        confined.require_links_inside(TREE)
        missing = repro.fetch(commit.sha)
        config, links = TREE / ".dvc/config.local", "hardlink,symlink,copy"  # in DVC's cache each output lies already
        isolated_run.write_config(config, isolated_run.cache_of_project(), no_scm=True, links=links)
        try:
            with objects.opened(TREE) as project:
                project.checkout([str((TREE / path).absolute()) for path in commit.outputs], force=True)
            problem = ""
        except UnsafeError:
            raise
        except InputError as error:
            problem = str(error)
        lacking = [path for path in commit.outputs if not (TREE / path).exists() and not path.startswith("mlartifacts/")]
        if problem or lacking:
            named = terminal.some(lacking, most=3) or problem
            raise InputError(f"DVC's cache {missing} has not all that it recorded: {named}")
        _link_records()
        yield TREE
    finally:
        _remove_tree()


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
        raise InputError(f"its own `{' '.join(arguments[:2])}` ended with status {ended.returncode}; it says why, above")


def _link_records() -> None:
    # how long trainings took is known to the machine that trained alone
    place = TREE / RECORDS
    place.parent.mkdir(parents=True, exist_ok=True)
    if RECORDS.exists() and not place.exists():
        place.symlink_to(RECORDS.absolute())


def _remove_tree() -> None:
    shutil.rmtree(TREE, ignore_errors=True)
    git.ask("worktree", "prune")

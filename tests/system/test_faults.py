"""Retrainings that are killed, in each stage and each way, under a real Prefect server and worker: the next run puts all right.

One project, one server and one worker serve all kills, so that what a kill leaves behind is met by every later one.
"""

import hashlib
import itertools
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import processes
import psutil
import pytest
from faults import BETTER, ENDED, POOR, Project, Served
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from flows.retrain import UNFINISHED
from sentiflow.registry.champion_history import APPLIED_TAG, HISTORY
from sentiflow.registry.store import KEY_TAG

pytestmark = pytest.mark.slow

GONE_WITHIN = 120.0  # seconds until no process of a killed run is left, on a busy machine
STAGES = (
    "download", "clean", "split", "tokenize", "train@logistic", "train@nb_svm", "evaluate@logistic", "evaluate@nb_svm",
    "compare", "analyse", "explain", "report", "register", "judge",
)  # fmt: skip
drawn = random.Random(7)


@dataclass(frozen=True)
class AtWork:
    """The processes of a stage that runs."""

    stage: psutil.Process
    dvc: psutil.Process  # the one that runs DVC for it


@dataclass(frozen=True)
class Way:
    """A way to end a run.

    done: does it, given what is served, the run's id, and the stage that is running.
    states: in which Prefect then says the run ended.
    is_gentle: whether the run has the time to bring back what DVC had removed.
    """

    done: Callable[..., None]
    states: tuple[str, ...]
    is_gentle: bool = True


def cancelled(served, run_id, at_work):
    served.cancel(run_id)


def terminated(served, run_id, at_work):
    served.flow(run_id).terminate()


def all_killed(served, run_id, at_work):
    processes.kill(served.processes_of(run_id))


def flow_killed(served, run_id, at_work):
    processes.kill([served.flow(run_id)])


def dvc_killed(served, run_id, at_work):
    processes.kill([at_work.dvc])


def stage_killed(served, run_id, at_work):
    processes.kill([at_work.stage])


WAYS = {
    "cancelled": Way(cancelled, ("Cancelled",)),
    "SIGTERM": Way(terminated, ("Crashed",)),
    "SIGKILL of all": Way(all_killed, ("Crashed",), is_gentle=False),
    "SIGKILL of the flow": Way(flow_killed, ("Crashed",), is_gentle=False),
    "SIGKILL of DVC": Way(dvc_killed, ("Failed",)),
    "SIGKILL of the stage": Way(stage_killed, ("Failed",)),
}
SEEN, WRITING = "as soon as it is there", "while it writes"


class Kills:
    """The project with what serves it, and how it looks undisturbed."""

    def __init__(self, served, waiting):
        self.served, self.project = served, served.project
        self.waiting = waiting  # a copy in which a better version waits to be promoted
        self.lock, self.files = self.project.lock_text, set(self.project.contents())
        self.cached = set(self.project.cached_outputs().values())

    def task(self, run_id, name):
        """Whether a task of the run is running."""
        of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
        tasks = self.served.client.read_task_runs(flow_run_filter=of_run)
        return any(each.name == name and each.state.is_running() for each in tasks)

    def at_work(self, run_id, stage):
        """The processes of a stage of the run, as soon as they are there."""
        found = processes.wait_until(lambda: self.project.stage(stage) or self.served.state(run_id).is_final(), ENDED)
        assert isinstance(found, psutil.Process), f"the run ended before {stage}: {self.served.state(run_id).message}"
        return AtWork(found, self.served.dvc_worker_of(found))

    def unfinished(self):
        """Whether a run has noted that it began, and not that it ended."""
        return (self.project.folder / UNFINISHED).exists()

    def strike(self, run_id, way, at_work=None):
        """Ends the run; gives the seconds until none of its processes is left."""
        way.done(self.served, run_id, at_work)
        started = time.monotonic()
        # the flow itself goes on a while where only DVC or its stage was killed: that is its work
        processes.wait_until(lambda: not self.served.processes_of(run_id), GONE_WITHIN)
        return time.monotonic() - started

    def put_right(self, capsys, where, how, run_id, seconds, *, began=True, kept=True):
        """Checks the ended run, has the next one done, and checks everything."""
        state = self.served.ended(run_id)
        assert state.name in WAYS[how].states, state.message
        # a stage that was being started sees that its starter is gone once Python is up
        processes.wait_until(lambda: not self.left_behind(), GONE_WITHIN, message=lambda: f"left: {self.left_behind()}")
        assert self.unfinished() == began
        if kept and WAYS[how].is_gentle:
            assert self.files <= set(self.project.contents()), "outputs of earlier runs are gone"
        completed = self.served.completed()
        assert ("did not end" in completed) == began
        with capsys.disabled():
            print(f"\n{where}, {how}: {state.name}, nothing left after {seconds:.1f} s; next run: {completed}", flush=True)
        self.check()

    def check(self):
        assert not self.left_behind()
        assert not self.unfinished()
        assert self.project.is_up_to_date()
        assert self.project.lock_text == self.lock
        assert set(self.project.contents()) == self.files
        assert self.project.flaws_of_store() == []

    def published(self):
        """MLflow runs of the trained models; the first is the one that the others belong to."""
        return self.project.counted(f"SELECT count(*) FROM tags WHERE key = '{KEY_TAG}'") > 1

    def entries(self):
        return self.project.counted(f"SELECT count(*) FROM model_versions WHERE name = '{HISTORY}'")

    def applied(self):
        return self.project.counted(f"SELECT count(*) FROM model_version_tags WHERE name = '{HISTORY}' AND key = '{APPLIED_TAG}'")

    def left_behind(self):
        """Processes in the project that serve nobody."""
        serving = {process.pid for process in self.served.started}
        return processes.that(lambda process: process.cwd() == str(self.project.folder), but=serving)


@pytest.fixture(scope="module")
def kills(tmp_path_factory):
    top = tmp_path_factory.mktemp("faults")
    project = Project.made(top / "project", POOR)
    with Served(project, top / "prefect") as served:
        assert "first" in served.completed()
        project.change(BETTER)
        assert "waits for `sentiflow models promote`" in served.completed(promote=False)
        project.keep(top / "waiting")
        yield Kills(served, top / "waiting")


def objects(place):
    """The files of DVC's cache or remote."""
    return [file for file in place.glob("files/md5/*/*") if file.is_file()]


def whole(files):
    """The hashes by which the files are named, of those whose content has that hash."""
    names = {file: file.parent.name + file.name for file in files}
    return {name for file, name in names.items() if hashlib.md5(file.read_bytes()).hexdigest() == name.removesuffix(".dir")}


def let_it_write(project, stage, at_work):
    """Waits until a stage has begun an output, and a moment longer."""
    outputs = project.half_written(stage)
    while processes.lives(at_work.stage) and not any(output.exists() for output in outputs):
        time.sleep(0.002)
    time.sleep(drawn.uniform(0, 0.3))


# Each way in turn; those that take effect at once also while something is written.
KILLS = [
    (stage, how, WRITING if how in ("SIGKILL of all", "SIGKILL of DVC") else SEEN)
    for stage, how in zip(STAGES, itertools.cycle(WAYS), strict=False)
]


@pytest.mark.parametrize(("stage", "how", "when"), KILLS)
def test_run_killed_in_a_stage_is_put_right_by_the_next(kills, capsys, stage, how, when):
    kills.project.make_stale(stage)
    run_id = kills.served.begin()
    at_work = kills.at_work(run_id, stage)
    if when == WRITING:
        let_it_write(kills.project, stage, at_work)
    seconds = kills.strike(run_id, WAYS[how], at_work)
    kills.put_right(capsys, f"{stage}, {when}", how, run_id, seconds)


@pytest.mark.parametrize("how", ["SIGKILL of the flow", "cancelled"])
def test_run_killed_while_two_stages_run_side_by_side_is_put_right_by_the_next(kills, capsys, how):
    pair = ("train@logistic", "train@nb_svm")
    kills.project.make_stale(*pair)
    run_id = kills.served.begin()
    kills.at_work(run_id, pair[0])
    kills.at_work(run_id, pair[1])
    assert kills.project.stage(pair[0]), "the first one had ended when the second one began"
    seconds = kills.strike(run_id, WAYS[how])
    kills.put_right(capsys, " and ".join(pair), how, run_id, seconds)


@pytest.mark.parametrize("how", ["SIGKILL of all", "SIGKILL of DVC"])
def test_run_killed_while_it_publishes_to_an_empty_store_leaves_no_duplicate(kills, capsys, how):
    kills.project.lose_store()
    run_id = kills.served.begin()
    at_work = kills.at_work(run_id, "register")
    processes.wait_until(lambda: kills.published() or not processes.lives(at_work.stage), ENDED)
    time.sleep(drawn.uniform(0, 0.5))
    seconds = kills.strike(run_id, WAYS[how], at_work)
    # with the store the test removed the history of champions, which only the stage after this one writes again
    kills.put_right(capsys, "register, while it publishes", how, run_id, seconds, kept=False)


@pytest.mark.parametrize("how", ["SIGKILL of all", "SIGKILL of the flow", "cancelled"])
def test_run_killed_between_the_entry_of_a_promotion_and_its_alias_leaves_one_champion(kills, capsys, how):
    kills.project.back_to(kills.waiting)
    kills.project.make_stale("judge")
    run_id = kills.served.begin()
    processes.wait_until(lambda: kills.entries() == 2, ENDED, 0.002)
    seconds = kills.strike(run_id, WAYS[how])
    was_applied = kills.applied() == 2
    where = f"promotion, {'after' if was_applied else 'before'} the entry was applied"
    kills.put_right(capsys, where, how, run_id, seconds)
    assert kills.entries() == kills.applied() == 2


@pytest.mark.parametrize("how", ["SIGKILL of all", "cancelled"])
def test_run_killed_while_it_pushes_is_put_right_by_the_next(kills, capsys, tmp_path, how):
    kills.project.add_remote(tmp_path / "remote")
    kills.project.make_stale("judge")
    run_id = kills.served.begin()
    processes.wait_until(lambda: kills.task(run_id, "push"), ENDED)
    time.sleep(drawn.uniform(0, 1))
    seconds = kills.strike(run_id, WAYS[how])
    where = f"push, {len(objects(tmp_path / 'remote'))} files there"
    kills.put_right(capsys, where, how, run_id, seconds, began=kills.unfinished())  # a push may have ended just before
    assert kills.cached <= whole(objects(tmp_path / "remote"))
    kills.project.remove_remote()


@pytest.mark.parametrize("how", ["SIGKILL of all"])
def test_run_killed_while_it_pulls_into_an_empty_cache_is_put_right_by_the_next(kills, capsys, tmp_path, how):
    kills.project.add_remote(tmp_path / "remote")
    kills.project.push()
    kills.project.lose_cache()
    run_id = kills.served.begin()
    processes.wait_until(lambda: kills.task(run_id, "pull"), ENDED)
    time.sleep(drawn.uniform(0, 1))
    seconds = kills.strike(run_id, WAYS[how])
    where = f"pull, {len(objects(kills.project.cache))} files here"
    kills.put_right(capsys, where, how, run_id, seconds, began=False, kept=False)
    assert kills.cached <= whole(objects(kills.project.cache))
    kills.project.remove_remote()


def test_run_killed_while_it_looks_for_drift_is_put_right_by_the_next(kills, capsys):
    kills.project.make_stale("judge")
    incoming = kills.project.folder / "data/incoming"  # with nothing there it would not take a moment
    incoming.mkdir()
    reviews = pd.read_parquet(kills.project.folder / "data/reviews/reviews.parquet")
    reviews["text"].to_frame("review").to_csv(incoming / "reviews.csv", index=False)
    run_id = kills.served.begin()
    processes.wait_until(lambda: kills.task(run_id, "check drift"), ENDED)
    seconds = kills.strike(run_id, WAYS["SIGTERM"])
    shutil.rmtree(incoming)
    kills.put_right(capsys, "check drift", "SIGTERM", run_id, seconds, began=False)


@pytest.mark.parametrize("stage", ["train@nb_svm"])
def test_machine_that_went_down_comes_up_with_the_run_marked_and_the_next_one_puts_all_right(kills, capsys, stage):
    kills.project.make_stale(stage)
    run_id = kills.served.begin()
    let_it_write(kills.project, stage, kills.at_work(run_id, stage))
    processes.kill([*kills.served.started, *kills.served.processes_of(run_id)])
    started = time.monotonic()
    kills.served.start()
    kills.put_right(capsys, f"everything, {stage}", "SIGKILL of all", run_id, time.monotonic() - started)

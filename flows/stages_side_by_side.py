"""Runs DVC's stages as Prefect's tasks, each as soon as what it needs is there, as many at once as params.yaml allows."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.futures import PrefectFuture, as_completed

from flows import telling
from flows.attempts import StoppedError, with_attempts
from flows.tasks import run_stage
from sentiflow.config.params import Params
from sentiflow.pipeline.scheduling import side_by_side, with_what_they_need
from sentiflow.pipeline.workers import Outcome, Stage, StageError, Workers


@dataclass
class Run:
    """One pass over the stages.

    force: runs stages that are up to date as well.
    forced: names of stages for which that holds alone.
    spared: names of stages for which it does not.
    outcomes: what came of each stage so far.
    """

    p: Params
    workers: Workers
    force: bool
    forced: frozenset[str]
    spared: set[str] = field(default_factory=set)
    outcomes: list[Outcome] = field(default_factory=list)

    def all(self) -> str:
        """Every stage of the pipeline; nothing is left out, so the text is empty.

        Raises:
            StoppedError: if one failed, saying which and why.
        """
        plan = self.workers.plan()
        with self._in_order():
            self._side_by_side(plan, telling.Progress(len(plan)))
            return ""

    def of(self, models: Sequence[str]) -> str:
        """The stages of some models, then those about all of them, if what the latter read of the others is up to date.

        Returns:
            Why the latter were left out; empty where they were not.

        Raises:
            StoppedError: if one failed, saying which and why.
        """
        plan = self.workers.plan()
        progress = telling.Progress(len(plan))
        chosen = with_what_they_need(plan, {f"evaluate@{name}" for name in models})
        with self._in_order():
            self._side_by_side([stage for stage in plan if stage.name in chosen], progress)
            rest = [stage for stage in self.workers.plan() if stage.name not in chosen]
            if stale := [each.name for each in rest if "@" in each.name and (each.changed or each.is_new)]:
                return f"{', '.join(stale)} {'is' if len(stale) == 1 else 'are'} stale, so a retraining of all is due"
            self.spared = {each.name for each in rest if "@" in each.name}
            self._side_by_side(rest, progress)
            return ""

    @contextlib.contextmanager
    def _in_order(self) -> Iterator[None]:
        """Puts the stages of dvc.lock in their order when the block has ended, well or not."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(StageError):  # what failed first is what has to be put right
                self.workers.ask("order")
            raise
        self.workers.ask("order")

    def _side_by_side(self, plan: Sequence[Stage], progress: telling.Progress) -> None:
        if failures := side_by_side(plan, self.p.retrain.side_by_side, _Tasks(self, progress)):
            raise StoppedError("; ".join(map(str, failures)) + "; put that right, and the next run goes on from there")


@dataclass
class _Tasks:
    """Runs each stage as a task of its own."""

    run: Run
    progress: telling.Progress

    def begin(self, stage: Stage, after: Sequence[PrefectFuture[Any]]) -> PrefectFuture[Any]:
        p = self.run.p
        force = (self.run.force and stage.name not in self.run.spared) or stage.name in self.run.forced
        asked = with_attempts(run_stage, p, stage.name)
        return asked.submit(stage.name, self.run.workers, force, p.retrain.stage_minutes, wait_for=list(after))

    def first_ended(self, running: Sequence[PrefectFuture[Any]]) -> PrefectFuture[Any]:
        ended = next(iter(as_completed(list(running))))
        ended.wait()
        return ended

    def outcome(self, stage: Stage, ended: PrefectFuture[Any]) -> None:
        if not ended.state.is_completed():
            raise StageError(ended.state.message or f"{stage.name}: {ended.state.name}")
        self.run.outcomes.append(ended.result())

    def show(self, running: Sequence[str]) -> None:
        self.progress.show(self.run.outcomes, running)

"""Runs DVC's stages as Prefect's tasks, each as soon as what it needs is there, as many at once as params.yaml allows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from prefect.futures import PrefectFuture, as_completed

from flows import telling
from flows.attempts import StoppedError, with_attempts
from flows.tasks import run_stage
from sentiflow.params import Params
from sentiflow.workers import Outcome, Stage, Workers


@dataclass
class Run:
    """One pass over the stages.

    force: runs stages that are up to date as well.
    forced: names of stages for which that holds alone.
    outcomes: what came of each stage so far.
    """

    p: Params
    workers: Workers
    force: bool
    forced: frozenset[str]
    outcomes: list[Outcome] = field(default_factory=list)

    def all(self) -> str:
        """Every stage of the pipeline; nothing is left out, so the text is empty.

        Raises:
            StoppedError: if one failed, saying which and why.
        """
        plan = self.workers.plan()
        try:
            self._side_by_side(plan, telling.Progress(len(plan)))
            return ""
        finally:
            self.workers.ask("order")

    def of(self, architectures: Sequence[str]) -> str:
        """The stages of some architectures, then those about all of them, if what the latter read of the others is up to date.

        Returns:
            Why the latter were left out; empty where they were not.

        Raises:
            StoppedError: if one failed, saying which and why.
        """
        plan = self.workers.plan()
        progress = telling.Progress(len(plan))
        chosen = _with_what_they_need(plan, {f"evaluate@{name}" for name in architectures})
        try:
            self._side_by_side([stage for stage in plan if stage.name in chosen], progress)
            rest = [stage for stage in self.workers.plan() if stage.name not in chosen]
            if stale := [each.name for each in rest if "@" in each.name and (each.changed or each.is_new)]:
                return f"{', '.join(stale)} {'is' if len(stale) == 1 else 'are'} stale, so a retraining of all is due"
            self._side_by_side(rest, progress)
            return ""
        finally:
            self.workers.ask("order")

    def _side_by_side(self, plan: Sequence[Stage], progress: telling.Progress) -> None:
        """Each stage as a task of its own; after a failure those at work end, and no other begins."""
        needs = {stage.name: [name for name in stage.needs if any(name == each.name for each in plan)] for stage in plan}
        places = {stage.name: place for place, stage in enumerate(plan)}
        waiting = TopologicalSorter(needs)
        waiting.prepare()
        futures: dict[str, PrefectFuture[Any]] = {}
        running: dict[PrefectFuture[Any], str] = {}
        ready: list[str] = []
        failures: list[str] = []
        while waiting.is_active() and not (failures and not running):
            ready = sorted([*ready, *waiting.get_ready()], key=places.__getitem__)
            while ready and len(running) < self.p.retrain.side_by_side and not failures:
                name = ready.pop(0)
                futures[name] = self._begin(name, [futures[needed] for needed in needs[name]])
                running[futures[name]] = name
            progress.show(self.outcomes, list(running.values()))
            ended = next(iter(as_completed(list(running))))
            ended.wait()
            name = running.pop(ended)
            if ended.state.is_completed():
                self.outcomes.append(ended.result())
                waiting.done(name)
            else:
                failures.append(ended.state.message or f"{name}: {ended.state.name}")
        progress.show(self.outcomes, [])
        if failures:
            raise StoppedError("; ".join(failures) + "; put that right, and the next run goes on from there")

    def _begin(self, name: str, after: list[PrefectFuture[Any]]) -> PrefectFuture[Any]:
        asked = with_attempts(run_stage, self.p, name)
        force = self.force or name in self.forced
        return asked.submit(name, self.workers, force, self.p.retrain.stage_minutes, wait_for=after)


def _with_what_they_need(plan: Sequence[Stage], names: set[str]) -> set[str]:
    for stage in reversed(plan):  # what a stage needs stands before it
        if stage.name in names:
            names = names | set(stage.needs)
    return names

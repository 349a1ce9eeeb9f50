"""Runs DVC's stages as Prefect tasks: each as soon as its dependencies are done, up to `retrain.side_by_side` at once."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.futures import PrefectFuture, as_completed

from flows import artifacts
from flows.retries import with_retries
from flows.tasks import run_stage
from sentiflow.config.params import Params
from sentiflow.pipeline.scheduling import side_by_side, with_what_they_need
from sentiflow.pipeline.workers import Outcome, Stage, StageError, Workers
from sentiflow.system.errors import InputError


@dataclass
class Run:
    """One pass over the stages; the `Runner` of `scheduling.side_by_side`.

    force: run stages that are up to date as well.
    forced: names of stages that are run even without `force`.
    spared: names of stages to which `force` does not apply.
    outcomes: outcomes of the stages that are done.
    """

    p: Params
    workers: Workers
    force: bool
    forced: set[str]
    spared: set[str] = field(default_factory=set)
    outcomes: list[Outcome] = field(default_factory=list)
    progress: artifacts.Progress = field(init=False)

    def stages(self, models: Sequence[str] | None) -> str:
        """Runs every stage; or the stages of some models, then those about all models, unless other models are stale.

        Returns:
            Why the stages about all models were skipped; empty if they were not.

        Raises:
            InputError: if a stage failed, with its name and the reason.
        """
        plan = self.workers.plan()
        with self._reported(plan):
            if not models:
                self._run(plan)
                return ""
            chosen = with_what_they_need(plan, {f"evaluate@{name}" for name in models})
            self._run([stage for stage in plan if stage.name in chosen])
            rest = [stage for stage in self.workers.plan() if stage.name not in chosen]
            if stale := [stage.name for stage in rest if "@" in stage.name and (stage.changed or stage.is_new)]:
                return f"{', '.join(stale)} {'is' if len(stale) == 1 else 'are'} stale, so all models have to be retrained"
            self.spared = {stage.name for stage in rest if "@" in stage.name}
            self._run(rest)
            return ""

    def did_run(self, stage: str) -> bool:
        return any(outcome.name == stage and outcome.how == "ran" for outcome in self.outcomes)

    def summary(self) -> str:
        counts = (f"{sum(outcome.how == how for outcome in self.outcomes)} {how}" for how in ("ran", "restored", "fresh"))
        return f"Stages: {', '.join(counts)}."

    @contextlib.contextmanager
    def _reported(self, plan: Sequence[Stage]) -> Iterator[None]:
        """Shows progress and outcomes in Prefect's UI; sorts the stages of dvc.lock in the end, also after a failure."""
        self.progress = artifacts.Progress(len(plan))
        try:
            yield
        except BaseException:
            with contextlib.suppress(StageError):  # the first error is the one to report
                self.workers.ask("order")
            raise
        else:
            self.workers.ask("order")
        finally:
            artifacts.stages_table(self.outcomes)

    def _run(self, plan: Sequence[Stage]) -> None:
        if failures := side_by_side(plan, self.p.retrain.side_by_side, self):
            raise InputError("; ".join(map(str, failures)) + "; correct that, and the next run resumes from there")

    def begin(self, stage: Stage, after: Sequence[PrefectFuture[Any]]) -> PrefectFuture[Any]:
        force = (self.force and stage.name not in self.spared) or stage.name in self.forced
        task = with_retries(run_stage, self.p, stage.name)
        return task.submit(stage.name, self.workers, force, self.p.retrain.stage_minutes, wait_for=list(after))

    def first_ended(self, running: Sequence[PrefectFuture[Any]]) -> PrefectFuture[Any]:
        ended = next(iter(as_completed(list(running))))
        ended.wait()
        return ended

    def outcome(self, stage: Stage, ended: PrefectFuture[Any]) -> None:
        if not ended.state.is_completed():
            raise StageError(ended.state.message or f"{stage.name}: {ended.state.name}")
        self.outcomes.append(ended.result())

    def show(self, running: Sequence[str]) -> None:
        self.progress.show(self.outcomes, running)

"""Order in which stages run: each as soon as those it needs have ended, up to a maximum number in parallel."""

from collections.abc import Sequence
from graphlib import TopologicalSorter
from typing import Generic, Protocol, TypeVar

from sentiflow.pipeline.workers import Stage, StageError

Future = TypeVar("Future")


class Runner(Protocol, Generic[Future]):
    """Runs stages in the background; a future represents a running stage."""

    def begin(self, stage: Stage, after: Sequence[Future]) -> Future:
        """Starts a stage; `after` are the futures of the stages that it needs."""

    def first_ended(self, running: Sequence[Future]) -> Future:
        """Waits until at least one has succeeded or failed."""

    def outcome(self, stage: Stage, ended: Future) -> None:
        """Records the outcome of a stage; raises StageError if it failed."""

    def show(self, running: Sequence[str]) -> None:
        """Is called with the names of the running stages whenever they change."""


def side_by_side(plan: Sequence[Stage], at_once: int, runner: Runner[Future]) -> list[StageError]:
    """Runs stages, at most `at_once` in parallel. After a failure running stages are completed, and no other is started.

    Returns:
        The failures in the order in which they occurred.
    """
    stages = {stage.name: stage for stage in plan}
    places = {name: place for place, name in enumerate(stages)}
    needs = {stage.name: [name for name in stage.needs if name in stages] for stage in plan}
    waiting = TopologicalSorter(needs)
    waiting.prepare()
    futures: dict[str, Future] = {}
    running: list[str] = []
    ready: list[str] = []
    failures: list[StageError] = []
    while waiting.is_active() and not (failures and not running):
        ready = sorted([*ready, *waiting.get_ready()], key=places.__getitem__)
        while ready and len(running) < at_once and not failures:
            name = ready.pop(0)
            futures[name] = runner.begin(stages[name], [futures[needed] for needed in needs[name]])
            running.append(name)
        runner.show(running)
        ended = runner.first_ended([futures[name] for name in running])
        [name] = [name for name in running if futures[name] == ended]
        running.remove(name)
        try:
            runner.outcome(stages[name], ended)
            waiting.done(name)
        except StageError as error:
            failures.append(error)
    runner.show([])
    return failures


def with_what_they_need(plan: Sequence[Stage], names: set[str]) -> set[str]:
    """Names of stages and of all that these depend on."""
    for stage in reversed(plan):  # the plan is in topological order
        if stage.name in names:
            names = names | set(stage.needs)
    return names


def stale(plan: Sequence[Stage]) -> list[Stage]:
    """The stages that DVC finds changed, and all that depend on them."""
    names: set[str] = set()
    for stage in plan:
        if stage.changed or stage.is_new or names & set(stage.needs):
            names.add(stage.name)
    return [stage for stage in plan if stage.name in names]

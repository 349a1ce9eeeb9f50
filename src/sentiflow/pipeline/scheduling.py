"""In which order the stages of a plan run: each as soon as what it needs is there, as many at once as are allowed."""

from collections.abc import Sequence
from graphlib import TopologicalSorter
from typing import Generic, Protocol, TypeVar

from sentiflow.pipeline.workers import Stage, StageError

Future = TypeVar("Future")


class Runner(Protocol, Generic[Future]):
    """Whoever runs the stages; a future is what stands for a stage at work."""

    def begin(self, stage: Stage, after: Sequence[Future]) -> Future:
        """Has a stage run when those it needs have ended well."""

    def first_ended(self, running: Sequence[Future]) -> Future:
        """Waits until at least one has ended, well or not."""

    def outcome(self, stage: Stage, ended: Future) -> None:
        """Notes what came of it.

        Raises:
            StageError: if it did not end well.
        """

    def show(self, running: Sequence[str]) -> None:
        """Is told whenever other stages are at work than before."""


def side_by_side(plan: Sequence[Stage], at_once: int, runner: Runner[Future]) -> list[StageError]:
    """Runs the stages; after a failure those at work end, and no other begins.

    Returns:
        The failures, first the one that came first; none where all ended well.
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
    """Names of stages, and of all that these depend on."""
    for stage in reversed(plan):  # what a stage needs stands before it
        if stage.name in names:
            names = names | set(stage.needs)
    return names


def stale(plan: Sequence[Stage]) -> list[Stage]:
    """The stages that DVC finds changed, and those that may be when these have run."""
    names: set[str] = set()
    for stage in plan:
        if stage.changed or stage.is_new or names & set(stage.needs):
            names.add(stage.name)
    return [stage for stage in plan if stage.name in names]

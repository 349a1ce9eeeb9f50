"""Which stage begins when, with a runner whose stages end in the order in which a test says so."""

from dataclasses import dataclass, field

import pytest

from sentiflow.pipeline import scheduling
from sentiflow.pipeline.workers import Stage, StageError


def stage(name, *needs, changed=()):
    return Stage(name, needs, (), list(changed), False)


PLAN = [stage("split"), stage("a", "split"), stage("b", "split"), stage("c", "split"), stage("compare", "a", "b", "c")]


@dataclass
class Recorded:
    """Ends what is running in alphabetical order, from the end."""

    failing: tuple = ()
    began: list = field(default_factory=list)
    most: int = 0

    def begin(self, stage, after):
        assert set(after) <= set(stage.needs)
        self.began.append(stage.name)
        return stage.name

    def first_ended(self, running):
        self.most = max(self.most, len(running))
        return max(running)

    def outcome(self, stage, ended):
        if stage.name in self.failing:
            raise StageError(f"{stage.name} failed")

    def show(self, running):
        pass


@pytest.mark.parametrize(
    ("at_once", "began"),
    [
        (1, ["split", "a", "b", "c", "compare"]),
        (2, ["split", "a", "b", "c", "compare"]),
        (9, ["split", "a", "b", "c", "compare"]),
    ],
)
def test_stages_run_in_parallel_up_to_the_maximum_and_after_those_they_need(at_once, began):
    runner = Recorded()
    assert scheduling.side_by_side(PLAN, at_once, runner) == []
    assert runner.began == began
    assert runner.most == min(at_once, 3)


def test_after_a_failure_running_stages_complete_and_no_other_starts():
    runner = Recorded(failing=("b", "a"))
    failures = scheduling.side_by_side(PLAN, 2, runner)
    assert list(map(str, failures)) == ["b failed", "a failed"]
    assert runner.began == ["split", "a", "b"]


def test_stages_outside_the_plan_are_not_waited_for():
    runner = Recorded()
    assert scheduling.side_by_side(PLAN[1:3], 1, runner) == []
    assert runner.began == ["a", "b"]


def test_changed_stages_and_all_that_depend_on_them_are_stale():
    plan = [*PLAN[:2], stage("b", "split", changed=["changed deps"]), *PLAN[3:]]
    assert [each.name for each in scheduling.stale(plan)] == ["b", "compare"]
    assert scheduling.stale(PLAN) == []


def test_dependencies_are_transitive():
    assert scheduling.with_what_they_need(PLAN, {"b"}) == {"split", "b"}

"""How many steps tasks that step together take next; the sums of their votes are made here."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.agreement import Agreement, Ballot
from orchestrator.estimator.guards import AgreedStop
from orchestrator.estimator.pace import Pace
from orchestrator.estimator.position import Position, sees_every_step
from orchestrator.estimator.stop_request import StopRequest
from orchestrator.estimator.triggers import NEVER, NOW

NO_TENSOR: Any = None


class Task:
    """The first of two tasks; `other` is what the second one votes."""

    def __init__(self, other: Ballot | None = None, wants_save: bool = False) -> None:
        self.position, self.stop = Position(), StopRequest()
        self.other = other or Ballot()
        first, second = (Agreement(NO_TENSOR, NO_TENSOR, task, 2) for task in range(2))
        self.agreed = AgreedStop(first, self.position, self.stop, lambda: wants_save)
        self.pace = Pace(self.agreed, self.position)

        def sums(array: np.ndarray) -> list[np.ndarray]:
            return [array + second.array_of(self.other)]

        self.session: Any = SimpleNamespace(bare=lambda fetches, feeds: sums)

    def settle(self, has_loop: bool = True, watched: bool = False) -> bool:
        return self.pace.settle(self.session, has_loop, watched)

    def next(self, can_take: int) -> int:
        return self.pace.next(self.session, can_take)


NO_LOOP, SINGLE_STEPS, LOOPS = (Ballot(steps=steps) for steps in range(3))


def test_all_loop_where_all_can_and_then_do_not_vote_in_steps() -> None:
    task = Task(LOOPS)
    assert task.agreed.wake() is NOW
    assert task.settle()
    assert task.agreed.wake() is NEVER
    assert task.agreed.before_run(None) is None
    assert not sees_every_step(task.agreed)


@pytest.mark.parametrize(
    ("other", "has_loop", "watched"),
    [(SINGLE_STEPS, True, False), (LOOPS, True, True), (NO_LOOP, False, False)],
)
def test_single_steps_are_left_to_all_where_one_needs_them_and_votes_are_part_of_them(
    other: Ballot, has_loop: bool, watched: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tensorflow")
    task = Task(other)
    assert not task.settle(has_loop, watched)
    assert task.agreed.wake() is NOW
    of_another = other == SINGLE_STEPS
    assert ("a hook of another task looks at each" in caplog.text) == of_another


@pytest.mark.parametrize(("other", "has_loop", "named"), [(NO_LOOP, True, "1"), (LOOPS, False, "0")])
def test_a_task_without_a_loop_among_others_that_have_one_is_refused_in_all(
    other: Ballot, has_loop: bool, named: str
) -> None:
    with pytest.raises(InvalidArgument, match=rf"number {named} has no loop"):
        Task(other).settle(has_loop)


def test_the_length_is_the_shorter_one() -> None:
    assert Task(Ballot(steps=30)).next(12) == 12
    assert Task(Ballot(steps=5)).next(12) == 5
    assert Task(Ballot(steps=0)).next(12) == 0
    assert Task(Ballot(steps=5)).next(0) == 0


def test_a_wish_leads_to_a_step_with_hooks_which_know_of_it() -> None:
    stopping = Task(Ballot(steps=30))
    stopping.stop.set()
    assert stopping.next(12) == 0
    assert stopping.position.ballot == Ballot(stop=True)
    saving = Task(Ballot(steps=30), wants_save=True)
    assert saving.next(12) == 0
    assert saving.position.ballot == Ballot(save=True)


def test_the_wish_of_another_task_to_stop_is_followed_at_that_step() -> None:
    asked: list[bool] = []
    context: Any = SimpleNamespace(request_stop=lambda: asked.append(True))
    task = Task(LOOPS)
    task.settle()
    task.other = Ballot(steps=4)
    assert task.next(9) == 4
    task.agreed.after_run(context, None)
    assert (asked, task.stop.is_set()) == ([], False)
    task.other = Ballot(stop=True)
    assert task.next(9) == 0
    task.agreed.after_run(context, None)
    assert (asked, task.stop.is_set(), task.stop.of_peer) == ([True], True, True)

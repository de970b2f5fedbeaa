"""What tasks that step together say to each other, as sums over all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from orchestrator.estimator.agreement import MOST_STEPS, Agreement, Ballot

NO_TENSOR: Any = None


def agreed(ballots: list[Ballot], replicas: int = 1) -> tuple[Ballot, list[int]]:
    """What all tasks read when each has voted so; `replicas` in each count the vote."""
    of_tasks = [Agreement(NO_TENSOR, NO_TENSOR, task, len(ballots), replicas) for task in range(len(ballots))]
    arrays = [one.array_of(ballot) for one, ballot in zip(of_tasks, ballots, strict=True)]
    counts = np.sum([array for array in arrays for _ in range(replicas)], axis=0, dtype=np.float32)
    read = [(one.all_want(counts), one.steps_of_tasks(counts)) for one in of_tasks]
    assert all(found == read[0] for found in read)
    return read[0]


@pytest.mark.parametrize("replicas", [1, 3, 8])
def test_all_tasks_take_the_fewest_steps_that_one_can_take(replicas: int) -> None:
    ballots = [Ballot(steps=20), Ballot(steps=7), Ballot(steps=MOST_STEPS)]
    assert agreed(ballots, replicas) == (Ballot(steps=7), [20, 7, MOST_STEPS])


@pytest.mark.parametrize("replicas", [1, 3])
def test_one_task_without_steps_leaves_none_to_all(replicas: int) -> None:
    assert agreed([Ballot(steps=20), Ballot()], replicas)[0] == Ballot(steps=0)


def test_one_vote_is_enough() -> None:
    votes = [Ballot(stop=True, steps=5), Ballot(save=True, steps=5), Ballot(steps=5)]
    assert agreed(votes)[0] == Ballot(stop=True, save=True, steps=5)
    assert agreed([Ballot(), Ballot()])[0] == Ballot()


def test_more_steps_than_sums_are_exact_for_are_not_asked_for() -> None:
    assert agreed([Ballot(steps=2**40), Ballot(steps=2**50)], replicas=16)[0].steps == MOST_STEPS

"""Triggers: the counting of TensorFlow's own hooks."""

from __future__ import annotations

import pytest

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.triggers import NEVER, NOW, Trigger, Wake, earliest


def test_by_steps_it_fires_at_once_and_then_counts_from_where_it_fired() -> None:
    trigger = Trigger(steps=10)
    assert trigger.wake() == NOW
    assert trigger.due(1, 0.0)
    assert trigger.fire(1, 0.0) is None
    assert trigger.wake() == Wake(step=11)
    assert not trigger.due(10, 99.0)
    assert trigger.due(11, 0.0)
    assert trigger.fire(13, 4.0) == (12, 4.0)
    assert trigger.wake() == Wake(step=23)


def test_by_seconds_it_never_fires_twice_at_one_step() -> None:
    trigger = Trigger(seconds=5.0)
    trigger.fire(3, 100.0)
    assert trigger.wake() == Wake(time=105.0)
    assert not trigger.due(4, 104.9)
    assert not trigger.due(3, 200.0)
    assert trigger.due(4, 105.0)


def test_the_earliest_of_steps_and_of_times() -> None:
    assert earliest([]) == NEVER
    assert earliest([Wake(step=7), Wake(time=2.0), Wake(step=5), NEVER]) == Wake(step=5, time=2.0)


@pytest.mark.parametrize("period", [{}, {"steps": 1, "seconds": 1.0}])
def test_one_period_is_needed(period: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument, match="either steps or seconds"):
        Trigger(**period)

from __future__ import annotations

from orchestrator.launch.launcher import StopKind
from orchestrator.launch.stopping import PS_GRACE_SECONDS, StopSequence
from tests.launch.jobs import task

CHIEF, WORKER, PS, EVALUATOR = task("chief-0"), task("worker-0"), task("ps-0"), task("evaluator-0")
ALL = [CHIEF, WORKER, PS, EVALUATOR]


def orders(sequence: StopSequence, now: float, *running: object) -> list[tuple[str, StopKind]]:
    found = sequence.advance(now, list(running))  # type: ignore[arg-type]
    return [(" ".join(map(str, order.tasks)), order.kind) for order in found]


def test_ps_are_asked_when_the_trainers_are_gone() -> None:
    sequence = StopSequence(ALL, now=0, grace=30)
    assert orders(sequence, 0, *ALL) == [("chief-0 worker-0 evaluator-0", StopKind.REQUEST)]
    assert orders(sequence, 1, CHIEF, PS) == []
    assert orders(sequence, 2, PS) == [("ps-0", StopKind.REQUEST)]
    assert orders(sequence, 3, PS) == []
    assert orders(sequence, 2 + PS_GRACE_SECONDS, PS) == [("ps-0", StopKind.KILL)]
    assert orders(sequence, 60) == []


def test_after_the_grace_period_only_those_left_are_killed() -> None:
    sequence = StopSequence(ALL, now=0, grace=30)
    orders(sequence, 0, *ALL)
    assert sequence.next_deadline() == 30
    assert orders(sequence, 30, WORKER, PS) == [("worker-0", StopKind.KILL), ("ps-0", StopKind.REQUEST)]
    assert sequence.next_deadline() == 30 + PS_GRACE_SECONDS
    assert orders(sequence, 31, PS) == []
    assert orders(sequence, 36, PS) == [("ps-0", StopKind.KILL)]
    assert sequence.next_deadline() is None


def test_without_patience_everything_is_killed_once() -> None:
    sequence = StopSequence(ALL, now=0, grace=0)
    assert orders(sequence, 0, *ALL) == [("chief-0 worker-0 evaluator-0 ps-0", StopKind.KILL)]
    assert orders(sequence, 1, *ALL) == []


def test_patience_may_end_early() -> None:
    sequence = StopSequence(ALL, now=0, grace=30)
    orders(sequence, 0, *ALL)
    sequence.hurry()
    assert orders(sequence, 1, CHIEF, PS) == [("chief-0 ps-0", StopKind.KILL)]


def test_ps_alone_are_asked_at_once() -> None:
    assert orders(StopSequence([PS], now=0, grace=5), 0, PS) == [("ps-0", StopKind.REQUEST)]


def test_a_short_grace_holds_for_ps_too() -> None:
    sequence = StopSequence([PS], now=0, grace=1)
    orders(sequence, 0, PS)
    assert orders(sequence, 1, PS) == [("ps-0", StopKind.KILL)]

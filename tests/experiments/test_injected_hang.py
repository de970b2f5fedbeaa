from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from orchestrator.cluster.records import ENV_FAULTS, HANG_SIGNAL
from orchestrator.experiments.injected_hang import listen


class Slept(Exception):
    """The task would sleep now."""


@pytest.fixture(autouse=True)
def handler_restored() -> Iterator[None]:
    before = signal.getsignal(HANG_SIGNAL)
    yield
    signal.signal(HANG_SIGNAL, before)


def test_a_task_hangs_where_it_is_when_asked_to() -> None:
    def sleep(seconds: float) -> None:
        raise Slept(seconds)

    assert listen({ENV_FAULTS: "1"}, sleep)
    with pytest.raises(Slept):
        signal.raise_signal(HANG_SIGNAL)


def test_without_injection_the_signal_is_left_alone() -> None:
    before = signal.getsignal(HANG_SIGNAL)
    assert not listen({})
    assert signal.getsignal(HANG_SIGNAL) is before

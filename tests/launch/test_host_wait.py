from __future__ import annotations

from itertools import pairwise

import pytest

from orchestrator.launch.host_wait import LONGEST_PAUSE_SECONDS, HostWait


def looks(wait: HostWait, begin: float, patience: float, took: float = 0.0) -> list[float]:
    """The times of all looks after a first one in vain, each of which takes so long."""
    found: list[float] = []
    at = wait.next_look(begin, patience)
    while at is not None:
        found.append(at)
        at = wait.next_look(at + took, patience)
    return found


@pytest.mark.parametrize("took", [0.0, 1.0, 20.0])
def test_it_is_looked_ever_less_often_and_last_of_all_at_the_end(took: float) -> None:
    found = looks(HostWait(), 100.0, 600.0, took)
    pauses = [later - earlier - took for earlier, later in pairwise(found)]
    assert pauses[:-1] == sorted(pauses[:-1])
    assert max(pauses) <= LONGEST_PAUSE_SECONDS
    assert found[0] > 100
    assert found[-1] == 700


def test_without_patience_there_is_no_second_look() -> None:
    assert HostWait().next_look(5.0, 0.0) is None


def test_each_wait_has_all_the_patience() -> None:
    wait = HostWait()
    assert wait.next_look(0.0, 60.0) is not None
    assert wait.waiting
    wait.found()
    assert not wait.waiting
    assert looks(wait, 1000.0, 60.0)[-1] == 1060
    assert looks(wait, 2000.0, 60.0)[-1] == 2060

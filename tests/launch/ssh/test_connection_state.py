from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.launch.ssh.connection_state import (
    LONGEST_PAUSE_SECONDS,
    MARGIN_SECONDS,
    ConnectionState,
    LinkPhase,
)


def state() -> ConnectionState:
    return ConnectionState(lease=15.0, grace=30.0, started=0.0, rng=random.Random(1))


def test_a_first_connection_that_fails_is_tried_again_and_never_given_up_by_itself() -> None:
    one = state()
    one.broken(5.0, "refused")
    assert (one.phase, one.reason, one.give_up_at) == (LinkPhase.WAITING, "refused", None)
    assert not one.overdue(1e9)
    assert not one.due(5.0)
    assert one.due(6.0)
    assert one.phase is LinkPhase.CONNECTING


def test_pauses_grow_to_a_limit_and_begin_anew_after_success() -> None:
    one, now, pauses = state(), 0.0, []
    for _ in range(10):
        one.broken(now, "")
        pauses.append(one.next_try - now)
        now = one.next_try
        assert one.due(now)
    assert pauses[0] < 0.5
    assert pauses[-1] > pauses[0]
    assert max(pauses) <= LONGEST_PAUSE_SECONDS
    one.connected(now)
    one.broken(now, "")
    assert one.next_try - now <= 0.5


def test_silence_is_noticed_before_the_lease_is_over() -> None:
    one = state()
    one.connected(100.0)
    assert not one.silent(109.0)
    assert one.silent(109.1)
    assert one.next_time() == 109.0
    one.heard(105.0)
    assert not one.silent(113.9)


def test_a_host_is_given_up_when_its_tasks_must_have_ended_and_not_before() -> None:
    one = state()
    one.connected(100.0)
    one.heard(103.0)
    one.broken(112.0, "timed out")
    limit = 103.0 + 15.0 + 30.0 + MARGIN_SECONDS
    assert one.give_up_at == limit
    assert not one.overdue(limit - 0.1)
    assert one.due(113.0)
    assert one.give_up_at == limit, "a try changes nothing"
    one.broken(114.0, "")
    assert one.reason == "timed out", "the last reason that was given"
    assert one.lost_at == 112.0
    assert one.overdue(limit)
    assert one.phase is LinkPhase.GIVEN_UP
    one.broken(limit + 1, "again")
    assert one.phase is LinkPhase.GIVEN_UP
    assert one.next_time() is None


def test_a_host_that_is_back_in_time_is_as_before() -> None:
    one = state()
    one.connected(100.0)
    one.broken(110.0, "cut")
    assert one.due(111.0)
    one.connected(112.0)
    assert (one.phase, one.lost_at, one.give_up_at) == (LinkPhase.CONNECTED, None, None)
    assert not one.overdue(1e9)


@given(
    st.lists(
        st.tuples(st.sampled_from(["heard", "broken", "due", "connected"]), st.floats(0.01, 30)), max_size=40
    )
)
def test_it_is_never_given_up_within_the_lease(steps: list[tuple[str, float]]) -> None:
    one, now, heard = state(), 0.0, None
    for what, pause in steps:
        now += pause
        if one.overdue(now):
            assert heard is not None
            assert now - heard >= one.lease + one.grace
            return
        if what == "broken":
            one.broken(now, "cut")
        elif what == "due":
            one.due(now)
        elif what == "connected" and one.phase is LinkPhase.CONNECTING:
            one.connected(now)
            heard = now
        elif one.phase is LinkPhase.CONNECTED:
            one.heard(now)
            heard = now

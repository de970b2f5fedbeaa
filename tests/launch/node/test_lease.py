"""Tests for orchestrator.launch.node.lease."""

from __future__ import annotations

import time

from orchestrator.launch.node.lease import Lease, seconds_since_boot


def test_it_runs_out_without_a_word() -> None:
    lease = Lease(15.0, 100.0)
    assert not lease.over(114.9)
    assert lease.over(115.0)


def test_a_word_renews_it() -> None:
    lease = Lease(15.0, 100.0)
    lease.heard(110.0, 110.0)
    assert not lease.over(124.9)
    assert lease.over(125.0)


def test_a_word_counts_from_when_it_was_said() -> None:
    lease = Lease(15.0, 100.0)
    lease.heard(102.0, 114.0)  # it lay in a buffer
    assert lease.over(117.0)


def test_an_older_word_takes_nothing_away_and_one_of_the_future_gives_nothing() -> None:
    lease = Lease(15.0, 100.0)
    lease.heard(110.0, 110.0)
    lease.heard(105.0, 111.0)
    assert not lease.over(124.0)
    lease.heard(1e9, 112.0)
    assert lease.over(127.0)


def test_nothing_renews_it_once_it_is_over() -> None:
    lease = Lease(15.0, 100.0)
    lease.heard(116.0, 116.0)
    assert lease.over(117.0)
    lease.heard(118.0, 118.0)
    assert lease.over(118.0)


def test_its_clock_goes_on() -> None:
    before = seconds_since_boot()
    time.sleep(0.01)
    assert seconds_since_boot() > before

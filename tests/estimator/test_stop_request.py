from __future__ import annotations

import threading

from orchestrator.estimator import stop_request
from orchestrator.estimator.stop_request import StopRequest


def test_asking_twice_is_asking_once_and_clearing_forgets() -> None:
    request = StopRequest()
    assert not request.is_set()
    request.set()
    request.set()
    assert request.is_set()
    request.clear()
    assert not request.is_set()


def test_it_is_known_whether_the_request_reached_this_task_or_a_peer() -> None:
    own, agreed = StopRequest(), StopRequest()
    own.set()
    own.agree()
    agreed.agree()
    assert [(request.is_set(), request.of_peer) for request in (own, agreed)] == [(True, False), (True, True)]
    agreed.clear()
    assert not agreed.of_peer


def test_waiting_ends_with_the_request_or_with_the_time() -> None:
    request = StopRequest()
    assert request.wait(0.0) is False
    assert request.wait(0.01, poll_seconds=0.001) is False
    threading.Timer(0.05, request.set).start()
    assert request.wait(280.0, poll_seconds=0.01) is True
    assert request.wait(280.0) is True


def test_a_process_has_one_request() -> None:
    assert stop_request.current() is stop_request.current()

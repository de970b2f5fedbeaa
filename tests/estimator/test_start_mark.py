"""Workers wait for what a chief does with variables after it has initialised them."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.estimator import session_opening
from orchestrator.estimator.session_opening import SessionTarget, open_as_chief, open_as_worker
from orchestrator.estimator.start_mark import StartMark
from tests.integration.launched import wait_until

v1 = tf.compat.v1


def variables() -> Any:
    """The same in every task's graph."""
    v1.train.create_global_step()
    return v1.get_variable("weight", [], initializer=v1.zeros_initializer())


class Worker(threading.Thread):
    """Opens a session and reads the weight."""

    def __init__(self, master: str, limit: float | None = None) -> None:
        super().__init__(daemon=True)
        self._master = master
        self._limit = limit
        self.seen: Any = None

    def run(self) -> None:
        with tf.Graph().as_default():
            weight = variables()
            target = SessionTarget(
                self._master, max_wait_seconds=self._limit, mark=StartMark.of(weight.graph)
            )
            try:
                self.seen = open_as_worker(v1.train.Scaffold(), target).run(weight)
            except tf.errors.OpError as error:
                self.seen = error


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a worker has asked, and was told to wait."""
    asked = threading.Event()

    def sleep(seconds: float) -> None:
        asked.set()
        time.sleep(0.01)

    class Clock:
        monotonic = time.monotonic

    Clock.sleep = staticmethod(sleep)  # type: ignore[attr-defined]
    monkeypatch.setattr(session_opening, "time", Clock)
    return asked


def test_a_worker_begins_after_the_chiefs_init_fn(polls: threading.Event) -> None:
    server = tf.distribute.Server.create_local_server()
    worker = Worker(server.target)
    with tf.Graph().as_default():
        weight = variables()
        load = weight.assign(7.0)
        target = SessionTarget(server.target, mark=StartMark.of(weight.graph))

        def init_fn(scaffold: Any, session: Any) -> None:
            assert session.run(weight) == 0.0
            worker.start()
            wait_until(lambda: polls.is_set() or not worker.is_alive(), lambda: "the worker's question")
            session.run(load)

        chief = open_as_chief(v1.train.Scaffold(init_fn=init_fn), target, lambda: None)
        worker.join(240)
        chief.close()
    assert worker.seen == 7.0


def test_a_worker_does_not_wait_for_ever(polls: threading.Event) -> None:
    server = tf.distribute.Server.create_local_server()
    with tf.Graph().as_default(), v1.Session(server.target) as session:
        variables()
        session.run(v1.global_variables_initializer())
        worker = Worker(server.target, limit=1.0)
        worker.start()
        worker.join(240)
    assert isinstance(worker.seen, tf.errors.DeadlineExceededError)

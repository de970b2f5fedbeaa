"""An input pipeline is given back beside what comes next, and never while it is read again."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.estimator import evaluation, input_release
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.input_release import InputRelease
from tests.estimator import linear_model
from tests.launch.local_runs import wait_until

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")
LIMIT = 240.0


def tuned() -> tf.data.Dataset:
    """A pipeline whose tuner has something to tune."""
    rows = linear_model.evaluation_input()
    return rows.map(lambda x, y: (x, y), num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def wait_for(release: InputRelease) -> None:
    thread = release._thread
    assert thread is not None
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_after_the_release_the_iterator_is_empty_and_can_be_started_again() -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        dataset = tuned()
        iterator = v1.data.make_initializable_iterator(dataset)
        element = iterator.get_next()
        release = InputRelease(iterator, dataset)
        assert release.is_done()
        session.run(iterator.initializer)
        first = session.run(element)[0]
        release.start(session)
        wait_for(release)
        assert release.is_done()
        with pytest.raises(tf.errors.OutOfRangeError):
            session.run(element)
        session.run(iterator.initializer)
        assert (session.run(element)[0] == first).all()


def test_a_session_that_is_closed_meanwhile_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    with tf.Graph().as_default():
        dataset = tuned()
        release = InputRelease(v1.data.make_initializable_iterator(dataset), dataset)
        session = v1.Session()
        session.close()
        release.start(session)
        wait_for(release)
    assert raised == []


def test_an_input_that_is_held_costs_a_new_session_and_no_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each release is held until all evaluations are over: none may start the iterator that it will empty."""
    estimator = Estimator(linear_model.model_fn, tmp_path, params={})
    estimator.train(linear_model.training_input, steps=3)
    expected = estimator.evaluate(tuned)
    monkeypatch.setattr(input_release, "_PATIENCE_SECONDS", 0.01)
    let_go = threading.Event()
    run, sessions = InputRelease._run, []

    def held(self: InputRelease, session: v1.Session) -> None:
        sessions.append(session)
        assert let_go.wait(LIMIT)
        run(self, session)

    monkeypatch.setattr(InputRelease, "_run", held)
    try:
        with evaluation.kept_open():
            found = [estimator.evaluate(tuned) for _ in range(3)]
    finally:
        let_go.set()
    wait_until(lambda: len(sessions) == 3, "the threads of all releases")
    assert found == [expected] * 3
    assert len(set(sessions)) == 3


def test_an_input_that_is_given_back_leaves_the_session_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = Estimator(linear_model.model_fn, tmp_path, params={})
    estimator.train(linear_model.training_input, steps=3)
    monkeypatch.setattr(input_release, "_PATIENCE_SECONDS", LIMIT)
    sessions = []
    start = InputRelease.start

    def noted(self: InputRelease, session: v1.Session) -> None:
        sessions.append(session)
        start(self, session)

    monkeypatch.setattr(InputRelease, "start", noted)
    with evaluation.kept_open():
        found = [estimator.evaluate(tuned) for _ in range(3)]
    assert found[1:] == found[:1] * 2
    assert len(sessions) == 3
    assert len(set(sessions)) == 1

"""Sessions with hooks: what hooks see, how feeds and options merge, and what happens when a peer is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.session import HookedSession

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")
LOST = tf.errors.AbortedError(None, None, "the parameter server was restarted")
ENDED = tf.errors.OutOfRangeError(None, None, "end of sequence")


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph


class Recorder(v1.train.SessionRunHook):
    """Notes calls; asks for what it is given; raises what it is told to, once."""

    def __init__(self, request: Any = None, raises: BaseException | None = None) -> None:
        self.calls: list[str] = []
        self.results: list[Any] = []
        self._request = request
        self._raises = raises

    def after_create_session(self, session: Any, coord: Any) -> None:
        self.calls.append("after_create_session")

    def before_run(self, run_context: Any) -> Any:
        self.calls.append("before_run")
        return self._request

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self.calls.append("after_run")
        self.results.append(run_values.results)
        raises, self._raises = self._raises, None
        if raises is not None:
            raise raises

    def end(self, session: Any) -> None:
        self.calls.append("end")


def test_hooks_see_their_own_results_and_the_end() -> None:
    two, three = tf.constant(2), tf.constant(3)
    hook = Recorder(v1.train.SessionRunArgs({"x": three}))
    with HookedSession(v1.Session, [hook]) as session:
        noted: list[Any] = []
        assert session.run([two], note=noted.append) == [2]
        assert noted == [[2]]
    assert hook.calls == ["after_create_session", "before_run", "after_run", "end"]
    assert hook.results == [{"x": 3}]


def test_the_end_of_the_input_is_no_error_and_any_other_error_ends_without_end() -> None:
    hook = Recorder(raises=ENDED)
    with HookedSession(v1.Session, [hook]) as session:
        session.run([tf.constant(1)])
    assert session.input_ended
    assert hook.calls[-1] == "end"
    broken = Recorder(raises=ValueError("broken"))
    with pytest.raises(ValueError, match="broken"), HookedSession(v1.Session, [broken]) as session:
        session.run([tf.constant(1)])
    assert "end" not in broken.calls


def test_a_lost_peer_is_left_to_the_caller_who_may_reopen() -> None:
    hook = Recorder(raises=LOST)
    with HookedSession(v1.Session, [hook]) as session:
        first = session.raw
        with pytest.raises(tf.errors.AbortedError):
            session.run([tf.constant(1)])
        session.reopen(LOST)
        assert session.raw is not first
        assert session.run([tf.constant(5)]) == [5]
    assert hook.calls.count("after_create_session") == 2


def test_opening_is_tried_again_while_a_peer_is_away() -> None:
    attempts: list[int] = []

    def open_session() -> v1.Session:
        attempts.append(1)
        if len(attempts) < 3:
            raise tf.errors.UnavailableError(None, None, "not there yet")
        return v1.Session()

    with HookedSession(open_session, []) as session:
        assert session.run([tf.constant(1)]) == [1]
    assert len(attempts) == 3


def test_a_hook_can_feed_but_two_cannot_feed_the_same() -> None:
    fed = v1.placeholder_with_default(1, [])
    feeding = lambda value: Recorder(v1.train.SessionRunArgs(None, {fed: value}))  # noqa: E731
    with HookedSession(v1.Session, [feeding(7)]) as session:
        assert session.run([fed]) == [7]
    with (
        pytest.raises(InvalidArgument, match="another hook feeds"),
        HookedSession(v1.Session, [feeding(1), feeding(2)]) as session,
    ):
        session.run([fed])


def test_run_options_of_hooks_reach_the_run() -> None:
    seen: list[Any] = []

    class Tracing(v1.train.SessionRunHook):
        def before_run(self, run_context: Any) -> Any:
            options = v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE)
            return v1.train.SessionRunArgs(None, options=options)

        def after_run(self, run_context: Any, run_values: Any) -> None:
            seen.append(run_values.run_metadata.step_stats.dev_stats)

    with HookedSession(v1.Session, [Tracing()]) as session:
        session.run([tf.constant(1) + 1])
    assert seen[0]


def test_the_profiler_hook_writes_a_trace(tmp_path: Any) -> None:
    v1.train.create_global_step()
    hook = v1.train.ProfilerHook(save_steps=1, output_dir=str(tmp_path))
    hook.begin()
    step = v1.assign_add(v1.train.get_global_step(), 1)
    with HookedSession(v1.Session, [hook]) as session:
        session.raw.run(v1.global_variables_initializer())
        for _ in range(3):
            session.run([step])
    assert list(tmp_path.glob("timeline-*.json"))


def test_bare_runs_and_stops() -> None:
    hook = Recorder()
    one = tf.constant(1)
    with HookedSession(v1.Session, [hook]) as session:
        run = session.bare([one])
        assert run() == [1]
        assert session.bare([one]) is run
        assert "before_run" not in hook.calls
        assert not session.should_stop()
        session.request_stop()
        assert session.should_stop()


def run_until_stopped(fetches: list[Any]) -> None:
    with HookedSession(v1.Session, []) as session:
        while not session.should_stop():
            session.run(fetches)


def test_a_failing_queue_runner_is_named_as_the_cause() -> None:
    queue = tf.queue.FIFOQueue(10, [tf.float32])
    bad = queue.enqueue(v1.py_func(lambda: 1 / 0, [], tf.float32))
    v1.train.add_queue_runner(v1.train.QueueRunner(queue, [bad]))
    value = queue.dequeue()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        run_until_stopped([value])


def test_a_kept_session_stays_open_after_a_good_end_only() -> None:
    opened: list[v1.Session] = []

    def open_session() -> v1.Session:
        opened.append(v1.Session())
        return opened[-1]

    with HookedSession(open_session, [], keep_open=True) as session:
        session.run([tf.constant(1)])
    assert opened[0].run(tf.constant(2)) == 2
    with (
        pytest.raises(ValueError, match="broken"),
        HookedSession(open_session, [Recorder(raises=ValueError("broken"))], keep_open=True) as session,
    ):
        session.run([tf.constant(1)])
    with pytest.raises(RuntimeError, match="closed"):
        opened[1].run(tf.constant(2))

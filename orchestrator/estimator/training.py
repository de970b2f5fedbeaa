"""Training: build the graph, open the session, run steps until somebody says stop."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from orchestrator.cluster.records import Phase
from orchestrator.errors import InvalidArgument
from orchestrator.estimator import checkpoints, progress_display, stop_request
from orchestrator.estimator.background_saving import finishing_writes
from orchestrator.estimator.executor import may_trace, run_in_one_thread_if_small
from orchestrator.estimator.graph import TrainingGraph, build_training_graph
from orchestrator.estimator.guards import AgreedStop, refuse_nan
from orchestrator.estimator.in_graph_loop import InGraphLoop
from orchestrator.estimator.input_position import check_tasks
from orchestrator.estimator.logger import log, say_once
from orchestrator.estimator.loop_length import LoopLength, add_loop
from orchestrator.estimator.model import Model
from orchestrator.estimator.pace import Pace
from orchestrator.estimator.placement import device_function
from orchestrator.estimator.position import Position, SleepingHook, sees_every_step
from orchestrator.estimator.progress import ProgressReporter, reporter_of
from orchestrator.estimator.replicas import build_replicated_training_graph
from orchestrator.estimator.reproducibility import warn_of_random_operations
from orchestrator.estimator.server import session_master
from orchestrator.estimator.session import INPUT_ENDED, PEER_LOST, HookedSession
from orchestrator.estimator.session_hooks import TrainingParts, TrainingRequest, training_hooks
from orchestrator.estimator.session_opening import SessionTarget, finalize, open_as_chief, open_as_worker
from orchestrator.estimator.signatures import describe
from orchestrator.estimator.start_mark import StartMark
from orchestrator.estimator.stop_request import StopRequest
from orchestrator.estimator.strategies import crosses_processes, is_chief, no_batch, session_config_for
from orchestrator.estimator.tiny_step import compute_in_one_thread_if_tiny
from orchestrator.estimator.triggers import NOW, earliest
from orchestrator.estimator.warm_start_check import verify_warm_start
from orchestrator.estimator.warm_starting import plan_warm_start, say_restored

v1 = tf.compat.v1
_RUNS_UNTIL_A_STEP = 20
"""Loss scaling leaves out up to sixteen steps at the start."""


def train(model: Model, input_fn: Callable[..., Any], request: TrainingRequest) -> Any:
    """Trains until the request is fulfilled, the input ends or a hook stops it; returns the last loss.

    The loss is None where not a single step was run.
    """
    config, strategy = model.config, model.config.train_distribute
    reporter = reporter_of(config.task_environment)
    reporter.update(phase=Phase.STARTING, max_steps=request.max_steps, stopped=False, stopped_with_peer=False)
    if is_chief(strategy, config) and checkpoints.newest(model.model_dir) is None:
        verify_warm_start(model)
    if config.save_input_state:
        check_tasks(config)
    graph = _build(model, input_fn)
    with graph.entered():
        position = Position()
        parts = TrainingParts(
            graph=graph,
            config=config,
            request=request,
            position=position,
            reporter=reporter,
            stop=stop_request.current(),
            is_chief=is_chief(strategy, config),
            evaluates_too=_has_master_and_worker(config),
        )
        hooks = training_hooks(parts)
        warn_of_random_operations(graph, model.model_fn)
        add_loop(graph, model, hooks)
        with progress_display.shown(hooks), finishing_writes(hooks):
            loop = TrainingLoop(parts, _session_opener(model, graph, strategy, hooks), hooks, model.model_fn)
            loss = loop.run()
    if loop.found_no_batch:
        _complain_of_no_batch(input_fn, config)
    return loss


def _complain_of_no_batch(input_fn: Callable[..., Any], config: Any) -> None:
    """Raises InvalidArgument; warns where it may be right: at the input's end, or in one of several tasks."""
    where, what = describe(input_fn), no_batch(config.train_distribute)
    if config.save_input_state or config.cluster_spec:
        log.warning(
            "Training with estimator made no steps. Perhaps input is empty or misspecified: input_fn %s %s.",
            where,
            what,
        )
        return
    raise InvalidArgument(f"Estimator.train: input_fn {where} {what}.")


def _build(model: Model, input_fn: Callable[..., Any]) -> TrainingGraph:
    strategy = model.config.train_distribute
    if strategy is not None:
        return build_replicated_training_graph(model, input_fn, strategy)
    return build_training_graph(model, input_fn, device_function(model.config))


def _session_opener(
    model: Model, graph: TrainingGraph, strategy: Any, hooks: list[v1.train.SessionRunHook]
) -> Callable[[], v1.Session]:
    """How this task opens its session: the chief, and every task of a collective, initialises."""
    config = model.config
    session_config = session_config_for(config, strategy)
    target = SessionTarget(
        master=session_master(config, strategy, session_config),
        config=session_config,
        max_wait_seconds=config.session_creation_timeout_secs,
        mark=StartMark.of(graph.graph) if config.cluster_spec and not crosses_processes(strategy) else None,
    )
    if strategy is None:
        step = [graph.step.op, graph.loss.op]
        in_loop = graph.loop is not None
        compute_in_one_thread_if_tiny(session_config, graph.input, step, target.master, in_loop)
        # A loop would run in one thread what single steps leave out, and round in other places.
        if not in_loop and not any(may_trace(hook) for hook in hooks):
            run_in_one_thread_if_small(session_config, graph.graph, graph.results(), target.master)
    if crosses_processes(strategy) or config.is_chief:
        find_newest = lambda: checkpoints.newest(model.model_dir)  # noqa: E731
        warm_start = _warm_start(model, find_newest())
        return lambda: open_as_chief(graph.scaffold, target, find_newest, warm_start)
    return lambda: open_as_worker(graph.scaffold, target)


def _warm_start(model: Model, own_checkpoint: str | None) -> Callable[[v1.Session], None] | None:
    """Loads the other model's weights where this one has no checkpoint yet."""
    if own_checkpoint is None:
        return plan_warm_start(model.warm_start)
    say_restored(model.warm_start, own_checkpoint)
    return None


def _has_master_and_worker(config: Any) -> bool:
    jobs = config.cluster_spec.jobs if config.cluster_spec else []
    return "master" in jobs and "worker" in jobs


class TrainingLoop:
    """Runs steps: with hooks where one of them wants the step, bare where none does."""

    def __init__(
        self,
        parts: TrainingParts,
        open_session: Callable[[], v1.Session],
        hooks: list[v1.train.SessionRunHook],
        model_fn: Any = None,
    ) -> None:
        self._graph = parts.graph
        self._position = parts.position
        self._reporter: ProgressReporter = parts.reporter
        self._stop: StopRequest = parts.stop
        self._hooks = hooks
        self._open_session = open_session
        self._fetches = [parts.graph.train_op, parts.graph.loss, parts.graph.step]
        self._always_hooked = any(sees_every_step(hook) for hook in hooks)
        self._wake = NOW
        self._loop = parts.graph.loop
        agreed = next((hook for hook in hooks if isinstance(hook, AgreedStop)), None)
        self._pace = Pace(agreed, parts.position) if agreed is not None else None
        sharing = 1 if agreed is not None else max(1, parts.config.num_worker_replicas)
        self._loop_length = LoopLength(parts.config.steps_per_loop, sharing)
        self._max_steps = parts.request.max_steps
        self._ran = 0
        self._first_step = 0
        self._model_fn = model_fn
        self._runs_until_a_step = _RUNS_UNTIL_A_STEP if parts.config.mixed_precision else 1
        self.found_no_batch = False
        """The input ended before the first step."""

    def run(self) -> Any:
        """Runs until a hook stops it or the input ends; returns the last loss."""
        for hook in self._hooks:
            hook.begin()
        finalize(self._graph.scaffold)
        self._reporter.enter(Phase.WAITING)
        with self._step_told(), HookedSession(self._open_and_look, self._hooks) as session:
            self._reporter.enter(Phase.STEPPING)
            self._settle(session)
            while not session.should_stop() and not self._asked_to_stop():
                self._advance(session)
        self._finish(session)
        return self._position.loss

    @contextlib.contextmanager
    def _step_told(self) -> Iterator[None]:
        """Whatever breaks training off is known by its step, not by that of the last record."""
        try:
            yield
        except BaseException:
            if self._ran:
                self._reporter.update(step=self._position.step)
            raise

    def _open_and_look(self) -> v1.Session:
        session = self._open_session()
        self._first_step = self._position.step = int(session.run(self._graph.read_step))
        self._wake = NOW
        return session

    def _settle(self, session: HookedSession) -> None:
        """Tasks that step together agree on whether they loop."""
        has_loop = self._loop is not None
        if self._pace is not None and not self._pace.settle(session, has_loop, self._always_hooked):
            self._loop = None

    def _asked_to_stop(self) -> bool:
        """Whether to stop at once; tasks that step together vote on it instead."""
        return self._graph.votes is None and self._stop.is_set()

    def _advance(self, session: HookedSession) -> None:
        try:
            if self._pace is not None and self._loop is not None:
                self._advance_together(session, self._pace, self._loop)
            elif self._always_hooked or not self._run_bare(session):
                self._run_hooked(session)
        except PEER_LOST as lost:
            if self._graph.votes is not None:
                raise  # those that step together cannot take one back in: all of them begin anew
            session.reopen(lost)

    def _advance_together(self, session: HookedSession, pace: Pace, loop: InGraphLoop) -> None:
        """One loop, or one step with hooks, as in all other tasks."""
        length = pace.next(session, self._can_take())
        if length == 0:
            self._run_hooked(session)
        else:
            self._position.wants_summary = False
            self._run_loop(session, loop, length)

    def _can_take(self) -> int:
        """Steps until a hook of this task wants one; 0 where one wants the next."""
        wake, position = self._wake, self._position
        if wake is NOW or (wake.time is not None and position.clock() >= wake.time):
            return 0
        left = math.inf if wake.step is None else wake.step - position.step - 1
        return self._loop_length.choose(left) if left >= 1 else 0

    def _run_hooked(self, session: HookedSession) -> None:
        loop = self._loop
        if loop is not None and loop.takes_every_step:
            session.run_around(lambda: self._looped(session, loop, 1), self._note_looped)
        else:
            session.run(self._fetches, note=self._note)
        self._ran += 1
        self._say_if_standing_still(_RUNS_UNTIL_A_STEP)
        self._wake = earliest([hook.wake() for hook in self._hooks if isinstance(hook, SleepingHook)])

    def _say_if_standing_still(self, runs: int) -> None:
        """Warns once of a train_op that does not count steps: no limit would ever be reached."""
        if self._ran < runs or self._position.step != self._first_step:
            return
        say_once(
            f"The global step stays {self._first_step}: the train_op that model_fn"
            f" {describe(self._model_fn)} returned does not count it. Pass"
            " tf.compat.v1.train.get_global_step() to the optimizer's minimize or apply_gradients."
        )

    def _note(self, results: Any) -> None:
        """Brings the position up to date before any hook's `after_run`."""
        _, self._position.loss, step = results
        self._position.step = int(step)

    def _note_looped(self, results: Any) -> None:
        self._position.loss, step, *summary = results
        self._position.step = int(step)
        self._position.summary = summary[0] if summary else None

    def _looped(self, session: HookedSession, loop: InGraphLoop, length: int) -> Any:
        """Runs the loop; always the same fetches, since random operations belong to those they ran with."""
        if loop.summary is None:
            return session.bare([loop.loss, loop.step], [loop.length])(length)
        run = session.bare([loop.loss, loop.step, loop.summary], [loop.length, loop.wants_summary])
        return run(length, self._position.wants_summary)

    def _run_bare(self, session: HookedSession) -> bool:
        """Runs steps without hooks as long as none wants one; returns whether any was run."""
        if self._wake is NOW:
            return False
        if self._loop is not None:
            return self._run_looped(session, self._loop)
        run = session.bare(self._fetches)
        position, clock, stop = self._position, self._position.clock, self._stop
        wake_step = math.inf if self._wake.step is None else self._wake.step
        wake_time = math.inf if self._wake.time is None else self._wake.time
        coordinator = session.coordinator
        ran = 0
        while position.step + 1 < wake_step and clock() < wake_time and not stop.is_set():
            _, loss, step = run()
            ran += 1
            position.step, position.loss = int(step), loss
            if math.isnan(loss):
                refuse_nan(loss, position.step)
            if coordinator.should_stop():
                break
        self._ran += ran
        return ran > 0

    def _run_looped(self, session: HookedSession, loop: InGraphLoop) -> bool:
        """As `_run_bare`, many steps a call; the step on which a hook wakes is left to it."""
        position, clock, stop = self._position, self._position.clock, self._stop
        position.wants_summary = False
        wake_step = math.inf if self._wake.step is None else self._wake.step
        wake_time = math.inf if self._wake.time is None else self._wake.time
        before = self._ran
        while position.step + 1 < wake_step and clock() < wake_time and not stop.is_set():
            self._run_loop(session, loop, self._loop_length.choose(wake_step - position.step - 1))
        return self._ran > before

    def _run_loop(self, session: HookedSession, loop: InGraphLoop, length: int) -> None:
        position = self._position
        begin = position.clock()
        try:
            loss, step = self._looped(session, loop, length)[:2]
        except INPUT_ENDED:
            self._reached(int(session.raw.run(self._graph.read_step)))
            raise
        self._loop_length.took(length, position.clock() - begin)
        self._reached(int(step))
        position.loss = loss
        refuse_nan(loss, position.step)

    def _reached(self, step: int) -> None:
        self._ran += step - self._position.step
        self._position.step = step

    def _finish(self, session: HookedSession) -> None:
        step = self._position.step
        self._say_if_standing_still(self._runs_until_a_step)
        self.found_no_batch = self._ran == 0 and session.input_ended
        reached = self._max_steps is not None and step >= self._max_steps
        stopped = self._stop.is_set() and not reached and not session.input_ended
        with_peer = stopped and self._stop.of_peer
        loss = _scalar(self._position.loss)
        self._reporter.update(step=step, loss=loss, stopped=stopped, stopped_with_peer=with_peer)
        if stopped:
            log.info("Stopped on request at step %d.", step)


def _scalar(loss: Any) -> float | None:
    return None if loss is None else float(np.mean(loss))

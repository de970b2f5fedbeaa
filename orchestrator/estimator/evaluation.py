"""Evaluation: metrics of a checkpoint over a data set, on a graph that is built once."""

from __future__ import annotations

import contextlib
import contextvars
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from orchestrator.cluster.records import Phase
from orchestrator.errors import InvalidArgument, NotTrained
from orchestrator.estimator import checkpoints, session_reuse, stop_request
from orchestrator.estimator.executor import may_trace, run_in_one_thread_if_small
from orchestrator.estimator.graph import EvaluationGraph, build_evaluation_graph
from orchestrator.estimator.logger import log
from orchestrator.estimator.metric_summary import write_metrics
from orchestrator.estimator.model import Model
from orchestrator.estimator.progress import reporter_of
from orchestrator.estimator.replicas import build_replicated_evaluation_graph
from orchestrator.estimator.session import HookedSession, close_quietly
from orchestrator.estimator.session_opening import SessionTarget, finalize, open_as_chief, restore_again
from orchestrator.estimator.signatures import describe
from orchestrator.estimator.stop_request import StopRequested
from orchestrator.estimator.strategies import session_config_for
from orchestrator.estimator.warm_starting import plan_warm_start

v1 = tf.compat.v1


@dataclass(frozen=True)
class EvaluationRequest:
    """What one call of `evaluate` asks for."""

    input_fn: Callable[..., Any]
    steps: int | None
    """Batches; None: all."""
    hooks: tuple[Any, ...]
    output_dir: str


def evaluate(model: Model, request: EvaluationRequest, checkpoint: str | None) -> dict[str, Any]:
    """Evaluates `checkpoint` (None: fresh or warm-started weights) and writes the metrics to `output_dir`.

    Returns the metrics, the mean loss and `global_step` by name. Inside
    `kept_open` the graph, and where possible the session, serve the next call
    with the same model and request too.
    """
    with reporter_of(model.config.task_environment).during(Phase.EVALUATING):
        kept = _kept.get()
        if kept is None or checkpoint is None:
            evaluation = Evaluation(model, request)
            try:
                return evaluation.run(checkpoint)
            finally:
                evaluation.close()
        return _kept_evaluation(kept, model, request).run(checkpoint)


_kept: contextvars.ContextVar[dict[Any, Evaluation] | None] = contextvars.ContextVar("kept", default=None)


@contextlib.contextmanager
def kept_open() -> Iterator[None]:
    """Within this block, `evaluate` keeps its graphs and sessions from one call to the next."""
    if _kept.get() is not None:
        yield
        return
    token = _kept.set({})
    try:
        yield
    finally:
        for evaluation in (_kept.get() or {}).values():
            evaluation.close()
        _kept.reset(token)


def _kept_evaluation(kept: dict[Any, Evaluation], model: Model, request: EvaluationRequest) -> Evaluation:
    key = (id(model), request.input_fn, request.steps, request.hooks, request.output_dir)
    found = kept.get(key)
    if found is None or found.needs_new_graph:
        kept[key] = found = Evaluation(model, request)
    return found


class Evaluation:
    """An evaluation graph, and the session on it while it may be used again."""

    def __init__(self, model: Model, request: EvaluationRequest) -> None:
        self._model = model
        self._request = request
        self._graph = _build(model, request.input_fn)
        self._session: v1.Session | None = None
        self._warm_start: Any = None
        self._result = FinalMetrics(self._graph.metrics)
        self._hooks = [
            *self._graph.input.hooks,
            *request.hooks,
            *self._graph.evaluation_hooks,
            self._result,
        ]
        self._needs_fresh_session = session_reuse.reason_against(self._graph)
        self.needs_new_graph = False
        """A hook has added operations to the graph: it cannot do so again, as the graph is final now."""

    def run(self, checkpoint: str | None) -> dict[str, Any]:
        """One evaluation: every hook from `begin` to `end`."""
        with self._graph.entered():
            if checkpoint is None:
                self._warm_start = plan_warm_start(self._model.warm_start)
            self._begin_hooks()
            self._run_batches(checkpoint)
            write_metrics(self._request.output_dir, self._result.values, checkpoint)
        return self._result.values

    def close(self) -> None:
        """Closes the session that was kept."""
        session, self._session = self._session, None
        if session is not None:
            close_quietly(session)

    def _begin_hooks(self) -> None:
        graph = self._graph.graph
        for hook in self._hooks:
            before = graph.version
            hook.begin()
            if graph.version != before:
                if _kept.get() is not None and not self.needs_new_graph:
                    log.info(
                        "%s adds operations to the evaluation graph; it is built anew each time.",
                        type(hook).__name__,
                    )
                self.needs_new_graph = True
        finalize(self._graph.scaffold)

    def _run_batches(self, checkpoint: str | None) -> None:
        reporter = reporter_of(self._model.config.task_environment)
        stop = stop_request.current()
        asked_before = stop.is_set()
        started = time.monotonic()
        keep = self._needs_fresh_session is None and _kept.get() is not None and checkpoint is not None
        session = HookedSession(lambda: self._open(checkpoint), self._hooks, keep_open=keep)
        raw = session.raw
        with session:
            step = session.stepper([self._graph.update])
            done = 0
            while done != self._request.steps and not session.should_stop():
                step()
                done += 1
                reporter.batch_done(done)
                if stop.is_set() and not asked_before:
                    raise StopRequested("asked to stop while evaluating")
        self._session = raw if keep else None
        if done == 0:
            named = f"input_fn {describe(self._request.input_fn)}"
            raise InvalidArgument(f"Estimator.evaluate: {named} gave no batch: its data set is empty.")
        log.info("Evaluated %d batches in %.3f s.", done, time.monotonic() - started)

    def _open(self, checkpoint: str | None) -> v1.Session:
        if self._session is not None and checkpoint is not None:
            session, self._session = self._session, None
            return restore_again(session, self._graph.scaffold, checkpoint)
        config = self._model.config
        session_config = session_config_for(config, config.eval_distribute)
        if config.eval_distribute is None and not any(may_trace(hook) for hook in self._hooks):
            graph = self._graph
            run_in_one_thread_if_small(session_config, graph.graph, graph.results(), config.evaluation_master)
        target = SessionTarget(config.evaluation_master, session_config)
        return open_as_chief(self._graph.scaffold, target, lambda: checkpoint, self._warm_start)


def _build(model: Model, input_fn: Callable[..., Any]) -> EvaluationGraph:
    strategy = model.config.eval_distribute
    if strategy is not None:
        return build_replicated_evaluation_graph(model, input_fn, strategy)
    return build_evaluation_graph(model, input_fn)


class FinalMetrics(v1.train.SessionRunHook):
    """Fetches the metrics once, when all batches are done."""

    def __init__(self, metrics: dict[str, Any]) -> None:
        self._metrics = metrics
        self.values: dict[str, Any] = {}

    def end(self, session: v1.Session) -> None:
        self.values = session.run(self._metrics)


def checkpoint_or_newest(model: Model, checkpoint_path: str | None, purpose: str) -> str | None:
    """The given checkpoint, or the newest one; None, with a log line, where there is none."""
    if checkpoint_path is not None:
        _check_path(checkpoint_path)
    checkpoint = checkpoint_path or checkpoints.newest(model.model_dir)
    if checkpoint is None:
        log.info(
            "Could not find trained model in model_dir: %s, running initialization to %s.",
            model.model_dir,
            purpose,
        )
    return checkpoint


def _check_path(checkpoint_path: str) -> None:
    """Raises NotTrained, saying what there is, where no checkpoint has that prefix."""
    if v1.train.checkpoint_exists(checkpoint_path) and not tf.io.gfile.isdir(checkpoint_path):
        return
    is_directory = tf.io.gfile.isdir(checkpoint_path)
    inside = checkpoints.kept(checkpoint_path if is_directory else os.path.dirname(checkpoint_path) or ".")
    present = f" There are: {', '.join(inside)}." if inside else ""
    raise NotTrained(f"checkpoint_path {checkpoint_path}: there is no checkpoint of that name.{present}")

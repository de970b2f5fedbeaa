"""Evaluation: metrics of a checkpoint over a data set."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from orchestrator.cluster.records import Phase
from orchestrator.estimator import checkpoints, stop_request
from orchestrator.estimator.graph import EvaluationGraph, build_evaluation_graph
from orchestrator.estimator.logger import log
from orchestrator.estimator.metric_summary import write_metrics
from orchestrator.estimator.model import Model
from orchestrator.estimator.progress import reporter_of
from orchestrator.estimator.replicas import build_replicated_evaluation_graph
from orchestrator.estimator.session import HookedSession
from orchestrator.estimator.session_opening import SessionTarget, finalize, open_as_chief
from orchestrator.estimator.stop_request import StopRequested
from orchestrator.estimator.strategies import session_config_for
from orchestrator.estimator.warm_starting import add_warm_start

v1 = tf.compat.v1


def evaluate(
    model: Model,
    input_fn: Callable[..., Any],
    steps: int | None,
    hooks: list[Any],
    checkpoint: str | None,
    output_dir: str,
    create_global_step: Callable[[tf.Graph], Any] = v1.train.create_global_step,
) -> dict[str, Any]:
    """Evaluates `checkpoint` (None: fresh or warm-started weights) and writes the metrics to `output_dir`.

    Runs `steps` batches, or all where that is None. Returns the metrics, the
    mean loss and `global_step` by name.
    """
    with reporter_of(model.config.task_environment).during(Phase.EVALUATING):
        graph = _build(model, input_fn, create_global_step)
        with graph.entered():
            if checkpoint is None:
                add_warm_start(model.warm_start)
            metrics = run_evaluation(graph, model, steps, hooks, checkpoint)
            write_metrics(output_dir, metrics, checkpoint)
        return metrics


def _build(model: Model, input_fn: Callable[..., Any], create_global_step: Callable[..., Any]) -> EvaluationGraph:
    strategy = model.config.eval_distribute
    if strategy is not None:
        return build_replicated_evaluation_graph(model, input_fn, create_global_step, strategy)
    return build_evaluation_graph(model, input_fn, create_global_step)


def run_evaluation(
    graph: EvaluationGraph, model: Model, steps: int | None, hooks: list[Any], checkpoint: str | None
) -> dict[str, Any]:
    """One evaluation in a session of its own; the graph must be entered."""
    limit = BatchLimit(steps)
    result = FinalMetrics(graph.metrics)
    all_hooks = [*graph.input.hooks, *hooks, limit, *graph.evaluation_hooks, result]
    target = SessionTarget(
        model.config.evaluation_master, session_config_for(model.config, model.config.eval_distribute)
    )
    stop = stop_request.current()
    asked_before = stop.is_set()
    started = time.monotonic()
    for hook in all_hooks:
        hook.begin()
    finalize(graph.scaffold)
    with HookedSession(lambda: open_as_chief(graph.scaffold, target, lambda: checkpoint), all_hooks) as session:
        while not session.should_stop():
            session.run(graph.update)
            if stop.is_set() and not asked_before:
                raise StopRequested("asked to stop while evaluating")
    log.info("Evaluated %d batches in %.3f s.", limit.done, time.monotonic() - started)
    return result.values


class BatchLimit(v1.train.SessionRunHook):
    """Stops after so many batches, and counts them."""

    def __init__(self, steps: int | None) -> None:
        self._steps = steps
        self.done = 0

    def after_create_session(self, session: v1.Session, coord: Any) -> None:
        self.done = 0

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self.done += 1
        if self._steps is not None and self.done >= self._steps:
            run_context.request_stop()


class FinalMetrics(v1.train.SessionRunHook):
    """Fetches the metrics once, when all batches are done."""

    def __init__(self, metrics: dict[str, Any]) -> None:
        self._metrics = metrics
        self.values: dict[str, Any] = {}

    def end(self, session: v1.Session) -> None:
        self.values = session.run(self._metrics)


def checkpoint_or_newest(model: Model, checkpoint_path: str | None, purpose: str) -> str | None:
    """The given checkpoint, or the newest one; None, with a log line, where there is none."""
    checkpoint = checkpoint_path or checkpoints.newest(model.model_dir)
    if checkpoint is None:
        log.info(
            "Could not find trained model in model_dir: %s, running initialization to %s.",
            model.model_dir,
            purpose,
        )
    return checkpoint

"""Evaluation: metrics of a checkpoint over a data set, on a graph that is built once."""

from __future__ import annotations

import contextlib
import contextvars
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from orchestrator.cluster.records import Phase
from orchestrator.errors import InvalidArgument, InvalidType, NotTrained
from orchestrator.estimator import checkpoints, session_reuse, stop_request
from orchestrator.estimator.executor import may_trace, run_in_one_thread_if_small
from orchestrator.estimator.graph import EvaluationGraph, build_evaluation_graph
from orchestrator.estimator.input_release import InputRelease
from orchestrator.estimator.input_source import NotShareable
from orchestrator.estimator.logger import log
from orchestrator.estimator.metric_summary import write_metrics
from orchestrator.estimator.model import Model
from orchestrator.estimator.progress import reporter_of
from orchestrator.estimator.replicas import build_replicated_evaluation_graph
from orchestrator.estimator.session import HookedSession
from orchestrator.estimator.session_closing import close_quietly
from orchestrator.estimator.session_opening import SessionTarget, finalize, open_as_chief, restore_again
from orchestrator.estimator.signatures import describe
from orchestrator.estimator.stop_request import StopRequested
from orchestrator.estimator.strategies import no_batch, session_config_for
from orchestrator.estimator.tiny_step import compute_in_one_thread_if_tiny
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
            evaluation = Evaluation(model, request, (request.input_fn,))
            try:
                return evaluation.run(request, checkpoint)
            finally:
                evaluation.close()
        return kept.evaluation_for(model, request).run(request, checkpoint)


_kept: contextvars.ContextVar[KeptEvaluations | None] = contextvars.ContextVar("kept", default=None)


class KeptEvaluations:
    """Evaluation graphs that serve more than one call; `inputs` are to share one where they can."""

    def __init__(self, inputs: tuple[Any, ...]) -> None:
        self._inputs = inputs
        self._evaluations: dict[Any, Evaluation] = {}

    def evaluation_for(self, model: Model, request: EvaluationRequest) -> Evaluation:
        """The one that was kept for such a request, or a new one."""
        if request.input_fn in self._inputs:
            try:
                return self._find(model, request, self._inputs)
            except NotShareable as reason:
                log.info("Each input is evaluated on a graph of its own: %s.", reason)
                self._inputs = ()
        return self._find(model, request, (request.input_fn,))

    def _find(self, model: Model, request: EvaluationRequest, input_fns: tuple[Any, ...]) -> Evaluation:
        key = (id(model), input_fns, request.hooks)
        found = self._evaluations.get(key)
        if found is None or found.needs_new_graph:
            self._evaluations[key] = found = Evaluation(model, request, input_fns)
        return found

    def close(self) -> None:
        """Closes all sessions."""
        for evaluation in self._evaluations.values():
            evaluation.close()


@contextlib.contextmanager
def kept_open(inputs: Sequence[Any] = ()) -> Iterator[None]:
    """Within this block, `evaluate` keeps its graphs and sessions from one call to the next.

    Evaluations on several of the `inputs` (input functions) use one graph where
    they can, so a checkpoint is loaded once for all of them.
    """
    if _kept.get() is not None:
        yield
        return
    kept = KeptEvaluations(tuple(inputs) if len(inputs) > 1 else ())
    token = _kept.set(kept)
    try:
        yield
    finally:
        kept.close()
        _kept.reset(token)


class Evaluation:
    """An evaluation graph, and the session on it while it may be used again."""

    def __init__(self, model: Model, request: EvaluationRequest, input_fns: tuple[Any, ...]) -> None:
        self._model = model
        self._request = request
        self._graph = _build(model, input_fns)
        self._session: v1.Session | None = None
        self._callables: dict[Any, Any] = {}
        """Runs made ready on the session that is kept."""
        self._loaded: str | None = None
        self._warm_start: Any = None
        self._result = FinalMetrics(self._graph.metrics)
        self._hooks = self._hooks_of(request)
        self._needs_fresh_session = session_reuse.reason_against(self._graph)
        self._release = self._release_of_input()
        self.needs_new_graph = False
        """A hook has added operations to the graph: it cannot do so again, as the graph is final now."""

    def _hooks_of(self, request: EvaluationRequest) -> list[Any]:
        """The ordered hooks of one evaluation."""
        source = self._graph.input_of(request.input_fn)
        return [*source.hooks, *request.hooks, *self._graph.evaluation_hooks, self._result]

    def _release_of_input(self) -> InputRelease | None:
        """What gives the input back between evaluations in one session."""
        source = self._graph.input
        if source.dataset is None or self._needs_fresh_session is not None or _kept.get() is None:
            return None
        with self._graph.entered():
            return InputRelease(source.iterator, source.dataset)

    def run(self, request: EvaluationRequest, checkpoint: str | None) -> dict[str, Any]:
        """One evaluation: every hook from `begin` to `end`."""
        self._request, self._hooks = request, self._hooks_of(request)
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
        session = HookedSession(lambda: self._open(checkpoint), self._hooks, keep, self._callables)
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
        self._session, self._loaded = (raw, checkpoint) if keep else (None, None)
        if keep and self._release is not None:
            self._release.start(raw)
        if done == 0:
            named = f"input_fn {describe(self._request.input_fn)}"
            strategy = self._model.config.eval_distribute
            raise InvalidArgument(f"Estimator.evaluate: {named} {no_batch(strategy)}.")
        log.info("Evaluated %d batches in %.3f s.", done, time.monotonic() - started)

    def _open(self, checkpoint: str | None) -> v1.Session:
        if self._release is not None and not self._release.is_done():
            self.close()
        if self._session is not None and checkpoint is not None:
            session, self._session = self._session, None
            unchanged = checkpoint == self._loaded
            return restore_again(session, self._graph.scaffold, None if unchanged else checkpoint)
        self._callables.clear()
        config = self._model.config
        session_config = session_config_for(config, config.eval_distribute)
        if config.eval_distribute is None:
            self._choose_threads(session_config)
        target = SessionTarget(config.evaluation_master, session_config)
        return open_as_chief(self._graph.scaffold, target, lambda: checkpoint, self._warm_start)

    def _choose_threads(self, session_config: v1.ConfigProto) -> None:
        graph, master = self._graph, self._model.config.evaluation_master
        if len(graph.inputs) == 1:
            compute_in_one_thread_if_tiny(session_config, graph.input, graph.results(), master)
        if not any(may_trace(hook) for hook in self._hooks):
            run_in_one_thread_if_small(session_config, graph.graph, graph.results(), master)


def _build(model: Model, input_fns: tuple[Any, ...]) -> EvaluationGraph:
    strategy = model.config.eval_distribute
    if strategy is None:
        return build_evaluation_graph(model, input_fns)
    if len(input_fns) > 1:
        raise NotShareable("a strategy distributes each of them")
    if strategy.num_replicas_in_sync > 1:
        log.info(
            "Evaluation takes %d batches at a time, one for each replica; fewer at the end are not counted.",
            strategy.num_replicas_in_sync,
        )
    return build_replicated_evaluation_graph(model, input_fns[0], strategy)


class FinalMetrics(v1.train.SessionRunHook):
    """Fetches the metrics once, when all batches are done."""

    def __init__(self, metrics: dict[str, Any]) -> None:
        self._metrics = metrics
        self.values: dict[str, Any] = {}

    def end(self, session: v1.Session) -> None:
        self.values = session.run(self._metrics)


def checkpoint_or_newest(model: Model, checkpoint_path: Any, purpose: str) -> str | None:
    """The given checkpoint, or the newest one; None, with a log line, where there is none."""
    checkpoint = checkpoints.newest(model.model_dir) if checkpoint_path is None else _checked(checkpoint_path)
    if checkpoint is None:
        log.info(
            "Could not find trained model in model_dir: %s, running initialization to %s.",
            model.model_dir,
            purpose,
        )
    return checkpoint


def _checked(path: Any) -> str:
    """The prefix of a checkpoint; raises NotTrained, saying what there is, where none has it."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise InvalidType(f"checkpoint_path must be a string or a path, given: {path!r}.")
    checkpoint_path = os.fsdecode(path)
    if checkpoints.exists(checkpoint_path) and not tf.io.gfile.isdir(checkpoint_path):
        return checkpoint_path
    is_directory = tf.io.gfile.isdir(checkpoint_path)
    inside = checkpoints.kept(checkpoint_path if is_directory else os.path.dirname(checkpoint_path) or ".")
    present = f" There are: {', '.join(inside)}." if inside else ""
    raise NotTrained(f"checkpoint_path {checkpoint_path}: there is no checkpoint of that name.{present}")

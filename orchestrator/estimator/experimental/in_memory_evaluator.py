"""InMemoryEvaluatorHook: evaluation within training, on the present weights, without a checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.evaluation import Evaluation, EvaluationRequest
from orchestrator.estimator.position import SleepingHook
from orchestrator.estimator.signatures import check_estimator, check_input_fn
from orchestrator.estimator.spec_checks import check_positive, checked_hooks
from orchestrator.estimator.triggers import Wake

v1 = tf.compat.v1
_NAME = "InMemoryEvaluatorHook"


class InMemoryEvaluatorHook(SleepingHook):
    """Evaluates before the first step, every `every_n_iter` steps and at the end of training.

    The weights are handed over in memory, so it works in one process alone, and
    for models whose state is variables. Metrics go where `Estimator.evaluate`
    writes them.

    Args:
      estimator: the Estimator that is trained.
      input_fn, steps, hooks, name: as for `Estimator.evaluate`.
      every_n_iter: training steps between evaluations.

    Raises InvalidArgument (a ValueError) in a cluster, for a wrong period, and
    when training starts where the evaluation graph has a saver or `init_fn` of
    its own or the training graph saves more than variables.
    """

    def __init__(  # noqa: PLR0917 - the order of the public API
        self,
        estimator: Any,
        input_fn: Callable[..., Any],
        steps: int | None = None,
        hooks: Iterable[Any] | None = None,
        name: str | None = None,
        every_n_iter: int = 100,
    ) -> None:
        if every_n_iter is None or every_n_iter <= 0:
            raise InvalidArgument(f"{_NAME}: invalid every_n_iter={every_n_iter}; it must be 1 or more.")
        check_estimator(estimator, _NAME)
        config = estimator.config
        if config.num_ps_replicas > 0 or config.num_worker_replicas > 1:
            raise InvalidArgument(
                f"{_NAME}: InMemoryEvaluator supports only single machine (aka Local) setting;"
                f" this cluster has {config.num_worker_replicas} workers and {config.num_ps_replicas} ps."
            )
        check_input_fn(input_fn, _NAME)
        check_positive(steps, "steps", _NAME)
        self._estimator = estimator
        self._request = EvaluationRequest(
            input_fn, steps, checked_hooks(hooks, _NAME), output_dir=estimator.eval_dir(name)
        )
        self._every = every_n_iter

    def begin(self) -> None:
        self._next_step = 0
        self._evaluated_step: int | None = None
        self._values: dict[str, Any] = {}
        self._step = v1.train.get_global_step()
        if v1.get_collection(v1.GraphKeys.SAVEABLE_OBJECTS):
            raise InvalidArgument(
                f"{_NAME}: InMemoryEvaluator does not support saveables other than global variables."
            )
        self._trained = {v.name: v for v in v1.global_variables()}
        self._build()

    def _build(self) -> None:
        """Builds the evaluation graph; its sessions start with the values that `_evaluate` has read."""
        model = dataclasses.replace(self._estimator._model, warm_start=None)
        self._evaluation = Evaluation(model, self._request, (self._request.input_fn,))
        graph = self._evaluation._graph
        for part in ("saver", "init_fn"):
            if getattr(graph.scaffold, part) is not None:
                raise InvalidArgument(
                    f"{_NAME}: InMemoryEvaluator does not support custom {part} in the evaluation graph."
                )
        with graph.entered():
            evaluated = {v.name: v for v in v1.global_variables()}
            graph.scaffold = v1.train.Scaffold(init_fn=self._hand_over, copy_from_scaffold=graph.scaffold)
        shared = sorted(self._trained.keys() & evaluated.keys())
        self._sources = {name: self._trained[name] for name in shared}
        self._targets = {name: evaluated[name] for name in shared}

    def after_create_session(self, session: v1.Session, coord: Any) -> None:
        self._evaluate(session, int(session.run(self._step)))

    def wake(self) -> Wake:
        return Wake(step=self._next_step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        step = int(run_context.session.run(self._step))
        if step >= self._next_step:
            self._evaluate(run_context.session, step)

    def end(self, session: v1.Session) -> None:
        step = int(session.run(self._step))
        if step != self._evaluated_step:
            self._evaluate(session, step)

    def _evaluate(self, session: v1.Session, step: int) -> None:
        if self._evaluation.needs_new_graph:
            self._build()
        self._evaluated_step, self._next_step = step, step + self._every
        self._values = session.run(self._sources)
        self._evaluation.run(self._request, checkpoint=None)

    def _hand_over(self, scaffold: Any, evaluation: v1.Session) -> None:
        for name, value in self._values.items():
            for part in getattr(self._targets[name], "values", None) or [self._targets[name]]:
                # The initializer's own input takes the value: no node is added to a finalized graph.
                evaluation.run(part.initializer, {part.initializer.inputs[1]: value})

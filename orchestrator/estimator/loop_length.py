"""How many steps one session call takes, and whether a loop can be had at all."""

from __future__ import annotations

from typing import Any

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.graph import TrainingGraph
from orchestrator.estimator.in_graph_loop import InGraphLoop, NotRepeatable, Seeds, as_operation
from orchestrator.estimator.logger import log
from orchestrator.estimator.model import Model
from orchestrator.estimator.position import sees_every_step

AUTO = "auto"
AUTO_LIMIT = 1000
SECONDS_IN_LOOP = 0.25
"""A loop is kept about this short, so that a request to stop and what is due by time need not wait."""


def add_loop(graph: TrainingGraph, model: Model, hooks: list[Any]) -> None:
    """Adds the in-graph loop that `steps_per_loop` asks for to an entered training graph.

    "auto" goes without, and says why, where it cannot be had exactly. Raises
    InvalidArgument there for a number.
    """
    setting = model.config.steps_per_loop
    if setting == 1:
        return
    try:
        graph.loop = _build(graph, model, hooks)
    except NotRepeatable as reason:
        if setting != AUTO:
            raise InvalidArgument(
                f"RunConfig(steps_per_loop={setting}): {reason}, so steps cannot run in a loop with the same"
                ' results. Use steps_per_loop=1, or "auto", which loops where it can.'
            ) from reason
        log.info("steps_per_loop is 1: %s.", reason)
        return
    watching = _watching(hooks)
    if watching is not None:
        log.info("Every step is run by itself: %s looks at each.", watching)


def _watching(hooks: list[Any]) -> str | None:
    """The name of a hook that looks at each step."""
    return next((type(hook).__name__ for hook in hooks if sees_every_step(hook)), None)


def _build(graph: TrainingGraph, model: Model, hooks: list[Any]) -> InGraphLoop:
    if graph.repetition is None:
        raise NotRepeatable("input_fn returns tensors and not a Dataset")
    together = graph.votes is not None
    if model.config.steps_per_loop == AUTO and model.config.num_worker_replicas > 1 and not together:
        raise NotRepeatable("other workers step meanwhile, so no period would be exact")
    seeds = Seeds([as_operation(graph.train_op), graph.loss.op])
    # Tasks that step together must build the same graph, and have different hooks: see `pace.py`.
    if seeds and _watching(hooks) is not None and not together:
        raise NotRepeatable(f"the model draws random numbers, and {_watching(hooks)} looks at each step")
    if seeds and graph.scaffold.summary_op is not None:
        raise NotRepeatable("the model draws random numbers, and its Scaffold has a summary_op of its own")
    with_summary = bool(model.config.save_summary_steps)
    return graph.repetition.recorder.build_loop(graph.repetition, seeds, with_summary)


class LoopLength:
    """Chooses the length of each loop: never beyond a step that is waited for, and short in time."""

    def __init__(self, setting: int | str, workers: int = 1) -> None:
        """`workers` share the steps that are left, each in a loop of its own."""
        self._workers = workers
        self._limit = AUTO_LIMIT if setting == AUTO else int(setting)
        self._seconds_per_step: float | None = None

    def choose(self, steps_left: float) -> int:
        """Steps for the next loop, at least 1; `steps_left` until a hook wants one (may be infinite)."""
        by_time = self._limit
        if self._seconds_per_step is None:
            by_time = min(10, self._limit)
        elif self._seconds_per_step > 0:
            by_time = max(1, int(SECONDS_IN_LOOP / self._seconds_per_step))
        return int(max(1, min(self._limit, steps_left / self._workers, by_time)))

    def took(self, steps: int, seconds: float) -> None:
        """Notes how long a loop took."""
        if steps > 0:
            self._seconds_per_step = seconds / steps

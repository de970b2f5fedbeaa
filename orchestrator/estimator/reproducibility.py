"""What keeps a training from giving the same weights again, said when it starts."""

from __future__ import annotations

import re
from typing import Any

import tensorflow as tf

from orchestrator.estimator.graph import TrainingGraph
from orchestrator.estimator.graph_walk import ancestors, random_operations
from orchestrator.estimator.input_source import leaves
from orchestrator.estimator.logger import say_once
from orchestrator.estimator.signatures import describe

_MOST_NAMES = 5
_FUNCTION = re.compile(r"^__inference_(.+)_\d+/")
"""TensorFlow numbers its functions anew in each graph."""


def warn_of_random_operations(graph: TrainingGraph, model_fn: Any) -> None:
    """Warns once where the step draws numbers that depend on how often its session has drawn before.

    No checkpoint holds that. The input's own random numbers are left out: `save_input_state` saves them.
    """
    operations = ancestors([graph.step.op, graph.loss.op], _batch_operations(graph))
    found = list(dict.fromkeys(_FUNCTION.sub(r"\1/", name) for name in random_operations(operations)))
    if not found:
        return
    names = ", ".join(found[:_MOST_NAMES])
    more = f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
    say_once(
        f"model_fn {describe(model_fn)} has stateful random operations: {names}{more}. What they have drawn"
        " stands in no checkpoint, so a resumed training draws other numbers than one that was never"
        " interrupted. The operations of tf.random whose names begin with stateless_ can be seeded by the"
        " global step instead."
    )


def _batch_operations(graph: TrainingGraph) -> set[tf.Operation]:
    """The operations that give a batch, on each replica."""
    parts = [*leaves(graph.input.features), *leaves(graph.input.labels)]
    if graph.strategy is not None:
        parts = [one for part in parts for one in graph.strategy.experimental_local_results(part)]
    tensors = tf.nest.flatten(parts, expand_composites=True)
    return {tensor.op for tensor in tensors if isinstance(tensor, tf.Tensor)}

"""How many examples a training step takes, from the shapes of the features."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from orchestrator.estimator.graph import TrainingGraph
from orchestrator.estimator.graph_walk import ancestors
from orchestrator.estimator.input_source import leaves


class BatchSize:
    """Examples a step, over all replicas that step together.

    Where the shape alone does not say it, `tensor` is to be fetched with a step.
    """

    def __init__(self, graph: TrainingGraph) -> None:
        self._parts = _parts_of_batch(graph)
        self._processes = _processes_together(graph.strategy)
        sizes = [_static_size(part) for part in self._parts]
        self.known: int | None = None
        """Examples a step; None while nothing is known."""
        if sizes and all(size is not None for size in sizes):
            self.known = sum(size for size in sizes if size is not None) * self._processes
        self.tensor: tf.Tensor | None = None

    def begin(self) -> None:
        """Adds the tensor to the default graph where it is needed."""
        if self.known is None and self._parts:
            self.tensor = tf.add_n([_size(part) for part in self._parts])

    def note(self, fetched: Any) -> None:
        """Takes the value of `tensor` in a step."""
        if fetched is not None:
            self.known = int(fetched) * self._processes


def _parts_of_batch(graph: TrainingGraph) -> list[Any]:
    """The first of the features, on each replica; [] where a step does not read the features at all.

    Fetching the size of an unread batch would take it from the input.
    """
    features = leaves(graph.input.features)
    if not features:
        return []
    parts = [features[0]]
    if graph.strategy is not None:
        parts = list(graph.strategy.experimental_local_results(features[0]))
    if not all(isinstance(part, (tf.Tensor, tf.SparseTensor, tf.RaggedTensor)) for part in parts):
        return []
    if any(isinstance(part, tf.Tensor) and part.shape.rank == 0 for part in parts):
        return []
    read = set(ancestors([graph.step.op, graph.loss.op]))
    return parts if all(_is_read(part, read) for part in parts) else []


def _is_read(part: Any, read: set[tf.Operation]) -> bool:
    return any(tensor.op in read for tensor in tf.nest.flatten(part, expand_composites=True))


def _static_size(part: Any) -> int | None:
    return part.shape.as_list()[0] if part.shape.rank else None


def _size(part: Any) -> tf.Tensor:
    if isinstance(part, tf.SparseTensor):
        return tf.cast(part.dense_shape[0], tf.int64)
    if isinstance(part, tf.RaggedTensor):
        return tf.cast(part.nrows(), tf.int64)
    return tf.shape(part, out_type=tf.int64)[0]


def _processes_together(strategy: Any) -> int:
    return int(getattr(getattr(strategy, "extended", None), "_num_workers", 1) or 1)

"""ModelStats: parameters and arithmetic of a model, layer by layer, as a CSV file and a table.

What is counted, for one example through the forward pass:

- parameters: elements of the trainable and not trainable variables that the
  layer reads; a shared variable counts with the first layer that reads it.
- multiply-accumulates: of convolutions and matrix products.
- additions: one an element for a bias, an addition, and a normalisation (whose
  scale belongs to the layer before it once the model is exported); sums of
  average pooling and means: one less than the elements summed.
- comparisons: one an element for ReLU, two for ReLU6 and clipping; of maxima:
  one less than the elements compared.

Gradients, optimizers, losses' own operations and the input are left out.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from orchestrator.hooks.operation_costs import COSTS, Cost

v1 = tf.compat.v1
LOG = logging.getLogger("orchestrator")
FILE_NAME = "model_stats.csv"
_OTHER_REPLICA = re.compile(r"(^|/)replica_[1-9]\d*/")
_HEADS = ("layer", "parameters", "multiply_accumulates", "additions", "comparisons")


@dataclass(frozen=True)
class LayerStats:
    """Counts of one layer, or of all; for one example."""

    layer: str
    parameters: int = 0
    multiply_accumulates: int = 0
    additions: int = 0
    comparisons: int = 0

    def plus(self, parameters: int, cost: Cost) -> LayerStats:
        """These counts and further ones."""
        return LayerStats(
            self.layer,
            self.parameters + parameters,
            self.multiply_accumulates + cost.multiply_accumulates,
            self.additions + cost.additions,
            self.comparisons + cost.comparisons,
        )

    def row(self) -> tuple[str | int, ...]:
        """The values in the order of the CSV file."""
        return tuple(getattr(self, name) for name in _HEADS)


class ModelStats(v1.train.SessionRunHook):
    """Writes `model_stats.csv` into the model directory when training starts, and logs it as a table.

    Args:
      model_dir: where the file goes; nothing is written with None.
      outputs: tensors (or their names) up to which the model is counted. Default: the losses that
        `tf.compat.v1.losses` and the Estimator have collected.
    """

    def __init__(self, model_dir: str | os.PathLike[str] | None, outputs: Iterable[Any] = ()) -> None:
        self._model_dir = model_dir
        self._outputs = tuple(outputs)
        self.layers: list[LayerStats] = []
        """One a layer, and the total last; after `begin`."""

    def begin(self) -> None:
        """Counts; adds nothing to the graph."""
        graph = v1.get_default_graph()
        self.layers = count(graph, self._outputs)
        for line in table(self.layers):
            LOG.info("%s", line)
        if self._model_dir is not None:
            _write(os.path.join(os.fspath(self._model_dir), FILE_NAME), self.layers)


def count(graph: tf.Graph, outputs: Iterable[Any] = ()) -> list[LayerStats]:
    """The layers of a graph in the order of the forward pass, and `total` last.

    A layer is the scope of its variables, or of its operations where it has none.
    """
    starts = [graph.as_graph_element(output, allow_operation=False) for output in outputs]
    starts = starts or list(graph.get_collection(v1.GraphKeys.LOSSES))
    operations = _forward([start.op for start in starts])
    sizes = _variable_sizes(graph)
    counted: set[str] = set()
    layers: dict[str, LayerStats] = {}
    for operation in sorted(operations, key=lambda op: op._id):
        cost_of = COSTS.get(operation.type)
        cost = cost_of(operation) if cost_of else Cost()
        read = [name for name in _variables_read(operation) if name in sizes and name not in counted]
        if _OTHER_REPLICA.search(operation.name):
            continue
        if not read and not any((cost.multiply_accumulates, cost.additions, cost.comparisons)):
            continue
        counted.update(read)
        layer = _layer_of(operation, sizes)
        found = layers.get(layer, LayerStats(layer))
        layers[layer] = found.plus(sum(sizes[name] for name in read), cost)
    for name in set(sizes) - counted:
        layer, _, _ = name.rpartition("/")
        if layer in layers and layer not in sizes:  # moving statistics, which training does not read
            layers[layer] = layers[layer].plus(sizes[name], Cost())
    total = LayerStats("total")
    for stats in layers.values():
        cost = Cost(stats.multiply_accumulates, stats.additions, stats.comparisons)
        total = total.plus(stats.parameters, cost)
    return [*layers.values(), total]


def _forward(starts: list[tf.Operation]) -> list[tf.Operation]:
    """Everything that the starts depend on by data; the input pipeline ends at its iterator."""
    found: dict[int, tf.Operation] = {}
    waiting = list(starts)
    while waiting:
        operation = waiting.pop()
        if operation._id in found:
            continue
        found[operation._id] = operation
        if operation.type in ("IteratorGetNext", "IteratorGetNextSync", "Placeholder"):
            continue
        waiting += [tensor.op for tensor in operation.inputs]
    return list(found.values())


def _variable_sizes(graph: tf.Graph) -> dict[str, int]:
    """Elements by the name of the operation that holds a variable; copies on other replicas left out."""
    sizes: dict[str, int] = {}
    for variable in graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES):
        copies = getattr(variable, "values", None)
        first = copies[0] if isinstance(copies, tuple) else variable
        if variable.shape.is_fully_defined():
            sizes[first.op.name] = variable.shape.num_elements()
    return sizes


def _variables_read(operation: tf.Operation) -> list[str]:
    """Variables whose handle, or whose reference, is an input."""
    return [tensor.op.name for tensor in operation.inputs if tensor.op.type in _HOLDERS]


_HOLDERS = ("VarHandleOp", "VariableV2", "Variable")


def _layer_of(operation: tf.Operation, sizes: dict[str, int]) -> str:
    """The scope of the variables that an operation uses, directly or through reads; else its own."""
    waiting, depth = [operation], 0
    while waiting and depth < 4:
        inputs = [tensor.op for op in waiting for tensor in op.inputs]
        for candidate in inputs:
            if candidate.name in sizes:
                return candidate.name.rpartition("/")[0] or candidate.name
        waiting = [op for op in inputs if op.type in ("ReadVariableOp", "Identity", "Cast", "Reshape")]
        depth += 1
    return operation.name.rpartition("/")[0] or operation.name


def table(layers: list[LayerStats]) -> list[str]:
    """The counts as lines of a table."""
    rows = [[name.replace("_", " ") for name in _HEADS]]
    rows += [[f"{cell:,}" if isinstance(cell, int) else cell for cell in stats.row()] for stats in layers]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    return [
        "  ".join(
            f"{cell:<{width}}" if column == 0 else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _write(path: str, layers: list[LayerStats]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADS)
    writer.writerows(stats.row() for stats in layers)
    tf.io.gfile.makedirs(os.path.dirname(path))
    temporary = f"{path}.{os.getpid()}"
    with tf.io.gfile.GFile(temporary, "w") as stream:
        stream.write(text.getvalue())
    tf.io.gfile.rename(temporary, path, overwrite=True)

"""Variables of a graph as a warm start sees them: whole, by name, with the parts that take values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from orchestrator.errors import WarmStartError
from orchestrator.warm_start.roles import targets_with_roles
from orchestrator.warm_start.tensors import TargetVariable

v1 = tf.compat.v1


@dataclass(frozen=True)
class Part:
    """A piece of memory that holds a variable, or a slice of it, on one device."""

    variable: Any
    slices: tuple[slice, ...] | None = None
    """Which part of the whole; None for all of it."""
    share: int = 1
    """Replicas that hold parts of one sum: each takes the value divided by it."""

    def feed(self, value: np.ndarray) -> tuple[Any, Any, np.ndarray]:
        """The operation that sets the variable, the tensor to feed it with, and what to feed."""
        initializer = self.variable.initializer
        if initializer is None or len(initializer.inputs) < 2:
            raise WarmStartError(
                f"variable '{self.variable.name}' has no initializer that takes a value, so it cannot be"
                " loaded. Exclude it."
            )
        if self.slices is not None:
            value = value[self.slices]
        if self.share > 1:
            value = (value / self.share).astype(value.dtype)
        return initializer, initializer.inputs[1], value


@dataclass(frozen=True)
class GraphVariable:
    """A variable by its name in checkpoints, with everything that holds a piece of it."""

    target: TargetVariable
    parts: tuple[Part, ...]


def variables_of(graph: tf.Graph) -> list[GraphVariable]:
    """The global variables of a graph, sorted by name, with their roles.

    Parts of a partitioned variable are one; copies on replicas are one.
    """
    trainable = {id(variable) for variable in graph.get_collection(v1.GraphKeys.TRAINABLE_VARIABLES)}
    whole: dict[str, TargetVariable] = {}
    parts: dict[str, list[Part]] = {}
    for variable in _unique(graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES)):
        info = getattr(variable, "_save_slice_info", None)
        shape = tuple(info.full_shape) if info is not None else _static_shape(variable)
        name = info.full_name if info is not None else variable.name.partition(":")[0]
        whole.setdefault(
            name,
            TargetVariable(name, shape, variable.dtype.base_dtype.name, trainable=id(variable) in trainable),
        )
        parts.setdefault(name, []).extend(_parts(variable, _slices(info)))
    steps = graph.get_collection(v1.GraphKeys.GLOBAL_STEP)
    step = steps[0].name.partition(":")[0] if steps else None
    targets = targets_with_roles((whole[name] for name in sorted(whole)), step)
    return [GraphVariable(target, tuple(parts[target.name])) for target in targets]


def _unique(variables: list[Any]) -> Iterator[Any]:
    seen: set[int] = set()
    for variable in variables:
        if id(variable) not in seen:
            seen.add(id(variable))
            yield variable


def _static_shape(variable: Any) -> tuple[int, ...]:
    shape = variable.shape
    # A variable without a static shape takes any; -1 fits none and is told as a mismatch.
    return (
        tuple(-1 if size is None else size for size in shape.as_list()) if shape.rank is not None else (-1,)
    )


def _slices(info: Any) -> tuple[slice, ...] | None:
    if info is None:
        return None
    both = zip(info.var_offset, info.var_shape, strict=True)
    return tuple(slice(offset, offset + size) for offset, size in both)


def _parts(variable: Any, slices: tuple[slice, ...] | None) -> Iterator[Part]:
    copies = getattr(variable, "values", None)
    if not isinstance(copies, tuple):
        yield Part(variable, slices)
        return
    on_read = getattr(variable, "synchronization", None) == tf.VariableSynchronization.ON_READ
    summed = on_read and variable.aggregation == tf.VariableAggregation.SUM
    for copy in copies:
        yield Part(copy, slices, len(copies) if summed else 1)

"""What one example costs in each operation of a graph, from static shapes alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """Arithmetic of one operation for one example."""

    multiply_accumulates: int = 0
    additions: int = 0
    comparisons: int = 0


def _dimensions(tensor: Any) -> list[int | None]:
    return tensor.shape.as_list() if tensor.shape.rank is not None else []


def _elements(tensor: Any) -> int:
    """Elements for one example: the first axis is the batch's, sizes that are not known count as one."""
    return math.prod(size or 1 for size in _dimensions(tensor)[1:])


def _is_batched(tensor: Any) -> bool:
    return len(_dimensions(tensor)) > 1


def _places(operation: Any) -> int:
    """Positions of a convolution's output, without channels."""
    sizes = _dimensions(operation.outputs[0])
    channels_first = _text(operation, "data_format").startswith("NC")
    return math.prod(size or 1 for size in (sizes[2:] if channels_first else sizes[1:-1]))


def _text(operation: Any, name: str) -> str:
    try:
        value = operation.get_attr(name)
    except ValueError:
        return ""
    return value.decode() if isinstance(value, bytes) else str(value)


def _convolution(operation: Any) -> Cost:
    # Kernel [height, width, in (of a group), out]: each output value sums over all but the last axis.
    return Cost(_places(operation) * math.prod(size or 1 for size in _dimensions(operation.inputs[1])))


def _transposed_convolution(operation: Any) -> Cost:
    sizes, channels_first = _dimensions(operation.inputs[2]), _text(operation, "data_format") == "NCHW"
    places = math.prod(size or 1 for size in (sizes[2:] if channels_first else sizes[1:-1]))
    return Cost(places * math.prod(size or 1 for size in _dimensions(operation.inputs[1])))


def _product(operation: Any) -> Cost:
    left, right = _dimensions(operation.inputs[0]), _dimensions(operation.inputs[1])
    if len(left) == 2 == len(right):
        return Cost((right[0] or 1) * (right[1] or 1))
    inner = left[-2] if _text(operation, "adj_x") == "True" else left[-1]
    return Cost(_elements(operation.outputs[0]) * (inner or 1))


def _added(operation: Any) -> Cost:
    output = operation.outputs[0]
    return Cost(additions=_elements(output)) if _is_batched(output) else Cost()


def _compared(times: int) -> Callable[[Any], Cost]:
    def cost(operation: Any) -> Cost:
        output = operation.outputs[0]
        return Cost(comparisons=times * _elements(output)) if _is_batched(output) else Cost()

    return cost


def _window(operation: Any) -> int:
    return math.prod(operation.get_attr("ksize"))


def _maximum_pool(operation: Any) -> Cost:
    return Cost(comparisons=_elements(operation.outputs[0]) * (_window(operation) - 1))


def _average_pool(operation: Any) -> Cost:
    return Cost(additions=_elements(operation.outputs[0]) * (_window(operation) - 1))


def _reduced(operation: Any) -> int:
    """Values that go into the result less the results; 0 where examples of a batch are mixed."""
    before, after = operation.inputs[0], operation.outputs[0]
    mixes_examples = not after.shape.rank or _dimensions(before)[:1] != _dimensions(after)[:1]
    return 0 if mixes_examples else max(0, _elements(before) - _elements(after))


COSTS: dict[str, Callable[[Any], Cost]] = {
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "Conv2DBackpropInput": _transposed_convolution,
    "DepthwiseConv2dNative": _convolution,
    "MatMul": _product,
    "BatchMatMul": _product,
    "BatchMatMulV2": _product,
    "BiasAdd": _added,
    "Add": _added,
    "AddV2": _added,
    "Sub": _added,
    "FusedBatchNorm": _added,
    "FusedBatchNormV2": _added,
    "FusedBatchNormV3": _added,
    "Relu": _compared(1),
    "LeakyRelu": _compared(1),
    "Relu6": _compared(2),
    "ClipByValue": _compared(2),
    "Maximum": _compared(1),
    "Minimum": _compared(1),
    "MaxPool": _maximum_pool,
    "AvgPool": _average_pool,
    "Mean": lambda operation: Cost(additions=_reduced(operation)),
    "Sum": lambda operation: Cost(additions=_reduced(operation)),
    "Max": lambda operation: Cost(comparisons=_reduced(operation)),
}
"""By type of operation; all others, activations by tables or exponentials among them, count as nothing."""

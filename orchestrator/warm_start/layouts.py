"""Different layouts of the same layer: how a stored tensor becomes the variable's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """A rearrangement that is asked for by name, in a rule or a map; never guessed."""

    name: str
    meaning: str
    shape_of: Callable[[Shape], Shape | None]
    """The shape after it; None where it does not apply."""
    apply: Callable[[Any], Any]


def _transposed(shape: Shape) -> Shape | None:
    return (*shape[:-2], shape[-1], shape[-2]) if len(shape) >= 2 else None


def _to_convolution(shape: Shape) -> Shape | None:
    return (1, 1, *shape) if len(shape) == 2 else None


def _to_dense(shape: Shape) -> Shape | None:
    return shape[2:] if len(shape) == 4 and shape[:2] == (1, 1) else None


def _from_pytorch(shape: Shape) -> Shape | None:
    return (shape[2], shape[3], shape[1], shape[0]) if len(shape) == 4 else None


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "transpose",
            "the last two axes change places: a dense kernel stored [out, in], a depthwise kernel stored"
            " [h, w, multiplier, in], the kernel of a transposed convolution",
            _transposed,
            lambda value: value.swapaxes(-1, -2),
        ),
        Layout(
            "dense_to_conv",
            "a dense kernel [in, out] as a 1x1 convolution [1, 1, in, out]",
            _to_convolution,
            lambda value: value[None, None],
        ),
        Layout(
            "conv_to_dense",
            "a 1x1 convolution [1, 1, in, out] as a dense kernel [in, out]",
            _to_dense,
            lambda value: value[0, 0],
        ),
        Layout(
            "oihw_to_hwio",
            "a convolution stored [out, in, h, w] as [h, w, in, out]",
            _from_pytorch,
            lambda value: value.transpose(2, 3, 1, 0),
        ),
    )
}


def fitting(source: Shape, target: Shape) -> list[str]:
    """Names of the layouts that would turn one shape into the other."""
    return [name for name, layout in LAYOUTS.items() if layout.shape_of(source) == target != source]

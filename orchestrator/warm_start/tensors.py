"""What both sides of a warm start are made of: tensors of a checkpoint, variables of a graph."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class Role(str, Enum):
    """What a stored value is for."""

    WEIGHT = "weight"
    """Of the model itself, moving statistics of normalisations included."""
    SLOT = "slot"
    """An optimizer's own state: moments, accumulators, powers of beta, learning rates."""
    AVERAGE = "average"
    """An exponential moving average of a weight."""
    STEP = "step"
    """The global step."""
    OTHER = "other"
    """Neither: metrics, counters of savers, random states."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class SourceTensor:
    """A tensor in a checkpoint."""

    name: str
    """The name to show, and the one that rules and maps are about."""
    shape: tuple[int, ...]
    dtype: str
    """NumPy's name, `bfloat16` included; `string` for bytes."""
    role: Role = Role.WEIGHT
    key: str = ""
    """Where it is stored, when that is not `name`."""
    aliases: tuple[str, ...] = ()
    """Other names by which it is known, such as that of the variable it was saved from."""
    average_of: str = ""
    """For an AVERAGE: the name of the weight."""
    rule: str = ""
    """How `name` was derived from `key`, for people; empty when they are the same."""

    @property
    def place(self) -> str:
        """Where the reader finds it."""
        return self.key or self.name

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * itemsize(self.dtype)


@dataclass(frozen=True)
class TargetVariable:
    """A variable of the graph that is to be trained; parts of a partitioned one count once, whole."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    trainable: bool = True
    role: Role = Role.WEIGHT

    @property
    def size(self) -> int:
        """Bytes of one copy."""
        return math.prod(self.shape) * itemsize(self.dtype)


_SIZES = {"bool": 1, "int4": 1, "uint4": 1, "bfloat16": 2, "half": 2, "string": 0, "complex64": 8}
_DIGITS = {"8": 1, "16": 2, "32": 4, "64": 8, "128": 16}


def itemsize(dtype: str) -> int:
    """Bytes of one element; 0 where that is not known (text)."""
    if dtype in _SIZES:
        return _SIZES[dtype]
    if dtype.startswith("float8"):
        return 1
    for digits in ("128", "16", "32", "64", "8"):
        if dtype.endswith(digits):
            return _DIGITS[digits]
    return 0


def shown_shape(shape: tuple[int, ...]) -> str:
    """`3x3x8x1`, or `scalar`."""
    return "x".join(str(size) for size in shape) or "scalar"


def shown_size(size: int) -> str:
    """A number of bytes for people."""
    if size < 1024:
        return f"{size} B"
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1024:.1f} KiB"

"""Which names are weights, and which an optimizer's state, averages or counters: by name and shape alone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from orchestrator.warm_start.tensors import Role, SourceTensor, TargetVariable

AVERAGE = "ExponentialMovingAverage"
GLOBAL_STEP = "global_step"
_SLOT_LEAF = re.compile(
    r"(?P<slot>Adam|AdaMax|Adamax|AdamW|Nadam|LAMB|Lamb|LARS|Momentum|Adagrad|AdagradDA|Adadelta|RMSProp|RMSprop"
    r"|Ftrl|FTRL|ProximalAdagrad|SGD|LazyAdam|Lion|Adafactor|AdafactorV2|linear_power|accumulator|linear"
    r"|rms|momentum|mg|m|v|vhat|accum_grad|accum_var|gradient_squared_accumulator)(_\d+)?"
)
_BETA_POWER = re.compile(r"(.*/)?beta[12]_power(_\d+)?")
_OPTIMIZER_SCOPE = re.compile(
    r"(training/|.*/)?(Adam|Adamax|Nadam|SGD|RMSprop|Adagrad|Adadelta|Ftrl|Optimizer|OptimizerV2)(_\d+)?"
    r"/(iter|iterations|decay|learning_rate|beta_[12]|momentum|rho|.+/(m|v|vhat|rms|momentum|accumulator))"
)


def role_of(name: str, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> Role:
    """The role of a tensor or variable among all the names of its side, as TensorFlow 1 names them."""
    if name == GLOBAL_STEP:
        return Role.STEP
    if name.endswith(f"/{AVERAGE}"):
        return Role.AVERAGE
    if _BETA_POWER.fullmatch(name) and not shape:
        return Role.SLOT
    if _OPTIMIZER_SCOPE.fullmatch(name):
        return Role.SLOT
    parent, _, leaf = name.rpartition("/")
    if parent in shapes and _SLOT_LEAF.fullmatch(leaf) and _fits(shape, shapes[parent]):
        return Role.SLOT
    return Role.WEIGHT


def _fits(slot: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    return slot in (weight, ())


def with_roles(tensors: Iterable[SourceTensor]) -> list[SourceTensor]:
    """The tensors of a name-based checkpoint with their roles, sorted by name."""
    tensors = sorted(tensors, key=lambda tensor: tensor.name)
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    found = []
    for tensor in tensors:
        role = tensor.role if tensor.role is not Role.WEIGHT else role_of(tensor.name, tensor.shape, shapes)
        average_of = tensor.name.removesuffix(f"/{AVERAGE}") if role is Role.AVERAGE else ""
        found.append(dataclasses.replace(tensor, role=role, average_of=average_of))
    return found


def targets_with_roles(
    targets: Iterable[TargetVariable], global_step: str | None = GLOBAL_STEP
) -> list[TargetVariable]:
    """The variables with their roles, in their order. A trainable variable is always a weight."""
    targets = list(targets)
    shapes = {target.name: target.shape for target in targets}
    found = []
    for target in targets:
        role = role_of(target.name, target.shape, shapes)
        if target.name == global_step:
            role = Role.STEP
        elif target.trainable:
            role = Role.WEIGHT
        found.append(dataclasses.replace(target, role=role))
    return found

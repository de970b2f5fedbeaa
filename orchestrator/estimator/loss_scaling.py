"""Loss scaling for training in float16, whose small gradients would otherwise become zero.

While `model_fn` is called, `tf.compat.v1.train.Optimizer` computes the
gradients of the loss times a scale, divides them by the scale again, and
leaves a step out whose gradients are not finite. The scale is halved then and
doubled after many good steps. It starts anew with each session and stands in
no checkpoint, so that a model resumes with or without mixed precision. Scales
are powers of two, so that scaling rounds nothing.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from orchestrator.estimator.device_options import FLOAT16, DeviceOptions, visible_gpus
from orchestrator.estimator.logger import say_once
from orchestrator.estimator.modes import ModeKeys

v1 = tf.compat.v1
INITIAL_SCALE = 2.0**15
GOOD_STEPS_UNTIL_DOUBLED = 2000
LARGEST_SCALE = 2.0**60
_METHODS = ("compute_gradients", "apply_gradients")
_PLAIN = "_orchestrator_plain"
_SCALES = "_orchestrator_scales"


class LossScale:
    """The scale of one optimizer in one graph: local variables of this process."""

    def __init__(self, device: str | None) -> None:
        with tf.device(device):
            self._scale = _local_variable(INITIAL_SCALE, tf.float32, "loss_scale")
            self._good_steps = _local_variable(0, tf.int32, "loss_scale_good_steps")

    def scaled(self, loss: Any) -> Any:
        """The loss, or the function that returns it, times the scale."""
        if callable(loss):
            return lambda: self.scaled(loss())
        return loss * tf.cast(self._scale, loss.dtype)

    def unscaled(self, gradient: Any) -> Any:
        """A gradient of the scaled loss, divided by the scale."""
        if gradient is None:
            return None
        if isinstance(gradient, tf.IndexedSlices):
            return tf.IndexedSlices(self.unscaled(gradient.values), gradient.indices, gradient.dense_shape)
        return gradient / tf.cast(self._scale, gradient.dtype)

    def update(self, strategy: Any, finite: tf.Tensor) -> tf.Operation:
        """Halves the scale after a bad step, doubles it after many good ones."""
        scale, good_steps = (_read(strategy, v) for v in (self._scale, self._good_steps))
        doubles = good_steps + 1 >= GOOD_STEPS_UNTIL_DOUBLED
        better = tf.where(doubles, tf.minimum(scale * 2.0, LARGEST_SCALE), scale)
        new_scale = tf.where(finite, better, tf.maximum(scale / 2.0, 1.0))
        new_count = tf.where(tf.logical_and(finite, tf.logical_not(doubles)), good_steps + 1, 0)
        with tf.control_dependencies([new_scale, new_count]):
            return tf.group(
                _assign(strategy, self._scale, new_scale), _assign(strategy, self._good_steps, new_count)
            )


def _local_variable(value: float, dtype: Any, name: str) -> Any:
    return v1.Variable(
        value,
        dtype=dtype,
        name=name,
        trainable=False,
        use_resource=True,
        collections=[v1.GraphKeys.LOCAL_VARIABLES],
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def _read(strategy: Any, variable: Any) -> tf.Tensor:
    return strategy.extended.read_var(variable)


def _assign(strategy: Any, variable: Any, value: tf.Tensor) -> Any:
    return strategy.extended.update(variable, lambda v, new: v.assign(new, read_value=False), args=(value,))


def _scale_of(optimizer: Any, device: str | None) -> LossScale:
    scales = optimizer.__dict__.setdefault(_SCALES, {})
    key = (v1.get_default_graph(), threading.get_ident())  # each replica is built in a thread of its own
    if key not in scales:
        scales[key] = LossScale(device)
    return scales[key]


def _without_scaling(optimizer: Any) -> Any:
    """A copy whose methods do as they always do; slots are shared with the original."""
    plain = copy.copy(optimizer)
    plain.__dict__[_PLAIN] = True
    return plain


class _Scaling:
    """The two methods of Optimizer, with scaling."""

    def __init__(self, originals: dict[str, Callable[..., Any]], device: str | None) -> None:
        self._original = originals
        self._device = device

    def methods(self) -> dict[str, Callable[..., Any]]:
        """Functions to stand in the class."""
        scaling = self

        def compute_gradients(self: Any, loss: Any, *arguments: Any, **named: Any) -> Any:
            original = scaling._original["compute_gradients"]
            if getattr(self, _PLAIN, False):
                return original(self, loss, *arguments, **named)
            scale = _scale_of(self, scaling._device)
            pairs = original(self, scale.scaled(loss), *arguments, **named)
            return [(scale.unscaled(gradient), variable) for gradient, variable in pairs]

        def apply_gradients(
            self: Any, grads_and_vars: Any, global_step: Any = None, name: str | None = None
        ) -> Any:
            original = scaling._original["apply_gradients"]
            context = tf.distribute.get_replica_context()
            if getattr(self, _PLAIN, False) or context is None:
                return original(self, grads_and_vars, global_step, name)
            parts = (_scale_of(self, scaling._device), _without_scaling(self), tuple(grads_and_vars))
            return context.merge_call(_apply_if_finite, args=(*parts, global_step, name))

        return {"compute_gradients": compute_gradients, "apply_gradients": apply_gradients}


def _apply_if_finite(  # noqa: PLR0917 - replicas hand their arguments over by position
    strategy: Any, scale: Any, optimizer: Any, grads_and_vars: Any, global_step: Any, name: str | None
) -> Any:
    """Applies the gradients of all replicas where all are finite; else neither weights nor step change."""
    on_replicas = strategy.extended.call_for_each_replica
    scale = strategy.experimental_local_results(scale)[0]
    optimizer = strategy.experimental_local_results(optimizer)[0]
    bad = on_replicas(_count_bad, args=(grads_and_vars,))
    finite = tf.equal(strategy.reduce(tf.distribute.ReduceOp.SUM, bad, axis=None), 0.0)

    def apply() -> Any:
        update = on_replicas(optimizer.apply_gradients, args=(grads_and_vars, global_step, name))
        with tf.control_dependencies([strategy.group(update)]):
            return tf.constant(True)

    applied = tf.cond(finite, apply, lambda: tf.constant(False))
    with tf.control_dependencies([applied]):
        return tf.group(applied, scale.update(strategy, finite))


def _count_bad(grads_and_vars: Any) -> tf.Tensor:
    """How many gradients are not finite, as a float: sums over replicas take no integers on some devices."""
    values = [g.values if isinstance(g, tf.IndexedSlices) else g for g, _ in grads_and_vars if g is not None]
    finite = [tf.reduce_all(tf.math.is_finite(value)) for value in values]
    return tf.add_n([1.0 - tf.cast(one, tf.float32) for one in finite])


_lock = threading.Lock()
_depth = 0
_restore: Callable[[], None] | None = None


@contextlib.contextmanager
def scaling_losses(device: str | None) -> Iterator[None]:
    """Within this block every version 1 optimizer scales losses; blocks of several threads may overlap."""
    global _depth, _restore
    with _lock:
        if _depth == 0:
            _restore = _install(device)
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _restore is not None:
                _restore()


def _install(device: str | None) -> Callable[[], None]:
    base = v1.train.Optimizer
    originals = {name: getattr(base, name) for name in _METHODS}
    by_hand = v1.mixed_precision.MixedPrecisionLossScaleOptimizer
    scaled_by_hand = by_hand.compute_gradients

    def leave_alone(self: Any, *arguments: Any, **named: Any) -> Any:
        """The user scales by himself: the optimizer inside must not do it again."""
        self._optimizer.__dict__[_PLAIN] = True
        return scaled_by_hand(self, *arguments, **named)

    for name, function in _Scaling(originals, device).methods().items():
        setattr(base, name, function)
    by_hand.compute_gradients = leave_alone

    def restore() -> None:
        for name, function in originals.items():
            setattr(base, name, function)
        by_hand.compute_gradients = scaled_by_hand

    return restore


def around_model_fn(config: Any, mode: str) -> contextlib.AbstractContextManager[None]:
    """What surrounds a call of `model_fn`: scaling where a float16 model is trained, else nothing."""
    if mode != ModeKeys.TRAIN or DeviceOptions.of(config, visible_gpus()).precision != FLOAT16:
        return contextlib.nullcontext()
    return scaling_losses(_own_device(config))


def _own_device(config: Any) -> str | None:
    """Beside parameter servers, each task scales by itself: a device function would share the variables."""
    if config.num_ps_replicas and config.train_distribute is None and config.task_type:
        return f"/job:{config.task_type}/task:{config.task_id}/cpu:0"
    return None


def note_missing(config: Any, mode: str) -> None:
    """Says so once where a float16 model was built without any loss scaling, after `model_fn`."""
    if mode != ModeKeys.TRAIN or DeviceOptions.of(config, visible_gpus()).precision != FLOAT16:
        return
    names = {variable.op.name for variable in v1.local_variables()}
    everything = names | {variable.op.name for variable in v1.global_variables()}
    if not any("loss_scale" in name for name in everything):
        say_once(
            "mixed_precision='float16' without loss scaling: model_fn uses no tf.compat.v1.train.Optimizer,"
            " so small gradients may become zero. Scale the loss in model_fn."
        )

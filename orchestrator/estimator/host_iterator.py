"""Input of the replicas of a strategy from one iterator on the host, whose position can be saved.

The iterator that a strategy makes itself spreads batches over its devices
ahead of time, and its state cannot be saved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute import distribute_utils

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.input_source import (
    InputSource,
    IteratorInitializerHook,
    split_features_and_labels,
)
from orchestrator.estimator.model import Model
from orchestrator.estimator.signatures import describe
from orchestrator.estimator.strategies import crosses_processes

v1 = tf.compat.v1


def read_on_host(model: Model, input_fn: Callable[..., Any], mode: str, strategy: Any) -> InputSource:
    """One batch a replica, in the order of the replicas: the batches that the strategy's own iterator gives.

    Ends where there is not a batch left for each replica. Raises
    InvalidArgument where `input_fn` returns something else than a Dataset.
    """
    dataset = model.call_input_fn(input_fn, mode, _input_context(strategy))
    if not isinstance(dataset, (v1.data.Dataset, tf.data.Dataset)):
        raise InvalidArgument(
            f"RunConfig(save_input_state=True): input_fn {describe(input_fn)} must return a tf.data.Dataset"
            f" under a strategy; it returned {type(dataset).__name__}."
        )
    with tf.device(_host_of(strategy)):
        iterator = v1.data.make_initializable_iterator(dataset)

    def next_element() -> Any:
        with tf.device(_host_of(strategy)):
            return distribute_utils.regroup(_in_order(iterator, len(strategy.extended.worker_devices)))

    features, labels = split_features_and_labels(next_element(), input_fn)
    hook = IteratorInitializerHook(iterator.initializer)
    return InputSource(
        features,
        labels,
        [hook],
        from_dataset=True,
        iterator=iterator,
        input_fn=input_fn,
        next_element=next_element,
    )


def _input_context(strategy: Any) -> Any:
    if crosses_processes(strategy):
        return strategy.extended._make_input_context()
    return tf.distribute.InputContext(num_replicas_in_sync=strategy.num_replicas_in_sync)


def _host_of(strategy: Any) -> str:
    """The CPU of the task on which this process's replicas run."""
    device = tf.DeviceSpec.from_string(strategy.extended.worker_devices[0])
    return str(device.replace(device_type="CPU", device_index=0).to_string())


def _in_order(iterator: Any, replicas: int) -> tuple[Any, ...]:
    """Elements of the iterator, one a replica, each read after the one before."""
    elements: list[Any] = []
    for _ in range(replicas):
        earlier = [tensor.op for tensor in tf.nest.flatten(elements[-1:]) if isinstance(tensor, tf.Tensor)]
        with tf.control_dependencies(earlier):
            elements.append(iterator.get_next())
    return tuple(elements)

"""Distribution strategies: made by name, recognised by what they do, and what sessions they need."""

from __future__ import annotations

import re
from typing import Any

import tensorflow as tf

from orchestrator.cluster.task import TaskType
from orchestrator.errors import ConfigError, near_miss
from orchestrator.estimator import device_options
from orchestrator.estimator.device_options import logical_gpu_count, visible_gpus
from orchestrator.estimator.run_config import default_session_config

v1 = tf.compat.v1

NAMES = ("none", "one_device", "mirrored", "multi_worker_mirrored", "central_storage", "parameter_server")
_CPU = re.compile(r"device:CPU:(\d+)", re.IGNORECASE)


def make_strategy(name: str, logical_devices: int | None = None) -> Any:
    """The strategy of a cluster file's `strategy`, or None where Estimator needs no object.

    Replicas take all visible GPUs. Without a GPU, `logical_devices` is the
    number of replicas on logical CPU devices; None means one. `none` and `parameter_server` (which
    trains asynchronously, each task with its own graph) give None, and so
    does every name in the evaluator, which evaluates alone. Raises ConfigError
    for an unknown name.
    """
    if name not in NAMES:
        raise ConfigError(
            f"strategy '{name}' is not known.{near_miss(name, NAMES)} Known: {', '.join(NAMES)}."
        )
    if name in ("none", "parameter_server"):
        return None
    # Made outside of a graph, strategies make eager variables, and the multi-worker one starts
    # a server that sessions cannot use.
    with tf.Graph().as_default():
        return _made(name, logical_devices)


def _made(name: str, logical_devices: int | None) -> Any:
    if name == "multi_worker_mirrored":
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        if resolver.task_type == TaskType.EVALUATOR.value:
            return None
        return v1.distribute.experimental.MultiWorkerMirroredStrategy()
    devices = replica_devices(logical_gpu_count(visible_gpus()), logical_devices)
    if name == "one_device":
        return v1.distribute.OneDeviceStrategy(devices[0])
    if name == "central_storage":
        return v1.distribute.experimental.CentralStorageStrategy(devices, parameter_device="/cpu:0")
    return v1.distribute.MirroredStrategy(devices)


def replica_devices(gpus: int, logical_devices: int | None) -> list[str]:
    """All GPUs, or without one so many logical CPU devices (None: one)."""
    if gpus:
        return [f"/gpu:{index}" for index in range(gpus)]
    return [f"/cpu:{index}" for index in range(logical_devices or 1)]


def crosses_processes(strategy: Any) -> bool:
    """Whether replicas in several processes step together."""
    extended = getattr(strategy, "extended", None)
    return bool(getattr(extended, "_num_workers", 1) > 1 and getattr(extended, "_task_type", None))


def no_batch(strategy: Any) -> str:
    """What an input gave that ended before the first step."""
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync
    if replicas == 1:
        return "gave no batch: its data set is empty"
    return f"gave no batch for each of {replicas} replicas: its data set is empty, or has fewer batches"


def is_chief(strategy: Any, config: Any) -> bool:
    """Whether this process writes checkpoints and summaries."""
    if crosses_processes(strategy):
        return bool(strategy.extended.should_checkpoint)
    return bool(config.is_chief)


def session_config_for(config: Any, strategy: Any) -> v1.ConfigProto:
    """RunConfig's session configuration, with its device options and what the strategy needs."""
    proto = v1.ConfigProto()
    proto.CopyFrom(config.session_config if config.session_config is not None else default_session_config())
    device_options.add_to(proto, config)
    if strategy is None:
        return proto
    proto = strategy.update_config_proto(proto)
    needed = _logical_cpus(strategy)
    if needed > max(1, proto.device_count.get("CPU", 1)):
        proto.device_count["CPU"] = needed
    return proto


def _logical_cpus(strategy: Any) -> int:
    devices = (*strategy.extended.worker_devices, *strategy.extended.parameter_devices)
    matches = [_CPU.search(device) for device in devices]
    return max((int(match[1]) + 1 for match in matches if match), default=1)

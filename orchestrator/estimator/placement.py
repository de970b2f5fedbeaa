"""Where variables and operations go without a strategy object."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def is_on_own_cpus(master: str) -> bool:
    """Whether a session with that target computes in this process, and on CPUs alone."""
    return not master and not tf.config.list_physical_devices("GPU")


def device_function(config: Any) -> Any:
    """RunConfig's `device_fn`, or variables round robin over the parameter servers, or None without any."""
    if config.device_fn is not None:
        return config.device_fn
    if not config.num_ps_replicas:
        return None
    worker = f"/job:{config.task_type}/task:{config.task_id}" if config.task_type else "/job:worker"
    return tf.compat.v1.train.replica_device_setter(
        ps_tasks=config.num_ps_replicas,
        worker_device=worker,
        merge_devices=True,
        cluster=config.cluster_spec,
    )

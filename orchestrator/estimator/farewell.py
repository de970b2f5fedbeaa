"""How parameter servers learn, without a launcher, that all training tasks are done.

Each server holds a queue; each trainer puts its number in when it is done, and
the server ends when all have. Under a launcher nothing of this runs: it ends
the servers itself, and may start a trainer again.
"""

from __future__ import annotations

import threading
from typing import Any

import tensorflow as tf

from orchestrator.estimator.logger import log

v1 = tf.compat.v1
_TRAINERS = ("chief", "master", "worker")
_SAY_SECONDS = 10.0
"""A server that is gone keeps no trainer from ending."""


def count_trainers(cluster: tf.train.ClusterSpec) -> int:
    """Tasks of a cluster that train."""
    return sum(cluster.num_tasks(name) for name in cluster.jobs if name in _TRAINERS)


def _queue(cluster: tf.train.ClusterSpec, index: int) -> Any:
    with tf.device(f"/job:ps/task:{index}"):
        return tf.queue.FIFOQueue(count_trainers(cluster), [tf.int32], [[]], shared_name=f"farewell_{index}")


def say_done(config: Any) -> None:
    """Tells every parameter server that this trainer is done; gives up after a while."""
    thread = threading.Thread(target=_say_done, args=(config,), name="farewell", daemon=True)
    thread.start()
    thread.join(_SAY_SECONDS)


def _say_done(config: Any) -> None:
    with tf.Graph().as_default():
        count = config.cluster_spec.num_tasks("ps")
        farewells = [_queue(config.cluster_spec, index).enqueue(config.task_id) for index in range(count)]
        filters = v1.ConfigProto(device_filters=["/job:ps", f"/job:{config.task_type}/task:{config.task_id}"])
        try:
            with v1.Session(config.master, config=filters) as session:
                session.run(farewells)
        except tf.errors.OpError as error:
            log.info("A parameter server could not be told that training is done: %s", error)


def wait_for_all(server: Any, config: Any) -> None:
    """Returns when every trainer has said that it is done."""
    with tf.Graph().as_default():
        farewell = _queue(config.cluster_spec, config.task_id).dequeue()
        filters = v1.ConfigProto(device_filters=[f"/job:ps/task:{config.task_id}"])
        with v1.Session(server.target, config=filters) as session:
            for left in reversed(range(count_trainers(config.cluster_spec))):
                session.run(farewell)
                log.info("A training task is done; %d still train.", left)

"""A coordinator with its servers, in plain TensorFlow 2: RELEASE CHECKPOINT_STEPS MISDEED.

The chief writes progress records, so that its hangs are seen, and every task
shows its stacks when it is asked.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import tensorflow as tf

from orchestrator.cluster import stacks
from orchestrator.cluster.records import Phase, ProgressRecord, TaskEnvironment
from tests.integration.brake import HOLD_STEP, LONG_SECONDS, SHORT_SECONDS
from tests.integration.faults.misdeeds import Misdeed
from tests.integration.faults.strategies import FAULT_STEP, MAX_STEPS


def serve(resolver: Any, misdeed: Misdeed) -> None:
    """Serves until it is ended, or does what it is to do wrong."""
    server = tf.distribute.Server(
        resolver.cluster_spec(), job_name=resolver.task_type, task_index=resolver.task_id, protocol="grpc"
    )
    misdeed.commit_in_main_thread_at(FAULT_STEP)
    threading.Thread(target=server.join, daemon=True).start()
    while True:
        time.sleep(0.1)


def coordinate(resolver: Any, release: Path, checkpoint_steps: int, misdeed: Misdeed) -> None:
    """Trains to MAX_STEPS, from the last checkpoint on."""
    environment = TaskEnvironment.read()
    assert environment is not None
    strategy = tf.distribute.ParameterServerStrategy(resolver)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with strategy.scope():
        weight = tf.Variable(tf.zeros([16]))
        step = tf.Variable(0, dtype=tf.int64, trainable=False)
    model_dir = json.loads(os.environ["TF_CONFIG"])["model_dir"]
    checkpoint = tf.train.Checkpoint(weight=weight, step=step)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=3)
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint)
    with release.with_name("first-steps-chief-0").open("a") as stream:
        stream.write(f"{int(step)}\n")

    @tf.function
    def train_step() -> None:
        weight.assign_add(tf.ones([16]))
        step.assign_add(1)

    at, saved = int(step), None
    while at < MAX_STEPS:
        coordinator.schedule(train_step)
        coordinator.join()
        at = int(step)
        if at % checkpoint_steps == 0 or at >= MAX_STEPS:
            manager.save(checkpoint_number=at)
            saved = at
        record = ProgressRecord(Phase.STEPPING, time.time(), at, MAX_STEPS, loss=0.0, checkpoint_step=saved)
        environment.records.write(record)
        if at >= FAULT_STEP and misdeed.due:
            misdeed.commit()
        end = time.monotonic() + (SHORT_SECONDS if at < HOLD_STEP else LONG_SECONDS)
        while not release.exists() and time.monotonic() < end:
            time.sleep(SHORT_SECONDS / 2)
    print(f"reached step {at}", flush=True)


def main() -> None:
    """One task of the cluster."""
    release, checkpoint_steps, text = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    stacks.register(TaskEnvironment.read(), os.getpid())
    misdeed = Misdeed(text, release.with_name("misdeed-done"))
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver(rpc_layer="grpc")
    if resolver.task_type == "chief":
        coordinate(resolver, release, checkpoint_steps, misdeed)
    else:
        serve(resolver, misdeed)


if __name__ == "__main__":
    main()

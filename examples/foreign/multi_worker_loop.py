r"""A custom training loop under MultiWorkerMirroredStrategy: plain TensorFlow, nothing of orchestrator.

    python launch.py run cluster_configs/local_multi_worker.yaml -- \
        python examples/foreign/multi_worker_loop.py --steps 300

Every task runs this program; TF_CONFIG tells it which one it is and where to write.
Started again it goes on from the last checkpoint.
"""

import argparse
import json
import os
import tempfile

import tensorflow as tf
from digit_model import DigitModel, digits, losses, measured_accuracy, training_dataset, update

STEPS_PER_CHECKPOINT = 50


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=64)
    arguments = parser.parse_args()

    tf_config = json.loads(os.environ["TF_CONFIG"])
    task = tf_config["task"]
    strategy = tf.distribute.MultiWorkerMirroredStrategy()  # before anything else uses TensorFlow
    is_chief = strategy.cluster_resolver.task_type == "chief" or (
        "chief" not in tf_config["cluster"] and task["index"] == 0
    )

    with strategy.scope():
        model = DigitModel()
        step = tf.Variable(0, dtype=tf.int64, trainable=False)
    # Saving is collective, so each task takes part; only the chief's file is kept.
    directory = tf_config["model_dir"] if is_chief else tempfile.mkdtemp()
    checkpoint = tf.train.Checkpoint(model=model, step=step)
    manager = tf.train.CheckpointManager(checkpoint, directory, max_to_keep=3)
    newest = tf.train.latest_checkpoint(tf_config["model_dir"])
    if newest:
        checkpoint.restore(newest)
        print(f"restored step {int(step.numpy())}", flush=True)

    batches = iter(
        strategy.distribute_datasets_from_function(
            lambda context: training_dataset(arguments.batch_size, context)
        )
    )

    def replica_step(images, labels):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(losses(model, images, labels)) / arguments.batch_size
        variables = model.trainable_variables
        gradients = tape.gradient(loss, variables)
        context = tf.distribute.get_replica_context()
        update(variables, context.all_reduce(tf.distribute.ReduceOp.SUM, gradients))
        return loss

    @tf.function
    def train_step(images, labels):
        per_replica = strategy.run(replica_step, args=(images, labels))
        step.assign_add(1)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

    while step < arguments.steps:
        loss = train_step(*next(batches))
        if step % STEPS_PER_CHECKPOINT == 0:
            manager.save()
            print(f"step {int(step.numpy())} loss {float(loss):.4f}", flush=True)
    manager.save()
    print(f"{strategy.num_replicas_in_sync} replicas, {len(digits()[0][0])} examples", flush=True)
    if is_chief:
        print(f"step {int(step.numpy())} accuracy {measured_accuracy(model):.4f}", flush=True)


if __name__ == "__main__":
    main()

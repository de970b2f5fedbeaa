r"""ParameterServerStrategy with a coordinator: plain TensorFlow 2, nothing of orchestrator.

    python launch.py run examples/foreign/coordinator.yaml -- \
        python examples/foreign/parameter_server_coordinator.py --steps 300

The chief drives; workers and parameter servers only serve until they are stopped.
Started again it goes on from the last checkpoint.
"""

import argparse
import json
import os

import tensorflow as tf
from digit_model import DigitModel, losses, measured_accuracy, training_dataset, update

STEPS_PER_CHECKPOINT = 50


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=64)
    arguments = parser.parse_args()

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver(rpc_layer="grpc")
    if resolver.task_type == "chief":
        coordinate(resolver, arguments.steps, arguments.batch_size)
    else:
        server = tf.distribute.Server(
            resolver.cluster_spec(),
            job_name=resolver.task_type,
            task_index=resolver.task_id,
            protocol=resolver.rpc_layer,
        )
        server.join()


def coordinate(resolver, steps, batch_size):
    """Trains to `steps` and prints the accuracy."""
    strategy = tf.distribute.ParameterServerStrategy(resolver)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with strategy.scope():
        model = DigitModel()
        step = tf.Variable(0, dtype=tf.int64, trainable=False)
    checkpoint = tf.train.Checkpoint(model=model, step=step)
    model_dir = json.loads(os.environ["TF_CONFIG"])["model_dir"]
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=3)
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint)
        print(f"restored step {int(step)}", flush=True)

    @tf.function
    def worker_step(batches):
        images, labels = next(batches)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(losses(model, images, labels))
        variables = model.trainable_variables
        update(variables, tape.gradient(loss, variables), learning_rate=0.2)
        step.assign_add(1)
        return loss

    @tf.function
    def datasets_of_a_worker():
        return strategy.distribute_datasets_from_function(lambda context: training_dataset(batch_size))

    batches = iter(coordinator.create_per_worker_dataset(datasets_of_a_worker))
    while step < steps:
        for _ in range(min(STEPS_PER_CHECKPOINT, steps - int(step))):
            loss = coordinator.schedule(worker_step, args=(batches,))
        coordinator.join()
        manager.save()
        print(f"step {int(step)} loss {float(loss.fetch()):.4f}", flush=True)
    print(f"step {int(step)} accuracy {measured_accuracy(model):.4f}", flush=True)


if __name__ == "__main__":
    main()

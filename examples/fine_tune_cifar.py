"""MobileNetV1 from ImageNet learns the ten classes of CIFAR-10 from 3,000 small pictures.

    python launch.py run cluster_configs/local.yaml --experiment examples.fine_tune_cifar:experiment \\
        --set params.pictures=cifar10_jpg_train3000_test1000.tar.gz --model-dir models/cifar \\
        --warm-start mobilenet_v1_0.25_224.ckpt --exclude Logits

`params.pictures` is an archive with `cifar-10/{train,test}/CLASS/NAME.jpg`. Without
`--warm-start` the same steps train from random weights, for comparison.
"""

from __future__ import annotations

import functools
import tarfile
from typing import Any

import numpy as np
import tensorflow as tf

from examples import mobilenet_v1
from orchestrator import Experiment
from orchestrator.data.sharding import replica_batch_size
from orchestrator.errors import ConfigError
from orchestrator.estimator import Estimator, EvalSpec, RunConfig, TrainSpec

CLASSES = 10
HEAD = "Head"
SIZE = 96
"""Pictures of 32 pixels are enlarged to this, three times their size."""
WIDTH = 0.25
HALF_RANGE = 127.5


def experiment(  # noqa: PLR0917 (parameters are given by name)
    config: RunConfig,
    pictures: str,
    max_steps: int = 200,
    batch_size: int = 32,
    rate: float = 0.003,
    body_rate: float = 0.0003,
    seed: int = 1,
) -> Experiment:
    """A classifier of the ten classes.

    Args:
      config: where this task runs.
      pictures: the archive.
      max_steps: global step at which training ends.
      batch_size: pictures a step.
      rate: of Adam for the new head.
      body_rate: of Adam for everything that was trained before; 0 leaves it as it was.
      seed: of initial weights and order.

    Raises ConfigError where the archive cannot be read.
    """
    estimator = Estimator(
        mobilenet_v1.model_fn,
        config=config.replace(tf_random_seed=seed),
        params={
            "width": WIDTH,
            "classes": CLASSES,
            "head": HEAD,
            "rate": rate,
            "body_rate": body_rate,
            # Statistics of ImageNet serve better than those of a few small batches.
            "fixed_statistics": body_rate == 0,
        },
    )

    def training_input(input_context: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        rows = tf.data.Dataset.from_tensor_slices(load(pictures, "train"))
        if input_context is not None and input_context.num_input_pipelines > 1:
            rows = rows.shard(input_context.num_input_pipelines, input_context.input_pipeline_id)
        rows = rows.shuffle(3000, seed=seed).repeat()
        return rows.batch(replica_batch_size(batch_size, input_context), drop_remainder=True).map(enlarged)

    def evaluation_input() -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(load(pictures, "test")).batch(100).map(enlarged)

    return Experiment(
        estimator,
        TrainSpec(training_input, max_steps=max_steps),
        EvalSpec(evaluation_input, steps=None, start_delay_secs=0, throttle_secs=1),
    )


def enlarged(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """uint8 pictures as the net takes them: float32 [batch, 96, 96, 3], from -1 to 1."""
    return tf.image.resize(tf.cast(images, tf.float32), [SIZE, SIZE]) / HALF_RANGE - 1.0, labels


@functools.cache
def load(archive: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures, uint8 [count, 32, 32, 3], and classes, int64 [count], in the order of their names.

    The pictures are decoded in a graph of their own, so that nothing runs eagerly in a training process.
    """
    try:
        with tarfile.open(archive) as files:
            members = sorted(
                (m for m in files.getmembers() if m.isfile() and f"/{split}/" in m.name and m.size),
                key=lambda member: member.name,
            )
            names = [member.name for member in members]
            contents: list[Any] = [files.extractfile(member).read() for member in members]  # type: ignore[union-attr]
    except (OSError, tarfile.TarError) as error:
        raise ConfigError(f"params.pictures: {archive}: cannot be read: {error}.") from error
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        content = tf.compat.v1.placeholder(tf.string, [])
        picture = tf.io.decode_jpeg(content, channels=3)
        images = [session.run(picture, {content: data}) for data in contents]
    return np.stack(images), np.array([int(name.split("/")[-2]) for name in names], np.int64)

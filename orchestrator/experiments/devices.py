"""The devices of this process, decided before TensorFlow first looks at them."""

from __future__ import annotations

import tensorflow as tf


def configure(logical_devices: int | None) -> None:
    """Lets GPU memory grow as needed and, where there is no GPU, splits the CPU into `logical_devices`.

    Several tasks may share a GPU; by default each would take all of its memory.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    if logical_devices and logical_devices > 1 and not tf.config.list_physical_devices("GPU"):
        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(logical_devices)]
        tf.config.set_logical_device_configuration(cpu, parts)

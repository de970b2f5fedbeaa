"""The devices of this process, decided before TensorFlow first looks at them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf


def configure(logical_devices: int | None, memory_growth: bool = True) -> None:
    """Lets GPU memory grow as needed and, where there is no GPU, splits the CPU into `logical_devices`.

    Several tasks may share a GPU; without `memory_growth` each takes all of its memory.
    Sessions of an Estimator follow, too.
    """
    with _without_complaints_about_a_missing_gpu():
        gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, memory_growth)
    if logical_devices and logical_devices > 1 and not gpus:
        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(logical_devices)]
        tf.config.set_logical_device_configuration(cpu, parts)


@contextmanager
def _without_complaints_about_a_missing_gpu() -> Iterator[None]:
    """TensorFlow's first look for GPUs ends in an error line where there is no driver; that is no error.

    With a driver the line means something, and everything else is shown in any case.
    """
    if any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/dxg")):
        yield
        return
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
            held_back.seek(0)
            for line in held_back:
                if b"failed call to cuInit" not in line and b"absl::InitializeLog" not in line:
                    os.write(2, line)

"""Where eager operations of the user's program run after an Estimator has built a graph."""

from __future__ import annotations

import tensorflow as tf


def keep_soft_placement() -> None:
    """Has eager operations go on without a device that the machine lacks, as they do by default.

    TensorFlow settles this when eager execution, or a function in a graph, is
    first needed: in a graph it settles for no. Then all of the program's later
    eager operations fail that name a device in vain, and so does making a
    MirroredStrategy of more CPUs than there are. What the user has set stays.
    """
    if tf.executing_eagerly() and tf.config.get_soft_device_placement():
        tf.config.set_soft_device_placement(True)

"""The engine's log lines: TensorFlow's, so `tf.compat.v1.logging.set_verbosity` rules them."""

import tensorflow as tf

log = tf.compat.v1.logging

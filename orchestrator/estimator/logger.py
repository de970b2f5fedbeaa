"""The logger of the engine: a child of TensorFlow's, so `tf.compat.v1.logging.set_verbosity` rules it."""

import tensorflow as tf

log = tf.get_logger().getChild("estimator")

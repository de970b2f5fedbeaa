"""The engine's log lines: TensorFlow's, so `tf.compat.v1.logging.set_verbosity` rules them."""

import tensorflow as tf

log = tf.compat.v1.logging
_said: set[str] = set()


def say_once(sentence: str) -> None:
    """Warns, the first time in this process."""
    if sentence not in _said:
        _said.add(sentence)
        log.warning(sentence)

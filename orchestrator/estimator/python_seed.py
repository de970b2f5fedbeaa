"""Python's random numbers while a graph is built: Keras draws the seeds of layers without one from them."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Within this block Python's `random` follows from `seed`; afterwards it goes on as if nothing had been.

    Does nothing without a seed, and among replicas, which run in threads: who
    builds on several of them enters this around all.
    """
    if seed is None or (tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context()):
        yield
        return
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)

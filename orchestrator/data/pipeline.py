"""From single examples to the batches of a training or evaluation step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from orchestrator.errors import ConfigError

PREFETCHED = 2
"""Batches made ahead of the step that takes them."""


def training_batches(
    examples: tf.data.Dataset,
    batch_size: int,
    *,
    seed: int | None = None,
    shuffle_buffer: int = 10_000,
    transform: Callable[..., Any] | None = None,
    parallel_calls: int | None = None,
    passes: int | None = None,
) -> tf.data.Dataset:
    """Shuffled batches, for ever or for a number of passes.

    Shuffling comes before repeating, so that each pass sees every example
    once; batches run over the border of two passes and are all full.

    Args:
      examples: single examples, already the calling task's shard.
      batch_size: examples in a batch.
      seed: same seed, same order; each pass has an order of its own. None: a new order in each run.
      shuffle_buffer: how many examples are held to draw from; the size of the data set mixes perfectly.
      transform: applied to whole batches, which is cheaper; `transform(features, labels)` for pairs.
      parallel_calls: batches that are transformed at the same time; None for one after the other.
      passes: how often all examples are seen; None for ever.

    Raises ConfigError for numbers below 1.
    """
    _at_least_one(
        batch_size=batch_size, shuffle_buffer=shuffle_buffer, parallel_calls=parallel_calls, passes=passes
    )
    batches = examples.shuffle(shuffle_buffer, seed=seed).repeat(passes)
    batches = batches.batch(batch_size, drop_remainder=passes is None)
    return _transformed(batches, transform, parallel_calls)


def evaluation_batches(
    examples: tf.data.Dataset,
    batch_size: int,
    *,
    transform: Callable[..., Any] | None = None,
    parallel_calls: int | None = None,
) -> tf.data.Dataset:
    """Every example once, in the order of the data; the last batch may be smaller.

    Arguments and errors as in `training_batches`.
    """
    _at_least_one(batch_size=batch_size, parallel_calls=parallel_calls)
    return _transformed(examples.batch(batch_size), transform, parallel_calls)


def _transformed(
    batches: tf.data.Dataset, transform: Callable[..., Any] | None, parallel_calls: int | None
) -> tf.data.Dataset:
    if transform is not None:
        in_order = None if parallel_calls is None else True
        batches = batches.map(transform, num_parallel_calls=parallel_calls, deterministic=in_order)
    options = tf.data.Options()
    # A session with a self-tuning pipeline closes only at the tuner's next look, up to a minute later.
    options.autotune.enabled = False
    return batches.prefetch(PREFETCHED).with_options(options)


def _at_least_one(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ConfigError(f"{name} is {number}; it must be 1 or more.")

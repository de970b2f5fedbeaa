"""How tasks that step together agree to stop, or to save, at the same step.

A task that stopped alone would leave the others blocked in a collective. So
each step also sums one small vector over all tasks: who wants to stop, and
whether the chief wants a checkpoint. All tasks read the same sums after the
same step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Ballot:
    """What one task wants, or what all of them together want."""

    stop: bool = False
    save: bool = False

    def as_array(self) -> np.ndarray:
        """Shape [2], float32: what is fed."""
        return np.array([self.stop, self.save], np.float32)

    @staticmethod
    def of(counts: np.ndarray) -> Ballot:
        """What the sums over all tasks mean."""
        return Ballot(stop=bool(counts[0] > 0), save=bool(counts[1] > 0))


@dataclass(frozen=True)
class Agreement:
    """The tensors of the vote."""

    ballot: tf.Tensor
    """Shape [2]: this task's ballot is fed at every step."""
    counts: tf.Tensor
    """Shape [2]: sums over all tasks; fetched with every training step."""

    @staticmethod
    def build(strategy: Any) -> Agreement:
        """Adds the vote to the default graph, in the strategy's scope."""
        ballot = tf.compat.v1.placeholder(tf.float32, [2], name="ballot")
        on_replicas = strategy.extended.call_for_each_replica(lambda: tf.identity(ballot))
        return Agreement(ballot, strategy.reduce(tf.distribute.ReduceOp.SUM, on_replicas, axis=None))

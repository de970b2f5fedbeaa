"""How tasks that step together agree to stop, to save, and on how many steps to take.

A task that stopped alone, or took another number of steps, would leave the
others blocked in a collective. So one small vector is summed over all tasks:
who wants to stop, whether the chief wants a checkpoint, and, in a place of its
own for each task, how many steps it can take without its hooks. All tasks read
the same sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

_FLAGS = 2
MOST_STEPS = 10_000
"""Sums of float32 are exact up to 2 to the 24th, also over many replicas of a task."""


@dataclass(frozen=True)
class Ballot:
    """What one task wants, or what all of them together want."""

    stop: bool = False
    save: bool = False
    steps: int = 0
    """How many steps can be taken without hooks; of all tasks together: the fewest."""


@dataclass(frozen=True)
class Agreement:
    """The tensors of the vote."""

    ballot: tf.Tensor
    """Shape [2 + tasks], float32: this task's ballot is fed."""
    counts: tf.Tensor
    """Shape [2 + tasks]: sums over the replicas of all tasks."""
    task: int = 0
    """The place of this task among all, from 0."""
    tasks: int = 1
    replicas: int = 1
    """Replicas in each task; each of them counts."""

    @staticmethod
    def build(strategy: Any) -> Agreement:
        """Adds the vote to the default graph, in the strategy's scope."""
        extended = strategy.extended
        task, tasks = getattr(extended, "_id_in_cluster", None) or 0, getattr(extended, "_num_workers", 1)
        ballot = tf.compat.v1.placeholder(tf.float32, [_FLAGS + tasks], name="ballot")
        on_replicas = extended.call_for_each_replica(lambda: tf.identity(ballot))
        counts = strategy.reduce(tf.distribute.ReduceOp.SUM, on_replicas, axis=None)
        return Agreement(ballot, counts, task, tasks, len(extended.worker_devices))

    def array_of(self, mine: Ballot) -> np.ndarray:
        """What to feed for this task's ballot."""
        array = np.zeros([_FLAGS + self.tasks], np.float32)
        array[:_FLAGS] = mine.stop, mine.save
        array[_FLAGS + self.task] = min(mine.steps, MOST_STEPS)
        return array

    def steps_of_tasks(self, counts: np.ndarray) -> list[int]:
        """The `steps` of the ballots of all tasks, in their order."""
        return [round(float(count) / self.replicas) for count in counts[_FLAGS:]]

    def all_want(self, counts: np.ndarray) -> Ballot:
        """What the sums mean."""
        return Ballot(bool(counts[0] > 0), bool(counts[1] > 0), min(self.steps_of_tasks(counts)))

"""Where the training loop is, and hooks that sleep until they want a step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from orchestrator.estimator.agreement import Ballot
from orchestrator.estimator.triggers import NEVER, Wake


@dataclass
class Position:
    """Kept by the training loop, read by the hooks it runs.

    While `before_run` runs, `step` is the global step before the run; while
    `after_run` runs, the one after it.
    """

    step: int = 0
    loss: float | np.ndarray | None = None
    ballot: Ballot = field(default_factory=Ballot)
    """What all tasks together decided at the newest step."""
    clock: Callable[[], float] = time.monotonic
    wants_summary: bool = False
    """A hook wants the summaries of the step to come (where only the loop can evaluate them)."""
    summary: bytes | None = None
    """What the loop evaluated then."""


class SleepingHook(tf.compat.v1.train.SessionRunHook):
    """A hook that need not see every step.

    `wake` says when it next wants one. It is asked again only after a step
    that was run with hooks; such a step runs all hooks, so `before_run` and
    `after_run` must also bear to be called early.
    """

    def wake(self) -> Wake:
        """When this hook next wants to see a step."""
        return NEVER


def sees_every_step(hook: tf.compat.v1.train.SessionRunHook) -> bool:
    """Whether a hook does something at each step, as far as anybody can tell."""
    if isinstance(hook, SleepingHook):
        return False
    plain = tf.compat.v1.train.SessionRunHook
    return any(
        getattr(type(hook), name, None) is not getattr(plain, name) or name in vars(hook)
        for name in ("before_run", "after_run")
    )

"""Keeps a training from ending before a test has done to it what it wants, however slow the machine is."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import tensorflow as tf

from orchestrator.estimator import stop_request

v1 = tf.compat.v1
HOLD_STEP = 60
SHORT_SECONDS = 0.05
LONG_SECONDS = 3.0


class Brake(v1.train.SessionRunHook):
    """Slows steps down until the file `release` is there: a little at first, much from HOLD_STEP on.

    Beside that file, `first-steps-TASK` gets a line with the global step at
    which each session of a task began. A request to stop is never held up.
    """

    def __init__(self, release: Path) -> None:
        self._release = release
        self._released = False
        self._step: Any = None

    def begin(self) -> None:
        """Finds the global step in the graph."""
        self._step = v1.train.get_global_step()

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Notes where training begins."""
        step = session.run(self._step)
        with self._release.with_name(f"first-steps-{os.environ['ORCHESTRATOR_TASK']}").open("a") as stream:
            stream.write(f"{step}\n")

    def before_run(self, run_context: Any) -> Any:
        """Asks for the global step."""
        return v1.train.SessionRunArgs(self._step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Waits, unless released."""
        end = time.monotonic() + (SHORT_SECONDS if run_values.results < HOLD_STEP else LONG_SECONDS)
        while not self._released and time.monotonic() < end and not stop_request.current().is_set():
            self._released = self._release.exists()
            time.sleep(SHORT_SECONDS / 2)

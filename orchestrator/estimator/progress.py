"""What this task tells the launcher: its progress and its evaluations."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from orchestrator.cluster.records import EvaluationRecord, Phase, ProgressRecord, TaskEnvironment
from orchestrator.estimator.batch_size import BatchSize
from orchestrator.estimator.logger import log
from orchestrator.estimator.position import Position, SleepingHook
from orchestrator.estimator.triggers import Trigger, Wake

RECORD_SECONDS = 1.0
"""How often the record is replaced while steps go by."""


@dataclass
class _Rate:
    """Steps a second between two records."""

    step: int | None = None
    time: float = 0.0

    def measure(self, step: int, now: float) -> float | None:
        before, self.step = self.step, step
        since, self.time = self.time, now
        if before is None or step < before or now <= since:
            return None
        return (step - before) / (now - since)


class ProgressReporter:
    """Keeps the ProgressRecord of this task up to date; does nothing without a launcher."""

    def __init__(self, environment: TaskEnvironment | None, clock: Callable[[], float] = time.time) -> None:
        self._environment = environment
        self._clock = clock
        self._rate = _Rate()
        self._warned = False
        self._record = ProgressRecord(phase=Phase.STARTING, time=clock())

    @property
    def record(self) -> ProgressRecord:
        """What was reported last."""
        return self._record

    def update(self, **changes: Any) -> None:
        """Replaces fields of the record and writes it; a full disk is reported once and never raised."""
        self._record = replace(self._record, time=self._clock(), **changes)
        self._write(self._record)

    def enter(self, phase: Phase) -> None:
        """Another phase begins."""
        if phase is not self._record.phase:
            self._rate = _Rate()
            self.update(phase=phase)

    @contextlib.contextmanager
    def during(self, phase: Phase) -> Iterator[None]:
        """Another phase, for the time of a block."""
        before = self._record.phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def stepped(self, step: int, loss: Any, batch_size: int | None = None) -> None:
        """A training step of `batch_size` examples is done."""
        rate = self._rate.measure(step, self._clock())
        examples = None if rate is None or batch_size is None else rate * batch_size
        self.update(
            phase=Phase.STEPPING,
            step=step,
            loss=as_float(loss),
            steps_per_second=rate if rate is not None else self._record.steps_per_second,
            examples_per_second=examples if rate is not None else self._record.examples_per_second,
        )

    def batch_done(self, batches: int) -> None:
        """So many batches of the evaluation under way are done; written about once a second."""
        if self._clock() - self._record.time >= RECORD_SECONDS:
            self.update(batches=batches)

    def evaluated(
        self, metrics: Mapping[str, Any], step: int, name: str | None, checkpoint: str | None, final: bool
    ) -> None:
        """An evaluation is done; metrics that are no numbers are left out."""
        numbers = {key: as_float(value) for key, value in metrics.items() if key != "global_step"}
        plain = {key: value for key, value in numbers.items() if value is not None}
        self._write(
            EvaluationRecord(self._clock(), step, plain, name=name, checkpoint=checkpoint, final=final)
        )

    def _write(self, record: Any) -> None:
        if self._environment is None:
            return
        try:
            self._environment.records.write(record)
        except OSError as error:
            if not self._warned:
                log.warning(
                    "Progress cannot be recorded in %s: %s", self._environment.records.directory, error
                )
            self._warned = True


@functools.lru_cache(maxsize=4)
def reporter_of(environment: TaskEnvironment | None) -> ProgressReporter:
    """The one reporter of this process for that environment."""
    return ProgressReporter(environment)


def as_float(value: Any) -> float | None:
    """A number of one element as a float, else None."""
    try:
        array = np.asarray(value)
        return float(array.reshape(())) if array.size == 1 and array.dtype.kind in "fiub" else None
    except (TypeError, ValueError):
        return None


class ProgressHook(SleepingHook):
    """Reports step, loss and rates about once a second, and every checkpoint."""

    def __init__(self, position: Position, reporter: ProgressReporter, batch_size: BatchSize) -> None:
        self._position = position
        self._reporter = reporter
        self._batch_size = batch_size
        self._trigger = Trigger(seconds=RECORD_SECONDS)

    def begin(self) -> None:
        self._batch_size.begin()

    def wake(self) -> Wake:
        return self._trigger.wake()

    def before_run(self, run_context: Any) -> Any:
        tensor = self._batch_size.tensor
        return None if tensor is None else tf.compat.v1.train.SessionRunArgs(tensor)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self._batch_size.note(run_values.results)
        now = self._position.clock()
        if self._trigger.due(self._position.step, now):
            self._trigger.fire(self._position.step, now)
            self._reporter.stepped(self._position.step, self._position.loss, self._batch_size.known)

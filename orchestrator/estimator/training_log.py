"""What training tells people and TensorBoard: loss lines, steps per second, summaries."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from orchestrator.estimator.logger import log
from orchestrator.estimator.position import Position, SleepingHook
from orchestrator.estimator.triggers import Trigger, Wake

v1 = tf.compat.v1


class LossLog(SleepingHook):
    """Logs loss and step every so many global steps."""

    def __init__(self, position: Position, every_steps: int) -> None:
        self._position = position
        self._trigger = Trigger(steps=every_steps)

    def wake(self) -> Wake:
        return self._trigger.wake()

    def after_run(self, run_context: Any, run_values: Any) -> None:
        step, now = self._position.step, self._position.clock()
        if not self._trigger.due(step, now):
            return
        since = self._trigger.fire(step, now)
        took = f" ({since[1]:.3f} sec)" if since else ""
        log.info("loss = %s, step = %d%s", self._position.loss, step, took)


class StepRate(SleepingHook):
    """Logs and records `global_step/sec` every so many global steps."""

    def __init__(self, position: Position, every_steps: int, output_dir: str | None) -> None:
        self._position = position
        self._trigger = Trigger(steps=every_steps)
        self._output_dir = output_dir
        self._writer: Any = None
        self._tag = ""

    def begin(self) -> None:
        self._tag = v1.train.get_global_step().op.name + "/sec"
        if self._output_dir is not None:
            self._writer = v1.summary.FileWriterCache.get(self._output_dir)

    def wake(self) -> Wake:
        return self._trigger.wake()

    def after_run(self, run_context: Any, run_values: Any) -> None:
        step, now = self._position.step, self._position.clock()
        if not self._trigger.due(step, now):
            return
        since = self._trigger.fire(step, now)
        if since is None or since[1] <= 0:
            return
        rate = since[0] / since[1]
        log.info("%s: %g", self._tag, rate)
        if self._writer is not None:
            value = v1.Summary.Value(tag=self._tag, simple_value=rate)
            self._writer.add_summary(v1.Summary(value=[value]), step)

    def end(self, session: v1.Session) -> None:
        if self._writer is not None:
            self._writer.flush()


class SummaryWriting(SleepingHook):
    """Evaluates the merged summaries every so many global steps and writes them.

    Without `output_dir` they are evaluated and dropped: among tasks that step
    together all must run the same operations.
    """

    def __init__(
        self, position: Position, scaffold: v1.train.Scaffold, every_steps: int, output_dir: str | None
    ) -> None:
        self._position = position
        self._scaffold = scaffold
        self._trigger = Trigger(steps=every_steps)
        self._output_dir = output_dir
        self._writer: Any = None
        self._requested = False

    def begin(self) -> None:
        if self._output_dir is not None:
            self._writer = v1.summary.FileWriterCache.get(self._output_dir)

    def wake(self) -> Wake:
        return self._trigger.wake()

    def before_run(self, run_context: Any) -> Any:
        self._requested = self._trigger.due(self._position.step + 1, self._position.clock())
        self._position.wants_summary, self._position.summary = self._requested, None
        if not self._requested or self._scaffold.summary_op is None:
            return None
        operation = self._scaffold.summary_op
        return v1.train.SessionRunArgs(operation if isinstance(operation, list) else [operation])

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if not self._requested:
            return
        step = self._position.step
        if self._trigger.last_step is None and self._writer is not None:
            self._writer.add_session_log(v1.SessionLog(status=v1.SessionLog.START), step)
        self._trigger.fire(step, self._position.clock())
        looped = [self._position.summary] if self._position.summary else []
        for summary in run_values.results or looped:
            if self._writer is not None:
                self._writer.add_summary(summary, step)

    def end(self, session: v1.Session) -> None:
        if self._writer is not None:
            self._writer.flush()

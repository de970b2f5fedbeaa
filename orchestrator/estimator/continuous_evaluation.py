"""Evaluating checkpoints as they appear, and exporting them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from orchestrator.cluster.records import EvaluationRecord, Phase, ProgressRecord, TaskEnvironment, TaskRecords
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import InvalidArgument, InvalidType
from orchestrator.estimator import checkpoints
from orchestrator.estimator.logger import log
from orchestrator.estimator.progress import reporter_of
from orchestrator.estimator.specs import EvalSpec, eval_inputs, merged_metrics
from orchestrator.estimator.stop_request import StopRequest, StopRequested

POLL_SECONDS = 0.5
REMIND_SECONDS = 600.0
"""How often an evaluator that finds nothing to do says what it waits for."""
_LEADERS = (TaskType.CHIEF, TaskType.MASTER, TaskType.WORKER)


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics of one checkpoint and what its exporters returned."""

    checkpoint: str
    metrics: dict[str, Any]
    exports: list[Any]

    @property
    def global_step(self) -> int:
        return int(self.metrics[tf.compat.v1.GraphKeys.GLOBAL_STEP])


class CheckpointEvaluator:
    """Evaluates and exports checkpoints of one estimator, each at most once."""

    def __init__(self, estimator: Any, eval_spec: EvalSpec, max_steps: int | None) -> None:
        self._estimator = estimator
        self._spec = eval_spec
        self._max_steps = max_steps
        environment = _environment(estimator)
        self.every_checkpoint = environment is not None and environment.every_checkpoint
        """Each checkpoint is evaluated, in order, not only the newest."""
        self.last: EvaluationResult | None = None

    @property
    def model_dir(self) -> str:
        """Where the checkpoints are looked for."""
        return str(tf.compat.as_str_any(self._estimator.model_dir))

    def new_checkpoint(self) -> str | None:
        """The newest checkpoint, unless it was evaluated already; of several the oldest where each counts."""
        newest = self._estimator.latest_checkpoint()
        if newest is None or (self.last is not None and newest == self.last.checkpoint):
            return None
        return next(iter(self._pending()), newest) if self.every_checkpoint else newest

    def _pending(self) -> list[str]:
        """Complete checkpoints behind the last that was evaluated, also by an earlier start; oldest first."""
        done = self.last.global_step if self.last is not None else self._evaluated_before()
        found = checkpoints.kept(self.model_dir)
        steps = {prefix: checkpoints.step_in_name(prefix) for prefix in found if _is_complete(prefix)}
        return [prefix for prefix, step in steps.items() if step is not None and step > done]

    def _evaluated_before(self) -> int:
        environment = _environment(self._estimator)
        record = environment.records.read(EvaluationRecord) if environment is not None else None
        return record.global_step if record is not None else -1

    def is_newest(self, checkpoint: str) -> bool:
        """Whether no checkpoint follows it so far."""
        return bool(self._estimator.latest_checkpoint() == checkpoint)

    def evaluate(self, checkpoint: str, nothing_follows: bool = False) -> EvaluationResult:
        """Evaluates on every input of the spec, calls the exporters and records the result.

        The export is the final one where `max_steps` is reached; the record is
        the final one also where `nothing_follows`.
        """
        spec = self._spec
        inputs = eval_inputs(spec)
        results = {
            item.name: _checked(
                self._estimator.evaluate(
                    input_fn=item.input_fn,
                    steps=item.steps,
                    name=item.name,
                    checkpoint_path=checkpoint,
                    hooks=spec.hooks,
                )
            )
            for item in inputs
        }
        metrics = merged_metrics(results)
        step = int(metrics[tf.compat.v1.GraphKeys.GLOBAL_STEP])
        reached = self._max_steps is not None and step >= self._max_steps
        exports = self._export(checkpoint, metrics, reached)
        self.last = EvaluationResult(checkpoint, metrics, exports)
        reporter = reporter_of(_environment(self._estimator))
        reporter.evaluated(metrics, step, inputs[0].name, checkpoint, final=reached or nothing_follows)
        return self.last

    def catch_up(self, stop: StopRequest, nothing_follows: bool) -> bool:
        """Evaluates the new checkpoint, where each counts all of them, until somebody asks to stop.

        `nothing_follows` speaks of the newest one. Returns whether there was
        any; raises StopRequested where an evaluation was broken off.
        """
        done = False
        checkpoint = self.new_checkpoint()
        while checkpoint is not None and not stop.is_set():
            self.evaluate(checkpoint, nothing_follows and self.is_newest(checkpoint))
            checkpoint, done = self.new_checkpoint() if self.every_checkpoint else None, True
        return done

    def _export(self, checkpoint: str, metrics: dict[str, Any], final: bool) -> list[Any]:
        base = os.path.join(self.model_dir, "export")
        return [
            exporter.export(
                estimator=self._estimator,
                export_path=os.path.join(base, exporter.name),
                checkpoint_path=checkpoint,
                eval_result=metrics,
                is_the_final_export=final,
            )
            for exporter in self._spec.exporters
        ]


def _checked(metrics: Any) -> dict[str, Any]:
    """What `Estimator.evaluate` returned; a subclass may have a version of its own."""
    if not isinstance(metrics, dict):
        raise InvalidType(f"`Estimator.evaluate` should return dict. Given: {type(metrics)}.")
    if not metrics:
        raise InvalidArgument("Internal error: `Estimator.evaluate` should never return empty metrics.")
    if tf.compat.v1.GraphKeys.GLOBAL_STEP not in metrics:
        raise InvalidArgument(
            "Internal error: `Estimator.evaluate` result should have `global_step`."
            f" Given: {', '.join(map(str, metrics))}."
        )
    return metrics


class EvaluateWhenSaved(tf.compat.v1.train.CheckpointSaverListener):
    """Evaluates, beside training in one process, what the checkpoint saver has written.

    The checkpoint of the start is left out; later ones are left out while the
    throttle time since the last evaluation is not over; the last one never is.
    Where every checkpoint counts none is left out.
    """

    def __init__(
        self,
        evaluator: CheckpointEvaluator,
        throttle_secs: float,
        stop: StopRequest,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._evaluator = evaluator
        self._throttle_secs = throttle_secs
        self._stop = stop
        self._clock = clock
        self._seen_first = False
        self._last_time: float | None = None
        self._last_step: int | None = None

    def begin(self) -> None:
        self._seen_first = False

    def after_save(self, session: Any, global_step_value: Any) -> bool:
        if not self._seen_first:
            self._seen_first = True
            return False
        throttle_secs = 0.0 if self._evaluator.every_checkpoint else self._throttle_secs
        if self._last_time is not None and self._clock() - self._last_time < throttle_secs:
            log.info("This checkpoint is not evaluated: throttle_secs is %g.", self._throttle_secs)
            return False
        return self._evaluate(int(global_step_value), nothing_follows=False)

    def end(self, session: Any, global_step_value: Any) -> None:
        if int(global_step_value) != self._last_step:
            self._evaluate(int(global_step_value), nothing_follows=True)

    def _evaluate(self, step: int, nothing_follows: bool) -> bool:
        """Returns whether training is to stop."""
        started = self._clock()
        try:
            if self._evaluator.catch_up(self._stop, nothing_follows):
                self._last_time, self._last_step = started, step
        except StopRequested:
            return True
        return self._stop.is_set()


class TrainingWatch:
    """Whether the training that an evaluator belongs to has ended, as far as can be known."""

    def __init__(self, environment: TaskEnvironment | None) -> None:
        self._environment = environment

    def record(self) -> ProgressRecord | None:
        """The record of the task that leads training; None without launcher or before its first one.

        A chief without a record is being started again: the workers' records
        do not speak for it.
        """
        if self._environment is None:
            return None
        for task_type in _LEADERS:
            records = TaskRecords.of(self._environment.run_dir, TaskId(task_type, 0))
            if records.directory.is_dir():
                return records.read(ProgressRecord)
        return None

    def has_ended(self) -> bool:
        """Whether the chief has said that it is done: its last checkpoint is complete."""
        record = self.record()
        return record is not None and record.phase is Phase.DONE


def evaluate_continuously(  # noqa: PLR0917
    evaluator: CheckpointEvaluator,
    spec: EvalSpec,
    max_steps: int | None,
    watch: TrainingWatch,
    stop: StopRequest,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Evaluates new checkpoints until the one of `max_steps`, or the last one of a training that has ended.

    Ends without evaluating once `stop` is set. Raises what evaluation raises,
    except where the checkpoint was deleted meanwhile: then a newer one is taken.
    """
    _wait(spec.start_delay_secs, watch, stop, clock)
    idle_since: float | None = None
    while not stop.is_set():
        ended = watch.has_ended()  # before looking for checkpoints: the last one is complete by then
        started = clock()
        checkpoint = evaluator.new_checkpoint()
        last = evaluator.last
        if checkpoint is not None:
            idle_since = None
            _evaluate_if_there(evaluator, checkpoint, ended and evaluator.is_newest(checkpoint))
            last = evaluator.last
        elif idle_since is None:
            idle_since = started
        elif started - idle_since >= REMIND_SECONDS:
            idle_since = started
            log.warning("%s", _waiting_for(evaluator))
        if last is not None and max_steps is not None and last.global_step >= max_steps:
            log.info(
                "The evaluator ends: global step %d has reached max_steps %d.", last.global_step, max_steps
            )
            return
        if ended and evaluator.new_checkpoint() is None:
            log.info("The evaluator ends: training has ended, and its last checkpoint is evaluated.")
            return
        behind = evaluator.every_checkpoint and evaluator.new_checkpoint() is not None
        pause = 0.0 if behind else spec.throttle_secs - (clock() - started)
        _wait(pause if checkpoint is not None else POLL_SECONDS, watch, stop, clock)


def _waiting_for(evaluator: CheckpointEvaluator) -> str:
    if evaluator.last is None:
        return f"There is no checkpoint in {evaluator.model_dir} yet; the evaluator waits for one."
    return f"No checkpoint has followed {evaluator.last.checkpoint} yet; the evaluator waits for one."


def _evaluate_if_there(evaluator: CheckpointEvaluator, checkpoint: str, ended: bool) -> None:
    try:
        evaluator.evaluate(checkpoint, nothing_follows=ended)
    except StopRequested:
        log.info("The evaluation was broken off: this task is asked to end.")
    except (tf.errors.OpError, ValueError):
        if tf.train.latest_checkpoint(os.path.dirname(checkpoint)) == checkpoint or _is_complete(checkpoint):
            raise
        log.warning(
            "Checkpoint %s was deleted before it could be evaluated; the next one is taken.", checkpoint
        )


def _is_complete(checkpoint: str) -> bool:
    return bool(tf.io.gfile.exists(checkpoint + ".index"))


def _wait(seconds: float, watch: TrainingWatch, stop: StopRequest, clock: Callable[[], float]) -> None:
    """Sleeps, but not beyond the end of training or a request to stop."""
    deadline = clock() + seconds
    while clock() < deadline and not watch.has_ended():
        if stop.wait(min(POLL_SECONDS, max(0.0, deadline - clock()))):
            return


def _environment(estimator: Any) -> TaskEnvironment | None:
    environment = getattr(estimator.config, "task_environment", None)
    return environment if isinstance(environment, TaskEnvironment) else None

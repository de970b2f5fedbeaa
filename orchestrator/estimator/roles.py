"""What each task of a job does in `train_and_evaluate`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.cluster.records import Phase, TaskEnvironment, TaskRecords
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import InvalidArgument, near_miss
from orchestrator.estimator import checkpoints, stop_request
from orchestrator.estimator.continuous_evaluation import (
    CheckpointEvaluator,
    EvaluateWhenSaved,
    TrainingWatch,
    evaluate_continuously,
)
from orchestrator.estimator.evaluation import kept_open
from orchestrator.estimator.farewell import say_done, wait_for_all
from orchestrator.estimator.logger import log
from orchestrator.estimator.progress import ProgressReporter, reporter_of
from orchestrator.estimator.server import serve, start_server
from orchestrator.estimator.specs import EvalSpec, TrainSpec, eval_inputs
from orchestrator.estimator.stop_request import StopRequest, StopRequested
from orchestrator.estimator.strategies import crosses_processes

MAX_WORKER_DELAY_SECONDS = 60
WORKER_DELAY_SECONDS = 5
"""Worker n waits (n + 1) times this: early on, many workers at once disturb asynchronous training."""

Result = tuple[dict[str, Any] | None, list[Any] | None]


@dataclass(frozen=True)
class Assignment:
    """What `train_and_evaluate` was called with, and this process's side of it."""

    estimator: Any
    train_spec: TrainSpec
    eval_spec: EvalSpec
    config: Any
    stop: StopRequest

    @staticmethod
    def of(estimator: Any, train_spec: TrainSpec, eval_spec: EvalSpec) -> Assignment:
        """The assignment of this process."""
        return Assignment(estimator, train_spec, eval_spec, estimator.config, stop_request.current())

    @property
    def environment(self) -> TaskEnvironment | None:
        """What the launcher told; None without one."""
        environment = self.config.task_environment
        return environment if isinstance(environment, TaskEnvironment) else None

    @property
    def reporter(self) -> ProgressReporter:
        return reporter_of(self.environment)

    @property
    def has_no_evaluator(self) -> bool:
        """Whether the launcher started no evaluator task; without a launcher nobody can tell."""
        if self.environment is None:
            return False
        records = TaskRecords.of(self.environment.run_dir, TaskId(TaskType.EVALUATOR, 0))
        return not records.directory.is_dir()

    def evaluator(self) -> CheckpointEvaluator:
        """A new evaluator of checkpoints."""
        return CheckpointEvaluator(self.estimator, self.eval_spec, self.train_spec.max_steps)


def run(assignment: Assignment) -> Result | None:
    """Does what this process's task type is for; records `done` when it has ended well.

    Raises InvalidArgument where RunConfig names no task or one that does not exist.
    """
    role = _role(assignment.config)
    with kept_open([item.input_fn for item in eval_inputs(assignment.eval_spec)]):
        result = role(assignment)
    assignment.reporter.update(phase=Phase.DONE, stopped=_was_stopped(assignment))
    return result


def _was_stopped(assignment: Assignment) -> bool:
    return assignment.reporter.record.stopped


def _role(config: Any) -> Callable[[Assignment], Result | None]:
    if not config.cluster_spec and config.task_type != "evaluator":
        return run_local
    if not config.task_type:
        raise InvalidArgument(
            "`estimator.config` must have task_type set. This usually means TF_CONFIG environment is not set"
            " correctly."
        )
    if config.task_type == "local":
        raise InvalidArgument(
            "`task.type` in TF_CONFIG cannot be `local`. Leaving `cluster` and `task` properties in TF_CONFIG"
            " absent triggers train and evaluate `Estimator` locally (non-distributed)."
        )
    if config.task_type not in _ROLES:
        raise InvalidArgument(
            f"Task type {config.task_type} is not supported.{near_miss(config.task_type, _ROLES)}"
            f" Supported task types are {list(_ROLES)}."
        )
    return _ROLES[config.task_type]


def run_local(assignment: Assignment) -> Result:
    """Trains, and evaluates each checkpoint in between; returns the last metrics and exports."""
    evaluator = assignment.evaluator()
    listener = EvaluateWhenSaved(evaluator, assignment.eval_spec.throttle_secs, assignment.stop)
    _train(assignment, (*assignment.train_spec.saving_listeners, listener))
    if evaluator.last is None and not assignment.stop.is_set():
        _evaluate_what_is_there(assignment, evaluator)
    last = evaluator.last
    return (None, None) if last is None else (last.metrics, last.exports)


def _evaluate_what_is_there(assignment: Assignment, evaluator: CheckpointEvaluator) -> None:
    """Training had nothing to do: its result is evaluated once all the same."""
    checkpoint, max_steps = assignment.estimator.latest_checkpoint(), assignment.train_spec.max_steps
    if checkpoint is None or max_steps is None or checkpoints.global_step_of(checkpoint) < max_steps:
        return
    log.info("max_steps %d was reached before; evaluating %s once.", max_steps, checkpoint)
    evaluator.catch_up(assignment.stop, nothing_follows=True)


def _evaluate_in_the_end(assignment: Assignment) -> None:
    """Evaluates the last checkpoint (or all) of a training that nobody evaluated."""
    evaluator = assignment.evaluator()
    if evaluator.new_checkpoint() is None or assignment.stop.is_set():
        return
    log.info("There is no evaluator task: the chief evaluates in the end.")
    with contextlib.suppress(StopRequested):
        evaluator.catch_up(assignment.stop, nothing_follows=True)


def _train(assignment: Assignment, saving_listeners: tuple[Any, ...] | None) -> None:
    spec = assignment.train_spec
    assignment.estimator.train(
        input_fn=spec.input_fn,
        max_steps=spec.max_steps,
        hooks=list(spec.hooks),
        saving_listeners=saving_listeners,
    )
    if assignment.environment is None and assignment.config.num_ps_replicas:
        say_done(assignment.config)


def run_chief(assignment: Assignment) -> None:
    """Trains and saves; under the launcher evaluates in the end where the job has no evaluator."""
    _start_trainers_server(assignment)
    _train(assignment, assignment.train_spec.saving_listeners)
    if assignment.has_no_evaluator:
        _evaluate_in_the_end(assignment)


def run_worker(assignment: Assignment) -> None:
    """Trains; beside parameter servers after its start delay."""
    _start_trainers_server(assignment)
    if not crosses_processes(assignment.config.train_distribute):
        delay = _worker_delay(assignment.config)
        if delay > 0:
            log.info("Waiting %d secs before starting training.", delay)
            assignment.stop.wait(delay)
    _train(assignment, None)


def _worker_delay(config: Any) -> int:
    limit = config.experimental_max_worker_delay_secs
    limit = MAX_WORKER_DELAY_SECONDS if limit is None else int(limit)
    return min(limit, (config.task_id + 1) * WORKER_DELAY_SECONDS)


def run_master(assignment: Assignment) -> None:
    """Trains, and evaluates each checkpoint in between (the TensorFlow 1 spelling of chief)."""
    evaluator = assignment.evaluator()
    listener = EvaluateWhenSaved(evaluator, assignment.eval_spec.throttle_secs, assignment.stop)
    _start_trainers_server(assignment)
    _train(assignment, (*assignment.train_spec.saving_listeners, listener))


def run_evaluator(assignment: Assignment) -> None:
    """Evaluates checkpoints until training has ended and the last one is evaluated."""
    evaluator, spec = assignment.evaluator(), assignment.eval_spec
    assignment.reporter.enter(Phase.WAITING)
    watch = TrainingWatch(assignment.environment)
    evaluate_continuously(evaluator, spec, assignment.train_spec.max_steps, watch, assignment.stop)
    assignment.reporter.update(stopped=assignment.stop.is_set())


def run_ps(assignment: Assignment) -> None:
    """Serves variables until it is asked to end; without a launcher, until all trainers are done."""
    server = start_server(assignment.config)
    assignment.reporter.enter(Phase.SERVING)
    waits = [server.join]
    if assignment.environment is None:
        waits.append(functools.partial(wait_for_all, server, assignment.config))
    asked = serve(waits, assignment.stop)
    assignment.reporter.update(stopped=asked)


def _start_trainers_server(assignment: Assignment) -> None:
    config = assignment.config
    if crosses_processes(config.train_distribute):
        return  # its server needs the strategy's own session configuration
    if not config.starts_server:
        return
    start_server(config)


_ROLES: dict[str, Callable[[Assignment], Result | None]] = {
    "chief": run_chief,
    "worker": run_worker,
    "master": run_master,
    "ps": run_ps,
    "evaluator": run_evaluator,
}

"""The hooks of a training session, in the order in which they run: the one place that says so.

1. input initialisation, and going to the input's saved position
2. the vote on stopping, where tasks step together (alone, the loop looks at the request itself)
3. the step limit
4. the user's hooks, which see a bad loss before training ends for it
5. the NaN guard, so that no such weights are saved
6. the hooks of the EstimatorSpec
7. log lines and summaries
8. the checkpoint saver, with its listeners
9. the progress record, and its display where there is no launcher
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from orchestrator.cluster.records import Phase
from orchestrator.errors import InvalidArgument
from orchestrator.estimator.background_saving import (
    AgreedBackgroundCheckpointSaver,
    BackgroundCheckpointSaver,
)
from orchestrator.estimator.batch_size import BatchSize
from orchestrator.estimator.checkpoint_saving import AgreedCheckpointSaver, CheckpointSaver, scratch_directory
from orchestrator.estimator.graph import TrainingGraph
from orchestrator.estimator.guards import AgreedStop, NanGuard, StepLimit
from orchestrator.estimator.input_position import InputPosition, PositionFiles, PositionSaving
from orchestrator.estimator.position import Position
from orchestrator.estimator.progress import ProgressHook, ProgressReporter
from orchestrator.estimator.progress_display import display_for
from orchestrator.estimator.stop_request import StopRequest
from orchestrator.estimator.training_log import LossLog, StepRate, SummaryWriting
from orchestrator.estimator.triggers import Trigger

v1 = tf.compat.v1
Hook = v1.train.SessionRunHook


@dataclass(frozen=True)
class TrainingRequest:
    """What one call of `train` asks for."""

    hooks: tuple[Any, ...] = ()
    saving_listeners: tuple[Any, ...] = ()
    steps: int | None = None
    max_steps: int | None = None


@dataclass(frozen=True)
class TrainingParts:
    """What the hooks of a session need to know."""

    graph: TrainingGraph
    config: Any
    request: TrainingRequest
    position: Position
    reporter: ProgressReporter
    stop: StopRequest
    is_chief: bool
    evaluates_too: bool = False
    """The TensorFlow 1 task type `master`: worker 0 writes the summaries in its place."""

    @property
    def together(self) -> bool:
        """Whether several processes take each step together."""
        return self.graph.votes is not None


def training_hooks(parts: TrainingParts) -> list[Hook]:
    """The ordered hooks of this task's training session."""
    graph, request = parts.graph, parts.request
    from_spec = [*graph.training_hooks, *(graph.training_chief_hooks if parts.is_chief else ())]
    given = [*request.hooks, *from_spec]
    inputs, position_saving = _inputs(parts, given)
    savers = _savers(parts, given, position_saving)
    hooks: list[Hook] = inputs
    if parts.together:
        hooks.append(_agreed_stop(parts, savers))
    limit = StepLimit(parts.position, request.steps, request.max_steps)
    hooks.append(limit)
    hooks += request.hooks
    hooks.append(NanGuard(parts.position))
    hooks += from_spec
    hooks += _log_and_summaries(parts)
    hooks += savers
    hooks.append(ProgressHook(parts.position, parts.reporter, BatchSize(graph)))
    if parts.config.log_step_count_steps:
        under_launcher = parts.config.task_environment is not None
        hooks += display_for(parts.position, parts.reporter, limit, under_launcher)
    return hooks


def _inputs(parts: TrainingParts, given: list[Hook]) -> tuple[list[Hook], list[Any]]:
    """The hooks that start the input, and the listeners that save its position."""
    config, source = parts.config, parts.graph.input
    if not config.save_input_state:
        return list(source.hooks), []
    theirs = [hook for hook in given if isinstance(hook, v1.train.CheckpointSaverHook)]
    checkpoint_path = theirs[0]._save_path if theirs else os.path.join(config.model_dir, "model.ckpt")
    files = PositionFiles.of(config, checkpoint_path)
    input_position = InputPosition(source, files, parts.position)
    return [*source.hooks, input_position], [PositionSaving(input_position, files, parts.is_chief)]


def _agreed_stop(parts: TrainingParts, savers: list[Hook]) -> Hook:
    wants_save: Callable[[], bool] = lambda: False  # noqa: E731
    for saver in savers:
        if isinstance(saver, AgreedCheckpointSaver):
            wants_save = saver.wants_save
    return AgreedStop(parts.graph.votes, parts.position, parts.stop, wants_save)


def _log_and_summaries(parts: TrainingParts) -> list[Hook]:
    config, position = parts.config, parts.position
    hooks: list[Hook] = []
    every = config.log_step_count_steps
    writes = parts.is_chief and not parts.evaluates_too
    if every:
        hooks.append(LossLog(position, every))
        if writes:
            hooks.append(StepRate(position, every, config.model_dir))
    if config.save_summary_steps and (writes or parts.together):
        output_dir = config.model_dir if writes else None
        hooks.append(SummaryWriting(position, parts.graph.scaffold, config.save_summary_steps, output_dir))
    return hooks


def _savers(parts: TrainingParts, given: list[Hook], position_saving: list[Any]) -> list[Hook]:
    """Our saver, unless the user brings one; the listeners go to whichever there is."""
    config, listeners = parts.config, list(parts.request.saving_listeners)
    theirs = [hook for hook in given if isinstance(hook, v1.train.CheckpointSaverHook)]
    wanted = config.save_checkpoints_secs or config.save_checkpoints_steps
    if theirs:
        known = theirs[0]._listeners  # TensorFlow has no public way to add one
        kept = [listener for listener in known if not isinstance(listener, PositionSaving)]
        known[:] = position_saving + kept + [listener for listener in listeners if listener not in kept]
        return []
    if not wanted:
        if listeners:
            raise InvalidArgument(
                "There should be a CheckpointSaverHook to use saving_listeners. Please set one of the"
                " RunConfig.save_checkpoints_steps or RunConfig.save_checkpoints_secs."
            )
        return []
    trigger = Trigger(steps=config.save_checkpoints_steps, seconds=config.save_checkpoints_secs)
    common: dict[str, Any] = {
        "scaffold": parts.graph.scaffold,
        "trigger": trigger,
        "save_graph_def": config.checkpoint_save_graph_def,
        "while_saving": lambda step: _saving(parts, step),
        "others_step": config.num_ps_replicas > 0,
    }
    if parts.together:
        directory = config.model_dir if parts.is_chief else scratch_directory(config.task_environment)
        listening = position_saving + (listeners if parts.is_chief else [])
        agreed = AgreedBackgroundCheckpointSaver if config.save_checkpoints_async else AgreedCheckpointSaver
        return [agreed(parts.position, directory, listeners=listening, scratch=not parts.is_chief, **common)]
    if not parts.is_chief:
        return []
    saver = BackgroundCheckpointSaver if config.save_checkpoints_async else CheckpointSaver
    return [saver(parts.position, config.model_dir, listeners=position_saving + listeners, **common)]


@contextlib.contextmanager
def _saving(parts: TrainingParts, step: int) -> Any:
    with parts.reporter.during(Phase.SAVING):
        yield
        if parts.is_chief:  # the others only write what is thrown away
            parts.reporter.update(checkpoint_step=int(step))

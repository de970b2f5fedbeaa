"""The order of a training session's hooks: the one test that asserts it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.cluster.records import Phase
from orchestrator.estimator import strategies
from orchestrator.estimator.agreement import Agreement
from orchestrator.estimator.checkpoint_saving import CheckpointSaver
from orchestrator.estimator.graph import TrainingGraph, build_training_graph
from orchestrator.estimator.model import Model
from orchestrator.estimator.position import Position, SleepingHook, sees_every_step
from orchestrator.estimator.progress import ProgressReporter
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.session_hooks import TrainingParts, TrainingRequest, training_hooks
from orchestrator.estimator.stop_request import StopRequest
from tests.estimator import linear_model

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")


class Users(v1.train.SessionRunHook):
    """Given to `train`."""


class OfTheSpec(v1.train.SessionRunHook):
    """In `training_hooks`."""


class OfTheChief(v1.train.SessionRunHook):
    """In `training_chief_hooks`."""


def model_fn(features: Any, labels: Any, mode: str) -> Any:
    spec = linear_model.model_fn(features, labels, mode, {})
    return spec._replace(training_hooks=[OfTheSpec()], training_chief_hooks=[OfTheChief()])


def parts(model_dir: Path, is_chief: bool = True, together: bool = False, **config: Any) -> TrainingParts:
    run_config = RunConfig(model_dir=str(model_dir), **config)
    graph = build_training_graph(Model(model_fn, {}, run_config), linear_model.training_input, None)
    if together:
        with graph.entered():
            ballot = v1.placeholder(tf.float32, [3])
            graph.votes = Agreement(ballot, tf.identity(ballot))
    return TrainingParts(
        graph=graph,
        config=run_config,
        request=TrainingRequest(hooks=(Users(),), max_steps=10),
        position=Position(),
        reporter=ProgressReporter(None),
        stop=StopRequest(),
        is_chief=is_chief,
    )


def names(given: TrainingParts) -> list[str]:
    with given.graph.entered():
        return [type(hook).__name__ for hook in training_hooks(given)]


CHIEF = [
    "IteratorInitializerHook",
    "StepLimit",
    "Users",
    "NanGuard",
    "OfTheSpec",
    "OfTheChief",
    "LossLog",
    "StepRate",
    "SummaryWriting",
    "CheckpointSaver",
    "ProgressHook",
    "ProgressDisplay",
]


def test_the_chief_has_every_hook_in_this_order(tmp_path: Path) -> None:
    assert names(parts(tmp_path)) == CHIEF


def test_a_worker_beside_parameter_servers_writes_nothing(tmp_path: Path) -> None:
    writers = {"OfTheChief", "StepRate", "SummaryWriting", "CheckpointSaver"}
    assert names(parts(tmp_path, is_chief=False)) == [name for name in CHIEF if name not in writers]


@pytest.mark.parametrize("is_chief", [True, False])
def test_tasks_that_step_together_vote_and_run_the_same_operations(tmp_path: Path, is_chief: bool) -> None:
    found = names(parts(tmp_path, is_chief=is_chief, together=True))
    assert found.index("AgreedStop") == 1
    assert "AgreedCheckpointSaver" in found
    assert "SummaryWriting" in found
    assert ("OfTheChief" in found) == is_chief


@pytest.mark.parametrize(("is_chief", "known"), [(True, 7), (False, None)])
def test_only_a_checkpoint_of_the_chief_is_reported(
    tmp_path: Path, is_chief: bool, known: int | None
) -> None:
    given = parts(tmp_path, is_chief=is_chief, together=True)
    with given.graph.entered():
        saver = next(hook for hook in training_hooks(given) if isinstance(hook, CheckpointSaver))
    with saver.while_saving(7):
        assert given.reporter.record.phase is Phase.SAVING
    assert given.reporter.record.checkpoint_step == known


def test_the_master_leaves_summaries_to_a_worker(tmp_path: Path) -> None:
    found = names(dataclasses.replace(parts(tmp_path), evaluates_too=True))
    assert "SummaryWriting" not in found
    assert "StepRate" not in found
    assert "CheckpointSaver" in found


def test_what_is_turned_off_is_left_out(tmp_path: Path) -> None:
    off = {
        "save_summary_steps": None,
        "log_step_count_steps": None,
        "save_checkpoints_steps": None,
        "save_checkpoints_secs": None,
    }
    periodic = {"LossLog", "StepRate", "SummaryWriting", "CheckpointSaver", "ProgressDisplay"}
    assert names(parts(tmp_path, **off)) == [name for name in CHIEF if name not in periodic]


def test_all_of_ours_sleep_and_those_of_users_are_looked_at(tmp_path: Path) -> None:
    given = parts(tmp_path)
    with given.graph.entered():
        hooks = training_hooks(given)
    assert not any(sees_every_step(hook) for hook in hooks)  # Users() and the like define no method

    class Watching(v1.train.SessionRunHook):
        def after_run(self, run_context: Any, run_values: Any) -> None:
            """Looks at each run."""

    class Instance(v1.train.SessionRunHook):
        def __init__(self) -> None:
            self.before_run = lambda run_context: None

    assert sees_every_step(Watching())
    assert sees_every_step(Instance())
    assert sees_every_step(v1.train.LoggingTensorHook([], every_n_iter=10))
    assert not sees_every_step(SleepingHook())


def test_only_a_strategy_across_processes_steps_together() -> None:
    assert not strategies.crosses_processes(None)
    assert not strategies.crosses_processes(strategies.make_strategy("mirrored", 2))


def test_a_graph_knows_what_a_step_runs(tmp_path: Path) -> None:
    graph: TrainingGraph = parts(tmp_path).graph
    assert graph.step.op in graph.results()
    assert graph.loss.op in graph.results()

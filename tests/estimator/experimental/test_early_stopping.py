from __future__ import annotations

import operator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument, InvalidType
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.experimental.early_stopping import (
    make_early_stopping_hook,
    no_improvement,
    read_eval_metrics,
    stop_if_higher_hook,
    stop_if_lower_hook,
    stop_if_no_decrease_hook,
    stop_if_no_increase_hook,
    threshold_crossed,
)
from orchestrator.estimator.experimental.early_stopping_hooks import (
    FollowStopHook,
    VotedStopHook,
    stop_flag,
)
from orchestrator.estimator.run_config import RunConfig
from tests.estimator import linear_model

pytestmark = pytest.mark.xdist_group("estimator_api")
v1 = tf.compat.v1
LOSSES = {10: {"loss": 5.0}, 20: {"loss": 3.0}, 30: {"loss": 4.0}, 40: {"loss": 4.5}}


@pytest.fixture
def estimator(tmp_path: Path) -> Estimator:
    return Estimator(linear_model.model_fn, str(tmp_path), RunConfig(save_checkpoints_steps=5))


def train(estimator: Estimator, hook: Any, steps: int = 20) -> int:
    estimator.train(linear_model.training_input, hooks=[hook], steps=steps)
    return int(estimator.get_variable_value("global_step"))


@pytest.mark.parametrize(
    ("threshold", "min_steps", "stops"), [(3.5, 0, True), (3.0, 0, False), (3.5, 20, True), (3.5, 21, False)]
)
def test_a_threshold_counts_from_min_steps_on(threshold: float, min_steps: int, stops: bool) -> None:
    assert threshold_crossed(lambda: LOSSES, "loss", threshold, min_steps, operator.lt)() is stops


@pytest.mark.parametrize(
    ("max_steps", "min_steps", "stops"), [(20, 0, True), (21, 0, False), (10, 30, True), (11, 30, False)]
)
def test_improvement_is_counted_from_the_best_evaluation(max_steps: int, min_steps: int, stops: bool) -> None:
    assert no_improvement(lambda: LOSSES, "loss", max_steps, min_steps, operator.lt)() is stops


def test_evaluations_that_lack_the_metric_do_not_count() -> None:
    found = {**LOSSES, 50: {"other": 0.0}}
    assert not threshold_crossed(lambda: found, "loss", 1.0, 0, operator.lt)()


def test_training_ends_at_the_step_at_which_the_function_says_so(estimator: Estimator) -> None:
    answers = iter([False, False, True])
    hook = make_early_stopping_hook(estimator, lambda: next(answers), run_every_secs=None, run_every_steps=3)
    assert train(estimator, hook) == 7, "asked after steps 1, 4 and 7"


def test_training_can_go_on_after_an_early_stop(estimator: Estimator) -> None:
    assert train(estimator, make_early_stopping_hook(estimator, lambda: True)) == 1
    assert train(estimator, make_early_stopping_hook(estimator, lambda: False), steps=5) == 6


def test_a_model_trained_without_the_hook_can_be_trained_on_with_it(estimator: Estimator) -> None:
    estimator.train(linear_model.training_input, steps=4)
    assert train(estimator, make_early_stopping_hook(estimator, lambda: True)) == 5
    estimator.train(linear_model.training_input, steps=4)
    assert estimator.get_variable_value("global_step") == 9


def test_the_flag_is_saved_under_its_old_name(estimator: Estimator) -> None:
    train(estimator, make_early_stopping_hook(estimator, lambda: True))
    assert "signal_early_stopping/STOP" in estimator.get_variable_names()


@pytest.mark.parametrize(
    ("make", "value", "stops"),
    [
        (stop_if_lower_hook, 1e6, True),
        (stop_if_lower_hook, 0.0, False),
        (stop_if_higher_hook, 0.0, True),
        (stop_if_no_increase_hook, 5, True),
        (stop_if_no_decrease_hook, 5, False),
    ],
)
def test_hooks_read_the_estimator_s_evaluations(
    estimator: Estimator, make: Any, value: float, stops: bool
) -> None:
    for _ in range(3):  # the loss falls from one evaluation to the next
        estimator.train(linear_model.training_input, steps=5)
        estimator.evaluate(linear_model.evaluation_input)
    assert sorted(read_eval_metrics(estimator.eval_dir())) == [5, 10, 15]
    hook = make(estimator, "loss", value, run_every_secs=None, run_every_steps=1)
    assert train(estimator, hook, steps=4) == (16 if stops else 19)


def test_an_unknown_metric_is_refused_with_the_near_miss(estimator: Estimator) -> None:
    estimator.evaluate(linear_model.evaluation_input)
    with pytest.raises(InvalidArgument, match=r"has a metric 'los'\. Did you mean 'loss'"):
        train(estimator, stop_if_lower_hook(estimator, "los", 1.0))


def test_before_the_first_evaluation_nothing_is_stopped(estimator: Estimator) -> None:
    hook = stop_if_lower_hook(estimator, "loss", 1e9, run_every_secs=None, run_every_steps=1)
    assert train(estimator, hook, steps=3) == 3
    assert read_eval_metrics(estimator.eval_dir("absent")) == {}


def test_a_worker_follows_the_flag() -> None:
    hook = FollowStopHook()
    with tf.Graph().as_default():
        v1.train.create_global_step()
        step, raise_flag = tf.no_op(), v1.assign(stop_flag(None), True)
        with v1.train.SingularMonitoredSession(hooks=[hook]) as session:
            session.run(step)
            assert not session.should_stop()
            session.raw_session().run(raise_flag)
            session.run(step)
            assert session.should_stop()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"estimator": object()}, InvalidType, "`estimator` must have type Estimator"),
        ({"should_stop_fn": True}, InvalidType, "`should_stop_fn` must be callable"),
        ({"run_every_steps": 5}, InvalidArgument, "Only one of `run_every_secs` and `run_every_steps`"),
        ({"run_every_secs": None}, InvalidArgument, "given: None and None"),
    ],
)
def test_wrong_arguments(estimator: Estimator, arguments: Any, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        make_early_stopping_hook(**{"estimator": estimator, "should_stop_fn": bool, **arguments})


@pytest.mark.parametrize("voted", [False, True])
def test_replicas_stop_together(tmp_path: Path, voted: bool) -> None:
    tf.config.set_soft_device_placement(True)  # a graph of another test may have settled for no
    strategy = v1.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    config = RunConfig(save_checkpoints_steps=100, train_distribute=strategy)
    estimator = Estimator(linear_model.model_fn, str(tmp_path), config)
    answers = iter([False, False, True, True])
    if voted:
        hook: Any = VotedStopHook(lambda: next(answers), None, 2)
    else:
        hook = make_early_stopping_hook(
            estimator, lambda: next(answers), run_every_secs=None, run_every_steps=2
        )
    # Asked after steps 1, 3 and 5; a vote is counted in the step after it.
    assert train(estimator, hook) == (6 if voted else 5)

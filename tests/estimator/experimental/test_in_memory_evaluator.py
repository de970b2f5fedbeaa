from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.experimental.early_stopping import read_eval_metrics
from orchestrator.estimator.experimental.in_memory_evaluator import InMemoryEvaluatorHook
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EstimatorSpec
from tests.estimator import linear_model

pytestmark = pytest.mark.xdist_group("estimator_api")
v1 = tf.compat.v1


@pytest.fixture
def estimator(tmp_path: Path) -> Estimator:
    return Estimator(linear_model.model_fn, str(tmp_path), RunConfig(save_checkpoints_secs=None))


def test_it_evaluates_the_present_weights_before_during_and_after(tmp_path: Path) -> None:
    estimator = Estimator(linear_model.model_fn, str(tmp_path), RunConfig(save_checkpoints_steps=1))
    hook = InMemoryEvaluatorHook(estimator, linear_model.evaluation_input, every_n_iter=4)
    estimator.train(linear_model.training_input, steps=10, hooks=[hook])
    measured = read_eval_metrics(estimator.eval_dir())
    assert sorted(measured) == [0, 4, 8, 10]
    assert all(metrics["rows"] == 44 for metrics in measured.values()), "each time the whole data set"
    last = estimator.evaluate(linear_model.evaluation_input)
    assert measured[10]["loss"] == pytest.approx(last["loss"], rel=1e-6)
    assert measured[0]["loss"] > measured[4]["loss"] > measured[10]["loss"]


def test_a_named_evaluation_of_some_batches(estimator: Estimator) -> None:
    hook = InMemoryEvaluatorHook(
        estimator, linear_model.evaluation_input, steps=2, name="some", every_n_iter=50
    )
    estimator.train(linear_model.training_input, steps=3, hooks=[hook])
    measured = read_eval_metrics(estimator.eval_dir("some"))
    assert {step: metrics["rows"] for step, metrics in measured.items()} == {0: 16, 3: 16}


def test_hooks_of_the_evaluation_see_each_one(estimator: Estimator) -> None:
    class Counter(v1.train.SessionRunHook):
        begun = ended = 0

        def begin(self) -> None:
            self.begun += 1

        def end(self, session: Any) -> None:
            self.ended += 1

    counter = Counter()
    hook = InMemoryEvaluatorHook(estimator, linear_model.evaluation_input, hooks=[counter], every_n_iter=2)
    estimator.train(linear_model.training_input, steps=4, hooks=[hook])
    assert (counter.begun, counter.ended) == (3, 3), "before training and after steps 2 and 4"


@pytest.mark.parametrize(
    ("scaffold", "text"),
    [
        (lambda: v1.train.Scaffold(saver=v1.train.Saver()), "does not support custom saver"),
        (
            lambda: v1.train.Scaffold(init_fn=lambda scaffold, session: None),
            "does not support custom init_fn",
        ),
    ],
)
def test_models_that_load_themselves_are_refused(tmp_path: Path, scaffold: Any, text: str) -> None:
    def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        spec = linear_model.model_fn(features, labels, mode, {})
        return spec._replace(scaffold=scaffold()) if mode == "eval" else spec

    estimator = Estimator(model_fn, str(tmp_path))
    hook = InMemoryEvaluatorHook(estimator, linear_model.evaluation_input)
    with pytest.raises(InvalidArgument, match=text):
        estimator.train(linear_model.training_input, steps=1, hooks=[hook])


def test_a_cluster_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = {"chief": ["c:1"], "worker": ["w:1"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "chief", "index": 0}}))
    estimator = Estimator(linear_model.model_fn, str(tmp_path))
    with pytest.raises(InvalidArgument, match="supports only single machine"):
        InMemoryEvaluatorHook(estimator, linear_model.evaluation_input)


def test_a_wrong_period_is_refused(estimator: Estimator) -> None:
    with pytest.raises(InvalidArgument, match="invalid every_n_iter=0"):
        InMemoryEvaluatorHook(estimator, linear_model.evaluation_input, every_n_iter=0)

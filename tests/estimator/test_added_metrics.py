from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument, InvalidType
from orchestrator.estimator.added_metrics import add_metrics
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig
from tests.estimator import linear_model

pytestmark = pytest.mark.xdist_group("estimator_api")


@pytest.fixture
def estimator(tmp_path: Path) -> Estimator:
    return Estimator(linear_model.model_fn, str(tmp_path), params={"learning_rate": 0.1})


def test_added_metrics_join_those_of_the_model_and_may_replace_them(estimator: Estimator) -> None:
    def metric_fn(labels: Any, features: Any, config: Any) -> Any:
        assert isinstance(config, RunConfig)
        return {
            "mean_feature": tf.compat.v1.metrics.mean(features),
            "mae": tf.compat.v1.metrics.mean(tf.zeros_like(labels)),
        }

    plain = estimator.evaluate(linear_model.evaluation_input)
    more = add_metrics(estimator, metric_fn).evaluate(linear_model.evaluation_input)
    assert set(more) == {*plain, "mean_feature"}
    assert more["mae"] == 0
    assert more["loss"] == plain["loss"]
    features, _ = linear_model.examples(44, seed=1)
    assert more["mean_feature"] == pytest.approx(features.mean(), abs=1e-6)


def test_the_new_estimator_trains_the_same_model(estimator: Estimator) -> None:
    more = add_metrics(estimator, dict)
    more.train(linear_model.training_input, steps=3)
    assert estimator.get_variable_value("global_step") == 3


def test_wrong_functions_are_refused(estimator: Estimator) -> None:
    with pytest.raises(InvalidType, match="metric_fn must be callable"):
        add_metrics(estimator, {"m": 1})
    with pytest.raises(InvalidArgument, match=r"not expected args: \['lables'\]\. Did you mean 'labels'"):
        add_metrics(estimator, lambda lables: {})
    with pytest.raises(InvalidType, match=r"lambda.*must return a dict of metrics, not \[\]"):
        add_metrics(estimator, lambda: []).evaluate(linear_model.evaluation_input)

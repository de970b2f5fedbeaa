from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.experimental.logit_fn import call_logit_fn

pytestmark = pytest.mark.xdist_group("estimator_api")
FEATURES = {"x": tf.constant([1.0])}


def test_a_logit_fn_gets_the_arguments_it_takes() -> None:
    seen: dict[str, Any] = {}

    def logit_fn(features: Any, mode: Any, config: Any) -> Any:
        seen.update(mode=mode, config=config)
        return {"head": features["x"]}

    assert call_logit_fn(logit_fn, FEATURES, "train", {"p": 1}, "config") == {"head": FEATURES["x"]}
    assert seen == {"mode": "train", "config": "config"}
    assert call_logit_fn(lambda features: features["x"], FEATURES, "eval", None, None) is FEATURES["x"]


@pytest.mark.parametrize("wrong", [1.0, {"head": 1.0}, {1: tf.constant(1.0)}, [tf.constant(1.0)]])
def test_anything_but_tensors_is_refused_with_the_function(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"logit_fn should return a Tensor or .*lambda"):
        call_logit_fn(lambda features: wrong, FEATURES, "eval", None, None)

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from orchestrator.estimator.inputs.numpy_input import numpy_input_fn
from orchestrator.estimator.model import Model
from orchestrator.estimator.run_config import RunConfig

ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_an_input_over_arrays_gives_its_dataset() -> None:
    model = Model(model_fn=lambda features: features, params={}, config=RunConfig())
    with tf.Graph().as_default():
        dataset = model.call_input_fn(numpy_input_fn(ROWS, batch_size=2, shuffle=False), "eval")
        assert isinstance(dataset, tf.data.Dataset)
        assert dataset.element_spec.shape.as_list() == [None, 2]


def test_an_input_fn_gets_copies_of_the_arguments_it_takes() -> None:
    config = RunConfig()
    model = Model(model_fn=lambda features: features, params={"rows": [1]}, config=config)

    def input_fn(params: Any, mode: str) -> Any:
        params["rows"].append(2)
        return mode, params["rows"]

    for _ in range(2):
        assert model.call_input_fn(input_fn, "train") == ("train", [1, 2])
    assert model.call_input_fn(lambda config: config, "train") is config

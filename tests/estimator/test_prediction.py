"""Predictions that a program does not read to their end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
import tensorflow as tf
from orchestrator import estimator

def model_fn(features, labels, mode):
    weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.ones_initializer())
    return estimator.EstimatorSpec(mode, predictions={"sum": features["x"] * weight})

def input_fn():
    return tf.data.Dataset.from_tensor_slices({"x": [1.0, 2.0, 3.0]}).repeat().batch(2)

rows = estimator.Estimator(model_fn, sys.argv[1]).predict(input_fn)
print([float(next(rows)["sum"]) for _ in range(3)], flush=True)
"""


def test_a_program_ends_though_it_still_holds_an_unfinished_prediction(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[1.0, 2.0, 3.0]\n"

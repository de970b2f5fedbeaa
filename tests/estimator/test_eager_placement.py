"""Eager operations of a program that has trained an Estimator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import tensorflow as tf
from orchestrator.estimator import Estimator
from tests.estimator import linear_model

if sys.argv[2] == "hard":
    tf.config.set_soft_device_placement(False)
Estimator(linear_model.model_fn, sys.argv[1]).train(linear_model.training_input, steps=1)
print(tf.config.get_soft_device_placement())
try:
    with tf.device("/cpu:7"):
        print(float(tf.constant(1.0) + 1.0))
except tf.errors.InvalidArgumentError:
    print("no such device")
"""


@pytest.mark.parametrize(
    ("asked", "told"), [("soft", ["True", "2.0"]), ("hard", ["False", "no such device"])]
)
def test_a_device_that_is_not_there_is_passed_over_unless_the_user_forbids_it(
    tmp_path: Path, asked: str, told: list[str]
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "model"), asked]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert ended.stdout.splitlines() == told, ended.stderr[-2000:]

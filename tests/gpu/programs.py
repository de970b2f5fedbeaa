"""Programs that look at GPUs run in processes of their own: a test process cannot set devices up twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from orchestrator.launch.start_method import gpu_visible

REPOSITORY = Path(__file__).parents[2]
LIMIT = 280
NO_GPU = "no GPU is visible"
needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not gpu_visible(os.environ), reason=NO_GPU)]

PREAMBLE = """
import json, sys
from pathlib import Path
import numpy as np
import tensorflow as tf
from orchestrator.estimator import Estimator, RunConfig, device_options, strategies
from tests.estimator import linear_model

v1 = tf.compat.v1
PLACE = Path(sys.argv[1])

def answer(**values):
    print("ANSWER", json.dumps(values))

def needs(enough, reason):
    if not enough:
        answer(skip=reason)
        sys.exit()

def gpus(count, split=True):
    # `count` GPUs: cards, or where there are too few and `split`, logical ones on the first card.
    cards = tf.config.list_physical_devices("GPU")
    needs(cards, "TensorFlow finds no GPU (no driver, or a build without CUDA)")
    if len(cards) >= count:
        tf.config.set_visible_devices(cards[:count], "GPU")
        return
    needs(split, f"{count} cards are needed, and there is {len(cards)}")
    tf.config.set_visible_devices(cards[:1], "GPU")
    parts = [tf.config.LogicalDeviceConfiguration(memory_limit=1024) for _ in range(count)]
    tf.config.set_logical_device_configuration(cards[0], parts)

def half_batches(input_context=None):
    return linear_model.training_input(8 if input_context is None else 4)

def trained(name, strategy=None, **config):
    run_config = RunConfig(train_distribute=strategy, tf_random_seed=1, **config)
    estimator = Estimator(linear_model.model_fn, PLACE / name, run_config, params={})
    return estimator.train(half_batches, steps=12)

def kernel(estimator):
    return estimator.get_variable_value("kernel").ravel().tolist()
"""


def run_program(place: Path, text: str) -> dict[str, Any]:
    """Runs PREAMBLE and `text` and returns what it answers; skips where the program says so."""
    program = place / "program.py"
    program.write_text(PREAMBLE + textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, str(program), str(place)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answers = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert answers, done.stdout[-2000:] + done.stderr[-2000:]
    answer = dict(json.loads(answers[-1].removeprefix("ANSWER ")))
    if "skip" in answer:
        pytest.skip(str(answer["skip"]))
    return answer

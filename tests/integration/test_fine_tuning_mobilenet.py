"""MobileNet from ImageNet under every strategy, and killed while it learns with its body."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.integration.test_fine_tuning import (
    COPIES,
    LOADED,
    PICTURES,
    STRATEGIES,
    accuracy_after_a_kill,
    run,
)
from tests.warm_start import real_checkpoints as real

pytestmark = [real.needs_data, pytest.mark.timeout(1200)]

LONG = 900.0
"""Seconds that a run may take: every task builds a large net, and machines are shared."""
BODY = 135
"""Tensors of the checkpoint without the two of its classifier."""
PARAMETERS = [
    "mirrored",
    *(pytest.param(name, marks=pytest.mark.faults) for name in STRATEGIES if name != "mirrored"),
]


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_replica_starts_from_imagenets_weights(tmp_path: Path, name: str) -> None:
    (tmp_path / "cluster.yaml").write_text(f"name: a\n{STRATEGIES[name]}")
    tasks, replicas = COPIES[name]
    options = ["--experiment", "tests.integration.warm_started_mobilenet:experiment"]
    options += ["--warm-start", str(real.MOBILENET_TF1), "--exclude", "Logits"]
    options += ["--set", f"params.pictures={PICTURES}", "--set", f"params.place={tmp_path}"]
    options += ["--set", f"params.tasks={tasks}", "--model-dir", str(tmp_path / "model")]
    with run(tmp_path, "cluster.yaml", *options) as launched:
        assert launched.wait(LONG) == 0, launched.output
        logs = [log.read_text() for log in launched.run_dir.logs.glob("*.log")]
    found = [dict(np.load(path)) for path in sorted(tmp_path.glob("*.npz"))]
    assert len(found) == tasks
    reader = tf.train.load_checkpoint(str(real.MOBILENET_TF1))
    for values in found:
        body = [key for key in values if "/Head/" not in key]
        assert len(body) == BODY * replicas
        for key in body:
            np.testing.assert_array_equal(values[key], reader.get_tensor(key.partition(" ")[0]), key)
        for key, value in values.items():
            first = re.sub(r"replica \d+", "replica 0", key)
            np.testing.assert_array_equal(value, found[0][first], key)
    told = sum(LOADED in log for log in logs)
    assert told == (2 if name == "multi_worker_mirrored" else 1)


@pytest.mark.faults
def test_a_killed_chief_goes_on_when_the_body_learns_too(tmp_path: Path) -> None:
    assert accuracy_after_a_kill(tmp_path, "--set", "params.body_rate=0.0003") > 0.3
    begins = [int(line) for line in (tmp_path / "first-steps-chief-0").read_text().split()]
    assert begins[0] == 0
    assert begins[1] >= 10
    name = "MobilenetV1/Conv2d_13_pointwise/weights"
    learned = tf.train.load_variable(str(tmp_path / "model"), name)
    assert not np.array_equal(learned, tf.train.load_variable(str(real.MOBILENET_TF1), name))

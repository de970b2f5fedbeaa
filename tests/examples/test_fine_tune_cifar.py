"""ImageNet weights against random ones, with the same few steps on CIFAR-10."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from examples import fine_tune_cifar
from orchestrator.estimator import RunConfig
from orchestrator.estimator.estimator import set_warm_start
from orchestrator.warm_start import WarmStart
from tests.warm_start import real_checkpoints as real

ARCHIVE = str(real.DATA / "cifar10_jpeg_subset" / "cifar10_jpg_train3000_test1000.tar.gz")
STEPS = 60


def accuracy(model_dir: Path, warm: dict[str, Any] | None, **params: Any) -> float:
    made = fine_tune_cifar.experiment(RunConfig(str(model_dir)), ARCHIVE, max_steps=STEPS, **params)
    if warm is not None:
        source = WarmStart.of(str(real.MOBILENET_TF1), exclude="Logits", **warm)
        set_warm_start(made.estimator, source)
    made.estimator.train(made.train_spec.input_fn, max_steps=STEPS)
    return float(made.estimator.evaluate(made.eval_spec.input_fn)["accuracy"])


@real.needs_data
def test_fine_tuning_beats_training_from_scratch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scratch = accuracy(tmp_path / "scratch", None)
    frozen = accuracy(tmp_path / "frozen", {"trainable": "Head"}, body_rate=0.0)
    lower = accuracy(tmp_path / "lower", {})
    with capsys.disabled():
        print(f"\n{STEPS} steps: scratch {scratch:.3f}, frozen body {frozen:.3f}, lower rate {lower:.3f}")
    assert frozen > scratch + 0.15
    assert lower > scratch + 0.15

"""Evaluating every checkpoint instead of only the newest: which one comes next, and which is the last."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.cluster.records import EvaluationRecord, Phase, ProgressRecord, TaskEnvironment, TaskRecords
from orchestrator.cluster.task import TaskId
from orchestrator.estimator.continuous_evaluation import (
    CheckpointEvaluator,
    TrainingWatch,
    evaluate_continuously,
)
from orchestrator.estimator.specs import EvalSpec
from orchestrator.estimator.stop_request import StopRequest


class Stub:
    """An estimator whose evaluations only note their checkpoint."""

    def __init__(self, model_dir: Path, environment: TaskEnvironment) -> None:
        self.model_dir = str(model_dir)
        self.config = SimpleNamespace(task_environment=environment)
        self.evaluated: list[int] = []

    def latest_checkpoint(self) -> str | None:
        return tf.train.latest_checkpoint(self.model_dir)

    def evaluate(self, *, checkpoint_path: str, **_: Any) -> dict[str, float]:
        step = int(checkpoint_path.rsplit("-", 1)[1])
        self.evaluated.append(step)
        return {"loss": 1.0, "global_step": step}


def save(model_dir: Path, *steps: int) -> None:
    """Checkpoints of these steps, and the state file that lists them."""
    model_dir.mkdir(exist_ok=True)
    prefixes = [str(model_dir / f"model.ckpt-{step}") for step in steps]
    for prefix in prefixes:
        Path(prefix + ".index").touch()
        Path(prefix + ".data-00000-of-00001").touch()
    tf.compat.v1.train.update_checkpoint_state(str(model_dir), prefixes[-1], prefixes)


def evaluate(tmp_path: Path, every: bool, max_steps: int | None = None) -> tuple[list[int], EvaluationRecord]:
    """What an evaluator does that starts when training is over."""
    about = TaskEnvironment(tmp_path, TaskId.parse("evaluator-0"), 0, every_checkpoint=every)
    chief = TaskRecords.of(tmp_path, TaskId.parse("chief-0"))
    chief.write(ProgressRecord(Phase.DONE, 1.0, 30))
    stub = Stub(tmp_path / "model", about)
    spec = EvalSpec(lambda: None, start_delay_secs=0, throttle_secs=3600)
    evaluator = CheckpointEvaluator(stub, spec, max_steps)
    evaluate_continuously(evaluator, spec, max_steps, TrainingWatch(about), StopRequest())
    record = about.records.read(EvaluationRecord)
    assert record is not None
    return stub.evaluated, record


@pytest.mark.parametrize("max_steps", [None, 30])
def test_each_checkpoint_is_evaluated_in_order_and_only_the_last_is_final(
    tmp_path: Path, max_steps: int | None
) -> None:
    save(tmp_path / "model", 10, 20, 30)
    evaluated, record = evaluate(tmp_path, every=True, max_steps=max_steps)
    assert evaluated == [10, 20, 30]
    assert (record.global_step, record.final) == (30, True)


def test_by_default_only_the_newest_is(tmp_path: Path) -> None:
    save(tmp_path / "model", 10, 20, 30)
    assert evaluate(tmp_path, every=False)[0] == [30]


def test_a_restarted_evaluator_goes_on_behind_what_it_had_evaluated(tmp_path: Path) -> None:
    save(tmp_path / "model", 10, 20, 30)
    records = TaskRecords.of(tmp_path, TaskId.parse("evaluator-0"))
    records.write(EvaluationRecord(1.0, 10, {}))
    assert evaluate(tmp_path, every=True)[0] == [20, 30]


def test_what_was_deleted_meanwhile_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "model", 10, 20, 30)
    (tmp_path / "model" / "model.ckpt-20.index").unlink()
    assert evaluate(tmp_path, every=True)[0] == [10, 30]

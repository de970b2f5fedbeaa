"""What a task reports: the batches of an evaluation, and the step at which training broke off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.cluster.records import Phase, ProgressRecord, TaskEnvironment
from orchestrator.cluster.task import TaskId
from orchestrator.estimator import Estimator, RunConfig
from orchestrator.estimator.progress import ProgressReporter
from tests.estimator import linear_model


def test_batches_are_reported_about_once_a_second(tmp_path: Path) -> None:
    now = [100.0]
    about = TaskEnvironment(tmp_path, TaskId.parse("evaluator-0"), 0)
    reporter = ProgressReporter(about, clock=lambda: now[0])

    def batches() -> int | None:
        record = about.records.read(ProgressRecord)
        assert record is not None
        return record.batches

    with reporter.during(Phase.EVALUATING):
        for done in range(1, 12):
            now[0] += 0.25
            reporter.batch_done(done)
            assert batches() == (done - done % 4 or None)
        assert reporter.record.phase is Phase.EVALUATING


class Breakage(tf.compat.v1.train.SessionRunHook):
    """Raises after a number of steps."""

    def __init__(self, steps: int, error: BaseException) -> None:
        self._left = steps
        self._error = error

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self._left -= 1
        if not self._left:
            raise self._error


@pytest.mark.parametrize(
    "error", [ValueError("this record is broken"), SystemExit(0)], ids=["raised", "left"]
)
def test_the_step_at_which_training_broke_off_is_known_however_fast_steps_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    about = TaskEnvironment(tmp_path / "run", TaskId.parse("chief-0"), 0)
    about.records.directory.mkdir(parents=True)
    for name, value in about.as_environment().items():
        monkeypatch.setenv(name, value)
    config = RunConfig.from_environment(model_dir=str(tmp_path / "model"), tf_random_seed=1)
    trained = Estimator(linear_model.model_fn, config=config, params={})
    with pytest.raises(type(error)):
        trained.train(linear_model.training_input, hooks=[Breakage(37, error)], max_steps=100)
    record = about.records.read(ProgressRecord)
    assert record is not None
    assert record.step == 37

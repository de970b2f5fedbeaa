from __future__ import annotations

import json
import logging
import signal
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.cluster.records import EvaluationRecord, FailureRecord, Phase, ProgressRecord, TaskRecords
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.estimator import stop_request
from orchestrator.experiments import program
from orchestrator.experiments.stop_signals import SIGNALS

MODULE = """
    import signal
    import tensorflow as tf
    from orchestrator import Experiment, estimator as est

    v1 = tf.compat.v1

    class AtStep(v1.train.SessionRunHook):
        def __init__(self, step, act):
            self.left, self.act = step, act

        def after_run(self, run_context, run_values):
            self.left -= 1
            if self.left == 0:
                self.act()

    def model_fn(features, labels, mode):
        weight = v1.get_variable("weight", [], initializer=v1.zeros_initializer())
        loss = tf.reduce_mean(tf.square(features * weight - labels))
        train_op = v1.train.GradientDescentOptimizer(0.1).minimize(loss, v1.train.get_global_step())
        error = v1.metrics.mean(tf.abs(weight - 2))
        return est.EstimatorSpec(mode, loss=loss, train_op=train_op, eval_metric_ops={"error": error})

    def input_fn():
        return tf.data.Dataset.from_tensors(([1.0, 2.0], [2.0, 4.0])).repeat(100)

    def give_up():
        raise RuntimeError("no more")

    def terminate():
        signal.raise_signal(signal.SIGTERM)

    ACTS = {"none": lambda: None, "give_up": give_up, "terminate": terminate}

    def experiment(config, max_steps: int, act: str = "none", at: int = 7):
        return Experiment(
            est.Estimator(model_fn, config=config),
            est.TrainSpec(input_fn, max_steps, hooks=[AtStep(at, ACTS[act])]),
            est.EvalSpec(input_fn, steps=1, start_delay_secs=0, throttle_secs=0),
        )

    def prepare_data(data_dir, max_steps):
        with open(data_dir, "w") as stream:
            stream.write(str(max_steps))
"""


@pytest.fixture(autouse=True)
def process_restored() -> Iterator[None]:
    """What the program changes for a whole process is changed back."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    root = logging.getLogger()
    logged, level, format_warning = list(root.handlers), root.level, warnings.formatwarning
    yield
    stop_request.current().clear()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    logging.captureWarnings(False)
    warnings.formatwarning = format_warning
    root.handlers[:] = logged
    root.setLevel(level)


class Task:
    """The program as the chief-0 of a run directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.records = TaskRecords.of(directory / "run", TaskId(TaskType.CHIEF, 0))

    def run(self, *flags: str, data_dir: str | None = None, **params: Any) -> int:
        (self.directory / "mine_task.py").write_text(textwrap.dedent(MODULE))
        request = {
            "experiment": "mine_task:experiment",
            "params": {"max_steps": 20, **params},
            "strategy": {"name": "none", "logical_devices": None},
            "run_config": {"save_checkpoints_steps": 10},
            "model_dir": str(self.directory / "model"),
            "data_dir": data_dir,
            "working_dir": str(self.directory),
        }
        path = self.directory / "experiment.json"
        path.write_text(json.dumps(request))
        return program.main([*flags, str(path)])

    @property
    def checkpoint(self) -> str | None:
        return tf.train.latest_checkpoint(str(self.directory / "model"))

    @property
    def progress(self) -> ProgressRecord:
        record = self.records.read(ProgressRecord)
        assert record is not None
        return record


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setenv("ORCHESTRATOR_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("ORCHESTRATOR_TASK", "chief-0")
    return Task(tmp_path)


def test_an_experiment_is_trained_evaluated_and_recorded(task: Task) -> None:
    assert task.run() == 0
    evaluation = task.records.read(EvaluationRecord)
    assert evaluation is not None
    assert (evaluation.global_step, evaluation.final) == (20, True)
    assert evaluation.metrics["error"] == pytest.approx(0, abs=1e-3)
    assert task.progress.phase is Phase.DONE
    assert not task.progress.stopped
    assert task.records.read(FailureRecord) is None


def test_the_same_again_has_nothing_to_train_and_evaluates_once(task: Task) -> None:
    assert task.run() == 0
    task.records.remove(EvaluationRecord)
    assert task.run() == 0
    evaluation = task.records.read(EvaluationRecord)
    assert evaluation is not None
    assert (evaluation.global_step, evaluation.final) == (20, True)


def test_sigterm_ends_training_with_a_checkpoint_and_143(task: Task) -> None:
    assert task.run(act="terminate", max_steps=90) == 143
    assert task.checkpoint is not None
    stopped_at = int(task.checkpoint.rpartition("-")[2])
    assert 7 <= stopped_at <= 8
    assert task.progress.stopped
    stop_request.current().clear()
    assert task.run(max_steps=90) == 0
    assert task.checkpoint.endswith("-90")


def test_a_request_that_comes_when_all_is_done_changes_nothing(task: Task) -> None:
    assert task.run(act="terminate", at=20) == 0


def test_an_exception_while_training_is_recorded_with_its_step(
    task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    assert task.run(act="give_up", at=15) == 1
    failure = task.records.read(FailureRecord)
    assert failure is not None
    assert (failure.type, failure.message, failure.user_error) == ("RuntimeError", "no more", False)
    assert failure.step is not None
    _, *frames = failure.traceback.splitlines()
    assert "mine_task.py" in frames[0]
    assert "in give_up" in failure.traceback
    log = capsys.readouterr().err
    assert "\n".join(frames) in log
    assert "in train_and_evaluate" in log
    assert task.checkpoint is not None


def test_a_wrong_parameter_is_one_line_and_2(task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    assert task.run(max_stps=3) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "error: params.max_stps: mine_task:experiment has no parameter 'max_stps'. Did you mean"
    )
    assert error.count("\n") == 1
    failure = task.records.read(FailureRecord)
    assert failure is not None
    assert failure.user_error
    assert task.checkpoint is None


def test_preparation_calls_the_function_beside_the_experiment(task: Task, tmp_path: Path) -> None:
    assert task.run("--prepare", data_dir=str(tmp_path / "data"), max_steps=11) == 0
    assert (tmp_path / "data").read_text() == "11"
    assert task.records.read(ProgressRecord) is None, "nothing was trained"


def test_a_failed_preparation_tells_why(task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    assert task.run("--prepare", data_dir="/nowhere/to/be/found") == 2
    assert capsys.readouterr().err.endswith(
        "error: prepare_data of mine_task raised FileNotFoundError: "
        "[Errno 2] No such file or directory: '/nowhere/to/be/found'\n"
    )


def test_a_wrong_request_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([str(tmp_path / "experiment.json")]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/experiment.json: cannot be read: No such file or directory.\n"
    )

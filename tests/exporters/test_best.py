from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.exporters.best import BestExporter
from orchestrator.exporters.evaluation_events import evaluations
from tests.exporters.recording_estimator import RecordingEstimator
from tests.exporters.test_exporters import export, exports_of, receiver

pytestmark = pytest.mark.xdist_group("estimator_api")
v1 = tf.compat.v1


def write_evaluations(directory: Path, losses: dict[int, float]) -> Path:
    with tf.Graph().as_default():
        writer = v1.summary.FileWriter(str(directory))
        for step, loss in losses.items():
            writer.add_summary(v1.Summary(value=[v1.Summary.Value(tag="loss", simple_value=loss)]), step)
        writer.close()
    return next(directory.glob("*tfevents*"))


@pytest.fixture
def estimator(tmp_path: Path) -> RecordingEstimator:
    return RecordingEstimator(tmp_path)


def loss(value: float, step: int) -> dict[str, Any]:
    return {"loss": value, "global_step": step}


def test_only_better_evaluations_are_exported(estimator: RecordingEstimator) -> None:
    exporter = BestExporter("best", receiver)
    results = [export(exporter, estimator, loss(value, step)) for step, value in enumerate([5, 6, 4, 4, 3])]
    assert [result is not None for result in results] == [True, False, True, False, True]
    assert len(exports_of(exporter, estimator)) == 3


def test_another_metric_may_decide(estimator: RecordingEstimator) -> None:
    def better(best_eval_result: Any, current_eval_result: Any) -> bool:
        return current_eval_result["accuracy"] > best_eval_result["accuracy"]

    exporter = BestExporter("best", receiver, compare_fn=better)
    results = [export(exporter, estimator, {"accuracy": value}) for value in (0.5, 0.4, 0.6)]
    assert [result is not None for result in results] == [True, False, True]


def test_a_restarted_process_remembers_the_best(estimator: RecordingEstimator) -> None:
    export(BestExporter("best", receiver), estimator, loss(1.0, 10))
    write_evaluations(Path(estimator.model_dir) / "eval", {10: 1.0, 20: 2.0, 30: 1.5, 40: 0.5})
    restarted = BestExporter("best", receiver)
    assert export(restarted, estimator, loss(1.5, 30)) is None, "step 40 of the events was better"
    assert export(restarted, estimator, loss(0.4, 50)) is not None


def test_the_events_of_the_present_evaluation_do_not_count_as_earlier(estimator: RecordingEstimator) -> None:
    export(BestExporter("best", receiver), estimator, loss(1.0, 10))
    write_evaluations(Path(estimator.model_dir) / "eval", {10: 1.0, 20: 0.5})
    assert export(BestExporter("best", receiver), estimator, loss(0.5, 20)) is not None


def test_the_first_evaluation_is_exported_when_there_is_no_export(estimator: RecordingEstimator) -> None:
    write_evaluations(Path(estimator.model_dir) / "eval", {10: 1.0})
    exporter = BestExporter("best", receiver)
    assert export(exporter, estimator, loss(2.0, 20)) is not None
    assert export(exporter, estimator, loss(1.5, 30)) is None, "1.0 is still the best"


def test_without_event_files_a_restart_starts_anew(estimator: RecordingEstimator) -> None:
    write_evaluations(Path(estimator.model_dir) / "eval", {10: 1.0})
    exporter = BestExporter("best", receiver, event_file_pattern=None)
    assert export(exporter, estimator, loss(2.0, 20)) is not None


def test_results_without_loss_need_a_compare_fn(estimator: RecordingEstimator) -> None:
    exporter = BestExporter("best", receiver)
    export(exporter, estimator, {"accuracy": 1})
    with pytest.raises(
        InvalidArgument, match=r"best_eval_result cannot be empty or no loss .* Give a compare_fn"
    ):
        export(exporter, estimator, {"accuracy": 2})


@pytest.mark.parametrize(
    ("compare_fn", "text"),
    [
        (None, "`compare_fn` must not be None"),
        (lambda best_eval_result: True, "must include current_eval_result argument"),
        (lambda current_eval_result, best: True, "must include best_eval_result argument"),
        (lambda best_eval_result, current_eval_result, x: True, r"not expected args: \['x'\]"),
    ],
)
def test_a_compare_fn_takes_both_results(compare_fn: Any, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        BestExporter("best", receiver, compare_fn=compare_fn)


def test_a_torn_event_file_is_read_up_to_the_tear(tmp_path: Path) -> None:
    path = write_evaluations(tmp_path, {1: 1.0, 2: 2.0})
    path.write_bytes(path.read_bytes()[:-5])
    assert list(evaluations(str(tmp_path / "*"))) == [(1, {"loss": 1.0})]
    assert list(evaluations(str(tmp_path / "absent" / "*"))) == []

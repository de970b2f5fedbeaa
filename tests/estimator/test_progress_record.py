"""What a task reports of its evaluations: batches count as progress, about once a second."""

from __future__ import annotations

from pathlib import Path

from orchestrator.cluster.records import Phase, ProgressRecord, TaskEnvironment
from orchestrator.cluster.task import TaskId
from orchestrator.estimator.progress import ProgressReporter


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

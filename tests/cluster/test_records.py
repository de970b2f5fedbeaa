from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cluster.records import (
    EvaluationRecord,
    ExitRecord,
    FailureRecord,
    Phase,
    ProgressRecord,
    TaskEnvironment,
    TaskRecords,
)
from orchestrator.cluster.task import TaskId, TaskType

floats = st.floats(allow_nan=False)
records = (
    st.builds(ProgressRecord, phase=st.sampled_from(Phase), time=floats, loss=st.none() | floats)
    | st.builds(EvaluationRecord, time=floats, metrics=st.dictionaries(st.text(), floats, max_size=3))
    | st.builds(FailureRecord, time=floats)
    | st.builds(ExitRecord, time=floats)
)
KINDS = (ProgressRecord, EvaluationRecord, FailureRecord, ExitRecord)
WORKER = TaskId(TaskType.WORKER, 1)


@given(record=records)
def test_a_record_reads_back(record: object) -> None:
    with tempfile.TemporaryDirectory() as directory:
        task_records = TaskRecords.of(Path(directory), WORKER)
        task_records.write(record)
        assert task_records.read(type(record)) == record
        assert all(task_records.read(kind) is None for kind in KINDS if kind is not type(record))


def test_a_missing_or_removed_record_is_none(tmp_path: Path) -> None:
    task_records = TaskRecords.of(tmp_path, WORKER)
    assert task_records.read(ProgressRecord) is None
    task_records.remove(ProgressRecord)
    task_records.write(ProgressRecord(Phase.STEPPING, 1.0, step=3))
    task_records.remove(ProgressRecord)
    assert task_records.read(ProgressRecord) is None


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"phase": "dancing", "time": 1}', '{"phase": ["done"], "time": 1}', '{"phase": "done"}'],
)
def test_a_damaged_record_is_none(tmp_path: Path, content: str) -> None:
    task_records = TaskRecords.of(tmp_path, WORKER)
    task_records.directory.mkdir(parents=True)
    (task_records.directory / "progress.json").write_text(content)
    assert task_records.read(ProgressRecord) is None


def test_keys_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    task_records = TaskRecords.of(tmp_path, WORKER)
    task_records.write(ProgressRecord(Phase.SAVING, 2.0, step=7))
    path = task_records.directory / "progress.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mood": "good"}))
    assert task_records.read(ProgressRecord) == ProgressRecord(Phase.SAVING, 2.0, step=7)


@given(
    st.builds(
        TaskEnvironment,
        run_dir=st.from_regex(r"\A/[a-z =\"'$,\n]{1,20}\Z").map(Path),
        task=st.builds(TaskId, st.sampled_from(TaskType), st.integers(0, 99)),
        attempt=st.integers(0, 9),
        model_dir=st.none() | st.text(min_size=1),
        data_dir=st.none() | st.text(min_size=1),
        control_fd=st.none() | st.integers(3, 99),
    )
)
def test_the_environment_of_a_task_reads_back(environment: TaskEnvironment) -> None:
    assert TaskEnvironment.read(environment.as_environment()) == environment


def test_a_process_without_the_variables_is_no_task() -> None:
    assert TaskEnvironment.read({}) is None
    assert TaskEnvironment.read({"ORCHESTRATOR_RUN_DIR": "/r"}) is None


def test_records_lie_under_the_run_directory(tmp_path: Path) -> None:
    environment = TaskEnvironment(tmp_path, WORKER, attempt=0)
    assert environment.records.directory == tmp_path / "tasks" / "worker-1"

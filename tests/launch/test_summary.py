from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cluster.records import EvaluationRecord, ExitRecord
from orchestrator.launch.launcher import PeakUsage
from orchestrator.launch.root_cause import RootCause, TaskEnd
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.run_result import RunResult
from orchestrator.launch.snapshot import RunPhase, Snapshot, TaskView
from orchestrator.launch.summary import format_metrics, format_seconds, last_words, shown_path, write_summary
from tests.launch.jobs import make_job, task


def a_result(**changes: object) -> RunResult:
    views = (
        TaskView(task("chief-0"), "done", starts=2, code=0),
        TaskView(task("ps-0"), "stopped", starts=1, code=143),
    )
    values: dict[str, object] = {
        "phase": RunPhase.SUCCEEDED,
        "exit_code": 0,
        "seconds": 75.25,
        "attempts": 1,
        "restarts": 1,
        "snapshot": Snapshot(RunPhase.SUCCEEDED, 0, views),
        "global_step": 1000,
        "checkpoint_step": 1000,
        "evaluation": EvaluationRecord(5.0, 1000, {"loss": 0.25, "accuracy": 0.9712345}, final=True),
        "peaks": {task("chief-0"): PeakUsage(300 << 20, 98.76, 12.345)},
        **changes,
    }
    return RunResult(**values)  # type: ignore[arg-type]


def test_the_summary_holds_what_a_script_needs(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", chief=1, ps=1)
    write_summary(job, a_result(), now=0.0)
    value = json.loads(RunDir(job.run_dir).summary.read_text())
    assert value["metrics"] == {"loss": 0.25, "accuracy": 0.9712345}
    assert (value["global_step"], value["wall_seconds"], value["state"]) == (1000, 75.25, "succeeded")
    assert value["finished"] == "1970-01-01T00:00:00+00:00"
    assert value["tasks"]["chief-0"] == {
        "exit": 0,
        "state": "done",
        "starts": 2,
        "peak_memory_bytes": 300 << 20,
        "peak_cpu_percent": 98.8,
        "cpu_seconds": 12.35,
        "peak_gpu_memory_bytes": None,
    }
    assert value["tasks"]["ps-0"]["exit"] == 143
    assert value["tasks"]["ps-0"]["peak_memory_bytes"] is None
    assert value["verdict"] is None


def test_a_failed_run_has_its_verdict_in_the_summary(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", chief=1)
    cause = RootCause(TaskEnd(task("chief-0"), ExitRecord(1.0, 0, 0, 1, 3)))
    result = a_result(phase=RunPhase.FAILED, exit_code=1, root_cause=cause, evaluation=None, global_step=None)
    write_summary(job, result, now=0.0)
    value = json.loads(RunDir(job.run_dir).summary.read_text())
    assert value["verdict"] == "chief-0 failed: exit code 3"
    assert value["metrics"] == {}
    assert value["global_step"] == 1000, "the newest checkpoint tells"


def test_the_last_words_of_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = make_job(tmp_path / "run", chief=1)
    words = list(last_words(job, a_result(), "orchestrator"))
    assert words[0] == "test: done in 1:15 min at step 1000, 1 restart"
    assert "  result  accuracy 0.9712  loss 0.25  (evaluated at step 1000)" in words
    assert "  model   run/model  (checkpoint at step 1000)" in words
    assert "  next    tensorboard --logdir run/model" in words
    assert all(len(line) <= 80 for line in words)


def test_the_last_words_of_a_stopped_and_of_a_failed_run(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", chief=1)
    stopped = a_result(phase=RunPhase.STOPPED, exit_code=130, why="Ctrl-C", restarts=0, evaluation=None)
    words = list(last_words(job, stopped, "python launch.py"))
    assert words[0] == "test: stopped by Ctrl-C after 1:15 min at step 1000"
    assert any("goes on from step 1000" in line for line in words)
    assert any(f"python launch.py logs {shown_path(str(job.run_dir))}" in line for line in words)
    mistaken = a_result(phase=RunPhase.FAILED, exit_code=2, restarts=0, evaluation=None)
    assert not any("the same command" in line for line in last_words(job, mistaken, "orchestrator"))
    failed = a_result(
        phase=RunPhase.FAILED, exit_code=1, checkpoint_step=None, global_step=None, evaluation=None
    )
    words = list(last_words(job, failed, "orchestrator"))
    assert words[0] == "test: failed after 1:15 min, 1 restart"
    assert not any(line.startswith("  model") for line in words)


def test_what_each_of_several_tasks_used_is_told(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run", chief=1)
    names = ("chief-0", "worker-0", "ps-0", "evaluator-0")
    peaks = {task(name): PeakUsage((200 + i) << 20, 90.0, 18.4) for i, name in enumerate(names)}
    words = list(last_words(job, a_result(peaks=peaks), "orchestrator"))
    at = words.index("  memory  806 MiB at most, all tasks together")
    assert words[at + 1 : at + 3] == [
        "  tasks   chief-0 200 MiB 18 s CPU, worker-0 201 MiB 18 s CPU,",
        "          ps-0 202 MiB 18 s CPU, evaluator-0 203 MiB 18 s CPU",
    ]
    for few in ({task("chief-0"): peaks[task("chief-0")]}, {}):
        words = list(last_words(job, a_result(peaks=few), "orchestrator"))
        assert not any(line.startswith("  tasks") for line in words)


def test_numbers_for_people() -> None:
    assert [format_seconds(s) for s in (0.04, 59.94, 60, 125.4, 3725)] == [
        "0.0 s",
        "59.9 s",
        "1:00 min",
        "2:05 min",
        "1:02:05 h",
    ]
    assert (
        format_metrics({"loss": 0.123456, "auc": 1.0, "accuracy": 0.5}) == "accuracy 0.5  auc 1  loss 0.1235"
    )


def test_paths_are_shown_from_here_where_that_is_shorter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_path(str(tmp_path / "runs" / "a")) == "runs/a"
    assert shown_path("/elsewhere") == "/elsewhere"
    assert shown_path("gs://bucket/model") == "gs://bucket/model"

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cli.progress_text import (
    MOST_TASKS,
    hang_rule,
    host_width,
    ports_line,
    progress_line,
    progress_lines,
    restart_rule,
    shown_tasks,
    task_line,
)
from orchestrator.cluster.records import EvaluationRecord, Phase, ProgressRecord
from orchestrator.cluster.task import TaskType
from orchestrator.launch.job import HangLimits, RunPolicy, StrategyKind
from orchestrator.launch.snapshot import RunPhase, Snapshot, TaskView
from tests.launch.jobs import make_job, task

CHIEF = TaskView(
    task("chief-0"),
    "running",
    progress=ProgressRecord(Phase.STEPPING, 1.0, 400, max_steps=1000, loss=0.31234, steps_per_second=300.0),
)
EVALUATOR = TaskView(
    task("evaluator-0"),
    "running",
    starts=2,
    progress=ProgressRecord(Phase.EVALUATING, 1.0),
    evaluation=EvaluationRecord(1.0, 200, {"loss": 1.5, "accuracy": 0.95}),
)


def test_the_progress_line_says_what_matters() -> None:
    snapshot = Snapshot(RunPhase.RUNNING, 0, (CHIEF, EVALUATOR))
    line = progress_line(snapshot)
    assert line == "step 400/1000  300 steps/s  loss 0.3123  2.0 s left  | step 200: accuracy 0.95  loss 1.5"


def test_the_progress_line_counts_examples_where_the_task_does() -> None:
    record = ProgressRecord(Phase.STEPPING, 1.0, 400, steps_per_second=300.0, examples_per_second=9600.0)
    snapshot = Snapshot(RunPhase.RUNNING, 0, (TaskView(task("chief-0"), "running", progress=record),))
    assert progress_line(snapshot) == "step 400  300 steps/s  9600 examples/s"


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        (Snapshot(RunPhase.RUNNING, 0, (TaskView(task("chief-0"), "running"),)), "starting 1 task"),
        (
            Snapshot(
                RunPhase.RUNNING,
                0,
                (TaskView(task("chief-0"), "running", pid=7), TaskView(task("ps-0"), "running")),
            ),
            "1 of 2 tasks running",
        ),
        (Snapshot(RunPhase.PREPARING, 0, ()), "preparing"),
        (Snapshot(RunPhase.RESTARTING, 1, (CHIEF,)), "restarting  step 400/1000  300 steps/s  loss 0.3123"),
        (
            Snapshot(RunPhase.STOPPING, 0, (CHIEF,), 12.4, saves=True),
            "stopping: waiting for a checkpoint, 12 s left; Ctrl-C again kills",
        ),
        (
            Snapshot(RunPhase.STOPPING, 0, (CHIEF, EVALUATOR), 12.4),
            "stopping: waiting for 2 tasks to end, 12 s left; Ctrl-C again kills",
        ),
        (
            Snapshot(RunPhase.STOPPING, 0, (replace(CHIEF, state="done"), EVALUATOR), 12.4, saves=True),
            "stopping: waiting for 1 task to end, 12 s left; Ctrl-C again kills",
        ),
        (
            Snapshot(RunPhase.STOPPING, 0, (CHIEF,), -0.3, saves=True),
            "stopping: ending what is left",
        ),
        (
            Snapshot(RunPhase.DRAINING, 0, (CHIEF,)),
            "step 400/1000  300 steps/s  loss 0.3123  | evaluating the last checkpoint",
        ),
    ],
)
def test_every_phase_has_its_words(snapshot: Snapshot, expected: str) -> None:
    assert progress_line(snapshot) == expected


def test_a_line_a_task() -> None:
    assert task_line(CHIEF, 11) == "chief-0      stepping  step 400"
    assert task_line(EVALUATOR, 11) == "evaluator-0  evaluating  step 200: accuracy 0.95  loss 1.5  (start 2)"
    assert task_line(TaskView(task("ps-0"), "failed", code=137), 4) == "ps-0  failed (137)"
    waiting = TaskView(task("worker-0"), "running", progress=ProgressRecord(Phase.WAITING, 1.0))
    assert task_line(waiting, 8) == "worker-0  waiting for peers"


def test_where_tasks_are_on_several_hosts_each_line_has_its_own() -> None:
    views = [replace(CHIEF, host="h1"), replace(EVALUATOR, host="node-22")]
    assert host_width(views) == 7
    assert host_width([replace(view, host="h1") for view in views]) == 0
    assert task_line(views[0], 11, 7) == "chief-0      h1       stepping  step 400"


def test_what_does_not_fit_a_line_goes_into_the_next() -> None:
    assert CHIEF.progress is not None
    busy = replace(CHIEF, progress=replace(CHIEF.progress, examples_per_second=9600.0))
    metrics = {"loss": 1.5, "accuracy": 0.95, "precision/positive_threshold_0.500000_mean": 0.75}
    record = EvaluationRecord(1.0, 200, metrics)
    snapshot = Snapshot(RunPhase.RUNNING, 0, (busy, replace(EVALUATOR, evaluation=record)))
    assert progress_lines(snapshot, 79) == [
        "step 400/1000  300 steps/s  9600 examples/s  loss 0.3123  2.0 s left",
        "step 200: accuracy 0.95  precision/positive_threshold_0.500000_mean 0.75",
        "loss 1.5",
    ]
    assert progress_lines(snapshot, 500) == [progress_line(snapshot)]


def test_of_many_tasks_those_with_news_are_shown() -> None:
    workers = [TaskView(task(f"worker-{i}"), "running") for i in range(100)]
    workers[70] = TaskView(task("worker-70"), "failed", code=1)
    shown, quiet = shown_tasks([CHIEF, *workers, EVALUATOR])
    assert [str(view.task) for view in shown] == ["chief-0", "worker-0", "worker-70", "evaluator-0"]
    assert quiet == 98
    assert shown_tasks(workers[:MOST_TASKS]) == (workers[:MOST_TASKS], 0)


def test_open_ports_are_named() -> None:
    assert ports_line(()) == "  ports     none"
    assert ports_line(("a:1", "a:22")) == "  ports     1, 22: on every interface, open to anybody"
    assert ports_line(("a:1", "b:22")) == "  ports     a:1, b:22: open to anybody who reaches these hosts"
    assert len(ports_line(["127.0.0.1:65535"] * 3)) <= 80
    assert ports_line(("10.77.0.11:41111", "10.77.0.12:42222", "10.77.0.13:43333")).splitlines() == [
        "  ports     10.77.0.11:41111, 10.77.0.12:42222, 10.77.0.13:43333: open to",
        "            anybody who reaches these hosts",
    ]
    many = ports_line([f"node-{number}.lab:40000" for number in range(100)]).splitlines()
    assert max(map(len, many)) <= 80
    assert "and 88 more (in plan.json): open to anybody" in " ".join(line.strip() for line in many)


@pytest.mark.parametrize(
    ("kind", "replicas", "expected"),
    [
        (StrategyKind.ASYNCHRONOUS, {"chief": 1, "worker": 1, "ps": 1, "evaluator": 1}, "restarted alone"),
        (StrategyKind.SYNCHRONOUS, {"chief": 1, "worker": 1}, "a lost task restarts all of them"),
        (
            StrategyKind.SYNCHRONOUS,
            {"chief": 1, "worker": 1, "evaluator": 1},
            "a lost evaluator is restarted alone; a lost chief or worker restarts all of them",
        ),
        (
            StrategyKind.COORDINATOR,
            {"chief": 1, "worker": 1, "ps": 1},
            "a lost worker is restarted alone; a lost chief or ps restarts all of them",
        ),
        (StrategyKind.SINGLE, {"chief": 1}, "3 times at most"),
    ],
)
def test_the_rule_for_lost_tasks_is_said(
    tmp_path: Path, kind: StrategyKind, replicas: dict[str, int], expected: str
) -> None:
    assert expected in restart_rule(make_job(tmp_path / "run", kind, **replicas))
    never = make_job(tmp_path / "never", kind, RunPolicy(max_restarts=0), **replicas)
    assert "max_restarts 0" in restart_rule(never)


def test_what_the_file_says_about_lost_tasks_is_said(tmp_path: Path) -> None:
    chosen = RunPolicy(
        restart={TaskType.PS: "never", TaskType.EVALUATOR: "never", TaskType.WORKER: "attempt"}
    )
    job = make_job(tmp_path / "a", StrategyKind.ASYNCHRONOUS, chosen, chief=1, worker=2, ps=1, evaluator=1)
    assert restart_rule(job) == (
        "a lost chief is restarted alone; a lost worker restarts all of them; a lost ps ends the run;"
        " a lost evaluator stays away"
    )
    alone = make_job(tmp_path / "b", policy=RunPolicy(restart={TaskType.CHIEF: "never"}), chief=1)
    assert restart_rule(alone) == "a lost task ends the run"


def test_when_a_task_counts_as_hung(tmp_path: Path) -> None:
    job = make_job(tmp_path / "a", chief=1)
    assert hang_rule(job) == "after 30:00 min before the first step, 10:00 min between two"
    policy = RunPolicy(start_timeout_seconds=9, hang_seconds=HangLimits(stepping=None))
    command = make_job(tmp_path / "b", policy=policy, is_experiment=False, worker=2)
    assert hang_rule(command) == (
        "after 9.0 s before the first step, never between steps;"
        " a task that writes no progress record is not watched"
    )

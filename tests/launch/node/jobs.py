"""Jobs for an agent under test."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.cluster.records import ENV_RUN_DIR, ENV_TASK
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch.job import Job, LaunchPlan, StartMethod, StrategyKind, TaskPlan, TaskRequest
from orchestrator.launch.node.job_wire import encode_plan
from orchestrator.launch.run_dir import RunDir
from tests.launch.node.host import Connection, Host

WORKER, PS = TaskId(TaskType.WORKER, 0), TaskId(TaskType.PS, 0)

LINES = """
import os, signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: print("signalled", flush=True))
number = 0
while not os.path.exists(sys.argv[1]):
    print("line", number, flush=True)
    number += 1
    time.sleep(0.005)
print("lines", number, flush=True)
"""
"""Writes numbered lines until the file of its argument exists."""

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: print("no", flush=True))
sleeper = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(100000)"]
child = subprocess.Popen(sleeper, start_new_session=True)
if os.fork() == 0:
    os.setsid()
    grandchild = subprocess.Popen(sleeper, start_new_session=True)
    print("pids", os.getpid(), grandchild.pid, child.pid, flush=True)
    os._exit(0)
os.wait()
print("up", os.getpid(), flush=True)
while True:
    time.sleep(0.05)
    print("still here", flush=True)
"""
"""Is deaf to SIGTERM, and so are its children in sessions of their own, one of them an orphan."""


def plan(
    host: Host, commands: Mapping[TaskId, Sequence[str]], env: Mapping[str, str] | None = None
) -> LaunchPlan:
    """One start of each command as a task."""
    types = {task.type for task in commands}
    job = Job(
        name="job",
        tasks={kind: TaskRequest(sum(task.type is kind for task in commands)) for kind in types},
        command=("true",),
        strategy=StrategyKind.UNKNOWN,
        run_dir=host.run_dir,
        working_dir=host.home,
        model_dir="/model",
    )
    parts = [
        TaskPlan(
            task=task,
            host="h1",
            address=None,
            env={ENV_RUN_DIR: str(host.run_dir), ENV_TASK: str(task), **(env or {})},
            command=tuple(command),
            start_method=StartMethod.EXEC,
            why="a test",
            log_path=RunDir(host.run_dir).log(task),
        )
        for task, command in commands.items()
    ]
    return LaunchPlan(job, 0, None, tuple(parts), "ssh")


def submit(connection: Connection, number: int, launch_plan: LaunchPlan) -> None:
    """Has the tasks started, as command `number`."""
    connection.send({"do": "submit", "number": number, "request": number, "plan": encode_plan(launch_plan)})
    connection.event("accepted", request=number)


def python(program: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", program, *map(str, arguments)]


def pids_told(output: str) -> list[int]:
    """Every process id that STUBBORN has printed."""
    lines = [line.split() for line in output.splitlines()]
    return [int(word) for line in lines if line and line[0] in ("pids", "up") for word in line[1:]]


def output_of(frames: Sequence[tuple[Mapping[str, Any], bytes]], task: TaskId) -> str:
    """What a task has written, out of events that may have come over several connections."""
    seen: dict[int, bytes] = {}
    for header, payload in frames:
        if header.get("event") == "output" and header["task"] == str(task):
            assert header["sequence"] not in seen, "came twice although it was acknowledged"
            seen[header["sequence"]] = payload
    return b"".join(seen[sequence] for sequence in sorted(seen)).decode()


def record(payload: bytes) -> dict[str, Any]:
    value = json.loads(payload)
    assert isinstance(value, dict)
    return value

"""The machine fails the launcher: a full disk for logs, a port that somebody else took."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cluster.task import TaskType
from orchestrator.launch.job import Job, LaunchPlan, RunPolicy, StartMethod, StrategyKind, TaskRequest
from orchestrator.launch.local import LocalLauncher
from orchestrator.launch.process_tree import processes_of_run
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.snapshot import RunPhase
from orchestrator.launch.supervisor import Supervisor
from orchestrator.testing import RecordingObserver
from tests.integration.launched import Launched

pytestmark = pytest.mark.timeout(900)
TALKS = """\
import time
for i in range(4000):
    print(f"{i:04d}", "x" * 60, flush=i % 100 == 0)
time.sleep(1)
print("the end", flush=True)
"""
CLUSTER = "name: talks\ntasks: {worker: {replicas: 1}}\nlocal: {start_method: spawn}\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "run" / "logs"
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_for_logs_is_reported_and_ends_nothing(tmp_path: Path, small_disk: Path) -> None:
    (tmp_path / "talks.py").write_text(TALKS)
    (tmp_path / "talks.yaml").write_text(CLUSTER)
    with Launched(tmp_path, "talks.yaml", "--", sys.executable, "talks.py") as run:
        assert run.wait() == 0, run.output
        assert "worker-0 | 3999" in run.output
        assert "worker-0 | the end" in run.output
        first, last = run.output.split("talks: done in", 1)
        assert "log of worker-0 cannot be written: " in first
        assert "No space left on device" in last, "the end does not mention the full disk"
        (note,) = [text for text in run.summary["notes"] if "cannot be written" in text]
        assert "No space left on device" in note
        assert 0 < (small_disk / "worker-0.log").stat().st_size <= 64 * 1024


class Robbed(LocalLauncher):
    """A local launcher whose first planned address is taken by somebody else before the start."""

    thief: socket.socket | None = None

    def plan(self, job: Job, attempt: int) -> LaunchPlan:
        made = super().plan(job, attempt)
        if self.thief is None:
            address = made.tasks[0].address
            assert address is not None
            self.thief = socket.socket()
            self.thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self.thief.bind(("127.0.0.1", int(address.rsplit(":", 1)[1])))
            self.thief.listen()
        return made


def test_a_port_taken_between_planning_and_start_is_replaced(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")
    run_dir.create()
    program = tmp_path / "prints.py"
    program.write_text("import os; print(os.environ['TF_CONFIG'])")
    job = Job(
        name="robbed",
        tasks={TaskType.WORKER: TaskRequest(2)},
        command=(sys.executable, str(program)),
        strategy=StrategyKind.SYNCHRONOUS,
        run_dir=run_dir.path,
        working_dir=tmp_path,
        model_dir=str(tmp_path / "model"),
        start_method=StartMethod.EXEC,
        policy=RunPolicy(max_restarts=0),
    )
    launcher, observer = Robbed(run_dir.path), RecordingObserver()
    result = Supervisor(launcher, job, observer=observer).run()
    assert launcher.thief is not None
    taken = launcher.thief.getsockname()[1]
    launcher.thief.close()
    assert result.phase is RunPhase.SUCCEEDED
    assert any("Planning again" in note for note in result.notes)
    printed = [text for _, text in observer.lines]
    assert len(printed) == 2
    assert not any(f":{taken}" in text for text in printed), "a task was told the address that was taken"
    assert not processes_of_run(run_dir.path)

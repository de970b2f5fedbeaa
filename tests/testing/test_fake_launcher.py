from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cluster.records import ExitRecord, ProgressRecord
from orchestrator.errors import PortError, StartError
from orchestrator.launch.launcher import StopKind, TaskExited, TaskOutput, TaskStarted
from orchestrator.launch.run_dir import RunDir
from orchestrator.testing import FakeClock, FakeLauncher, TaskScript, ends, output, progress
from tests.launch.jobs import make_job, task

WORKER = task("worker-0")


def test_a_script_is_played_at_its_times(tmp_path: Path) -> None:
    clock = FakeClock()
    launcher = FakeLauncher(
        clock, {"worker-0": TaskScript.of(ends(9, 3), output(5, "hello"), progress(2, 10))}
    )
    job = make_job(tmp_path / "run", worker=1)
    launcher.submit(launcher.plan(job, 0))
    assert [type(event) for event in launcher.poll(1)] == [TaskStarted]
    assert launcher.poll(1.5) == []
    assert clock.monotonic() == 1001.5
    (said,) = launcher.poll(100)
    assert said == TaskOutput(WORKER, "hello")
    assert clock.monotonic() == 1005
    record = RunDir(job.run_dir).records(WORKER).read(ProgressRecord)
    assert record is not None
    assert record.step == 10
    (end,) = launcher.poll(100)
    assert isinstance(end, TaskExited)
    assert (end.record.code, end.record.requested) == (3, False)
    assert RunDir(job.run_dir).records(WORKER).read(ExitRecord) == end.record
    assert list(launcher.logs(WORKER)) == ["hello"]


@pytest.mark.parametrize(
    ("kind", "script", "code"),
    [
        (StopKind.REQUEST, TaskScript(), 143),
        (StopKind.REQUEST, TaskScript(on_request=0), 0),
        (StopKind.REQUEST, TaskScript(on_request=None), None),
        (StopKind.KILL, TaskScript(on_request=None), 137),
    ],
)
def test_a_stop_is_obeyed_as_scripted(
    tmp_path: Path, kind: StopKind, script: TaskScript, code: int | None
) -> None:
    launcher = FakeLauncher(FakeClock(), {"worker-0": script})
    launcher.submit(launcher.plan(make_job(tmp_path / "run", worker=1), 0))
    launcher.poll(1)
    launcher.stop([WORKER], kind)
    ends_seen = [event.record for event in launcher.poll(10) if isinstance(event, TaskExited)]
    assert [record.code for record in ends_seen] == ([] if code is None else [code])
    assert all(record.requested for record in ends_seen)


def test_later_starts_play_later_scripts(tmp_path: Path) -> None:
    launcher = FakeLauncher(FakeClock(), {"worker-0": [TaskScript.of(ends(1, 1)), TaskScript.of(ends(1, 0))]})
    plan = launcher.plan(make_job(tmp_path / "run", worker=1), 0)
    codes = []
    for _ in range(3):
        launcher.submit(plan, [WORKER])
        launcher.poll(1)
        codes += [event.record.code for event in launcher.poll(5) if isinstance(event, TaskExited)]
    assert codes == [1, 0, 0]


def test_it_refuses_what_a_launcher_refuses(tmp_path: Path) -> None:
    launcher = FakeLauncher(FakeClock())
    plan = launcher.plan(make_job(tmp_path / "run", worker=1), 0)
    launcher.taken_ports = 1
    with pytest.raises(PortError):
        launcher.submit(plan)
    launcher.submit(plan)
    with pytest.raises(StartError, match="worker-0 still runs"):
        launcher.submit(plan)


def test_time_does_not_go_back() -> None:
    clock = FakeClock()
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
    clock.jump(-50)
    assert clock.monotonic() == 1000

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cluster.records import FailureRecord
from orchestrator.launch.job import LogLimits
from orchestrator.launch.launcher import PeakUsage
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.ssh.mirror import Mirror, highest, on_our_clock
from tests.launch.jobs import task

WORKER = task("worker-0")


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "run")
    made.create()
    return made


def test_a_record_is_as_the_task_wrote_it_but_for_the_clock(run_dir: RunDir) -> None:
    mirror = Mirror(run_dir, LogLimits())
    record = {"time": 5000.0, "type": "ValueError", "message": "no", "traceback": "", "step": 3}
    assert mirror.record(WORKER, "failure.json", json.dumps(record).encode(), skew=3600.0) is None
    found = run_dir.records(WORKER).read(FailureRecord)
    assert found is not None
    assert (found.time, found.message, found.step) == (1400.0, "no", 3)
    mirror.record(WORKER, "stacks-7.txt", b"\xff raw", skew=3600.0)
    directory = run_dir.records(WORKER).directory
    assert (directory / "stacks-7.txt").read_bytes() == b"\xff raw"
    mirror.forget(WORKER)
    assert sorted(path.name for path in directory.iterdir()) == ["stacks-7.txt"]


@pytest.mark.parametrize("name", ["../plan.json", "/etc/passwd", "", ".hidden", "a/b", "a\0b", "x" * 200])
def test_a_name_that_leads_elsewhere_is_refused(run_dir: RunDir, name: str) -> None:
    before = sorted(run_dir.path.rglob("*"))
    text = Mirror(run_dir, LogLimits()).record(WORKER, name, b"{}", 0.0)
    assert text is not None
    assert "is left out" in text
    assert sorted(run_dir.path.rglob("*")) == before


def test_clocks_that_are_kept_are_left_alone() -> None:
    assert on_our_clock(b'{"time": 100.0}', 0.9) == b'{"time": 100.0}'
    assert json.loads(on_our_clock(b'{"time": 100.0, "step": 1}', -2.0)) == {"time": 102.0, "step": 1}
    assert on_our_clock(b"half a rec", 100.0) == b"half a rec"
    assert on_our_clock(b'{"time": "noon"}', 100.0) == b'{"time": "noon"}'
    assert on_our_clock(b"[1]", 100.0) == b"[1]"


def test_logs_keep_their_limits(run_dir: RunDir) -> None:
    mirror, log = Mirror(run_dir, LogLimits(max_bytes=10, keep=1)), run_dir.log(WORKER)
    for text in ("one two three\n", "four\n"):
        assert mirror.output(log, text) is None
    mirror.close()
    assert log.read_text() == "four\n"
    assert log.with_name("worker-0.log.1").read_text() == "one two three\n"


def test_a_full_disk_is_told_once(run_dir: RunDir) -> None:
    mirror, log = Mirror(run_dir, LogLimits()), run_dir.log(WORKER)
    log.symlink_to("/dev/full")
    text = mirror.output(log, "line\n")
    assert text is not None
    assert "No space left on device" in text
    assert mirror.output(log, "line\n") is None
    run_dir.resources.symlink_to("/dev/full")
    assert "No space left" in (mirror.samples(b"{}\n") or "")
    assert mirror.samples(b"{}\n") is None


def test_peaks_of_several_starts_are_the_highest() -> None:
    one, two = PeakUsage(10, 50.0, 7.0), PeakUsage(5, 80.0, 3.0, gpu_memory_bytes=9)
    assert highest({WORKER: one}, {WORKER: two}) == {WORKER: PeakUsage(10, 80.0, 7.0, 9)}
    assert highest({}, {WORKER: two}) == {WORKER: two}

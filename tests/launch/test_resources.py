from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.launch.resources import (
    SAMPLE_SECONDS,
    SHARE_SECONDS,
    GpuMemory,
    ResourceSampler,
    TreeMeter,
    TreeUsage,
    parse_gpu_memory,
    process_usage,
    proportional_memory,
)
from tests.launch.local_runs import CHIEF, WORKER, wait_until

MIB = 1 << 20


class Machine:
    """What the sampler measures."""

    def __init__(self) -> None:
        self.trees: dict[int, TreeUsage] = {}

    def set(self, pid: int, cpu: float, memory: int) -> None:
        self.trees[pid] = TreeUsage(cpu, memory, True, frozenset({pid}))

    def measure(self, pids: Collection[int], now: float) -> dict[int, TreeUsage]:
        return {pid: self.trees[pid] for pid in pids if pid in self.trees}


@pytest.fixture
def machine() -> Machine:
    return Machine()


def sampler(path: Path, machine: Machine, gpu: GpuMemory | None = None) -> ResourceSampler:
    return ResourceSampler(path, lambda: 1700.0, gpu or GpuMemory("/no/such/nvidia-smi"), machine.measure)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_samples_are_lines_by_task(tmp_path: Path, machine: Machine) -> None:
    made = sampler(tmp_path / "r.jsonl", machine)
    machine.set(7, 1.0, 3 * MIB)
    machine.set(8, 5.0, 4 * MIB)
    made.sample(100.0, {WORKER: 8, CHIEF: 7})
    machine.set(7, 4.0, 2 * MIB)
    made.sample(102.0, {WORKER: 8, CHIEF: 7})
    first, _, third, fourth = lines(tmp_path / "r.jsonl")
    assert first == {
        "time": 1700.0, "task": "chief-0", "pid": 7, "cpu_percent": None, "memory_bytes": 3 * MIB,
        "memory_kind": "pss", "gpu_memory_bytes": None, "processes": 1,
    }  # fmt: skip
    assert (third["cpu_percent"], fourth["cpu_percent"]) == (150.0, 0.0)
    assert (tmp_path / "r.jsonl").stat().st_mode & 0o777 == 0o600


def test_nothing_is_measured_before_it_is_due(tmp_path: Path, machine: Machine) -> None:
    made = sampler(tmp_path / "r.jsonl", machine)
    machine.set(7, 1.0, MIB)
    for now in (0.0, 0.5, SAMPLE_SECONDS - 0.01, SAMPLE_SECONDS, SAMPLE_SECONDS + 0.1):
        made.sample(now, {CHIEF: 7})
    assert len(lines(tmp_path / "r.jsonl")) == 2


def test_peaks_outlive_a_restart_and_cpu_time_adds_up(tmp_path: Path, machine: Machine) -> None:
    made = sampler(tmp_path / "r.jsonl", machine)
    for now, pid, cpu, memory in ((0, 7, 1.0, 5), (2, 7, 3.0, 9), (4, 8, 0.5, 2), (6, 8, 1.5, 3)):
        machine.set(pid, cpu, memory * MIB)
        made.sample(now, {CHIEF: pid})
    peak = made.peaks()[CHIEF]
    assert (peak.memory_bytes, peak.cpu_percent, peak.cpu_seconds) == (9 * MIB, 100.0, 4.5)
    assert peak.gpu_memory_bytes is None


def test_a_task_that_is_gone_is_left_out(tmp_path: Path, machine: Machine) -> None:
    made = sampler(tmp_path / "r.jsonl", machine)
    made.sample(0.0, {CHIEF: 7})
    made.sample(2.0, {})
    assert not (tmp_path / "r.jsonl").exists()
    assert made.peaks() == {}


def test_a_full_disk_is_told_once(machine: Machine) -> None:
    made = sampler(Path("/dev/full"), machine)
    machine.set(7, 1.0, MIB)
    for now in (0.0, 2.0, 4.0):
        made.sample(now, {CHIEF: 7})
    assert made.take_notes() == ["resource samples cannot be written to /dev/full: No space left on device"]
    assert made.take_notes() == []
    assert CHIEF in made.peaks()


def test_a_tree_of_processes_is_measured_as_one() -> None:
    code = "import subprocess, sys; b = bytearray(30_000_000); subprocess.run(['sleep', '1000'])"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    pid = process.pid
    try:

        def whole() -> bool:
            usage = TreeMeter().measure([pid], 0.0).get(pid)
            return usage is not None and len(usage.pids) == 2 and usage.memory_bytes > 30_000_000

        wait_until(whole, "process, child and memory")
        usage = TreeMeter().measure([pid], 0.0)[pid]
        assert usage.cpu_seconds > 0
        assert usage.memory_bytes < 300_000_000
    finally:
        os.killpg(pid, 9)
        process.wait()
    assert TreeMeter().measure([pid], 0.0) == {}


def test_the_costly_share_is_read_now_and_then_and_grows_with_the_process() -> None:
    asked: list[int] = []

    def share_of(pid: int) -> int:
        asked.append(pid)
        return 1000

    meter, own = TreeMeter(share_of), os.getpid()
    first = meter.measure([own], 0.0)[own].memory_bytes
    ballast = bytearray(b"x" * 50 * MIB)
    second = meter.measure([own], SHARE_SECONDS - 1)[own].memory_bytes
    assert (first % 1000, asked.count(own)) == (0, 1)
    assert second - first >= 40 * MIB
    del ballast
    assert meter.measure([own], SHARE_SECONDS)[own].memory_bytes == first
    assert asked.count(own) == 2


def test_without_shares_the_resident_size_is_taken() -> None:
    usage = TreeMeter(lambda pid: None).measure([os.getpid()], 0.0)[os.getpid()]
    assert not usage.proportional
    assert usage.memory_bytes > 10 * MIB


def test_shared_memory_counts_by_share() -> None:
    share = proportional_memory(os.getpid())
    assert share is None or share > MIB
    assert proportional_memory(2**22 + 1) is None


def test_the_answer_of_nvidia_smi() -> None:
    answer = "123, 400\n124, [N/A]\n123, 100\nNo running processes found\n\n"
    assert parse_gpu_memory(answer) == {123: 500 * MIB}


@pytest.mark.parametrize(("script", "used"), [("echo '7, 10'; echo '9, 5'", 10 * MIB), ("exit 9", None)])
def test_gpu_memory_is_asked_for_without_waiting(
    tmp_path: Path, machine: Machine, script: str, used: int | None
) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    gpu = GpuMemory(str(command))
    made = sampler(tmp_path / "r.jsonl", machine, gpu)
    machine.set(7, 1.0, MIB)
    made.sample(0.0, {CHIEF: 7})
    assert gpu.of([7]) is None
    wait_until(lambda: gpu._asked is not None and gpu._asked.poll() is not None, "its answer")
    made.sample(2.0, {CHIEF: 7})
    assert gpu.of([7]) == used
    assert lines(tmp_path / "r.jsonl")[1]["gpu_memory_bytes"] == used
    assert made.peaks()[CHIEF].gpu_memory_bytes == used
    made.close()


def test_a_process_is_measured_as_psutil_measures_it() -> None:
    held = bytearray(64 << 20)
    held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])
    usage = process_usage(os.getpid())
    spent = psutil.Process().cpu_times()
    assert usage is not None
    assert len(held) < usage.resident == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    assert 0 < usage.cpu_seconds <= sum(spent[:4]) + 0.02


def test_a_dead_process_uses_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_usage(child.pid) is None  # a zombie
    child.wait()
    assert process_usage(child.pid) is None

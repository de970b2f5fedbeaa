"""When a warning about memory is due: scripted histories."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from orchestrator.launch.memory_watch import MemoryUse, MemoryWatch, least_room, warning
from tests.launch.jobs import task

GIB = 2**30
LIMIT = 10 * GIB


def history(gibibytes: Iterable[float], step: float = 2.0, limit: int = LIMIT) -> list[MemoryUse]:
    return [MemoryUse(step * i, round(amount * GIB), limit) for i, amount in enumerate(gibibytes)]


STEADY = [6 + 0.02 * i for i in range(60)]
"""6 to 7.2 GiB in two minutes."""


def test_steady_growth_that_reaches_the_limit_soon_is_told_with_its_pace() -> None:
    text = warning(history(STEADY))
    assert text is not None
    assert text.endswith("and grows by 614 MiB a minute: full in 5 min")
    assert text.startswith("uses 7.2 GiB of 10 GiB")


@pytest.mark.parametrize(
    "amounts",
    [
        pytest.param([], id="no sample"),
        pytest.param(STEADY[:20], id="too short a time"),
        pytest.param([8.5] * 60, id="much, but level"),
        pytest.param([4 * i / 60 for i in range(60)], id="growth far below the limit"),
        pytest.param([6 + 0.0005 * i for i in range(60)], id="growth that takes hours"),
        pytest.param([6, 8] * 30, id="up and down"),
        pytest.param([6] * 20 + [8] * 10 + [6] * 30, id="a peak that has passed"),
        pytest.param([8 - 0.02 * i for i in range(60)], id="less and less"),
    ],
)
def test_nothing_to_say(amounts: list[float]) -> None:
    assert warning(history(amounts)) is None


def test_nine_tenths_are_told_at_once() -> None:
    assert warning(history([9])) == "uses 9.0 GiB of 10 GiB"
    assert warning(history([8.9])) is None


def test_the_two_limits_are_told_once_each() -> None:
    worker, ps = task("worker-0"), task("ps-0")
    used_here = GIB
    watch = MemoryWatch(lambda: ("this machine", used_here, LIMIT))
    assert watch.look(0.0, {worker: 3 * GIB, ps: 9 * GIB}, {worker: 4 * GIB}) == []
    found = watch.look(2.0, {worker: round(3.7 * GIB), ps: 9 * GIB}, {worker: 4 * GIB})
    assert found == ["memory: worker-0 uses 3.7 GiB of 4.0 GiB, its resources.memory"]
    used_here = round(9.5 * GIB)
    found = watch.look(4.0, {worker: 4 * GIB}, {worker: 4 * GIB})
    assert found == ["memory: this machine uses 9.5 GiB of 10 GiB"]
    assert watch.look(6.0, {worker: 4 * GIB}, {worker: 4 * GIB}) == []
    assert watch.look(8.0, {}, {}) == []


@pytest.mark.parametrize(
    ("line", "folder", "unlimited", "names"),
    [
        ("0::/", "", "max", ("memory.max", "memory.current", "inactive_file")),
        ("0::/jobs/mine", "jobs", "max", ("memory.max", "memory.current", "inactive_file")),
        (
            "4:cpu,memory:/jobs",
            "memory/jobs",
            "9223372036854771712",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ],
)
def test_the_room_of_the_machine_and_of_a_control_group(
    tmp_path: Path, line: str, folder: str, unlimited: str, names: tuple[str, str, str]
) -> None:
    meminfo, own, groups = tmp_path / "meminfo", tmp_path / "own", tmp_path / "groups"
    meminfo.write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\n")
    own.write_text(f"9:name=systemd:/\n{line}\n")
    place = groups / folder
    place.mkdir(parents=True)
    limit, used, cached = names
    assert least_room(meminfo, groups, own) == ("this machine", 600 * 1024, 1000 * 1024)
    (place / limit).write_text(f"{unlimited}\n")
    (place / used).write_text("290000\n")
    (place / "memory.stat").write_text(f"anon 1\ninactive_file 7\n{cached} 40000\nactive_file 3\n")
    assert least_room(meminfo, groups, own)[0] == "this machine"
    (place / limit).write_text("300000\n")
    (place / "memory.stat").write_text(f"anon 1\n{cached} 40000\nactive_file 3\n")
    assert least_room(meminfo, groups, own) == ("this control group", 250000, 300000)
    assert least_room(tmp_path / "none", groups, own) == ("this machine", 0, 0)
    assert least_room(meminfo, groups, tmp_path / "none")[0] == "this machine"


def test_this_machine_has_memory() -> None:
    _, used, there = least_room()
    assert 0 < used < there

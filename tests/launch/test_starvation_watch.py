"""When training waits for its input: scripted histories."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.launch.starvation_watch import Activity, StarvationWatch, starves
from tests.launch.jobs import task

CHIEF, PS, EVALUATOR = task("chief-0"), task("ps-0"), task("evaluator-0")
WAITING = [Activity(2.0 * i, steps=3 * i, cpu_percent=10.0, idle_share=0.8) for i in range(40)]


def test_idle_tasks_that_step_beside_free_processors_wait_for_input() -> None:
    assert starves(WAITING)


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([], id="no sample"),
        pytest.param(WAITING[:20], id="too short a time"),
        pytest.param([replace(a, cpu_percent=90.0) for a in WAITING], id="busy"),
        pytest.param([*WAITING[:-1], replace(WAITING[-1], cpu_percent=90.0)], id="busy just now"),
        pytest.param([replace(a, idle_share=0.1) for a in WAITING], id="no processor is free"),
        pytest.param([replace(a, steps=None) for a in WAITING], id="starting or saving"),
        pytest.param([*WAITING[:-9], *(replace(a, steps=None) for a in WAITING[-9:])], id="saving now"),
        pytest.param([replace(a, steps=7) for a in WAITING], id="no step is taken: hung, which others tell"),
    ],
)
def test_nothing_to_say(history: list[Activity]) -> None:
    assert not starves(history)


def machine(path: Path, idle: int, busy: int) -> Path:
    path.write_text(f"cpu {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 1 1 1\n")
    return path


@pytest.mark.parametrize("text", ["", "cpu 1 2 3\n", "cpu a b c d e\n"])
def test_a_machine_that_tells_nothing_is_no_reason_to_fail(tmp_path: Path, text: str) -> None:
    (tmp_path / "stat").write_text(text)
    watch = StarvationWatch(tmp_path / "stat")
    assert [watch.look(2.0 * i, {CHIEF: 5.0}, {CHIEF: i}, [CHIEF]) for i in range(3)] == [[], [], []]


@pytest.mark.parametrize(
    ("expected", "percent_of_ps", "told"),
    [
        ((CHIEF, PS, EVALUATOR), 5.0, 1),
        ((CHIEF, PS), 95.0, 0),  # the ps computes
        ((CHIEF, PS, task("worker-0")), 5.0, 0),  # one runs elsewhere
    ],
)
def test_it_is_told_once_and_only_where_every_task_is_seen(
    tmp_path: Path, expected: tuple[object, ...], percent_of_ps: float, told: int
) -> None:
    stat = machine(tmp_path / "stat", 0, 0)
    watch = StarvationWatch(stat)
    found = []
    for i in range(80):
        machine(stat, 90 * i, 10 * i)
        percents = {CHIEF: 20.0 if i else None, PS: percent_of_ps, EVALUATOR: 100.0}
        found += watch.look(2.0 * i, percents, {CHIEF: i}, expected)  # type: ignore[arg-type]
    assert len(found) == told
    assert all("training waits for its input" in text for text in found)

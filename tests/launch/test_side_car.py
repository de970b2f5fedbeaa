"""Programs beside a job: started again a few times, ended with it, no matter of the job's."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.launch.process_record import recorded
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.side_car import MOST_RESTARTS, SideCar
from tests.launch.local_runs import alive, environment, wait_until


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "run")
    made.create()
    return made


@pytest.fixture
def made() -> Iterator[list[SideCar]]:
    cars: list[SideCar] = []
    yield cars
    for car in cars:
        car.close()
        car.close()


def side_car(made: list[SideCar], run_dir: RunDir, *command: str) -> SideCar:
    made.append(SideCar("board", command, run_dir=run_dir.path, environ=environment(MARK="set")))
    return made[-1]


def pid_of(car: SideCar) -> int:
    assert car.pid is not None
    return car.pid


def written(path: Path, text: str) -> None:
    wait_until(lambda: path.exists() and text in path.read_text(), f"'{text}' in {path.name}")


def test_it_starts_at_the_first_beat_with_its_environment_and_log(
    made: list[SideCar], run_dir: RunDir
) -> None:
    car = side_car(made, run_dir, "sh", "-c", "echo mark $MARK; exec sleep 1000")
    assert car.pid is None
    assert car.beat(0.0) is None
    written(car.log_path, "mark set")
    assert os.getpriority(os.PRIO_PROCESS, pid_of(car)) > 0
    assert [(found.label, found.identity.pid) for found in recorded(run_dir.processes)] == [
        ("board", pid_of(car))
    ]
    assert car.beat(1000.0) is None


def test_it_is_started_again_after_a_growing_pause_then_left(made: list[SideCar], run_dir: RunDir) -> None:
    car = side_car(made, run_dir, "sh", "-c", "exit 7")
    now, said, starts = 0.0, None, []
    while said is None:
        before = car.pid
        said = car.beat(now)
        if car.pid is not None and car.pid != before:
            starts.append(now)
            wait_until(
                lambda: os.waitid(os.P_PID, pid_of(car), os.WEXITED | os.WNOWAIT) is not None, "its end"
            )
        now += 0.5
    assert said.startswith(f"board ended with exit code 7, after {MOST_RESTARTS} restarts")
    assert len(starts) == 1 + MOST_RESTARTS
    pauses = [late - early for early, late in itertools.pairwise(starts)]
    assert pauses == sorted(pauses)
    assert pauses[-1] > pauses[0]
    assert car.beat(now + 1e6) is None
    assert car.pid is None


def test_a_killed_one_is_started_again_and_what_it_had_started_is_gone(
    made: list[SideCar], run_dir: RunDir, tmp_path: Path
) -> None:
    car = side_car(made, run_dir, "sh", "-c", f"sleep 1000 & echo $! >> {tmp_path}/child; echo up; wait")
    car.beat(0.0)
    written(car.log_path, "up")
    first, child = pid_of(car), int((tmp_path / "child").read_text())
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not alive(first), "its end")
    assert car.beat(1.0) is None
    wait_until(lambda: not alive(child), "the end of its child")
    assert car.beat(1e6) is None
    assert pid_of(car) != first


@pytest.mark.parametrize("deaf", [False, True])
def test_closing_ends_it_with_what_it_has_started(
    made: list[SideCar], run_dir: RunDir, tmp_path: Path, deaf: bool
) -> None:
    ignore = "trap '' TERM; " if deaf else ""
    car = side_car(
        made, run_dir, "sh", "-c", f"{ignore}sleep 1000 & echo $! > {tmp_path}/child; echo up; wait"
    )
    car.beat(0.0)
    written(car.log_path, "up")
    pids = [pid_of(car), int((tmp_path / "child").read_text())]
    car.close()
    wait_until(lambda: not any(map(alive, pids)), "its end")
    assert car.beat(1e6) is None
    assert car.pid is None


def test_a_command_that_is_not_there_is_told_once_at_the_end(made: list[SideCar], run_dir: RunDir) -> None:
    car = side_car(made, run_dir, "no-such-program-anywhere")
    now, said = 0.0, None
    while said is None:
        said = car.beat(now)
        if car.pid is not None:
            wait_until(
                lambda: os.waitid(os.P_PID, pid_of(car), os.WEXITED | os.WNOWAIT) is not None, "its end"
            )
        now += 1.0
    assert "exit code 127" in said
    assert "no such command" in car.log_path.read_text()


def test_a_log_that_cannot_be_opened_is_told_and_nothing_else(made: list[SideCar], run_dir: RunDir) -> None:
    car = side_car(made, run_dir, sys.executable, "-c", "pass")
    run_dir.logs.rmdir()
    assert (car.beat(0.0) or "").startswith("board cannot be started: No such file")
    assert car.beat(1e6) is None

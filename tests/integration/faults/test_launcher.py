"""What happens to the launcher itself: signals, a closed terminal, a machine that stands still."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import tensorflow as tf

from orchestrator.launch.process_tree import processes_of_run
from tests.integration.faults.aftermath import assert_finished, assert_nothing_left
from tests.integration.faults.strategies import FAULT_STEP, STRATEGIES, Strategy, start
from tests.integration.faults.terminal import OnTerminal
from tests.integration.faults.times import Row, record
from tests.integration.launched import Launched

pytest.importorskip("sklearn", reason="the digits come from scikit-learn")
pytestmark = [pytest.mark.timeout(1200), pytest.mark.faults]
ALL = [pytest.param(strategy, id=name) for name, strategy in STRATEGIES.items()]
SEVERAL = [pytest.param(STRATEGIES[name], id=name) for name in ("multi_worker", "parameter_server")]
SELDOM = 100_000
"""Steps between two checkpoints where only a stop request can be the reason for one."""


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("digits")


def assert_stopped(run: Launched, strategy: Strategy, place: Path, code: int) -> None:
    """The launcher has ended so, and experiments have left a checkpoint of the step they had reached."""
    assert run.wait() == code, run.output
    assert run.summary["state"] == "stopped"
    if strategy.is_experiment:
        newest = tf.train.latest_checkpoint(str(place / "model"))
        assert newest is not None
        assert int(newest.rpartition("-")[2]) >= FAULT_STEP, "no checkpoint was written for the request"
    assert_nothing_left(run, place)


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_request_to_the_launcher_becomes_a_checkpoint(
    tmp_path: Path, digits_dir: Path, strategy: Strategy, number: int, code: int
) -> None:
    began = time.monotonic()
    with start(tmp_path, strategy, digits_dir, checkpoint_steps=SELDOM) as run:
        run.wait_for_step(FAULT_STEP)
        asked = time.monotonic()
        run.signal(number)
        assert_stopped(run, strategy, tmp_path, code)
        took = time.monotonic() - asked
    what = signal.Signals(number).name
    outcome = f"stopped, exit code {code}, {took:.1f} s later"
    record(Row(strategy.name, "launcher", what, None, outcome, time.monotonic() - began))


@pytest.mark.parametrize("strategy", ALL)
def test_a_terminal_that_is_closed_is_a_request_too(
    tmp_path: Path, digits_dir: Path, strategy: Strategy
) -> None:
    began = time.monotonic()
    with start(tmp_path, strategy, digits_dir, checkpoint_steps=SELDOM, terminal=True) as run:
        assert isinstance(run, OnTerminal)
        run.wait_for_step(FAULT_STEP)
        run.close_terminal()
        assert_stopped(run, strategy, tmp_path, 143)
    record(Row(strategy.name, "launcher", "terminal closed", None, "stopped", time.monotonic() - began))


@pytest.mark.parametrize("strategy", ALL)
def test_a_killed_launcher_leaves_nothing_and_the_next_run_goes_on(
    tmp_path: Path, digits_dir: Path, strategy: Strategy
) -> None:
    began = time.monotonic()
    with start(tmp_path, strategy, digits_dir, name="first") as run:
        run.wait_for_checkpoint(20)
        killed = time.monotonic()
        run.signal(signal.SIGKILL)
        run.process.wait(240)
        run.wait_until_nothing_is_left()
        gone = time.monotonic() - killed
        assert_nothing_left(run, tmp_path)
    (tmp_path / "release").touch()
    with start(tmp_path, strategy, digits_dir, name="second") as run:
        assert_finished(run, strategy, tmp_path)
        assert "took over the model directory" in run.output
    assert int((tmp_path / "first-steps-chief-0").read_text().split()[-1]) >= 20
    outcome = f"nothing left after {gone:.1f} s"
    record(Row(strategy.name, "launcher", "SIGKILL", None, outcome, time.monotonic() - began))


@pytest.mark.parametrize("strategy", SEVERAL)
def test_a_machine_that_stands_still_restarts_nothing(
    tmp_path: Path, digits_dir: Path, strategy: Strategy
) -> None:
    with start(tmp_path, strategy, digits_dir) as run:
        run.wait_for_step(FAULT_STEP)
        stopped = {run.process.pid, *(entry.pid for entry in processes_of_run(run.run_dir.path))}
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(25)  # longer than the limit of a hang
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        (tmp_path / "release").touch()
        assert_finished(run, strategy, tmp_path)
        assert run.restarts() == []

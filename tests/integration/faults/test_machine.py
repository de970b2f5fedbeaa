"""The machine fails training: full disk, lost model directory, damaged checkpoint, jumping clock."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import tensorflow as tf

from orchestrator.cluster.records import Phase
from orchestrator.launch.job import StrategyKind
from orchestrator.launch.snapshot import RunPhase
from orchestrator.launch.supervisor import Supervisor
from orchestrator.testing import FakeClock, FakeLauncher, TaskScript
from orchestrator.testing.script import ends, progress
from tests.integration.faults.aftermath import assert_finished, assert_nothing_left
from tests.integration.faults.strategies import FAULT_STEP, STRATEGIES, Strategy, start
from tests.integration.launched import COMMAND_LINE, Launched
from tests.launch.jobs import make_job

pytest.importorskip("sklearn", reason="the digits come from scikit-learn")
pytestmark = pytest.mark.timeout(1200)
DAY = 86400.0
SAVING = [pytest.param(STRATEGIES[name], id=name) for name in ("none", "multi_worker", "parameter_server")]


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("digits")


def on_a_small_disk(model: Path) -> list[str]:
    """The start of a command that sees a file system of 1 MiB there, and nobody else does; or skips."""
    model.mkdir(exist_ok=True)
    user = [] if os.getuid() == 0 else ["--map-root-user"]
    script = f'mount -t tmpfs -o size=1m tmpfs "{model}" && exec "$@"'
    command = ["unshare", *user, "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if tried.returncode != 0:
        pytest.skip(f"a file system cannot be mounted in a namespace here: {tried.stderr.strip()}")
    return command


@pytest.mark.faults
def test_a_disk_that_is_full_is_named(
    tmp_path: Path, digits_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = (*on_a_small_disk(tmp_path / "model"), *COMMAND_LINE)
    monkeypatch.setattr("tests.integration.launched.COMMAND_LINE", small)
    (tmp_path / "release").touch()
    with start(tmp_path, STRATEGIES["none"], digits_dir, "--set", "run_policy.max_restarts=1") as run:
        assert run.wait() == 1, run.output
        verdict = run.output.split("digits: failed after", 1)[1]
        assert "No space left on device" in verdict
        assert_nothing_left(run, tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("strategy", SAVING)
def test_a_model_directory_that_is_deleted_is_made_again(
    tmp_path: Path, digits_dir: Path, strategy: Strategy
) -> None:
    with start(tmp_path, strategy, digits_dir) as run:
        run.wait_for_step(FAULT_STEP)
        delete(tmp_path / "model")
        (tmp_path / "release").touch()
        assert run.wait() == 0, run.output
        assert run.summary["state"] == "succeeded"
        assert "was removed or replaced" in run.output or run.restarts() == []
        newest = tf.train.latest_checkpoint(str(tmp_path / "model"))
        assert newest is not None
        assert_nothing_left(run, tmp_path)


def delete(place: Path) -> None:
    """Removes a directory that others still write to."""
    while place.exists():
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.faults
@pytest.mark.parametrize("strategy", SAVING)
def test_a_truncated_checkpoint_is_passed_over(tmp_path: Path, digits_dir: Path, strategy: Strategy) -> None:
    with start(tmp_path, strategy, digits_dir, name="first") as run:
        run.wait_for_checkpoint(40)
        stop(run)
    newest = tf.train.latest_checkpoint(str(tmp_path / "model"))
    assert newest is not None
    data = Path(newest + ".data-00000-of-00001")
    os.truncate(data, data.stat().st_size // 2)
    begun = tmp_path / "first-steps-chief-0"
    begun.unlink()
    (tmp_path / "release").touch()
    with start(tmp_path, strategy, digits_dir, name="second") as run:
        assert_finished(run, strategy, tmp_path)
        assert "A damaged checkpoint is passed over" in run.output
        assert run.restarts() == []
    assert 0 < int(begun.read_text().split()[0]) < int(newest.rpartition("-")[2])


def stop(run: Launched) -> None:
    """Asks for the end and waits for it."""
    run.process.terminate()
    assert run.wait() == 143, run.output


def test_a_launcher_that_stood_still_blames_nobody(tmp_path: Path) -> None:
    class Held(FakeClock):
        held = False

        def advance(self, seconds: float) -> None:
            super().advance(seconds)
            if not self.held and self.monotonic() > 1020.0:
                self.held = True
                super().advance(DAY)

    steps = [progress(at, at, max_steps=60) for at in (1, 10, DAY + 25)]
    trains = TaskScript.of(*steps, progress(DAY + 30, 60, max_steps=60, phase=Phase.DONE), ends(DAY + 31))
    clock = Held()
    launcher = FakeLauncher(clock, {"chief-0": trains})
    job = make_job(tmp_path / "run", StrategyKind.SINGLE, chief=1)
    result = Supervisor(launcher, job, clock=clock, rng=random.Random(7)).run()
    assert clock.held
    assert (result.phase, result.restarts) == (RunPhase.SUCCEEDED, 0)


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_clock_that_jumps_ends_nothing(tmp_path: Path, jump: float) -> None:
    class Jumping(FakeClock):
        jumped = False

        def advance(self, seconds: float) -> None:
            super().advance(seconds)
            if not self.jumped and self.monotonic() > 1020.0:
                self.jumped = True
                self.jump(jump)

    steps = [progress(at, at, max_steps=60) for at in range(1, 60)]
    trains = TaskScript.of(*steps, progress(60, 60, max_steps=60, phase=Phase.DONE), ends(61))
    job = make_job(tmp_path / "run", StrategyKind.SYNCHRONOUS, chief=1, worker=1)
    clock = Jumping()
    launcher = FakeLauncher(clock, {"chief-0": trains, "worker-0": trains})
    result = Supervisor(launcher, job, clock=clock, rng=random.Random(7)).run()
    assert clock.jumped
    assert (result.phase, result.restarts) == (RunPhase.SUCCEEDED, 0)
    assert result.seconds == pytest.approx(61, abs=2)

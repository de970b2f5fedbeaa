from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.data.file_lock import hold_file_lock
from orchestrator.errors import EnvironmentProblem, WaitTimeout

HOLDER = """
import sys, time
from pathlib import Path
from orchestrator.data.file_lock import hold_file_lock
with hold_file_lock(Path(sys.argv[1]), "hold", 10, say=print):
    print("held", flush=True)
    time.sleep(600)
"""


class Time:
    """A clock that moves when somebody sleeps, and may do something meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self.then: list[object] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.then and self.now >= 1.0:
            self.then.pop()()  # type: ignore[operator]


def test_a_holder_is_waited_for_and_the_wait_is_announced_once(tmp_path: Path) -> None:
    time, said = Time(), []
    first = hold_file_lock(tmp_path / "lock", "prepare mnist", 5, say=said.append)
    first.__enter__()
    time.then.append(lambda: first.__exit__(None, None, None))
    with hold_file_lock(
        tmp_path / "lock", "prepare mnist", 5, say=said.append, clock=time.clock, sleep=time.sleep
    ):
        assert time.now >= 1.0
    (text,) = said
    assert "at most 5 s to prepare mnist: process " in text
    assert str(tmp_path / "lock") in text


def test_the_limit_names_what_was_waited_for_and_who_holds_it(tmp_path: Path) -> None:
    time = Time()
    with (
        hold_file_lock(tmp_path / "lock", "prepare mnist", 5, say=print),
        pytest.raises(WaitTimeout, match=r"waited 5 s to prepare mnist: process \d+ on .* still holds"),
        hold_file_lock(tmp_path / "lock", "prepare mnist", 5, say=print, clock=time.clock, sleep=time.sleep),
    ):
        pytest.fail("the lock was given twice")
    with hold_file_lock(tmp_path / "lock", "prepare mnist", 0, say=print):
        pass


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(WaitTimeout, match=f"process {holder.pid} "),
            hold_file_lock(tmp_path / "lock", "go on", 0, say=print),
        ):
            pytest.fail("the lock was given twice")
        holder.send_signal(signal.SIGKILL)
        with hold_file_lock(tmp_path / "lock", "go on", 240, say=print):
            pass
    finally:
        holder.kill()
        holder.communicate()


def test_a_place_that_cannot_hold_a_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(EnvironmentProblem, match=r"cannot make the lock file .*file/lock: "),
        hold_file_lock(tmp_path / "file" / "lock", "go on", 0, say=print),
    ):
        pytest.fail("locked nothing")

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from orchestrator.experiments.stop_signals import SIGNALS, STOPPED, handle_signals, watch_control_pipe

CHILD = """
import os, sys, time
from orchestrator.experiments.stop_signals import watch_control_pipe
watch_control_pipe(int(sys.argv[1]), lambda: print("asked", flush=True))
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def handlers_restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks(handlers_restored: None, number: signal.Signals) -> None:
    asked: list[bool] = []
    handle_signals(lambda: asked.append(True))
    signal.raise_signal(number)
    signal.raise_signal(number)
    assert asked == [True, True]


def test_the_stop_byte_asks_and_the_pipe_stays_watched() -> None:
    reader, writer = os.pipe()
    asked = threading.Semaphore(0)
    watch_control_pipe(reader, asked.release)
    for _ in range(2):
        os.write(writer, b"S")
        assert asked.acquire(timeout=240)
    os.write(writer, b"x")
    assert not asked.acquire(timeout=0.2)


def test_a_descriptor_that_is_no_pipe_is_left_alone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    thread = watch_control_pipe(reader, lambda: pytest.fail("asked by nobody"))
    thread.join(240)
    assert not thread.is_alive()


def test_the_end_of_the_pipe_ends_the_process() -> None:
    reader, writer = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(reader)], pass_fds=[reader], stdout=subprocess.PIPE, text=True
    )
    try:
        os.close(reader)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        os.write(writer, b"S")
        assert child.stdout.readline() == "asked\n"
        os.close(writer)
        assert child.wait(240) == STOPPED
    finally:
        child.kill()
        child.communicate()

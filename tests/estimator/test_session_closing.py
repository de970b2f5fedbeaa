"""A process whose input pipeline still holds its session ends with its own exit code."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import threading
from orchestrator.estimator import session_closing

class HeldSession:
    def __init__(self):
        self.released = threading.Event()
    def release_in(self, seconds):
        timer = threading.Timer(seconds, self.released.set)
        timer.daemon = True
        timer.start()
    def close(self):
        self.released.wait(240)
        print("closed", flush=True)

session_closing._PATIENCE_SECONDS = 0.05
session = HeldSession()
session_closing.close_quietly(session)
print("goes on", flush=True)
session.release_in(2.0)
"""


def test_the_interpreter_waits_for_a_session_that_is_being_closed() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["goes on", "closed"]

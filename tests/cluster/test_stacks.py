from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from orchestrator.cluster.records import TaskEnvironment
from orchestrator.cluster.stacks import own_frame, register, stack_path, stacks
from orchestrator.cluster.task import TaskId

IN_TENSORFLOW = """\
Thread 0x00007f0001 (most recent call first):
  File "/p/orchestrator/experiments/stop_signals.py", line 45 in _read
  File "/usr/lib/python3.11/threading.py", line 975 in run

Current thread 0x00007f0002 (most recent call first):
  File "/site-packages/tensorflow/python/client/session.py", line 1477 in _call_tf_sessionrun
  File "/p/train.py", line 12 in main
"""
IN_OWN_CODE = """\
Current thread 0x00007f0002 (most recent call first):
  File "/p/read data.py", line 3 in read
  File "/site-packages/tensorflow/python/client/session.py", line 1477 in run
"""
IN_A_CALLBACK = """\
Thread 0x00007f0003 [generator] (most recent call first):
  File "/p/rows.py", line 7 in rows
  File "/site-packages/tensorflow/python/ops/script_ops.py", line 270 in __call__

Thread 0x00007f0002 (most recent call first):
  File "/site-packages/tensorflow/python/client/session.py", line 1477 in run
"""
PROGRAM = """
import os, sys, time
from orchestrator.cluster.records import TaskEnvironment
from orchestrator.cluster.stacks import register
def dawdle():
    print("ready", flush=True)
    time.sleep(600)
register(TaskEnvironment.read(), os.getpid())
dawdle()
"""


def test_the_frame_at_which_a_program_is_busy() -> None:
    assert own_frame(IN_TENSORFLOW) is None, "it waits inside of TensorFlow"
    assert str(own_frame(IN_OWN_CODE)) == "read, read data.py:3"
    assert str(own_frame(IN_A_CALLBACK)) == "rows, rows.py:7", "an input generator runs in a thread"
    assert own_frame("") is None
    assert len(stacks(IN_A_CALLBACK)) == 2


def test_without_a_launcher_nothing_is_registered() -> None:
    assert register(None, 1) is None


def test_a_directory_that_cannot_be_made_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "tasks").write_text("a file")
    assert register(TaskEnvironment(tmp_path, TaskId.parse("chief-0"), 0), 1) is None


def test_a_registered_process_writes_its_stacks_and_lives_on(tmp_path: Path) -> None:
    about = TaskEnvironment(tmp_path, TaskId.parse("worker-0"), 0)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=about.as_environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        path = stack_path(about.records.directory, process.pid)
        assert path.read_text() == ""
        process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + 240
        while own_frame(path.read_text()) is None:
            assert time.monotonic() < end, "no stacks were written"
            time.sleep(0.05)
        assert "dawdle" in str(own_frame(path.read_text()))
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()

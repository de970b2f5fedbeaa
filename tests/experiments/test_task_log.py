from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import pytest

from orchestrator.experiments import task_log
from orchestrator.experiments.task_log import quiet_start

PROGRAM = """
from orchestrator.experiments import task_log
task_log.configure()
import logging, warnings
logging.getLogger("orchestrator").info("step %d", 3)
logging.getLogger("somebody").info("hidden")
logging.getLogger("tensorflow").warning("careful")
warnings.warn("old way")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("orchestrator").exception("broken")
"""


def test_each_message_is_a_line_with_its_time() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True
    )
    lines = [line[9:] if line[2:3] == ":" else line for line in done.stderr.splitlines()]
    assert lines[0] == "step 3"
    assert lines[1] == "warning: careful"
    assert lines[2].startswith("warning: UserWarning: old way (")
    assert lines[3] == "error: broken"
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "hidden" not in done.stderr
    assert done.stdout == ""


def shown(path: str, message: str, *args: Any, level: int = logging.INFO) -> bool:
    record = logging.LogRecord("tensorflow", level, path, 1, message, args, None)
    return ONE_TASK.filter(record)


ONE_TASK = task_log._WithoutInnerAffairs()
PACKAGE = str(task_log._TENSORFLOW)


@pytest.mark.parametrize(
    ("path", "message", "expected"),
    [
        (f"{PACKAGE}/python/training/monitored_session.py", "Graph was finalized.", False),
        (f"{PACKAGE}/python/training/basic_session_run_hooks.py", "loss = 1", True),
        (f"{PACKAGE}/python/training/basic_session_run_hooks.py", "Create CheckpointSaverHook.", False),
        ("/home/me/tensorflow/train.py", "my own words", True),
        (f"{task_log._OURS}/estimator/training.py", "Loss for final step: 1", True),
    ],
)
def test_tensorflow_keeps_its_own_steps_to_itself(path: str, message: str, expected: bool) -> None:
    assert shown(path, message) is expected


def test_only_the_first_restore_is_told() -> None:
    saver = f"{PACKAGE}/python/training/saver.py"
    assert [shown(saver, "Restoring parameters from %s", n) for n in (1, 2, 3)] == [True, False, False]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (f"{PACKAGE}/python/ops/x.py:3", False),
        (f"{task_log._OURS}/estimator/x.py:3", False),
        ("/home/me/train.py:3", True),
    ],
)
def test_deprecations_are_told_to_those_who_can_act(place: str, expected: bool) -> None:
    deprecation = f"{PACKAGE}/python/util/deprecation.py"
    assert shown(deprecation, "From %s: old", place, level=logging.WARNING) is expected


def test_tensorflows_warnings_are_shown() -> None:
    assert shown(f"{PACKAGE}/python/x.py", "careful", level=logging.WARNING)


def test_what_the_user_chose_for_tensorflow_stays() -> None:
    environ = {"TF_CPP_MIN_LOG_LEVEL": "0"}
    quiet_start(environ)
    assert environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    quiet_start(empty := {})
    assert empty["TF_CPP_MIN_LOG_LEVEL"] == "2"

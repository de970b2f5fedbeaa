from __future__ import annotations

import logging
import subprocess
import sys

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


def test_what_the_user_chose_for_tensorflow_stays() -> None:
    environ = {"TF_CPP_MIN_LOG_LEVEL": "0"}
    quiet_start(environ)
    assert environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    quiet_start(empty := {})
    assert empty["TF_CPP_MIN_LOG_LEVEL"] == "2"
    assert logging.getLogger("orchestrator") is not None

from __future__ import annotations

import subprocess
import sys

from orchestrator.launch.process_marks import PLACEHOLDER
from tests.launch.local_runs import LIMIT, environment

WRITE = """
import os, sys
from pathlib import Path
from orchestrator.launch.process_marks import write_mark, write_title
print(write_mark(sys.argv[1]), write_mark("again"))
write_title(sys.argv[2:-1])
own = Path("/proc/self")
print([v.decode() for v in (own / "environ").read_bytes().split(b"\\0") if b"ORCHESTRATOR" in v])
print(ascii((own / "cmdline").read_bytes().rstrip(b"\\0").decode()))
sys.stdout.flush()
child = os.fork()
if child == 0:
    print(sum(b"ORCHESTRATOR_TASK=worker-1" in v for v in (own / "environ").read_bytes().split(b"\\0")))
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
"""


def marked(task: str, *title: str, placeholder: str | None = PLACEHOLDER) -> list[str]:
    env = environment(**({} if placeholder is None else {"ORCHESTRATOR_TASK": placeholder}), AFTER="kept")
    command = [sys.executable, "-c", WRITE, task, *title, " " * 50]
    return subprocess.check_output(command, text=True, env=env, timeout=LIMIT).splitlines()


def test_a_forked_process_shows_its_task_and_so_do_its_children() -> None:
    lines = marked("worker-1", "python", "train.py")
    assert lines[:3] == ["True False", "['ORCHESTRATOR_TASK=worker-1']", r"'python\x00train.py'"]
    assert lines[3:] == ["1"]


def test_a_name_without_room_is_not_written() -> None:
    assert marked("worker-1", placeholder=None)[0] == "False False"
    assert marked("worker-1", placeholder="worker-0")[:2] == ["False False", "['ORCHESTRATOR_TASK=worker-0']"]
    assert marked("w" * 65)[:2] == ["False True", "['ORCHESTRATOR_TASK=again']"]


def test_a_long_command_is_cut() -> None:
    title = marked("worker-1", "x" * 5000)[2]
    assert 50 < len(title) <= len(WRITE) + 5000 + 200
    assert set(title.strip("'")) == {"x"}

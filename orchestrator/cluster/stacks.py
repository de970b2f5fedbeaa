"""The Python stacks of a task, written to a file when the launcher asks for them.

A task registers once; from then on SIGUSR1 has the C library's side of Python
write the stack of every thread, also while the main thread is blocked inside
of TensorFlow. The file exists from the registration on: that is how the
launcher knows whom it may ask.
"""

from __future__ import annotations

import faulthandler
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from orchestrator.cluster.records import TaskEnvironment

ASK_SIGNAL = signal.SIGUSR1
"""What asks a task for its stacks."""
_THREAD = re.compile(r"^(Current thread|Thread) 0x")
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)$')
_LIBRARY = re.compile(r"/tensorflow/|/tf_keras/|/keras/")
_CALLED_BACK = re.compile(r"/tensorflow/python/ops/script_ops\.py$")

_open: list[IO[str]] = []  # what is registered must stay open


def stack_path(directory: Path, pid: int) -> Path:
    """Where the process `pid` of the task whose records lie in `directory` leaves its stacks."""
    return directory / f"stacks-{pid}.txt"


def register(environment: TaskEnvironment | None, pid: int) -> Path | None:
    """Has SIGUSR1 write the stacks of this process, whose id is `pid`; the file they go to.

    None without a launcher, or where the file cannot be made: a task without
    stacks trains as well.
    """
    if environment is None:
        return None
    path = stack_path(environment.records.directory, pid)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a", encoding="utf-8")
    except OSError:
        return None
    _open.append(stream)
    faulthandler.register(ASK_SIGNAL, file=stream, all_threads=True)
    return path


@dataclass(frozen=True)
class Frame:
    """One line of a stack."""

    file: str
    line: int
    function: str

    @property
    def in_library(self) -> bool:
        """It is TensorFlow's or Keras's own code."""
        return bool(_LIBRARY.search(self.file))

    def __str__(self) -> str:
        return f"{self.function}, {Path(self.file).name}:{self.line}"


def stacks(text: str) -> list[tuple[Frame, ...]]:
    """Every thread's frames in `text`, the innermost first; the main thread is the last of a dump."""
    threads: list[list[Frame]] = []
    for line in text.splitlines():
        if _THREAD.match(line):
            threads.append([])
            continue
        found = _FRAME.match(line)
        if found and threads:
            threads[-1].append(Frame(found["file"], int(found["line"]), found["function"]))
    return [tuple(frames) for frames in threads]


def own_frame(text: str) -> Frame | None:
    """Where the program's own code is busy; None where the task waits inside of TensorFlow, or told nothing.

    That is the main thread's innermost frame, or that of a Python function
    which TensorFlow calls back (an input generator, a `py_func`).
    """
    found = stacks(text)
    if not found:
        return None
    called_back = [s for s in found[:-1] if any(_CALLED_BACK.search(frame.file) for frame in s)]
    innermost = [stack[0] for stack in (found[-1], *called_back) if stack]
    return next((frame for frame in innermost if not frame.in_library), None)

"""What a program itself can do wrong in the middle of training, once."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from pathlib import Path
from typing import NoReturn

from orchestrator.cluster.records import ProgressRecord, TaskEnvironment, TaskRecords
from orchestrator.cluster.task import TaskId, TaskType

MESSAGE = "this record is broken"
KINDS = ("exception", "exit", "loop")


class Misdeed:
    """`exception:worker-0`: what is done, and by which task; `none` for nothing."""

    def __init__(self, text: str, marker: Path) -> None:
        self.kind, _, culprit = text.partition(":")
        self._marker = marker
        self.mine = culprit == os.environ.get("ORCHESTRATOR_TASK")

    @property
    def due(self) -> bool:
        """Whether this task is the one, and has not done it in an earlier life."""
        return self.mine and not self._marker.exists()

    def commit(self) -> NoReturn:
        """Does it; the marker keeps the next start from doing it again."""
        self._marker.touch()
        if self.kind == "exception":
            raise ValueError(MESSAGE)
        if self.kind == "exit":
            raise SystemExit(0)
        while True:
            pass

    def commit_in_main_thread_at(self, step: int) -> None:
        """For a server, whose main thread waits: it is raised there once the chief has come so far."""
        environment = TaskEnvironment.read()
        if environment is None or not self.due:
            return
        chief = TaskRecords.of(environment.run_dir, TaskId(TaskType.CHIEF, 0))
        thread_id = threading.get_ident()

        def wait_and_raise() -> None:
            while True:
                record = chief.read(ProgressRecord)
                if record is not None and record.step is not None and record.step >= step:
                    break
                time.sleep(0.05)
            self._marker.touch()
            raised = ValueError if self.kind == "exception" else SystemExit
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(raised))

        threading.Thread(target=wait_and_raise, daemon=True).start()

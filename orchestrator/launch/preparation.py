"""What runs once, to its end, before the tasks start."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.cluster.records import ExitRecord
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch import log_stream
from orchestrator.launch.clock import Clock
from orchestrator.launch.incidents import TAIL_LINES
from orchestrator.launch.job import Job
from orchestrator.launch.launcher import Launcher, PreparationExited, TaskEvent
from orchestrator.launch.root_cause import RootCause, TaskEnd
from orchestrator.launch.run_dir import RunDir

POLL_SECONDS = 0.5
_NAME = "the preparation of the data"


def run_preparation(
    launcher: Launcher,
    job: Job,
    clock: Clock,
    tell: Callable[[TaskEvent], None],
    stopped: Callable[[], bool],
) -> RootCause | None:
    """Carries out the job's prepare command; the cause when it failed, else None.

    It may take as long as the start of a task (`start_timeout_seconds`). Comes
    back at once when `stopped` says so; `Launcher.close` then ends the command.
    """
    limit = job.policy.start_timeout_seconds
    deadline = clock.monotonic() + limit
    launcher.prepare(job)
    while not stopped():
        for event in launcher.poll(POLL_SECONDS):
            tell(event)
            if isinstance(event, PreparationExited):
                return None if event.record.code == 0 else _cause(job, event.record, None)
        if clock.monotonic() >= deadline:
            return _cause(job, None, f"did not end within {limit:g} s")
    return None


def _cause(job: Job, record: ExitRecord | None, reason: str | None) -> RootCause:
    path = RunDir(job.run_dir).preparation_log
    end = TaskEnd(
        task=TaskId(TaskType.CHIEF, 0),
        label=_NAME,
        exit=record,
        log_tail=log_stream.tail(path, TAIL_LINES),
        log_path=str(path),
        reason=reason,
    )
    return RootCause(end)

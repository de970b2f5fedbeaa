"""Watches for tasks that make no progress: asks for stacks, names the task at fault, and ends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.cluster.task import TaskId
from orchestrator.launch import uneven_data
from orchestrator.launch.events import EventKind
from orchestrator.launch.hangs import (
    MOMENT_SECONDS,
    Stall,
    Suspicion,
    Watched,
    find_culprit,
    find_stalls,
    find_suspended,
    progress_mark,
)
from orchestrator.launch.job import Job
from orchestrator.launch.launcher import Launcher, StackFile, StopKind
from orchestrator.launch.root_cause import THIS_MACHINE
from orchestrator.launch.run_journal import RunJournal
from orchestrator.launch.task_table import TaskRow, TaskTable

ANSWER_SECONDS = 10.0
"""How long tasks may take to write their stacks; none is waited for that has answered."""
_MOST_BYTES = 1 << 20
_LONGEST_LOOK = 5.0
"""No more is counted between two looks: the launcher itself may have been held."""


@dataclass
class _Seen:
    start: int
    mark: tuple[object, ...]
    changed_at: float
    unwatched: float = 0.0
    """Seconds that do not count, since the launcher was held: the tasks may have been, too."""
    suspended_for: float = 0.0
    told: bool = False
    """That it is suspended was said."""


@dataclass(frozen=True)
class _Inquiry:
    """Tasks were asked for their stacks."""

    stalls: tuple[Stall, ...]
    until: float
    files: Mapping[TaskId, StackFile]
    """Where each of those asked writes."""

    def answers(self) -> dict[TaskId, str]:
        """What was written since."""
        found = {task: _written_since(file) for task, file in self.files.items()}
        return {task: text for task, text in found.items() if text}


class HangWatch:
    """Looks at every turn of the supervisor; the restart policy judges what it has ended."""

    def __init__(self, job: Job, table: TaskTable, launcher: Launcher, journal: RunJournal) -> None:
        self._job = job
        self._table = table
        self._launcher = launcher
        self._journal = journal
        self._seen: dict[TaskId, _Seen] = {}
        self._inquiry: _Inquiry | None = None
        self._looked_at: float | None = None

    def look(self, now: float) -> None:
        """Notes progress, and acts on a limit that has passed. Times are monotonic seconds."""
        passed = 0.0 if self._looked_at is None else now - self._looked_at
        since = min(passed, _LONGEST_LOOK)
        self._looked_at = now
        for seen in self._seen.values():
            seen.unwatched += passed - since
            seen.changed_at += passed - since
        rows = [row for row in self._table if row.running and row.end_reason is None]
        tasks = [self._watched(row, now, since) for row in rows]
        if any(row.end_reason is not None and row.running for row in self._table):
            return  # somebody is being ended for it: first see what becomes of the others
        stalls = find_stalls(tasks, self._job.policy, now)
        suspended = find_suspended(tasks, self._job.policy, stalled=bool(stalls))
        if suspended is not None:
            self._inquiry = None
            self._end(suspended, now)
        elif not stalls:
            self._inquiry = None
        elif self._inquiry is None:
            self._inquire(stalls, now)
        else:
            self._conclude(self._inquiry, stalls, tasks, now)

    def _watched(self, row: TaskRow, now: float, since: float) -> Watched:
        mark = progress_mark(row.progress)
        seen = self._seen.get(row.task)
        if seen is None or seen.start != row.starts:
            self._seen[row.task] = seen = _Seen(row.starts, mark, now)
        elif seen.mark != mark:
            seen.mark, seen.changed_at = mark, now
        self._note_suspended(row, seen, since)
        return Watched(
            row.task,
            row.started_at + seen.unwatched,
            row.progress,
            seen.changed_at,
            row.stepped,
            self._job.is_experiment,
            seen.suspended_for,
        )

    def _note_suspended(self, row: TaskRow, seen: _Seen, since: float) -> None:
        """Counts the seconds `since` the last look, and says once that a task is held."""
        held = row.suspended and not row.stop_requested
        seen.suspended_for = seen.suspended_for + since if held else 0.0
        limit = self._job.policy.hang_seconds.suspended
        if held and not seen.told and seen.suspended_for >= MOMENT_SECONDS:
            seen.told = True
            left = "" if limit is None else f"; it is ended in {max(0.0, limit - seen.suspended_for):.0f} s"
            where = "" if row.plan.host in THIS_MACHINE else f" on {row.plan.host}"
            process = f"process {row.pid}{where}; kill -CONT lets it go on"
            self._journal.note(f"{row.task} is held by SIGSTOP ({process}){left}", passing=True)
        elif seen.told and not held:
            seen.told = False
            self._journal.note(f"{row.task} goes on", passing=True)

    def _inquire(self, stalls: list[Stall], now: float) -> None:
        files = self._launcher.dump_stacks(self._table.running)
        self._inquiry = _Inquiry(tuple(stalls), now + ANSWER_SECONDS, files)
        asked = f"; asked {', '.join(map(str, files))} for stacks" if files else ""
        text = f"{stalls[0].task} {stalls[0].describe()}{asked}"
        self._journal.event(EventKind.TASK_HUNG, text, stalls[0].task)

    def _conclude(self, inquiry: _Inquiry, stalls: list[Stall], tasks: list[Watched], now: float) -> None:
        answers = inquiry.answers()
        silent = set(inquiry.files) - set(answers)
        if silent and now < inquiry.until:
            return
        self._inquiry = None
        early = uneven_data.early_end(self._table, self._job.strategy)
        if early is not None and early.end_reason is None:
            uneven_data.blame(early, self._table)
            return
        silent &= set(self._table.running)
        found = find_culprit(stalls, tasks, answers, self._job.policy, now, silent=silent)
        paths = [str(inquiry.files[task].path) for task in answers]
        if paths:
            self._journal.note(f"stacks at the hang: {', '.join(paths)}")
        self._end(found, now)

    def _end(self, found: Suspicion, now: float) -> None:
        self._table[found.task].end_reason = found.reason
        self._launcher.stop([found.task], StopKind.KILL)
        for seen in self._seen.values():
            seen.changed_at = now  # the others were held up: they get their time anew


def _written_since(file: StackFile) -> str:
    try:
        with file.path.open("rb") as stream:
            stream.seek(file.size_before)
            return stream.read(_MOST_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""

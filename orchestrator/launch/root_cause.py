"""Which task failed first, and its last words; pure.

When one task of a cluster fails, others fail with it: connections break,
collectives are aborted, the coordination service ends whoever is left. Their
errors are louder and often blame the wrong task, so a failure that looks like
a loss of a peer never outranks one that does not.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from orchestrator import errors
from orchestrator.cluster.records import ExitRecord, FailureRecord
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.launch.completion import PREEMPTED_CODES, describe_exit
from orchestrator.launch.oom import OomEvidence

SHOWN_LOG_LINES = 12
LINES_BESIDE_TRACEBACK = 5
THIS_MACHINE = ("", "localhost", "127.0.0.1")
_TRACEBACK = "Traceback (most recent call last)"

_VICTIM_TYPES = frozenset({
    "UnavailableError", "AbortedError", "CancelledError", "ConnectionError", "ConnectionResetError",
    "ConnectionRefusedError", "ConnectionAbortedError", "BrokenPipeError", "EOFError", "ClosureAbortedError",
    "PSUnavailableError", "WorkerPreemptionError",
})  # fmt: skip
_VICTIM_TEXT = re.compile(
    r"coordination service|CoordinationService|collective ops? (is|are) aborted|collective.{0,40}aborted"
    r"|failed to connect to all addresses|connection (refused|reset)|socket closed|broken pipe"
    r"|stream removed|goaway|heartbeat|peer (task|is) .{0,80}(fail|unhealthy|unavailable|restarted)"
    r"|the following (tasks|workers) (are|is) unhealthy"
    r"|/job:\w+/.{0,80}(unreachable|unavailable|not available)"
    r"|additional grpc error information.{0,200}(unavailable|connect)",
    re.IGNORECASE,
)
_FINAL_LINE = re.compile(r"^(?P<type>[A-Za-z_][\w.]*)(?::\s?(?P<message>.*))?$")
_OOM_HINTS = {
    OomEvidence.NAMED: "The kernel's out-of-memory killer ended it: give the tasks more memory.",
    OomEvidence.MEANWHILE: "The kernel's out-of-memory killer was at work meanwhile: give the tasks more"
    " memory.",
}
_KILL_HINT = "Killed from outside: by hand, by a memory limit, or by the kernel (see dmesg)."
_CODE_HINTS = {126: "126 means that the command cannot be executed.", 127: "127 means that it was not found."}
_SIGNAL_HINTS: dict[int, str] = {
    signal.SIGSEGV: "A crash in native code; the last lines of its log may name the library.",
    signal.SIGABRT: "A fatal check in native code; the last lines of its log usually say which.",
    signal.SIGILL: "The TensorFlow build uses instructions that this CPU does not have.",
    signal.SIGBUS: "Often a full /dev/shm, or a file that shrank while it was mapped.",
    signal.SIGXCPU: "A limit on CPU time (ulimit -t) was reached.",
    signal.SIGXFSZ: "A limit on file size (ulimit -f) was reached.",
}


class FailureKind(str, Enum):
    """What kind of end it was; the value stands in `verdict.json`."""

    USER_ERROR = "user_error"
    EXCEPTION = "exception"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out_of_memory"
    EXIT_CODE = "exit_code"
    HANG = "hang"
    HOST_LOST = "host_lost"
    """Its host ended, or could not be reached for so long that it ended its tasks."""
    UNEVEN_DATA = "uneven_data"
    LOST_PEER = "lost_peer"
    """It reads like the loss of another task, and no other task failed by itself."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class ParsedException:
    """A Python exception as it stands in a log."""

    type: str
    message: str
    traceback: str


@dataclass(frozen=True)
class TaskEnd:
    """How one task ended, with what it left behind."""

    task: TaskId
    exit: ExitRecord | None = None
    failure: FailureRecord | None = None
    log_tail: tuple[str, ...] = ()
    log_path: str = ""
    step: int | None = None
    reason: str | None = None
    """Why the launcher ended it (a time limit), in words that follow the task's name."""
    reason_kind: FailureKind = FailureKind.HANG
    """The kind that goes with `reason`."""
    host: str = ""
    oom: OomEvidence = OomEvidence.NONE
    """The part of the kernel's out-of-memory killer in it."""
    with_peer: bool = False
    """It stopped at the step at which a peer was asked to."""
    label: str = ""
    """What it is called where it is none of the job's tasks (the preparation of the data)."""

    @property
    def exception(self) -> ParsedException | None:
        """Its exception: as recorded, else as its log has it."""
        if self.failure is not None:
            return ParsedException(self.failure.type, self.failure.message, self.failure.traceback)
        return parse_traceback(self.log_tail)

    @property
    def failed(self) -> bool:
        """It ended badly, and not because it was asked to."""
        if self.reason is not None or self.failure is not None:
            return True
        return self.exit is not None and self.exit.code != 0 and not self.exit.requested

    def went_with(self, other: TaskEnd) -> bool:
        """Whether it was lost with the same host as another task."""
        both = self.lost_with_host and other.lost_with_host
        return both and self.host == other.host and self.task != other.task

    @property
    def time(self) -> float:
        """When it failed: its exception, else its end. Seconds since the epoch."""
        times = [record.time for record in (self.failure, self.exit) if record is not None]
        return min(times) if times else float("inf")

    @property
    def looks_like_victim(self) -> bool:
        """Its end reads like the loss of a peer."""
        if self.reason is not None:
            return False
        if self.with_peer and self.stopped_itself:
            return True
        number = self.exit.signal if self.exit is not None else None
        if number is not None and number != signal.SIGABRT:
            return False
        found = self.exception
        if found is not None:
            name = found.type.rsplit(".", 1)[-1]
            return name in _VICTIM_TYPES or bool(_VICTIM_TEXT.search(found.message))
        return any(_VICTIM_TEXT.search(line) for line in self.log_tail[-SHOWN_LOG_LINES:])

    @property
    def stopped_itself(self) -> bool:
        """It ended as on a request to stop, which was none of ours: from outside, or agreed with a peer."""
        if self.reason is not None or self.failure is not None or self.exit is None:
            return False
        return self.exit.code in PREEMPTED_CODES and not self.exit.requested

    @property
    def lost_with_host(self) -> bool:
        """Its host was lost."""
        return self.reason is not None and self.reason_kind is FailureKind.HOST_LOST


@dataclass(frozen=True)
class RootCause:
    """The task that failed first, and those that failed with it."""

    end: TaskEnd
    victims: tuple[TaskId, ...] = ()
    same: tuple[TaskId, ...] = ()
    """Tasks that raised the same exception, later than the first."""
    also_failed: tuple[TaskId, ...] = ()
    """Tasks with another failure of their own, later than the first."""

    @property
    def task(self) -> TaskId:
        return self.end.task

    @property
    def user_error(self) -> bool:
        """The input was wrong: the message says it all."""
        failure, record = self.end.failure, self.end.exit
        return (failure is not None and failure.user_error) or (record is not None and record.code == 2)

    @property
    def kind(self) -> FailureKind:
        """What kind of failure it is."""
        end, record = self.end, self.end.exit
        if end.reason is not None:
            return end.reason_kind
        if self.user_error:
            return FailureKind.USER_ERROR
        if end.oom is not OomEvidence.NONE:
            return FailureKind.OUT_OF_MEMORY
        if end.looks_like_victim:
            return FailureKind.LOST_PEER
        if record is not None and record.signal is not None:
            return FailureKind.SIGNAL
        return FailureKind.EXIT_CODE if end.exception is None else FailureKind.EXCEPTION

    def headline(self) -> str:
        """The failure in one line."""
        if self.kind is FailureKind.HOST_LOST:
            return f"{self.end.reason}{self._where()}"
        away = "" if self.end.host in THIS_MACHINE else f" on {self.end.host}"
        return f"{self.end.label or self.task}{away} failed: {self._what()}{self._where()}"

    def _what(self) -> str:
        end = self.end
        if end.reason is not None:
            return end.reason
        found, record = end.exception, end.exit
        if record is not None and record.signal is not None:
            return f"ended by {describe_exit(record.code, record.signal)}"
        if found is not None:
            first_line = found.message.strip().splitlines()[0] if found.message.strip() else ""
            if first_line and self.user_error:
                return first_line
            name = found.type.rsplit(".", 1)[-1]
            return f"{name}: {first_line}" if first_line else name
        return describe_exit(record.code) if record is not None else "it ended"

    def _where(self) -> str:
        return "" if self.end.step is None else f" (at step {self.end.step})"

    def hint(self) -> str | None:
        """What such an end usually means, where it does not speak for itself."""
        end, record = self.end, self.end.exit
        if end.reason is not None or record is None:
            return None
        number = record.signal or (record.code - 128 if record.code > 128 else None)
        if number == signal.SIGKILL:
            return _OOM_HINTS.get(end.oom, _KILL_HINT)
        if number is not None:
            return _SIGNAL_HINTS.get(number)
        return None if end.exception is not None else _CODE_HINTS.get(record.code)

    def render(self) -> str:
        """The verdict for people: headline, traceback once, last lines, victims in one line."""
        lines = [self.headline()]
        hint = self.hint()
        if hint:
            lines.append(hint)
        lines += self._last_words()
        if self.same and self.kind is not FailureKind.HOST_LOST:  # which names them
            lines.append(f"The same error in: {', '.join(map(str, self.same))}.")
        if self.also_failed:
            lines.append(f"Failed after it: {', '.join(map(str, self.also_failed))}.")
        if self.victims:
            lines.append(
                f"Lost with it (connection or collective broken): {', '.join(map(str, self.victims))}."
            )
        return "\n".join(lines)

    def _last_words(self) -> list[str]:
        end, found = self.end, self.end.exception
        ours = found is not None and (
            hasattr(errors, found.type.rsplit(".", 1)[-1]) or _TRACEBACK not in found.traceback
        )
        if self.user_error and found is not None and ours:
            return _indented(found.message.strip().splitlines()[1:])
        lines = _indented(found.traceback.rstrip().splitlines()) if found is not None else []
        most = SHOWN_LOG_LINES if end.failure is None else LINES_BESIDE_TRACEBACK
        rest = _without_traceback(end.log_tail)[-most:]
        if rest:
            lines += [f"Last lines of {end.log_path}:", *_indented(rest)]
        elif end.log_path:
            lines.append(f"Its log: {end.log_path}")
        if end.exit is not None and found is not None:
            lines.append(
                f"Process {end.exit.pid} ended with {describe_exit(end.exit.code, end.exit.signal)}."
            )
        return lines


def find_root_cause(ends: Sequence[TaskEnd]) -> RootCause | None:
    """The first failure that is no victim's; None where nothing failed.

    The evaluator is blamed only where nothing else failed; where every failure
    reads like the loss of a peer, the earliest is taken. Tasks of a host that is
    being lost are asked to stop there, and peers that agree with them on a step
    stop too: those are its victims.
    """
    failed = [end for end in ends if end.failed]
    if not failed:
        return None
    host_lost = any(end.lost_with_host for end in failed)

    def is_victim(end: TaskEnd) -> bool:
        return end.looks_like_victim or (host_lost and end.stopped_itself)

    order = sorted(failed, key=lambda end: (end.task.type is TaskType.EVALUATOR, is_victim(end), end.time))
    first, rest = order[0], order[1:]
    victims = [end for end in rest if is_victim(end)]
    same = [
        end
        for end in rest
        if end not in victims and (end.went_with(first) or _signature(end) == _signature(first) is not None)
    ]
    others = [end for end in rest if end not in victims and end not in same]
    return RootCause(first, _tasks(victims), _tasks(same), _tasks(others))


def _signature(end: TaskEnd) -> tuple[str, str] | None:
    found = end.exception
    return None if found is None else (found.type, found.message)


def _tasks(ends: Sequence[TaskEnd]) -> tuple[TaskId, ...]:
    return tuple(sorted(end.task for end in ends))


def parse_traceback(lines: Sequence[str]) -> ParsedException | None:
    """The last Python traceback in a log, or None where there is none.

    Chained exceptions are kept whole in `traceback`; type and message are the
    last one's.
    """
    starts = [i for i, line in enumerate(lines) if line.startswith(_TRACEBACK)]
    if not starts:
        return _syntax_error(lines)
    for start in reversed(starts):
        end = _end_of_traceback(lines, start)
        if end is None:
            continue
        match = _FINAL_LINE.match(lines[end])
        if match is None:
            continue
        more = _continuation(lines, end)
        message = "\n".join([match["message"] or "", *more]).strip()
        first = _start_of_chain(lines, starts, start)
        return ParsedException(match["type"], message, "\n".join(lines[first : end + 1 + len(more)]))
    return None


def _end_of_traceback(lines: Sequence[str], start: int) -> int | None:
    for i in range(start + 1, len(lines)):
        if lines[i] and not lines[i].startswith((" ", "\t")):
            return i
    return None


def _continuation(lines: Sequence[str], end: int) -> list[str]:
    """Further lines of a message, up to an empty line or what looks like a log line."""
    more: list[str] = []
    for line in lines[end + 1 : end + 20]:
        if (
            not line.strip()
            or line.startswith("Traceback")
            or re.match(r"^(\[|[IWEF]\d{4} |\d{4}-\d\d-\d\d )", line)
        ):
            break
        more.append(line)
    return more


def _start_of_chain(lines: Sequence[str], starts: Sequence[int], start: int) -> int:
    first = start
    for earlier in reversed([i for i in starts if i < start]):
        between = "\n".join(lines[earlier:first])
        linked = "the direct cause of" in between or "During handling of the above" in between
        if not linked:
            break
        first = earlier
    return first


def _syntax_error(lines: Sequence[str]) -> ParsedException | None:
    for i in range(len(lines) - 1, -1, -1):
        match = re.match(r"^(SyntaxError|IndentationError|TabError): (.*)$", lines[i])
        if match:
            first = next((j for j in range(i, max(-1, i - 6), -1) if lines[j].startswith("  File ")), i)
            return ParsedException(match[1], match[2], "\n".join(lines[first : i + 1]))
    return None


def _without_traceback(lines: Sequence[str]) -> list[str]:
    starts = [i for i, line in enumerate(lines) if line.startswith(_TRACEBACK)]
    return list(lines[: starts[0]]) if starts else list(lines)


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" if line else "" for line in lines]

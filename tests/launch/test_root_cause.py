from __future__ import annotations

import dataclasses

import pytest

from orchestrator.cluster.records import ExitRecord, FailureRecord
from orchestrator.launch.oom import OomEvidence
from orchestrator.launch.root_cause import FailureKind, TaskEnd, find_root_cause, parse_traceback
from tests.launch.jobs import task

CHAINED = """\
loading
Traceback (most recent call last):
  File "a.py", line 1, in <module>
    f()
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 9, in <module>
    g()
my.module.BadThing: two lines
of message

I0000 00:00:1 something logged at exit""".splitlines()


def ended(
    name: str,
    code: int = 1,
    at: float = 10.0,
    *,
    signal: int | None = None,
    error: str | None = None,
    message: str = "",
    error_at: float | None = None,
    log: str = "",
    requested: bool = False,
    user_error: bool = False,
    oom: OomEvidence = OomEvidence.NONE,
) -> TaskEnd:
    trace = f"Traceback (most recent call last):\n  ...\n{error}: {message}\n"
    record = FailureRecord(error_at or at, error, message, trace, 7, user_error) if error else None
    return TaskEnd(
        task(name),
        exit=ExitRecord(at, 0, 0, 1, code, signal, requested),
        failure=record,
        log_tail=tuple(log.splitlines()),
        log_path=f"logs/{name}.log",
        oom=oom,
    )


def blamed(*ends: TaskEnd) -> str:
    cause = find_root_cause(ends)
    assert cause is not None
    return str(cause.task)


def test_nothing_failed() -> None:
    assert find_root_cause([ended("chief-0", 0), ended("ps-0", 143, requested=True)]) is None
    assert find_root_cause([]) is None


def test_the_first_failure_is_blamed() -> None:
    assert blamed(ended("worker-0", at=12), ended("worker-1", at=11), ended("chief-0", 0, at=1)) == "worker-1"


def test_the_time_of_the_exception_counts_not_that_of_the_exit() -> None:
    slow_to_end = ended("worker-1", at=20, error="ValueError", error_at=9)
    assert blamed(ended("worker-0", at=10, error="KeyError"), slow_to_end) == "worker-1"


@pytest.mark.parametrize(
    "victim",
    [
        ended("chief-0", at=1, error="tensorflow.python.framework.errors_impl.UnavailableError", message="x"),
        ended("chief-0", at=1, error="InternalError", message="Collective ops is aborted by: peer failed"),
        ended("chief-0", at=1, error="RuntimeError", message="failed to connect to all addresses"),
        ended(
            "chief-0",
            at=1,
            error="AbortedError",
            message="The following tasks are unhealthy (stopped sending heartbeats)",
        ),
        ended("chief-0", 134, at=1, signal=6, log="F0000 coordination service agent: terminating"),
        ended(
            "chief-0", at=1, log="Traceback (most recent call last):\n  x\nConnectionResetError: [Errno 104]"
        ),
    ],
)
def test_a_lost_peer_never_outranks_a_failure_of_its_own(victim: TaskEnd) -> None:
    assert victim.looks_like_victim
    culprit = ended("worker-0", 137, at=5, signal=9)
    assert blamed(victim, culprit) == "worker-0"
    cause = find_root_cause([victim, culprit])
    assert cause is not None
    assert cause.victims == (task("chief-0"),)
    assert cause.render().splitlines()[-1] == "Lost with it (connection or collective broken): chief-0."


@pytest.mark.parametrize(
    "own",
    [
        ended("worker-0", error="ValueError", message="bad shape"),
        ended("worker-0", 137, signal=9),
        ended("worker-0", 139, signal=11, log="failed to connect to all addresses"),
        ended("worker-0", error="OSError", message="No space left on device"),
    ],
)
def test_failures_of_their_own(own: TaskEnd) -> None:
    assert not own.looks_like_victim


def test_among_victims_alone_the_earliest_is_named() -> None:
    first = ended("worker-1", at=3, error="UnavailableError")
    assert blamed(ended("worker-0", at=4, error="AbortedError"), first) == "worker-1"


def test_of_tasks_that_stop_together_the_one_that_was_asked_is_named() -> None:
    agreed = dataclasses.replace(ended("chief-0", 143, at=10.0), with_peer=True)
    assert blamed(agreed, ended("worker-0", 143, at=11.0)) == "worker-0"
    killed = dataclasses.replace(ended("chief-0", 137, at=10.0, signal=9), with_peer=True)
    assert blamed(killed, ended("worker-0", 143, at=11.0)) == "chief-0"


def test_the_evaluator_is_blamed_last() -> None:
    assert blamed(ended("evaluator-0", at=1), ended("worker-0", at=5)) == "worker-0"
    assert blamed(ended("evaluator-0", at=1), ended("worker-0", 0, at=5)) == "evaluator-0"


def test_the_verdict_has_the_traceback_once_and_the_place() -> None:
    cause = find_root_cause(
        [ended("worker-0", error="ValueError", message="no\nreally", log="noise"), ended("ps-0", at=11)]
    )
    assert cause is not None
    assert cause.render() == (
        "worker-0 failed: ValueError: no\n"
        "  Traceback (most recent call last):\n"
        "    ...\n"
        "  ValueError: no\n"
        "  really\n"
        "Last lines of logs/worker-0.log:\n"
        "  noise\n"
        "Process 1 ended with exit code 1.\n"
        "Failed after it: ps-0."
    )


def test_a_users_mistake_is_its_message_alone() -> None:
    cause = find_root_cause(
        [ended("chief-0", 2, error="ConfigError", message="bad\nfix it so", user_error=True)]
    )
    assert cause is not None
    assert cause.user_error
    assert cause.render() == "chief-0 failed: bad\n  fix it so"
    trace = "mine.Misfit: bad"  # a mistake is recorded without frames where none are the user's
    record = FailureRecord(1, "mine.Misfit", "bad", trace, 7, True)
    framed = find_root_cause([dataclasses.replace(ended("chief-0", 2, log="error: bad"), failure=record)])
    assert framed is not None
    assert framed.render() == "chief-0 failed: bad"
    silent = find_root_cause([ended("chief-0", 2, log="usage: a.py [-h]\na.py: error: no such flag")])
    assert silent is not None
    assert silent.user_error
    assert "no such flag" in silent.render()


def test_without_a_record_the_log_speaks() -> None:
    cause = find_root_cause([ended("worker-0", log="\n".join(CHAINED))])
    assert cause is not None
    text = cause.render()
    assert text.startswith("worker-0 failed: BadThing: two lines\n")
    assert text.count("Traceback") == 2
    assert text.count("KeyError") == 1
    assert "  loading" in text


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (ended("ps-0", 137, signal=9), "Killed from outside"),
        (ended("ps-0", 137), "Killed from outside"),
        (ended("ps-0", 137, signal=9, oom=OomEvidence.MEANWHILE), "out-of-memory killer was at work"),
        (ended("ps-0", 137, signal=9, oom=OomEvidence.NAMED), "out-of-memory killer ended it"),
        (ended("ps-0", 139, signal=11), "native code"),
        (ended("ps-0", 132, signal=4), "instructions that this CPU does not have"),
        (ended("ps-0", 127), "was not found"),
        (ended("ps-0", 1), None),
        (ended("ps-0", 143, signal=15), None),
    ],
)
def test_hints(end: TaskEnd, expected: str | None) -> None:
    cause = find_root_cause([end])
    assert cause is not None
    hint = cause.hint()
    assert hint == expected if expected is None else expected in (hint or "")
    assert (hint or "failed") in cause.render()


def test_a_traceback_is_found_whole_with_what_caused_it() -> None:
    found = parse_traceback(CHAINED)
    assert found is not None
    assert (found.type, found.message) == ("my.module.BadThing", "two lines\nof message")
    assert found.traceback.splitlines()[0] == CHAINED[1]
    assert found.traceback.splitlines()[-1] == "of message"


def test_the_last_of_unrelated_tracebacks_counts() -> None:
    lines = ["Traceback (most recent call last):", "  a", "KeyError: 1", "went on", *CHAINED[1:5]]
    found = parse_traceback(lines)
    assert found is not None
    assert found.traceback == "\n".join(CHAINED[1:5])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        (["all is well", "ValueError: as text"], None),
        (["Traceback (most recent call last):", "  cut off"], None),
        (["Traceback (most recent call last):", "  a", "AssertionError"], ("AssertionError", "")),
        (
            ['  File "a.py", line 3', "    x = =", "SyntaxError: invalid syntax"],
            ("SyntaxError", "invalid syntax"),
        ),
    ],
)
def test_odd_logs(lines: list[str], expected: tuple[str, str] | None) -> None:
    found = parse_traceback(lines)
    assert (None if found is None else (found.type, found.message)) == expected


def test_the_same_exception_elsewhere_is_said_in_one_line() -> None:
    ends = [ended(f"worker-{i}", at=i, error="KeyError", message="x") for i in range(3)]
    cause = find_root_cause([*ends, ended("chief-0", at=9, error="KeyError", message="y")])
    assert cause is not None
    assert cause.render().splitlines()[-2:] == [
        "The same error in: worker-1, worker-2.",
        "Failed after it: chief-0.",
    ]


def test_a_users_exception_keeps_its_traceback_even_when_a_restart_is_hopeless() -> None:
    cause = find_root_cause([ended("chief-0", 2, error="LookupError", message="no column", user_error=True)])
    assert cause is not None
    assert cause.user_error
    assert cause.render().count("Traceback") == 1


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (ended("worker-0", error="ValueError", message="x"), FailureKind.EXCEPTION),
        (ended("worker-0", 2, error="ConfigError", message="x", user_error=True), FailureKind.USER_ERROR),
        (ended("worker-0", 137, signal=9), FailureKind.SIGNAL),
        (ended("worker-0", 137, signal=9, oom=OomEvidence.NAMED), FailureKind.OUT_OF_MEMORY),
        (ended("worker-0", 3), FailureKind.EXIT_CODE),
        (ended("worker-0", error="UnavailableError", message="x"), FailureKind.LOST_PEER),
        (TaskEnd(task("worker-0"), reason="made no progress"), FailureKind.HANG),
        (
            TaskEnd(task("worker-0"), reason="ended", reason_kind=FailureKind.UNEVEN_DATA),
            FailureKind.UNEVEN_DATA,
        ),
    ],
)
def test_kinds(end: TaskEnd, kind: FailureKind) -> None:
    cause = find_root_cause([end])
    assert cause is not None
    assert cause.kind is kind


def test_another_host_is_named() -> None:
    cause = find_root_cause([dataclasses.replace(ended("worker-0", 3), host="node7")])
    assert cause is not None
    assert cause.headline() == "worker-0 on node7 failed: exit code 3"

from __future__ import annotations

import io

from rich.console import Console

from orchestrator.cli.display import (
    PLAIN_SECONDS,
    Display,
    PlainDisplay,
    SteadyConsole,
    TerminalDisplay,
    make_display,
)
from orchestrator.cluster.records import Phase, ProgressRecord
from orchestrator.launch.events import EventKind, RunEvent
from orchestrator.launch.snapshot import RunPhase, Snapshot, TaskView
from orchestrator.testing import FakeClock
from tests.launch.jobs import task

TASKS = [task("chief-0"), task("evaluator-0")]


def snapshot(step: int, phase: RunPhase = RunPhase.RUNNING) -> Snapshot:
    progress = ProgressRecord(Phase.STEPPING, 1.0, step, max_steps=100, loss=0.5)
    return Snapshot(
        phase, 0, (TaskView(TASKS[0], "running", progress=progress), TaskView(TASKS[1], "failed", code=1))
    )


def console(terminal: bool, width: int = 80) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(
        file=stream, force_terminal=terminal, width=width, highlight=False, color_system=None
    ), stream


def note(text: str, kind: EventKind = EventKind.NOTE) -> RunEvent:
    return RunEvent(0.0, kind, text, data={"addresses": ["h:1"]})


def test_plain_progress_comes_now_and_then_and_only_when_there_is_news() -> None:
    clock, (made, stream) = FakeClock(), console(False)
    display = PlainDisplay(made, TASKS, clock.monotonic)
    for step in (1, 2, 2, 3):
        display.progress(snapshot(step))
    clock.advance(PLAIN_SECONDS)
    display.progress(snapshot(1))
    display.progress(snapshot(4))
    clock.advance(PLAIN_SECONDS)
    display.progress(snapshot(4))
    assert stream.getvalue().splitlines() == ["[step 1/100  loss 0.5]", "[step 4/100  loss 0.5]"]


def test_output_carries_its_task_and_is_never_wrapped_or_interpreted() -> None:
    made, stream = console(False, width=20)
    display = make_display(made, TASKS)
    display.output("chief-0", "[bold]x[/bold] " + "y" * 40 + "\nsecond\n")
    assert stream.getvalue().splitlines() == [
        f"chief-0     | [bold]x[/bold] {'y' * 40}",
        "chief-0     | second",
    ]


def test_only_events_for_people_are_shown() -> None:
    made, stream = console(False)
    display = make_display(made, TASKS)
    display.event(note("started", EventKind.TASK_STARTED))
    display.event(note("disk full"))
    display.event(note("", EventKind.RUN_STARTED))
    assert stream.getvalue().splitlines()[0] == "[disk full]"
    assert stream.getvalue().splitlines()[1].startswith("  ports     1: ")


def test_the_terminal_keeps_a_line_a_task_and_a_bar() -> None:
    made, stream = console(True)
    display = make_display(made, TASKS)
    assert isinstance(display, TerminalDisplay)
    with display.open():
        display.progress(snapshot(40))
        display.output("chief-0", "a line of the log")
        shown = stream.getvalue()
    assert "chief-0      stepping  step 40" in shown
    assert "evaluator-0  failed (1)" in shown
    assert "step 40/100" in shown
    assert "40 %" in shown
    assert "chief-0     | a line of the log" in shown


def test_the_terminal_is_left_as_it_is_until_there_is_progress() -> None:
    made, stream = console(True)
    display = TerminalDisplay(made, TASKS)
    with display.open():
        assert stream.getvalue() == "", "ssh may ask for a password there"
        display.progress(snapshot(40))
        assert "chief-0" in stream.getvalue()


def test_lines_fit_a_narrow_terminal() -> None:
    made, stream = console(True, width=30)
    display = TerminalDisplay(made, TASKS)
    with display.open():
        display.progress(snapshot(40))
    lines = [line.split("\x1b")[0] for line in stream.getvalue().splitlines()]
    assert max(map(len, lines)) <= 30


class ClosedStream(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_a_terminal_that_is_gone_stops_nothing() -> None:
    for terminal in (False, True):
        made = SteadyConsole(file=ClosedStream(), force_terminal=terminal)
        display: Display = make_display(made, TASKS)
        with display.open():
            display.say("x")
            display.output("chief-0", "x")
            display.event(note("x"))
            display.progress(snapshot(1))

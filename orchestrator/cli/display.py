"""Showing a run as it goes on: a live view on a terminal, plain lines anywhere else."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.cli import progress_text
from orchestrator.cluster.task import TaskId
from orchestrator.launch.events import IMPORTANT, EventKind, RunEvent
from orchestrator.launch.log_stream import prefix_width, prefixed
from orchestrator.launch.snapshot import Observer, RunPhase, Snapshot

PLAIN_SECONDS = 5.0
"""How often progress is printed where there is no terminal."""
_COLORS = ("cyan", "magenta", "green", "yellow", "blue", "bright_red")


class SteadyConsole(Console):
    """A console whose reader may go away (`run ... | head`, a closed terminal) without ending the run."""

    def on_broken_pipe(self) -> None:
        """Goes on in silence, where rich would end the program."""
        self.quiet = True
        self.settle()

    def settle(self) -> None:
        """Flushes what is left; where nobody reads it, drops it, so that Python's own flush cannot fail."""
        if self.file is not sys.stdout:
            return
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, sys.stdout.fileno())
                os.close(nowhere)


class Display(Observer, Protocol):
    """An observer that can also say things of its own, and is opened and closed."""

    def say(self, text: str, style: str = "") -> None:
        """Prints one line, whole."""

    def open(self) -> contextlib.AbstractContextManager[None]:
        """Shows progress while the context lasts."""


def make_display(console: Console, tasks: Sequence[TaskId]) -> Display:
    """The display that fits the console."""
    return TerminalDisplay(console, tasks) if console.is_terminal else PlainDisplay(console, tasks)


class PlainDisplay:
    """Lines only: events and output at once, progress every few seconds when it changed."""

    def __init__(
        self,
        console: Console,
        tasks: Sequence[TaskId],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._width = prefix_width(tasks)
        self._monotonic = monotonic
        self._next = 0.0
        self._last = ""

    def say(self, text: str, style: str = "") -> None:
        """Prints one line, whole; a terminal or pipe that is gone is no reason to stop."""
        with contextlib.suppress(OSError, ValueError):
            self._console.print(Text(text, style=style), soft_wrap=True)

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Nothing needs to be opened."""
        yield

    def event(self, event: RunEvent) -> None:
        """Says what people should know as it happens."""
        if event.kind is EventKind.RUN_STARTED:
            told = event.data
            isolated = bool(told.get("isolated"))
            self.say(progress_text.ports_line(told.get("addresses", ()), isolated=isolated))
        elif event.kind in IMPORTANT:
            self.say(f"[{event.text}]", "yellow")

    def output(self, source: str, text: str) -> None:
        """Prints what a task wrote, line by line, with its name in front."""
        for line in text.splitlines():
            self.say(prefixed(source, line, self._width))

    def progress(self, snapshot: Snapshot) -> None:
        """Prints the progress line when it is time and there is news."""
        now = self._monotonic()
        line = progress_text.progress_line(snapshot)
        if now < self._next or line == self._last:
            return
        self._next, self._last = now + PLAIN_SECONDS, line
        self.say(f"[{line}]")


class TerminalDisplay(PlainDisplay):
    """Output scrolls by; below it one line a task and a bar stay in place."""

    def __init__(self, console: Console, tasks: Sequence[TaskId]) -> None:
        super().__init__(console, tasks)
        self._styles = {str(task): _COLORS[i % len(_COLORS)] for i, task in enumerate(tasks)}
        self._live: Live | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Keeps the live view on the screen from the first progress on, and takes it away at the end.

        Before that somebody may still be asked for a password, on the bare terminal.
        """
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
        try:
            yield
        finally:
            live, self._live = self._live, None
            with contextlib.suppress(OSError, ValueError):
                live.stop()

    def output(self, source: str, text: str) -> None:
        """Prints what a task wrote, its name in a colour of its own."""
        style = self._styles.get(source, "dim")
        for line in text.splitlines():
            whole = Text(prefixed(source, line, self._width))
            whole.stylize(style, 0, max(self._width, len(source)) + 2)
            with contextlib.suppress(OSError, ValueError):
                self._console.print(whole, soft_wrap=True)

    def progress(self, snapshot: Snapshot) -> None:
        """Redraws the view."""
        if self._live is not None:
            with contextlib.suppress(OSError, ValueError):
                self._live.start()
                self._live.update(self._view(snapshot), refresh=True)

    def _view(self, snapshot: Snapshot) -> RenderableType:
        views, quiet = progress_text.shown_tasks(snapshot.tasks)
        hosts = progress_text.host_width(snapshot.tasks)
        rows = [
            self._cropped(progress_text.task_line(view, self._width, hosts), _style(view.state))
            for view in views
        ]
        if quiet:
            rows.append(self._cropped(f"and {quiet} more tasks", "dim"))
        lines = progress_text.progress_lines(snapshot, self._console.width - 1)
        rows += [self._cropped(line, "bold") for line in lines]
        bar = self._bar(snapshot)
        return Group(*rows, bar) if bar is not None else Group(*rows)

    def _bar(self, snapshot: Snapshot) -> RenderableType | None:
        lead, step = snapshot.lead, snapshot.step
        if lead is None or step is None or not lead.max_steps or snapshot.phase is RunPhase.STOPPING:
            return None
        done = min(step, lead.max_steps)
        table = Table.grid(padding=(0, 1))
        table.add_row(
            ProgressBar(total=lead.max_steps, completed=done, width=min(60, self._console.width - 8)),
            f"{100 * done // lead.max_steps} %",
        )
        return table

    def _cropped(self, line: str, style: str) -> Text:
        text = Text(line, style=style, no_wrap=True)
        text.truncate(max(20, self._console.width - 1), overflow="ellipsis")
        return text


def _style(state: str) -> str:
    return {"failed": "red", "restarting": "yellow", "done": "green", "stopped": "dim", "waiting": "dim"}.get(
        state, ""
    )

"""Progress for people who start training themselves: one bar on a terminal, a line now and then in a log.

Under the launcher, which has a display of its own, nothing is shown here.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import tensorflow as tf

from orchestrator.estimator.guards import StepLimit
from orchestrator.estimator.logger import log
from orchestrator.estimator.position import Position, SleepingHook
from orchestrator.estimator.progress import ProgressReporter, as_float
from orchestrator.estimator.triggers import Trigger, Wake

v1 = tf.compat.v1
BAR_SECONDS = 0.5
"""How often the bar moves."""
LINE_SECONDS = 30.0
"""How often a log gets a line: the shortest training that is worth one takes longer."""


@dataclass(frozen=True)
class Standing:
    """How far training is."""

    step: int
    last_step: int | None
    loss: float | None
    steps_per_second: float | None
    examples_per_second: float | None
    seconds_left: float | None

    def words(self) -> list[str]:
        """What is known, each with its unit."""
        most = f"/{self.last_step}" if self.last_step is not None else ""
        words = [f"step {self.step}{most}"]
        if self.steps_per_second is not None:
            words.append(f"{self.steps_per_second:.4g} steps/s")
        if self.examples_per_second is not None:
            words.append(f"{self.examples_per_second:.4g} examples/s")
        if self.loss is not None:
            words.append(f"loss {self.loss:.4g}")
        if self.seconds_left is not None:
            words.append(f"{clock_text(self.seconds_left)} left")
        return words


def clock_text(seconds: float) -> str:
    """`0:07`, `12:30`, `3:00:05`."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


class ProgressDisplay(SleepingHook):
    """Shows how far training is, every so many seconds.

    Rates come from the reporter; the time left from all steps since the first
    one, evaluations and checkpoints in between included.
    """

    def __init__(
        self,
        position: Position,
        reporter: ProgressReporter,
        limit: StepLimit,
        show: Callable[[Standing], None],
        seconds: float,
    ) -> None:
        self._position = position
        self._reporter = reporter
        self._limit = limit
        self._show = show
        self._trigger = Trigger(seconds=seconds)
        self._first: tuple[int, float] | None = None

    def wake(self) -> Wake:
        return self._trigger.wake()

    def after_run(self, run_context: Any, run_values: Any) -> None:
        step, now = self._position.step, self._position.clock()
        if self._first is None:
            self._first = (step, now)
            self._trigger.fire(step, now)
        elif self._trigger.due(step, now):
            self._trigger.fire(step, now)
            self._show(self.standing(step, now))

    def standing(self, step: int, now: float) -> Standing:
        """What there is to show."""
        record = self._reporter.record
        last = self._limit.last_step
        left = None
        if last is not None and self._first is not None and step > self._first[0]:
            each = (now - self._first[1]) / (step - self._first[0])
            left = max(0.0, each * (last - step))
        loss = as_float(self._position.loss)
        return Standing(step, last, loss, record.steps_per_second, record.examples_per_second, left)

    def shown(self) -> contextlib.AbstractContextManager[Any]:
        """Surrounds the whole training, whatever its end."""
        return contextlib.nullcontext()


class ProgressBar(ProgressDisplay):
    """One bar at the foot of a terminal; log lines go above it."""

    def __init__(self, position: Position, reporter: ProgressReporter, limit: StepLimit) -> None:
        super().__init__(position, reporter, limit, self._move, BAR_SECONDS)
        self._bar: Any = None
        self._task: Any = None

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """The bar is there within this block; log lines are printed above it."""
        from rich.console import Console
        from rich.errors import LiveError
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("training"), BarColumn(), TextColumn("{task.description}"))
        bar = Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)
        try:
            bar.start()
        except LiveError:  # another training of this process, or the program itself, shows one
            yield
            return
        try:
            with _log_lines_to(sys.stderr):
                self._bar, self._task = bar, bar.add_task("starting", total=None)
                yield
        finally:
            self._bar = None
            bar.stop()

    def _move(self, standing: Standing) -> None:
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=standing.step,
                total=standing.last_step,
                description="  ".join(standing.words()),
                refresh=True,
            )


@contextlib.contextmanager
def _log_lines_to(stream: TextIO) -> Iterator[None]:
    """Lets handlers that write to the terminal write to `stream`, which knows of the bar."""
    handlers = [
        handler
        for name in ("tensorflow", None)
        for handler in logging.getLogger(name).handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.__stderr__, sys.__stdout__)
    ]
    before = [handler.setStream(stream) for handler in handlers]
    try:
        yield
    finally:
        for handler, original in zip(handlers, before, strict=True):
            if original is not None:
                handler.setStream(original)


def _write_line(standing: Standing) -> None:
    log.info("progress: %s", ", ".join(standing.words()))


def display_for(
    position: Position, reporter: ProgressReporter, limit: StepLimit, under_launcher: bool
) -> list[ProgressDisplay]:
    """The display that suits where the log goes; none under the launcher or where only errors are wanted."""
    if under_launcher or log.get_verbosity() > log.WARN:
        return []
    if sys.stderr is not None and sys.stderr.isatty():
        return [ProgressBar(position, reporter, limit)]
    return [ProgressDisplay(position, reporter, limit, _write_line, LINE_SECONDS)]


@contextlib.contextmanager
def shown(hooks: Sequence[Any]) -> Iterator[None]:
    """Surrounds a training with what its displays need."""
    with contextlib.ExitStack() as stack:
        for hook in hooks:
            if isinstance(hook, ProgressDisplay):
                stack.enter_context(hook.shown())
        yield

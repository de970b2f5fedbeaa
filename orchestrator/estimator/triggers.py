"""When something periodic is due: after so many steps or so many seconds."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.errors import InvalidArgument


@dataclass(frozen=True)
class Wake:
    """When a hook next wants to see a step.

    `step` is a global step: the hook wants the run that ends at it (or any
    later one). `time` is on the loop's clock, in seconds: the hook wants the
    first run that starts at or after it. None means never.
    """

    step: int | None = None
    time: float | None = None


NEVER = Wake()
NOW = Wake(step=0)


def earliest(wakes: list[Wake]) -> Wake:
    """The first of all steps and the first of all times."""
    steps = [wake.step for wake in wakes if wake.step is not None]
    times = [wake.time for wake in wakes if wake.time is not None]
    return Wake(min(steps, default=None), min(times, default=None))


class Trigger:
    """Fires at once, then every `steps` global steps or every `seconds`.

    The same counting as TensorFlow's own hooks: from the step, or the time, at
    which it last fired.
    """

    def __init__(self, steps: int | None = None, seconds: float | None = None) -> None:
        if (steps is None) == (seconds is None):
            raise InvalidArgument(f"give either steps or seconds, not steps={steps} and seconds={seconds}.")
        self.steps = steps
        self.seconds = seconds
        self.last_step: int | None = None
        self._last_time: float | None = None

    def wake(self) -> Wake:
        """When it will be due."""
        if self.last_step is None or self._last_time is None:
            return NOW
        if self.steps is not None:
            return Wake(step=self.last_step + self.steps)
        return Wake(time=self._last_time + (self.seconds or 0.0))

    def due(self, step: int, now: float) -> bool:
        """Whether it fires at that global step and time."""
        if self.last_step is None or self._last_time is None:
            return True
        if step == self.last_step:
            return False
        if self.steps is not None:
            return step >= self.last_step + self.steps
        return now >= self._last_time + (self.seconds or 0.0)

    def fire(self, step: int, now: float) -> tuple[int, float] | None:
        """Notes that it fired; returns steps and seconds since the last time, None the first time."""
        before = (
            None if self._last_time is None or self.last_step is None else (self.last_step, self._last_time)
        )
        self.last_step, self._last_time = step, now
        return None if before is None else (step - before[0], now - before[1])

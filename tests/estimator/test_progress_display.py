"""What people see who start training themselves: a bar on a terminal, lines in a log."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.estimator import progress_display
from orchestrator.estimator.guards import StepLimit
from orchestrator.estimator.logger import log
from orchestrator.estimator.position import Position
from orchestrator.estimator.progress import ProgressReporter
from orchestrator.estimator.progress_display import ProgressBar, ProgressDisplay, Standing, clock_text

pytestmark = pytest.mark.xdist_group("estimator")

PROGRAM = """
import sys, time
import tensorflow as tf
tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.INFO)
from orchestrator.estimator import Estimator, RunConfig, progress_display
from tests.estimator import linear_model
progress_display.BAR_SECONDS = 0.0
progress_display.LINE_SECONDS = 0.0
if "fails" in sys.argv:
    def break_off(*_):
        raise RuntimeError("broken off")
    class Breaking(tf.compat.v1.train.SessionRunHook):
        def after_run(self, context, values):
            if context.session.run(tf.compat.v1.train.get_global_step()) == 30:
                raise RuntimeError("broken off")
    hooks = [Breaking()]
else:
    hooks = []
config = RunConfig(log_step_count_steps=20)
Estimator(linear_model.model_fn, sys.argv[1], config, params={}).train(
    linear_model.training_input, max_steps=50, hooks=hooks
)
print("rich.progress" in sys.modules, file=sys.stdout)
"""


def environment() -> dict[str, str]:
    here = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": here, "TERM": "xterm", "COLUMNS": "120"}


def on_a_terminal(*words: str) -> tuple[int, str]:
    """Runs PROGRAM with a terminal as standard error; returns exit code and what was on it."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=follower,
        env=environment(),
    )
    os.close(follower)
    seen = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the program has closed its end
            break
        if not part:
            break
        seen += part
    os.close(leader)
    return process.wait(timeout=200), seen.decode()


def display(position: Position, reporter: Any = None, last_step: int | None = 100) -> ProgressDisplay:
    limit = StepLimit(position, None, last_step)
    return ProgressDisplay(position, reporter or ProgressReporter(None), limit, lambda _: None, 10.0)


def test_a_standing_in_words() -> None:
    whole = Standing(250, 1000, 0.12345, 345.67, 2765.4, 61.0)
    assert ", ".join(whole.words()) == (
        "step 250/1000, 345.7 steps/s, 2765 examples/s, loss 0.1235, 1:01 left"
    )
    assert Standing(3, None, None, None, None, None).words() == ["step 3"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (750, "12:30"), (10805, "3:00:05")]
)
def test_clock_text(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


def test_the_time_left_counts_everything_since_the_first_step() -> None:
    position = Position(clock=lambda: 0.0)
    shown = display(position)
    position.step = 10
    shown.after_run(None, None)
    assert shown.standing(10, 5.0).seconds_left is None
    assert shown.standing(40, 60.0).seconds_left == pytest.approx(60.0 / 30 * 60)
    assert display(position, last_step=None).standing(40, 60.0).seconds_left is None


def test_it_shows_only_when_it_is_due() -> None:
    now, seen = [0.0], []
    position = Position(clock=lambda: now[0])
    limit = StepLimit(position, None, 100)
    shown = ProgressDisplay(position, ProgressReporter(None), limit, seen.append, 10.0)
    for second in range(35):
        now[0], position.step = float(second), second + 1
        shown.after_run(None, None)
    assert [standing.step for standing in seen] == [11, 21, 31]
    assert shown.wake().time == 40.0


class Terminal:
    def isatty(self) -> bool:
        return True


def test_the_display_suits_where_the_log_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    position = Position()
    parts = (position, ProgressReporter(None), StepLimit(position, None, None))
    verbosity = log.get_verbosity()
    try:
        log.set_verbosity(log.WARN)
        assert [type(h) for h in progress_display.display_for(*parts, False)] == [ProgressDisplay]
        assert progress_display.display_for(*parts, True) == []
        monkeypatch.setattr(sys, "stderr", Terminal())
        assert [type(h) for h in progress_display.display_for(*parts, False)] == [ProgressBar]
        log.set_verbosity(log.ERROR)
        assert progress_display.display_for(*parts, False) == []
    finally:
        log.set_verbosity(verbosity)


def test_a_log_gets_plain_lines_and_the_usual_ones_and_no_rich(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
        env=environment(),
    )
    assert done.stdout == "False\n", "rich is imported only for a terminal"
    assert re.search(r"progress: step \d+/50, .*loss .*, \d+:\d\d left", done.stderr), done.stderr
    assert re.search(r"loss = [\d.e-]+, step = 21 \([\d.]+ sec\)", done.stderr)
    assert re.search(r"global_step/sec: [\d.]+", done.stderr)
    assert "\x1b" not in done.stderr


def test_a_terminal_gets_one_bar_and_the_log_lines_above_it(tmp_path: Path) -> None:
    code, seen = on_a_terminal(str(tmp_path))
    assert code == 0, seen
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
    assert re.search(r"training .*━.* step \d+/50 ", plain), plain
    assert re.search(r"loss = [\d.e-]+, step = 41", plain)
    assert "progress: step" not in plain
    assert seen.endswith("\n")
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") == 1, "the cursor is hidden, and shown again"


def test_the_terminal_is_as_before_after_a_failure(tmp_path: Path) -> None:
    code, seen = on_a_terminal(str(tmp_path), "fails")
    assert code == 1
    assert "RuntimeError: broken off" in seen
    assert seen.rindex("\x1b[?25h") < seen.rindex("RuntimeError: broken off")


def test_a_second_training_beside_the_first_shows_no_second_bar() -> None:
    from rich.console import Console
    from rich.progress import Progress

    position = Position()
    bar = ProgressBar(position, ProgressReporter(None), StepLimit(position, None, 5))
    console = Console(file=io.StringIO(), force_terminal=True)
    with Progress(console=console, auto_refresh=False), progress_display.shown([bar]):
        position.step = 3
        bar.after_run(None, None)

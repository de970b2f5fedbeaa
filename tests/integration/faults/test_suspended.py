"""A task that is stopped before it has taken a step: no limit of training sees it for half an hour."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.faults.aftermath import assert_finished
from tests.integration.faults.strategies import STRATEGIES, start

pytestmark = pytest.mark.faults


@pytest.mark.parametrize(
    ("strategy", "role"), [("none", "chief-0"), ("parameter_server", "ps-0"), ("multi_worker", "worker-0")]
)
def test_a_task_stopped_at_its_start_is_started_again(tmp_path: Path, strategy: str, role: str) -> None:
    (tmp_path / "release").touch()
    words = ("--inject", f"stop:{role}", "--set", "run_policy.hang_seconds.suspended=6")
    with start(tmp_path, STRATEGIES[strategy], tmp_path / "data", *words) as run:
        assert_finished(run, STRATEGIES[strategy], tmp_path)
        reasons = [event["text"] for event in run.events if event["event"].endswith("_restarting")]
        assert reasons[0].startswith(f"{role} was held by SIGSTOP for "), reasons

"""What must hold after a run that something was done to."""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf

from orchestrator.cluster.records import EvaluationRecord
from orchestrator.launch.ports import listened_ports
from orchestrator.launch.process_tree import processes_of_run
from tests.integration.faults.strategies import MAX_STEPS, Strategy
from tests.integration.launched import Launched
from tests.launch.jobs import task


def assert_finished(run: Launched, strategy: Strategy, place: Path) -> None:
    """The last step was reached and evaluated, and nothing beyond the last checkpoint was done anew."""
    assert run.wait() == 0, run.output
    assert run.summary["state"] == "succeeded"
    newest = tf.train.latest_checkpoint(str(place / "model"))
    assert newest is not None
    assert int(newest.rpartition("-")[2]) >= MAX_STEPS
    if strategy.is_experiment:
        evaluation = run.run_dir.records(task(strategy.evaluated_by)).read(EvaluationRecord)
        assert evaluation is not None
        assert evaluation.global_step >= MAX_STEPS
        assert evaluation.checkpoint is not None
        assert Path(evaluation.checkpoint).name == Path(newest).name, "a later checkpoint was not evaluated"
    assert_no_step_lost(run, place)
    assert_nothing_left(run, place)


def assert_no_step_lost(run: Launched, place: Path) -> None:
    """Where training began again, it began at the last checkpoint that the launcher knew, or later."""
    path = place / "first-steps-chief-0"
    begun = [int(line) for line in path.read_text().split()] if path.exists() else []
    known = [e.get("from_checkpoint_step") for e in run.events if e["event"].endswith("_restarting")]
    if len(begun) > 1:
        assert begun[-1] >= max((step for step in known[:1] if step is not None), default=0)
    assert begun == sorted(begun), f"a start went back behind an earlier one: {begun}"


def assert_nothing_left(run: Launched, place: Path) -> None:
    """No process, no port, no temporary file."""
    assert not processes_of_run(run.run_dir.path)
    planned = [event for event in run.events if event["event"] == "run_started"]
    ports = {int(address.rsplit(":", 1)[1]) for event in planned for address in event.get("addresses", [])}
    assert not ports & set(listened_ports())
    assert os.listdir(place / "tmp") == []

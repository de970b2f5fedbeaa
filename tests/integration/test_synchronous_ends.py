"""How two tasks end that step together: on request, a second apart, and where one runs out of data."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from orchestrator.cli.job_options import JobOptions, resolve
from orchestrator.cluster.files import write_json_atomically
from orchestrator.cluster.records import Phase, ProgressRecord
from orchestrator.cluster.task import TaskId
from orchestrator.launch.launcher import PreparationExited, StopKind
from orchestrator.launch.local import LocalLauncher
from orchestrator.launch.run_dir import RunDir
from tests.integration.launched import Launched
from tests.launch.local_runs import CHIEF, WORKER, Watch

pytest.importorskip("sklearn", reason="the digits come from scikit-learn")
pytestmark = pytest.mark.timeout(900)

CLUSTER = """\
name: digits
strategy: multi_worker_mirrored
tasks: {chief: {replicas: 1}, worker: {replicas: 1}}
"""
ROOT = str(Path(__file__).parents[2])
NEVER = 10_000_000
"""Steps that no test takes."""


@pytest.mark.parametrize(
    ("first", "steps_per_loop"),
    [
        (WORKER, "auto"),
        pytest.param(WORKER, "1", marks=pytest.mark.faults),
        pytest.param(CHIEF, "1", marks=pytest.mark.faults),
        pytest.param(CHIEF, "20", marks=pytest.mark.faults),
    ],
)
def test_a_request_that_reaches_two_tasks_a_second_apart_ends_both_at_one_step(
    tmp_path: Path, first: TaskId, steps_per_loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = CHIEF if first == WORKER else WORKER
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    monkeypatch.setenv("PYTHONPATH", ROOT)
    options = JobOptions(
        tmp_path / "cluster.yaml",
        overrides=(
            f"params.max_steps={NEVER}",
            f"run_config.save_checkpoints_steps={NEVER}",
            f"run_config.steps_per_loop={steps_per_loop}",
        ),
        data_dir=str(tmp_path / "data"),
        run_dir=str(tmp_path / "run"),
    )
    resolved = resolve(options, working_dir=tmp_path)
    run_dir = RunDir(resolved.job.run_dir)
    run_dir.create()
    write_json_atomically(run_dir.experiment, resolved.experiment)

    def progress(task: TaskId) -> ProgressRecord:
        return run_dir.records(task).read(ProgressRecord) or ProgressRecord(Phase.STARTING, 0.0)

    def both_step() -> bool:
        return all((progress(task).step or 0) > 0 for task in (CHIEF, WORKER))

    made = LocalLauncher(run_dir.path)
    try:
        watch = Watch(made)
        plan = made.plan(resolved.job, 0)
        made.prepare(resolved.job)
        watch.until(lambda: any(isinstance(e, PreparationExited) for e in watch.events), "the data")
        made.submit(plan)
        watch.until(lambda: both_step() or bool(watch.exits(CHIEF)), "steps")
        assert both_step(), watch.output(CHIEF)
        made.stop([first], StopKind.REQUEST)
        end = time.monotonic() + 1.0
        watch.until(lambda: time.monotonic() >= end, "a second")
        made.stop([second], StopKind.REQUEST)
        watch.until_exited([CHIEF, WORKER])
    finally:
        made.close()
    said = "\n".join(watch.output(task) for task in (CHIEF, WORKER))
    assert said.count("take their steps in loops") == (0 if steps_per_loop == "1" else 2), said
    assert [watch.exits(task)[0].code for task in (CHIEF, WORKER)] == [143, 143], said
    ends = [progress(task) for task in (CHIEF, WORKER)]
    assert [(end.phase, end.stopped) for end in ends] == [(Phase.DONE, True)] * 2
    assert ends[0].step == ends[1].step
    newest = (Path(resolved.job.model_dir) / "checkpoint").read_text().splitlines()[0]
    assert newest == f'model_checkpoint_path: "model.ckpt-{ends[0].step}"'


@pytest.mark.faults
@pytest.mark.parametrize("steps_per_loop", ["1", "auto"])
def test_a_worker_with_fewer_batches_is_diagnosed_as_uneven_data(tmp_path: Path, steps_per_loop: str) -> None:
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    with Launched(
        tmp_path,
        "cluster.yaml",
        *("--experiment", "tests.integration.uneven_digits:uneven"),
        *("--data-dir", str(tmp_path / "data"), "--model-dir", str(tmp_path / "model")),
        *("--set", f"params.max_steps={NEVER}", "--set", "params.batches=30"),
        *("--set", f"run_config.steps_per_loop={steps_per_loop}"),
        env={"PYTHONPATH": ROOT},
    ) as run:
        assert run.wait() == 1, run.output
    verdict = json.loads(run.run_dir.verdict.read_text())
    failure = verdict["first_failure"]
    assert (failure["task"], failure["kind"]) == ("worker-0", "uneven_data"), run.output
    assert "its data ran out first (steps: chief-0 at " in run.output
    assert run.restarts() == [], "the data would run out again"
    assert verdict["steps"]["worker-0"] == 30

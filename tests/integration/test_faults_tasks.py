"""Tasks killed in the middle of training: what is restarted, and that training ends as if nothing was."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from orchestrator.cluster.records import EvaluationRecord
from orchestrator.launch.snapshot import RunPhase
from tests.integration.launched import Launched
from tests.launch.jobs import task

pytest.importorskip("sklearn", reason="the digits come from scikit-learn")
pytestmark = pytest.mark.timeout(900)

MAX_STEPS = 200
CLUSTERS = {
    "asynchronous": """\
name: digits
strategy: parameter_server
tasks: {chief: {replicas: 1}, worker: {replicas: 1}, ps: {replicas: 1}, evaluator: {replicas: 1}}
""",
    "synchronous": """\
name: digits
strategy: multi_worker_mirrored
tasks: {chief: {replicas: 1}, worker: {replicas: 1}, evaluator: {replicas: 1}}
""",
    "single": """\
name: digits
tasks: {chief: {replicas: 1}}
""",
}
COMMON = """\
run_policy: {restart_delay_seconds: 0.2, grace_seconds: 120}
"""


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set, prepared by the first run that needs it."""
    return tmp_path_factory.mktemp("digits")


def launch(
    place: Path, cluster: str, data: Path, function: str = "slow", checkpoint_steps: int = 20
) -> Launched:
    (place / "cluster.yaml").write_text(CLUSTERS[cluster] + COMMON)
    options = ["--set", f"params.max_steps={MAX_STEPS}"]
    options += ["--set", f"run_config.save_checkpoints_steps={checkpoint_steps}"]
    if function == "broken_step":
        options += ["--set", "run_policy.max_restarts=1"]
    if function == "slow":
        options += ["--set", f"params.release={place / 'release'}"]
    experiment = f"tests.integration.faulty_digits:{function}"
    return Launched(
        place,
        "cluster.yaml",
        *("--experiment", experiment, "--data-dir", str(data), "--model-dir", str(place / "model")),
        *options,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )


def release(place: Path) -> None:
    """From here on steps take no longer than they need."""
    (place / "release").touch()


def first_steps(place: Path, task_name: str) -> list[int]:
    """The global step at which each start of a task began to train."""
    return [int(line) for line in (place / f"first-steps-{task_name}").read_text().split()]


def assert_trained_and_evaluated(run: Launched, evaluator: str) -> None:
    """The last step was reached, the last checkpoint evaluated, and the summary says so."""
    assert run.wait() == 0, run.output
    summary = run.summary
    assert summary["state"] == "succeeded"
    assert summary["global_step"] >= MAX_STEPS
    evaluation = run.run_dir.records(task(evaluator)).read(EvaluationRecord)
    assert evaluation is not None
    assert evaluation.global_step >= MAX_STEPS
    assert summary["evaluation"]["global_step"] == evaluation.global_step
    assert 0.0 <= summary["metrics"]["accuracy"] <= 1.0
    newest = (Path(summary["model_dir"]) / "checkpoint").read_text().splitlines()[0]
    assert evaluation.checkpoint is not None
    # Its name can be a step behind its content: other tasks step on while it is written.
    assert f'"{Path(evaluation.checkpoint).name}"' in newest, "a later checkpoint was not evaluated"


@pytest.mark.parametrize("victim", ["worker-0", "chief-0", "ps-0"])
def test_an_asynchronous_task_that_is_killed_is_restarted_alone(
    tmp_path: Path, digits_dir: Path, victim: str
) -> None:
    with launch(tmp_path, "asynchronous", digits_dir) as run:
        run.wait_for_checkpoint(20)
        address = {name: value["address"] for name, value in run.state().tasks.items()}  # type: ignore[union-attr]
        run.kill_task(victim)
        run.wait_for("its second start", lambda state, _: state.tasks[victim]["starts"] == 2)
        release(tmp_path)
        assert_trained_and_evaluated(run, "evaluator-0")
        assert run.restarts()[0] == victim
        assert "attempt" not in run.restarts()
        state = run.state()
        assert state is not None
        assert {name: value["address"] for name, value in state.tasks.items()} == address
        assert state.tasks[victim]["starts"] == 2
        assert f"{victim} ended with SIGKILL (exit code 137)" in run.output


def test_a_killed_evaluator_is_restarted_and_evaluates_the_last_checkpoint(
    tmp_path: Path, digits_dir: Path
) -> None:
    with launch(tmp_path, "asynchronous", digits_dir) as run:
        run.wait_for_step(5)
        run.kill_task("evaluator-0")
        run.wait_for("its second start", lambda state, _: state.tasks["evaluator-0"]["starts"] == 2)
        release(tmp_path)
        assert_trained_and_evaluated(run, "evaluator-0")
        # Once more where it had ended at a checkpoint of the last step that was not the last one.
        assert set(run.restarts()) == {"evaluator-0"}
        assert "evaluator-0 ended with SIGKILL (exit code 137)" in run.output


@pytest.mark.parametrize("victim", ["worker-0", "chief-0"])
def test_a_synchronous_attempt_is_restarted_from_its_last_checkpoint(
    tmp_path: Path, digits_dir: Path, victim: str
) -> None:
    with launch(tmp_path, "synchronous", digits_dir) as run:
        run.wait_for_checkpoint(20)
        run.kill_task(victim)
        run.wait_for("the second attempt", lambda state, _: state.attempt == 1)
        release(tmp_path)
        assert_trained_and_evaluated(run, "evaluator-0")
        assert run.restarts() == ["attempt"]
        assert {name: value["starts"] for name, value in run.summary["tasks"].items()} == {
            "chief-0": 2,
            "worker-0": 2,
            "evaluator-0": 1,
        }
        (text,) = [event["text"] for event in run.events if event["event"] == "attempt_restarting"]
        assert text.startswith(f"{victim} ended with SIGKILL"), "a victim was blamed"
        assert "there is a new checkpoint at step" in text
        first, second = first_steps(tmp_path, "chief-0")
        assert first == 0
        assert second >= 20, "training began anew"


def test_a_single_process_goes_on_from_its_last_checkpoint(tmp_path: Path, digits_dir: Path) -> None:
    with launch(tmp_path, "single", digits_dir) as run:
        run.wait_for_checkpoint(20)
        run.kill_task("chief-0")
        run.wait_for("the second attempt", lambda state, _: state.attempt == 1)
        release(tmp_path)
        assert_trained_and_evaluated(run, "chief-0")
        first, second = first_steps(tmp_path, "chief-0")
        assert first == 0
        assert second >= 20, "training began anew"


@pytest.mark.parametrize("cluster", ["asynchronous", "synchronous", "single"])
def test_sigterm_to_the_launcher_writes_a_checkpoint(tmp_path: Path, digits_dir: Path, cluster: str) -> None:
    with launch(tmp_path, cluster, digits_dir, checkpoint_steps=10_000) as run:
        run.wait_for_step(25)
        run.signal(signal.SIGTERM)
        assert run.wait() == 143, run.output
        summary = run.summary
        assert summary["state"] == "stopped"
        assert summary["tasks"]["chief-0"]["exit"] in (0, 143), run.output
        newest = (tmp_path / "model" / "checkpoint").read_text().splitlines()[0]
        step = int(newest.rsplit("-", 1)[1].rstrip('"'))
        assert step >= 25, "no checkpoint was written for the request"
        assert summary["checkpoint_step"] == step
        assert "goes on from step" in run.output


def test_a_launcher_that_is_killed_leaves_no_task(tmp_path: Path, digits_dir: Path) -> None:
    with launch(tmp_path, "asynchronous", digits_dir) as run:
        run.wait_for_step(5)
        run.signal(signal.SIGKILL)
        run.process.wait(240)
        run.wait_until_nothing_is_left()
        state = run.state()
        assert state is not None
        assert state.crashed
        assert state.phase is RunPhase.RUNNING


def test_an_experiment_that_raises_while_building_is_one_clear_error(
    tmp_path: Path, digits_dir: Path
) -> None:
    with launch(tmp_path, "asynchronous", digits_dir, function="broken_build") as run:
        assert run.wait() == 2
        assert run.restarts() == []
        verdict = run.output.split("digits: failed after", 1)[1]
        assert "broken_build raised LookupError: the column 'price' is not in the table" in verdict
        assert verdict.count("Traceback (most recent call last)") == 1
        assert "in broken_build" in verdict
        assert {value["starts"] for value in run.summary["tasks"].values()} == {1}


def test_an_exception_that_comes_back_ends_the_job_with_its_name(tmp_path: Path, digits_dir: Path) -> None:
    with launch(tmp_path, "synchronous", digits_dir, function="broken_step") as run:
        assert run.wait() == 1
        assert run.restarts() == ["attempt"]
        verdict = run.output.split("digits: failed after", 1)[1]
        assert "worker-0 failed: ValueError: this record is broken" in verdict
        assert "chief-0 failed" not in verdict
        assert "worker-0" in run.summary["verdict"]

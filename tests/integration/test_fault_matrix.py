"""The whole matrix of faults by strategy and role: `make test-faults`; a few of it run by default.

Each case trains the embedded digits, does something to one task in the middle,
and asserts what must hold afterwards: the last step reached and evaluated, no
process left. Times are printed as a table for docs/reliability.md, and never
asserted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.integration.launched import Launched
from tests.integration.test_faults_tasks import MAX_STEPS, assert_trained_and_evaluated, release

pytest.importorskip("sklearn", reason="the digits come from scikit-learn")

HANG_SECONDS = 15
CLUSTERS = {
    "none": "tasks: {chief: {replicas: 1}}",
    "mirrored": "strategy: {name: mirrored, logical_devices: 2}\ntasks: {chief: {replicas: 1}}",
    "multi_worker": "strategy: multi_worker_mirrored\n"
    "tasks: {chief: {replicas: 1}, worker: {replicas: 1}, evaluator: {replicas: 1}}",
    "parameter_server": "strategy: parameter_server\n"
    "tasks: {chief: {replicas: 1}, worker: {replicas: 1}, ps: {replicas: 1}, evaluator: {replicas: 1}}",
}
ROLES = {
    "none": ["chief-0"],
    "mirrored": ["chief-0"],
    "multi_worker": ["chief-0", "worker-0", "evaluator-0"],
    "parameter_server": ["chief-0", "worker-0", "ps-0", "evaluator-0"],
}
FAULTS = ["kill", "stop", "hang", "preempt"]
BY_DEFAULT = {("multi_worker", "worker-0", "hang")}
_UNSEEN = {"stop", "hang"}
"""Faults that leave the process alive: only missing progress shows them."""
_rows: list[str] = []


def cases() -> Iterator[object]:
    for cluster, roles in ROLES.items():
        for role in roles:
            for fault in FAULTS:
                if role.startswith("evaluator") and fault in _UNSEEN:
                    continue  # while it waits for a checkpoint nothing tells it from one that is well
                if role.startswith("ps") and fault in ("hang", "preempt"):
                    continue  # its main thread serves and takes no step; SIGTERM is how it is stopped
                marks = [] if (cluster, role, fault) in BY_DEFAULT else [pytest.mark.faults]
                yield pytest.param(cluster, role, fault, marks=marks, id=f"{cluster}-{role}-{fault}")


@pytest.fixture(scope="module")
def digits_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("digits")


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    yield
    print("\n| strategy | task | fault | from the fault to its restart | whole run |\n|---|---|---|---|---|")
    print("\n".join(_rows))


@pytest.mark.parametrize(("cluster", "role", "fault"), list(cases()))
def test_a_fault_in_mid_training(
    tmp_path: Path, digits_dir: Path, cluster: str, role: str, fault: str
) -> None:
    policy = f"{{restart_delay_seconds: 0.2, grace_seconds: 60, hang_seconds: {{stepping: {HANG_SECONDS}}}}}"
    (tmp_path / "cluster.yaml").write_text(f"name: digits\n{CLUSTERS[cluster]}\nrun_policy: {policy}\n")
    started = time.monotonic()
    with Launched(
        tmp_path,
        "cluster.yaml",
        *("--experiment", "tests.integration.faulty_digits:slow", "--data-dir", str(digits_dir)),
        *("--model-dir", str(tmp_path / "model"), "--inject", f"{fault}:{role}@step=25"),
        *("--set", f"params.max_steps={MAX_STEPS}", "--set", "run_config.save_checkpoints_steps=20"),
        *("--set", f"params.release={tmp_path / 'release'}"),
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as run:
        run.wait_for("a restart", lambda state, _: state.restarts > 0 or state.attempt > 0)
        release(tmp_path)
        alone = cluster in ("none", "mirrored")
        assert_trained_and_evaluated(run, "chief-0" if alone else "evaluator-0")
        told = {event["event"]: event["time"] for event in reversed(run.events)}
        assert f"injected {fault}:{role}@step=25" in run.output
        if fault in _UNSEEN:
            assert "task_hung" in told
            (first, *_) = [e["text"] for e in run.events if e["event"].endswith("restarting")]
            assert first.startswith(f"{role} "), "the wrong task was ended"
            assert "made no progress" in first
    _rows.append(f"| {cluster} | {role} | {fault} | {_delay(run)} | {time.monotonic() - started:.0f} s |")


def _delay(run: Launched) -> str:
    """Seconds between the injection and the decision to restart."""

    def at(event: dict[str, str]) -> float:
        return datetime.fromisoformat(event["time"]).timestamp()

    injected = next(at(e) for e in run.events if e["text"].startswith("injected "))
    restarted = next(at(e) for e in run.events if e["event"].endswith("restarting"))
    return f"{restarted - injected:.1f} s"

"""The strategies of the matrix, and how a run of each is started so that a fault can happen to it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tests.integration.faults.terminal import OnTerminal
from tests.integration.launched import Launched

ROOT = Path(__file__).parents[3]
MAX_STEPS = 200
CHECKPOINT_STEPS = 20
FAULT_STEP = 25
HANG_SECONDS = 20
POLICY = (
    "run_policy: {restart_delay_seconds: 0.2, grace_seconds: 120,"
    f" hang_seconds: {{stepping: {HANG_SECONDS}, evaluating: {HANG_SECONDS}}}}}\n"
)


@dataclass(frozen=True)
class Strategy:
    """One way to train, with the tasks that take part."""

    name: str
    cluster: str
    tasks: tuple[str, ...]
    is_experiment: bool = True

    @property
    def evaluated_by(self) -> str:
        """The task that evaluates the last checkpoint of an experiment."""
        return "evaluator-0" if "evaluator-0" in self.tasks else "chief-0"


def _tasks(*names: str) -> str:
    return "tasks: {" + ", ".join(f"{name.partition('-')[0]}: {{replicas: 1}}" for name in names) + "}\n"


def _strategy(name: str, key: str, *tasks: str, is_experiment: bool = True) -> Strategy:
    return Strategy(name, f"name: digits\n{key}{_tasks(*tasks)}", tasks, is_experiment)


STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        _strategy("none", "", "chief-0"),
        _strategy("mirrored", "strategy: {name: mirrored, logical_devices: 2}\n", "chief-0"),
        _strategy("multi_worker", "strategy: multi_worker_mirrored\n", "chief-0", "worker-0", "evaluator-0"),
        _strategy(
            "parameter_server", "strategy: parameter_server\n", "chief-0", "worker-0", "ps-0", "evaluator-0"
        ),
        _strategy(
            "coordinator", "strategy: parameter_server\n", "chief-0", "worker-0", "ps-0", is_experiment=False
        ),
    )
}


def start(
    place: Path,
    strategy: Strategy,
    data: Path,
    *words: str,
    misdeed: str | None = None,
    checkpoint_steps: int = CHECKPOINT_STEPS,
    terminal: bool = False,
    name: str = "run",
) -> Launched:
    """A run that is held back until `place/release` is there; its temporary files go to `place/tmp`.

    `misdeed` is `WHAT:TASK`: what the program itself does wrong, once.
    """
    (place / "cluster.yaml").write_text(strategy.cluster + POLICY)
    (place / "tmp").mkdir(exist_ok=True)
    env = {"PYTHONPATH": str(ROOT), "TMPDIR": str(place / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    where = ["--model-dir", str(place / "model")]
    kind = OnTerminal if terminal else Launched
    if not strategy.is_experiment:
        program = [sys.executable, "-m", "tests.integration.faults.coordinator_program"]
        program += [str(place / "release"), str(checkpoint_steps), misdeed or "none"]
        return kind(place, "cluster.yaml", *where, *words, "--", *program, env=env, name=name)
    settings = {
        "params.max_steps": MAX_STEPS,
        "params.release": place / "release",
        "params.misdeed": misdeed or "none",
        "run_config.save_checkpoints_steps": checkpoint_steps,
    }
    options = ["--experiment", "tests.integration.faulty_digits:misbehaving", "--data-dir", str(data)]
    for key, value in settings.items():
        options += ["--set", f"{key}={value}"]
    return kind(place, "cluster.yaml", *where, *options, *words, env=env, name=name)

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.estimator import RunConfig, train_and_evaluate
from orchestrator.experiments.function import ExperimentFunction

pytest.importorskip("sklearn", reason="the wines come from scikit-learn")
EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_growers_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    wine = ExperimentFunction.find("wine:experiment", EXAMPLES)
    config = RunConfig(model_dir=str(tmp_path), tf_random_seed=1)
    experiment = wine.build(config, {"max_steps": 200, "hidden": 8})
    metrics, _ = train_and_evaluate(experiment.estimator, experiment.train_spec, experiment.eval_spec)
    assert metrics["global_step"] == 200
    assert metrics["accuracy"] >= 0.9

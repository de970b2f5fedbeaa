"""Fork against spawn on a GPU: the same experiment, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.gpu.programs import needs_gpu
from tests.integration.command_line import run_job

pytest.importorskip("sklearn", reason="the digits come from scikit-learn")
pytestmark = [*needs_gpu, pytest.mark.timeout(900)]


@pytest.mark.parametrize("config", ["local_mirrored", "local_parameter_server"])
def test_forked_and_spawned_jobs_train_the_same_on_a_gpu(tmp_path: Path, config: str) -> None:
    accuracy = {}
    for method in ("fork", "spawn"):
        place = tmp_path / method
        place.mkdir()
        options = ("--data-dir", str(tmp_path / "data"), "--set", "params.max_steps=300")
        job = run_job(
            place, f"cluster_configs/{config}.yaml", *options, "--set", f"local.start_method={method}"
        )
        assert job.code == 0, job.output
        assert set(job.exits.values()) <= {0, 143}, json.dumps(job.summary, indent=1)
        accuracy[method] = job.summary["metrics"]["accuracy"]
    assert min(accuracy.values()) > 0.85, accuracy
    assert accuracy["fork"] == pytest.approx(accuracy["spawn"], abs=0.05)

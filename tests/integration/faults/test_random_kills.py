"""Random signals to random processes: RANDOM_SIGNALS (200) of them, from RANDOM_SEED (1) on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.faults.random_kills import torment

pytest.importorskip("sklearn", reason="the digits come from scikit-learn")


@pytest.mark.faults
@pytest.mark.timeout(4 * 3600)
def test_jobs_survive_random_signals(tmp_path: Path) -> None:
    signals, seed = int(os.environ.get("RANDOM_SIGNALS", "200")), int(os.environ.get("RANDOM_SEED", "1"))
    jobs = torment(signals, seed, tmp_path)
    assert sum(len(job.sent) for job in jobs) >= signals
    assert [job for job in jobs if job.failure is not None] == []

"""A TensorFlow cluster in a private network: it trains, and a stranger gets no connection."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from orchestrator.launch import private_network
from tests.integration.launched import Launched

pytest.importorskip("sklearn", reason="the digits come from scikit-learn")
REFUSED = private_network.why_refused()
pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(REFUSED is not None, reason=f"no private network here: {REFUSED}"),
]
CLUSTER = """\
name: digits
strategy: parameter_server
security: isolated
tasks: {chief: {replicas: 1}, worker: {replicas: 1}, ps: {replicas: 1}, evaluator: {replicas: 1}}
"""


def test_training_goes_on_while_a_stranger_tries_every_port(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    with Launched(
        tmp_path,
        "cluster.yaml",
        *("--experiment", "tests.integration.faulty_digits:slow"),
        *("--data-dir", str(tmp_path / "data"), "--model-dir", str(tmp_path / "model")),
        *("--set", "params.max_steps=100", "--set", f"params.release={tmp_path / 'release'}"),
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as run:
        run.wait_for_step(5)
        started = next(event for event in run.events if event["event"] == "run_started")
        assert len(started["addresses"]) == 3
        for address in started["addresses"]:
            host, port = address.rsplit(":", 1)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, int(port)), timeout=240)
        (tmp_path / "release").touch()
        assert run.wait() == 0, run.output
        assert "in a private network, open to the tasks alone" in run.output
        assert run.summary["global_step"] >= 100
        assert run.summary["evaluation"]["global_step"] >= 100

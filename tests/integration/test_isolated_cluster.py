"""A TensorFlow cluster in a private network: it trains, and a stranger gets no connection."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from orchestrator.launch import outbound_relay, private_network
from orchestrator.launch.process_record import recorded
from orchestrator.launch.process_tree import descendants
from tests.integration.launched import LIMIT, Launched, wait_until
from tests.launch.local_runs import alive, write_program
from tests.launch.test_outbound_relay import own_address, words_of

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
    pytest.importorskip("sklearn", reason="the digits come from scikit-learn")
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


OUTWARD = """
    import socket, sys, time
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 240).send(b"hello")
    time.sleep(1000)
"""


def test_a_killed_launcher_takes_the_way_out_along(tmp_path: Path) -> None:
    missing = outbound_relay.why_no_way_out()
    if missing is not None:
        pytest.skip(f"no way out: {missing}")
    address = own_address()
    (tmp_path / "cluster.yaml").write_text("name: alone\nsecurity: isolated\ntasks: {chief: {}}\n")
    with socket.create_server(("0.0.0.0", 0)) as outside:
        outside.settimeout(LIMIT)
        words = [
            sys.executable,
            str(write_program(tmp_path, OUTWARD)),
            address,
            str(outside.getsockname()[1]),
        ]
        with Launched(tmp_path, "cluster.yaml", "--model-dir", str(tmp_path / "model"), "--", *words) as run:
            heard, _ = outside.accept()
            with heard:
                heard.settimeout(LIMIT)
                assert heard.recv(5) == b"hello"
            assert outbound_relay.describe() in run.output
            (parent,) = [p.identity.pid for p in recorded(run.run_dir.processes) if "parent" in p.label]
            below = [entry.pid for entry in descendants(parent)]
            assert any(words_of(pid)[0] in ("pasta", "slirp4netns") for pid in below)
            run.process.kill()
            wait_until(lambda: not any(map(alive, [parent, *below])), lambda: "the end of all helpers")

"""The main job over three hosts, with the real ssh: nothing of ours is on them before, nothing runs after."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.hosts.ssh_hosts import SshHosts
from tests.integration.ssh_runs import MODEL_DIR, NOTE, Laptop, SshRun

pytest.importorskip("sklearn", reason="the digits come from scikit-learn")
pytestmark = [pytest.mark.xdist_group("ssh_hosts"), pytest.mark.timeout(1200)]


@pytest.fixture
def laptop(hosts: SshHosts, private_place: Path) -> Laptop:
    """Where the launcher runs."""
    return Laptop(hosts, private_place)


def test_the_main_job_over_three_hosts(laptop: Laptop) -> None:
    laptop.write("asynchronous", max_steps=400, lease_seconds=120)  # however busy this machine is
    checked = laptop.command("check", "cluster.yaml", *laptop.places)
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.rstrip().endswith("\ngo"), checked.stdout
    assert max(map(len, checked.stdout.splitlines()[2:])) <= 80
    assert not list(laptop.shared.iterdir()), "a probe was left"
    with SshRun(laptop) as run:
        assert run.wait() == 0, run.output
        summary = run.summary
        exits = {name: task["exit"] for name, task in summary["tasks"].items()}
        # On a busy machine it is killed before it has heard that it is not needed any more.
        assert exits.pop("ps-0") in (143, 137)
        assert exits == {"chief-0": 0, "worker-0": 0, "evaluator-0": 0}
        assert summary["restarts"] == 0
        assert summary["metrics"]["accuracy"] >= 0.9
        assert summary["evaluation"]["final"]
        assert summary["evaluation"]["global_step"] == summary["checkpoint_step"] >= 400
        peaks = [task["peak_memory_bytes"] for task in summary["tasks"].values()]
        # A task that is over between two samples has none.
        assert [peak for peak in peaks if peak is not None]
        assert all(peak is None or peak > 1e7 for peak in peaks)
        assert (laptop.model_dir / "export" / "serving").is_dir()
        assert not MODEL_DIR.exists(), "this machine has no such disk"
        for task, host in {"chief-0": "h1", "worker-0": "h2", "evaluator-0": "h1"}.items():
            ran = laptop.ran(task)
            assert ran["host"] == run.host_of(task) == host
            ours = laptop.hosts.home(host) / ".cache" / "tf-orchestrator"
            assert Path(ran["directory"]).parent == ours / "code"
            assert ran["files"] == ["brake.py", "cluster.yaml", "mine.py"], "the secret stays"
            assert ran["note"] == NOTE
        assert "loss = " in (run.run_dir.logs / "worker-0.log").read_text()
        assert "Evaluated" in (run.run_dir.logs / "evaluator-0.log").read_text()

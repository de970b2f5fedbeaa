"""Hosts, cables, sshd, tasks and launchers that fail while a job runs over three hosts."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.integration.hosts.ssh_hosts import SshHosts
from tests.integration.launched import wait_until
from tests.integration.ssh_runs import Laptop, SshRun

pytest.importorskip("sklearn", reason="the digits come from scikit-learn")
pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

MAX_STEPS = 120


@pytest.fixture
def laptop(hosts: SshHosts, private_place: Path) -> Laptop:
    """Where the launcher runs."""
    return Laptop(hosts, private_place)


def assert_trained(run: SshRun) -> None:
    """All steps were taken and the last checkpoint evaluated, and nothing is left on any host."""
    assert run.wait() == 0, run.output
    summary = run.summary
    assert summary["state"] == "succeeded"
    assert summary["global_step"] >= MAX_STEPS
    assert summary["evaluation"]["global_step"] == summary["checkpoint_step"] >= MAX_STEPS


def assert_went_on(laptop: Laptop) -> None:
    """The chief's last start went on from a checkpoint of the first."""
    steps = laptop.first_steps("chief-0")
    assert steps[0] == 0
    assert len(steps) > 1
    assert min(steps[1:]) >= 20, "training began anew"


def wait_for_output(run: SshRun, text: str) -> None:
    """Waits until the launcher has said something."""

    def said() -> bool:
        assert run.process.poll() is None or text in run.output, f"it ended without '{text}':\n{run.output}"
        return text in run.output

    wait_until(said, lambda: f"'{text}'; so far:\n{run.output}")


def measured(what: str, seconds: float) -> None:
    """A line for the table of docs/reliability.md (pytest -s)."""
    print(f"\nTIME {what}: {seconds:.1f} s")


def test_a_killed_task_restarts_the_attempt_on_both_hosts(laptop: Laptop) -> None:
    laptop.write("synchronous", MAX_STEPS, held=True)
    with SshRun(laptop) as run:
        run.wait_for_checkpoint(20)
        assert [run.host_of(task) for task in ("chief-0", "worker-0")] == ["h1", "h2"]
        run.kill_task("worker-0")
        run.wait_for("the second attempt", lambda state, _: state.attempt == 1)
        laptop.release()
        assert_trained(run)
        assert run.restarts() == ["attempt"]
        (text,) = [event["text"] for event in run.events if event["event"] == "attempt_restarting"]
        assert text.startswith("worker-0 ended with SIGKILL"), "a victim was blamed"
        assert_went_on(laptop)


def test_bad_weather_costs_time_alone(laptop: Laptop) -> None:
    hosts = laptop.hosts
    laptop.write("asynchronous", MAX_STEPS, held=True, lease_seconds=40)
    with SshRun(laptop) as run:
        run.wait_for_step(10)
        hosts.throttle("h2", "500kbit")
        run.wait_for_step(30)
        hosts.unthrottle("h2")
        hosts.kill_sshd("h2")
        wait_for_output(run, "h2: the connection is lost")
        hosts.start_sshd("h2")
        wait_for_output(run, "h2: connected again")
        hosts.cut("h3")
        wait_for_output(run, "h3: the connection is lost")
        hosts.mend("h3")
        wait_for_output(run, "h3: connected again")
        laptop.release()
        assert_trained(run)
        assert run.output.count("nothing was lost") == 2
        assert run.restarts() == []
        log = (run.run_dir.logs / "worker-0.log").read_text()
        assert "Loss for final step" in log, "what was written meanwhile has arrived"


BLOWS: dict[str, Callable[[SshHosts, str], None]] = {
    "cut off": SshHosts.cut,
    "without sshd": SshHosts.kill_sshd,
    "powered off": SshHosts.power_off,
}


@pytest.mark.parametrize(
    ("blow", "cluster"),
    [
        ("cut off", "anywhere"),
        ("cut off", "together"),
        ("without sshd", "anywhere"),
        ("without sshd", "together"),
        ("powered off", "anywhere"),
        ("powered off", "together"),
    ],
)
def test_a_lost_host_is_named_and_training_goes_on_without_it(
    laptop: Laptop, cluster: str, blow: str
) -> None:
    laptop.write(cluster, MAX_STEPS, held=True, lease_seconds=10)
    with SshRun(laptop) as run:
        run.wait_for_checkpoint(20)
        assert run.host_of("worker-0") == "h2"
        began = time.monotonic()
        BLOWS[blow](laptop.hosts, "h2")
        seen: dict[str, float] = {}

        def ended_and_named() -> bool:
            if not run.left_on("h2"):
                seen.setdefault("nothing left on the host", time.monotonic() - began)
            if "host h2 was lost" in run.output:
                seen.setdefault("named", time.monotonic() - began)
            return len(seen) == 2

        wait_until(ended_and_named, lambda: f"its end; so far {seen}, {run.left_on('h2')}:\n{run.output}")
        run.wait_for("a start elsewhere", lambda state, _: state.tasks["worker-0"]["starts"] == 2)
        seen["started elsewhere"] = time.monotonic() - began
        for what, seconds in seen.items():
            measured(f"{cluster}, {blow}: {what}", seconds)
        laptop.release()
        assert_trained(run)
        assert run.host_of("worker-0") != "h2"
        if cluster == "together":
            assert_went_on(laptop)
        verdict = run.run_dir.verdict.read_text()
        assert "host h2 was lost" in verdict, verdict


def test_a_host_that_tasks_are_declared_on_is_waited_for(laptop: Laptop) -> None:
    laptop.write("synchronous", MAX_STEPS, held=True, lease_seconds=10)
    with SshRun(laptop) as run:
        run.wait_for_checkpoint(20)
        laptop.hosts.power_off("h2")
        wait_for_output(run, "host h2 was lost")
        wait_for_output(run, "waiting for it, 10:00 min at most (ssh.host_wait_seconds)")
        laptop.hosts.power_on("h2")
        run.wait_for("the second attempt", lambda state, _: state.attempt == 1)
        laptop.release()
        assert_trained(run)
        assert_went_on(laptop)
        assert run.host_of("worker-0") == "h2"
        first = json.loads(run.run_dir.verdict.read_text())["first_failure"]
        assert (first["kind"], first["task"], first["host"]) == ("host_lost", "worker-0", "h2")


@pytest.mark.parametrize("cluster", ["watched", "watched from anywhere"])
def test_training_goes_on_without_the_host_of_the_evaluator(laptop: Laptop, cluster: str) -> None:
    laptop.write(cluster, MAX_STEPS, held=True, lease_seconds=10)
    with SshRun(laptop) as run:
        run.wait_for_checkpoint(20)
        assert run.host_of("evaluator-0") == "h3"
        laptop.hosts.power_off("h3")
        wait_for_output(run, "host h3 was lost")
        if cluster == "watched":
            wait_for_output(run, "evaluator-0 cannot be started: host h3 cannot be reached")
            laptop.hosts.power_on("h3")
        run.wait_for("another start", lambda state, _: state.tasks["evaluator-0"]["starts"] == 2)
        assert (run.host_of("evaluator-0") == "h3") == (cluster == "watched")
        laptop.release()
        assert_trained(run)
        assert {*run.restarts()} == {"evaluator-0"}
        assert laptop.first_steps("chief-0") == [0], "training was interrupted"


def test_ctrl_c_is_obeyed_while_a_host_does_not_answer(laptop: Laptop) -> None:
    laptop.write("synchronous", MAX_STEPS, connect_timeout_seconds=3600)
    laptop.hosts.cut("h2")
    with SshRun(laptop) as run:
        wait_until(lambda: run.left_on("h1") and run.left_on("h3"), lambda: f"h1 and h3:\n{run.output}")
        assert run.process.poll() is None
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 130, run.output
        assert "stopped by Ctrl-C" in run.output
        assert not [p for p in psutil.process_iter() if str(laptop.hosts.ssh_config) in words_of(p)]


def words_of(process: psutil.Process) -> list[str]:
    """Its command line; nothing where it has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_killed_launcher_leaves_nothing_and_the_next_goes_on(laptop: Laptop) -> None:
    laptop.write("asynchronous", MAX_STEPS, held=True, lease_seconds=10)
    with SshRun(laptop) as run:
        run.wait_for_checkpoint(20)
        began = time.monotonic()
        run.process.kill()
        run.wait_until_nothing_is_left()
        measured("launcher killed: nothing left on any host", time.monotonic() - began)
    laptop.release()
    with SshRun(laptop, name="again") as run:
        assert_trained(run)
        assert_went_on(laptop)

"""The hosts that other tests run on are what those tests take them for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.integration.hosts.ssh_hosts import PACKAGE, SshHosts
from tests.integration.launched import wait_until


def ssh(hosts: SshHosts, host: str, command: str) -> str:
    """What a command says on a host, asked for through ssh."""
    words = hosts.outside("ssh", "-F", str(hosts.ssh_config), host, command)
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def sleeps(hosts: SshHosts, host: str) -> bool:
    """Whether the test's own process runs there."""
    return ["sleep", "4321"] in hosts.processes(host).values()


def serves(hosts: SshHosts, host: str) -> bool:
    """Whether any process of sshd is left there."""
    return any("sshd" in words[0] for words in hosts.processes(host).values())


@pytest.mark.timeout(600)
def test_hosts_have_names_homes_and_processes_of_their_own(tmp_path: Path, hosts: SshHosts) -> None:
    shared = tmp_path / "shared"
    assert ssh(hosts, "h2", f"touch {shared}; hostname; echo $HOME") == f"h2\n{hosts.home('h2')}"
    assert ssh(hosts, "h1", f"ls {shared} {PACKAGE}") == f"{shared}\n\n{PACKAGE}:", (
        "the disk is shared, not all"
    )
    assert ssh(hosts, "h3", "getent hosts h1").split() == [hosts.address("h1"), "h1"]
    with subprocess.Popen(hosts.outside("ssh", "-F", str(hosts.ssh_config), "h1", "sleep 4321")) as client:
        wait_until(lambda: sleeps(hosts, "h1"), lambda: "the process on h1")
        assert not sleeps(hosts, "h2")
        hosts.kill_sshd("h1")
        assert client.wait(120) == 255
        wait_until(lambda: not serves(hosts, "h1"), lambda: "the end of sshd on h1")
        assert sleeps(hosts, "h1"), "sshd alone was killed"
    hosts.start_sshd("h1")
    hosts.throttle("h1")
    assert ssh(hosts, "h1", "hostname") == "h1"
    hosts.unthrottle("h1")
    hosts.power_off("h1")
    assert not hosts.processes("h1")
    hosts.power_on("h1")
    assert ssh(hosts, "h1", "hostname") == "h1"
    assert not sleeps(hosts, "h1")


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_host_that_is_cut_off_is_not_heard_until_it_is_mended(hosts: SshHosts) -> None:
    words = ["ssh", "-F", str(hosts.ssh_config), "-o", "ServerAliveInterval=1", "h1", "cat"]
    with subprocess.Popen(
        hosts.outside(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write("a\n")
        client.stdin.flush()
        assert client.stdout.readline() == "a\n"
        hosts.cut("h1")
        assert client.wait(120) == 255, "the client noticed"
        assert ssh(hosts, "h2", "hostname") == "h2"
    hosts.mend("h1")
    assert ssh(hosts, "h1", "hostname") == "h1"

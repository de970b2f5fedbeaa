from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentProblem
from orchestrator.launch.ssh.client import UNMOVED, SshClient, host_name_in, somebody_to_ask

needs_ssh = pytest.mark.skipif(
    subprocess.run(["sh", "-c", "command -v ssh"], capture_output=True).returncode != 0, reason="no ssh here"
)


def test_the_host_is_never_an_option_and_its_key_is_checked() -> None:
    words = SshClient(Path("/my config")).command("h1", "exec python3 -c 'x y'", interactive=False)
    assert words[-3:] == ["--", "h1", "exec python3 -c 'x y'"]
    assert words[words.index("-F") + 1] == "/my config"
    assert "BatchMode=yes" in words
    assert not any("StrictHostKeyChecking" in word or "UserKnownHostsFile" in word for word in words)
    assert "BatchMode=no" in SshClient().command("h1", "true", interactive=True)
    assert "-F" not in SshClient().command("h1", "true", interactive=True)
    assert SshClient().command("[fd00::1]", "true", interactive=True)[-2] == "fd00::1"


def test_limits_are_whole_seconds() -> None:
    words = SshClient(None, connect_timeout=0.2, alive_interval=0.4).command("h1", "true", interactive=False)
    assert {"ConnectTimeout=1", "ServerAliveInterval=1"} <= {*words}


@needs_ssh
def test_the_users_configuration_says_where_a_host_is(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host near\n  HostName 10.1.2.3\n  User me\nHost odd*\n  HostName %h.example.org\n")
    client = SshClient(config)
    assert client.host_names(["near", "odd1", "plain", "me@near"]) == {
        "near": "10.1.2.3",
        "odd1": "odd1.example.org",
        "plain": "plain",
        "me@near": "10.1.2.3",
    }


@needs_ssh
def test_a_configuration_that_ssh_refuses_is_one_error_in_its_words(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("NoSuchOption yes\n")
    with pytest.raises(EnvironmentProblem, match=r"(?is)how to reach h1: .*nosuchoption"):
        SshClient(config).host_name("h1")


def test_a_machine_without_ssh_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match="apt-get install openssh-client"):
        SshClient().host_name("h1")


def test_what_ssh_prints_is_read() -> None:
    assert host_name_in("user me\nhostname fd00::1\nport 22\n") == "fd00::1"
    assert host_name_in("") is None


def test_signals_for_a_whole_terminal_do_not_end_a_connection() -> None:
    text = "import signal; print(*[signal.getsignal(n) is signal.SIG_IGN for n in (1, 2, 3, 15)])"
    done = subprocess.run([*UNMOVED, sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "True True True True\n"
    assert signal.SIGHUP == 1


def test_nobody_is_asked_without_a_terminal() -> None:
    text = "from orchestrator.launch.ssh.client import somebody_to_ask; print(somebody_to_ask())"
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True, start_new_session=True
    )
    assert done.stdout == "False\n"


def test_somebody_is_asked_at_a_terminal() -> None:
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover
        os._exit(0 if somebody_to_ask() else 1)
    with contextlib.suppress(OSError):
        os.read(terminal, 100)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)

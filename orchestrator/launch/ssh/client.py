"""The OpenSSH client: how it is called, and what it knows of a host."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cluster.launcher_sections import SshSection
from orchestrator.errors import EnvironmentProblem

UNMOVED = ("sh", "-c", 'trap "" INT QUIT HUP TERM; exec "$@"', "sh")
"""In front of a command: keeps it deaf to signals that are for the launcher, as Ctrl-C reaches all."""
_RESOLVE_SECONDS = 60.0
_MISSES = 3


@dataclass(frozen=True)
class SshClient:
    """Calls `ssh` as the user has it set up; only what a conversation needs is put over that.

    Host keys are checked as the user's configuration says.
    """

    config_file: Path | None = None
    connect_timeout: float = 20.0
    """Seconds until a host that does not answer is given up."""
    alive_interval: float = 3.0
    """Seconds of silence after which ssh asks whether the host is there; after three questions it ends."""

    def command(self, host: str, remote: str, *, interactive: bool) -> list[str]:
        """The words that run `remote` on `host`.

        Nothing is asked of anybody unless `interactive`. What the user's
        configuration may add to a login (a terminal, a command, forwarded
        ports) is left out.
        """
        options = {
            "BatchMode": "no" if interactive else "yes",
            "ConnectTimeout": f"{max(1, round(self.connect_timeout))}",
            "ServerAliveInterval": f"{max(1, round(self.alive_interval))}",
            "ServerAliveCountMax": f"{_MISSES}",
            "ClearAllForwardings": "yes",
            "RequestTTY": "no",
            "RemoteCommand": "none",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return [*UNMOVED, "ssh", *self._config(), *words, "--", _bare(host), remote]

    def host_name(self, host: str) -> str:
        """The address that `ssh` would connect to.

        Raises EnvironmentProblem where there is no ssh, or it refuses its configuration.
        """
        try:
            done = subprocess.run(
                ["ssh", *self._config(), "-G", "--", _bare(host)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_RESOLVE_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise EnvironmentProblem(
                "the ssh launcher needs the OpenSSH client, and there is no ssh on PATH. Install it, for"
                " example with apt-get install openssh-client."
            ) from None
        except subprocess.TimeoutExpired:
            raise EnvironmentProblem(f"ssh -G {host} gave no answer within {_RESOLVE_SECONDS:g} s.") from None
        if done.returncode != 0:
            reason = done.stderr.strip() or f"it ended with code {done.returncode}"
            raise EnvironmentProblem(f"ssh cannot tell how to reach {host}: {reason}")
        return host_name_in(done.stdout) or _bare(host)

    def host_names(self, hosts: Sequence[str]) -> dict[str, str]:
        """`host_name` of several hosts."""
        with ThreadPoolExecutor(max_workers=8) as pool:
            return dict(zip(hosts, pool.map(self.host_name, hosts), strict=True))

    def _config(self) -> list[str]:
        return [] if self.config_file is None else ["-F", str(self.config_file)]


Connect = Callable[[SshSection, str, str, bool], list[str]]
"""The words that run a command on a host: options, host, command, whether somebody may be asked."""


def over_ssh(options: SshSection, host: str, command: str, interactive: bool) -> list[str]:
    """With the OpenSSH client."""
    return client_of(options).command(host, command, interactive=interactive)


def client_of(options: SshSection) -> SshClient:
    """The client as the options want it."""
    config = None if options.config_file is None else Path(options.config_file).expanduser()
    return SshClient(config, options.connect_timeout_seconds, options.lease_seconds / 5)


def host_name_in(text: str) -> str | None:
    """The HostName in what `ssh -G` prints."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == "hostname" and value:
            return value
    return None


def somebody_to_ask() -> bool:
    """Whether there is a terminal at which ssh can ask for a password, or about an unknown host."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()  # a job in the background must not ask
    except OSError:
        return False
    finally:
        os.close(terminal)


def _bare(host: str) -> str:
    """An address as ssh takes it: without the brackets that keep it apart from a port."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host

"""The way out of a private network: a program that carries the connections which tasks open.

It carries those and nothing else: no port is forwarded, neither into the network
nor out of it, and what listens on this machine's localhost stays out of reach.
The program runs outside of the network, as a child of the process that has
entered it, and ends with that.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from orchestrator.launch import private_network
from orchestrator.launch.process_tree import die_with_parent
from orchestrator.launch.task_runner import reset_signals

READY_SECONDS = 15.0
"""How long a relay may take to be ready."""
_INTERFACE = "tap0"
_ADDRESS, _MASK, _GATEWAY = "10.0.2.100", "24", "10.0.2.2"
_PID = "PID"
_MOST_WORDS = 4096


@dataclass(frozen=True)
class Relay:
    """A program that can be one."""

    program: str
    options: tuple[str, ...]
    """PID stands for the process whose network it serves."""
    of_root: tuple[str, ...] = ()
    """What comes first when root runs it."""

    def command(self, pid: int, *, root: bool) -> list[str]:
        """The words that start it for the network, and the user namespace, of process `pid`."""
        words = [str(pid) if word == _PID else word for word in self.options]
        return [self.program, *(self.of_root if root else ()), *words]


PASTA = Relay(
    "pasta",
    (
        *("--foreground", "--quiet", "--config-net", "--ns-ifname", _INTERFACE),
        # Each of these is `auto` by default: what listens within would be open to everybody outside.
        *("--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"),
        "--no-map-gw",  # else the gateway's address is this machine's localhost
        # Else tasks would have this machine's own address, and could not reach what listens on it.
        *("--address", _ADDRESS, "--netmask", _MASK, "--gateway", _GATEWAY),
        _PID,
    ),
    ("--runas", "0:0"),  # it becomes `nobody` otherwise, who may not enter the network
)
SLIRP4NETNS = Relay(
    "slirp4netns", ("--configure", "--mtu=65520", "--disable-host-loopback", _PID, _INTERFACE)
)
KNOWN = (PASTA, SLIRP4NETNS)
"""The one to be preferred first."""


@dataclass(frozen=True)
class WayOut:
    """How the connections of tasks leave their network."""

    pid: int | None = None
    """The relay's process; None where there is none."""
    program: str = ""
    failures: tuple[str, ...] = ()
    """Why others, that were tried before it, are not it; where there is none, why there is none."""


def installed() -> tuple[Relay, ...]:
    """The relays that this machine has, the one to be preferred first."""
    return tuple(relay for relay in KNOWN if shutil.which(relay.program) is not None)


def why_no_way_out() -> str | None:
    """Why tasks in a private network could open no connection to the outside; None where they could."""
    if not installed():
        return f"neither {' nor '.join(relay.program for relay in KNOWN)} is installed"
    return None if os.access("/dev/net/tun", os.R_OK | os.W_OK) else "/dev/net/tun cannot be opened"


def describe() -> str:
    """How connections to the outside would leave a private network, in words: `through pasta`."""
    missing = why_no_way_out()
    return f"through {installed()[0].program}" if missing is None else f"none: {missing}"


def enter_with_relay() -> WayOut:
    """As `private_network.enter`, with a way out where there is one; while there is one thread."""
    missing = why_no_way_out()
    if missing is not None:
        private_network.enter()
        return WayOut(failures=(missing,))
    relays = installed()
    waiting = [_Waiting(relay) for relay in relays]  # now: later ones would be inside as well
    try:
        owner = os.getpid()
        if PASTA in relays:
            owner = private_network.enter_owned()
        else:
            private_network.enter()
        failures: list[str] = []
        for candidate in waiting:
            failure = candidate.start(owner)
            if failure is None:
                return WayOut(candidate.pid, candidate.relay.program, tuple(failures))
            failures.append(failure)
        return WayOut(failures=tuple(failures))
    finally:
        for candidate in waiting:
            candidate.dismiss()


class _Waiting:
    """A process outside of the network that becomes the relay when it is told whose network to serve."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self._words = os.memfd_create("relay", os.MFD_CLOEXEC)
        wait, self._go = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            with contextlib.suppress(BaseException):
                _become(relay, wait, self._words, parent)
            os._exit(1)
        os.close(wait)
        self._runs = False

    def start(self, owner: int) -> str | None:
        """Has it serve the network of process `owner`; why it does not, or None once there is a way out."""
        os.write(self._go, str(owner).encode())
        failure = self._await_route()
        self._runs = failure is None
        return failure

    def dismiss(self) -> None:
        """Lets go of it; one that serves no network ends."""
        os.close(self._go)
        os.close(self._words)
        if not self._runs:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)

    def _await_route(self) -> str | None:
        end = time.monotonic() + READY_SECONDS
        name = self.relay.program
        while not _has_default_route():
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return f"{name} ended at once{self._last_words()}"
            if time.monotonic() > end:
                return f"{name} was not ready within {READY_SECONDS:g} s{self._last_words()}"
            time.sleep(0.01)
        return None

    def _last_words(self) -> str:
        text = os.pread(self._words, _MOST_WORDS, 0).decode("utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f" ({lines[-1]})" if lines else ""


def _become(relay: Relay, wait: int, words: int, parent: int) -> None:
    """Waits for the number of the network's owner, then is the relay; comes back where it is not to be."""
    die_with_parent(parent)
    close_all_but((wait, words))  # the parent's way to the launcher among them
    owner = os.read(wait, 20)
    if not owner:
        return
    null = os.open(os.devnull, os.O_RDWR)
    for source, fd in ((null, 0), (null, 1), (words, 2)):
        os.dup2(source, fd)
    os.setsid()
    reset_signals()  # pasta does not start where SIGPIPE is ignored, as Python ignores it
    os.execvp(relay.program, relay.command(int(owner), root=os.geteuid() == 0))


def close_all_but(keep: Collection[int]) -> None:
    """Closes every descriptor of this process above 2 but these."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd not in keep:
            with contextlib.suppress(OSError):
                os.close(fd)


def _has_default_route() -> bool:
    """Whether this process's network has a way to everywhere, by IPv4 or IPv6."""
    lines = Path("/proc/self/net/route").read_text(encoding="ascii").splitlines()[1:]
    if any(line.split()[1] == "0" * 8 for line in lines):
        return True
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/net/ipv6_route").read_text(encoding="ascii").splitlines()
        return any(line.startswith("0" * 32 + " 00 ") and line.split()[-1] != "lo" for line in lines)
    return False

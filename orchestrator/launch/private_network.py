"""A private network for the processes of a run: nothing outside of it reaches their ports.

The warm parent enters one before it does anything else; every task that it
starts is inside, with a loopback interface of their own. Connections that
tasks open to the outside go through slirp4netns where that is installed.
Standard library only: `python private_network.py` tells, by a line on its
output, why there can be none on this machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

RELAY = "slirp4netns"
"""What carries connections out of the private network."""
RELAY_SECONDS = 15.0
"""How long it may take to be ready."""
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_GET_FLAGS, _SET_FLAGS = 0x8913, 0x8914
_UP = 0x1
_REQUEST = "16sH22x"
"""`struct ifreq` with flags."""
_SET_DEATH_SIGNAL = 1
_MOST_FDS = 4096


def enter() -> None:
    """Moves this process, which must have one thread, into a private network with a loopback interface.

    Root stays root and keeps access to everybody's files; anybody else needs a
    user namespace, with the same ids in it. OSError where the kernel refuses.
    """
    try:
        _unshare(_CLONE_NEWNET)
    except OSError:
        user, group = os.geteuid(), os.getegid()
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    _bring_up("lo")


def enter_with_relay() -> str | None:
    """As `enter`, with a way out where there is one; why there is none, else None.

    The relay is a process of its own outside of the network that ends with this one.
    """
    missing = why_no_way_out()
    if missing is not None:
        enter()
        return missing
    wait, go = os.pipe()
    relay = _fork_relay(wait, go)
    os.close(wait)
    try:
        enter()
        os.write(go, b"1")
    finally:
        os.close(go)  # without the byte it leaves
    return _await_route(relay)


def why_no_way_out() -> str | None:
    """Why tasks in a private network could open no connection to the outside; None where they could."""
    if shutil.which(RELAY) is None:
        return f"{RELAY} is not installed"
    return None if os.access("/dev/net/tun", os.R_OK | os.W_OK) else "/dev/net/tun cannot be opened"


def why_refused() -> str | None:
    """Tries, in a process of its own, whether there can be a private network; why not, else None."""
    tried = subprocess.run(
        [sys.executable, "-I", "-S", __file__], capture_output=True, text=True, errors="replace", check=False
    )
    return None if tried.returncode == 0 else tried.stdout.strip() or "the attempt to make one failed"


def refusal(error: OSError) -> str:
    """What the kernel said, and what to do about it."""
    hint = {
        errno.EPERM: "sysctl kernel.unprivileged_userns_clone=1 allows it on Debian,"
        " kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu",
        errno.EACCES: "sysctl kernel.apparmor_restrict_unprivileged_userns=0 allows it on Ubuntu",
        errno.ENOSPC: "sysctl user.max_user_namespaces and user.max_net_namespaces say how many there may be",
    }.get(error.errno or 0)
    return f"the kernel refuses one ({error.strerror})" + (f"; {hint}" if hint else "")


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _bring_up(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        name = interface.encode()
        answer = fcntl.ioctl(asked, _GET_FLAGS, struct.pack(_REQUEST, name, 0))
        flags = struct.unpack(_REQUEST, answer)[1]
        fcntl.ioctl(asked, _SET_FLAGS, struct.pack(_REQUEST, name, flags | _UP))


def _fork_relay(wait: int, go: int) -> int:
    """A process that becomes the relay as soon as it is told that the network is there."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    with contextlib.suppress(BaseException):
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        os.close(go)
        if os.getppid() == parent and os.read(wait, 1):
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            os.closerange(3, _MOST_FDS)  # the parent's way to the launcher among them
            os.setsid()
            options = ("--configure", "--mtu=65520", "--disable-host-loopback")
            os.execvp(RELAY, [RELAY, *options, str(parent), "tap0"])
    os._exit(1)


def _await_route(relay: int) -> str | None:
    """Waits until there is a way out; why there is none, else None."""
    end = time.monotonic() + RELAY_SECONDS
    while not _has_default_route():
        if os.waitpid(relay, os.WNOHANG)[0]:
            return f"{RELAY} ended at once"
        if time.monotonic() > end:
            os.kill(relay, signal.SIGKILL)
            os.waitpid(relay, 0)
            return f"{RELAY} was not ready within {RELAY_SECONDS:g} s"
        time.sleep(0.01)
    return None


def _has_default_route() -> bool:
    lines = Path("/proc/self/net/route").read_text(encoding="ascii").splitlines()[1:]
    return any(line.split()[1] == "00000000" for line in lines)


if __name__ == "__main__":
    try:
        enter()
    except OSError as refused:
        print(refusal(refused))
        sys.exit(1)

"""A private network for the processes of a run: nothing outside of it reaches their ports.

The warm parent enters one before it does anything else; every task that it
starts is inside, with a loopback interface of their own; `outbound_relay` is
their way out. Standard library only: `python private_network.py` tells, by a
line on its output, why there can be none on this machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

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
        _call("unshare", _CLONE_NEWNET)
    except OSError:
        _enter_user_namespace()
    _bring_up("lo")


def enter_owned() -> int:
    """As `enter`, with a network that belongs to a user namespace also where root calls it.

    Gives the process whose network and user namespace they are. pasta serves no
    other network: this process itself, or one that does nothing and ends with it.
    """
    if os.geteuid() != 0:
        enter()
        return os.getpid()
    holder = _fork_holder()
    if holder is not None:
        try:
            _join_network_of(holder)
            _bring_up("lo")
            return holder
        except OSError:
            os.kill(holder, signal.SIGKILL)
            os.waitpid(holder, 0)
    enter()
    return os.getpid()


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


def _enter_user_namespace() -> None:
    """Makes a network in a user namespace that has the ids of this process, and moves there."""
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")


def _call(name: str, *arguments: int) -> None:
    """A function of the C library that says no by -1; OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc[name](*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _bring_up(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        name = interface.encode()
        answer = fcntl.ioctl(asked, _GET_FLAGS, struct.pack(_REQUEST, name, 0))
        flags = struct.unpack(_REQUEST, answer)[1]
        fcntl.ioctl(asked, _SET_FLAGS, struct.pack(_REQUEST, name, flags | _UP))


def _join_network_of(pid: int) -> None:
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("setns", network, _CLONE_NEWNET)
    finally:
        os.close(network)


def _fork_holder() -> int | None:
    """A process that only keeps a user namespace with a network of its own; None where there can be none."""
    parent = os.getpid()
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            _hold(parent, tell)
        os._exit(1)
    os.close(tell)
    try:
        if os.read(told, 1):
            return pid
    finally:
        os.close(told)
    os.waitpid(pid, 0)
    return None


def _hold(parent: int, tell: int) -> None:
    """Makes the namespaces, says so, and does nothing more until the parent ends."""
    _call("prctl", _SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.dup2(tell, 3)
    os.closerange(4, _MOST_FDS)  # the parent's way to the launcher among them
    os.setsid()
    _enter_user_namespace()
    os.write(3, b"1")
    os.close(3)
    while True:
        signal.pause()


if __name__ == "__main__":
    try:
        enter()
    except OSError as refused:
        print(refusal(refused))
        sys.exit(1)

"""First process of a host: arranges its files, starts sshd, and buries orphans until it is killed.

Runs as process 1 of its own process, network, host name and mount namespaces,
so that nothing mounted here is seen outside. Arguments: the host's name, its
directory, where it has the disk that it shares with others, and directories of
which it sees nothing. Standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


def arrange(name: str, place: Path, shared: str, hidden: list[str]) -> None:
    """A name, users, a list of hosts and shared memory of its own; the disk of all."""
    mounts = [["-t", "tmpfs", "tmpfs", path] for path in ("/dev/shm", "/run", *hidden)]
    mounts += [["--bind", str(place / file), f"/etc/{file}"] for file in ("hosts", "passwd", "shadow")]
    mounts.append(["--bind", str(place.parent / "disk"), shared])
    for arguments in mounts:
        subprocess.run(["mount", *arguments], check=True)
    Path("/run/sshd").mkdir(mode=0o755)
    subprocess.run(["hostname", name], check=True)


def main() -> None:
    """Never returns: a host whose first process ends is one that was switched off."""
    name, place, shared, hidden = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    arrange(name, place, shared, hidden)
    os.chdir("/")
    unblocked = {"preexec_fn": lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})}
    subprocess.Popen([str(place / "start-sshd")], **unblocked)  # type: ignore[call-overload]
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        signal.sigwait({signal.SIGCHLD})


if __name__ == "__main__":
    main()

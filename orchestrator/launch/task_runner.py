"""The last step before a task that is a new program: `python task_runner.py PARENT_PID -- COMMAND ...`.

Runs by its path alone, with the standard library and nothing else, so that it
starts quickly and needs no installation. By now the descriptors, the session,
the directory and the environment are the task's own; what is left are the
things a process must do to itself.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
NOT_EXECUTABLE, NOT_FOUND, PARENT_GONE = 126, 127, 137


def main(arguments: list[str]) -> int:
    """Becomes the command; returns an exit code only where that cannot be."""
    parent, command = int(arguments[0]), arguments[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return PARENT_GONE
    reset_signals()
    try:
        os.execvp(command[0], command)
    except FileNotFoundError as error:
        # A script whose first line names a missing interpreter fails in the same way.
        there = os.path.exists(command[0])
        reason = f"its interpreter is missing ({error.strerror})" if there else "no such command"
        print(f"orchestrator: cannot run {command[0]!r}: {reason}", file=sys.stderr)
        return NOT_FOUND
    except OSError as error:
        print(f"orchestrator: cannot run {command[0]!r}: {error.strerror}", file=sys.stderr)
        return NOT_EXECUTABLE


def reset_signals() -> None:
    """Default actions and nothing blocked, whatever was inherited."""
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                continue  # reserved by the C library
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

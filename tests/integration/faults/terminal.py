"""A launcher on a terminal of its own, which can be closed."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
import threading
from pathlib import Path
from types import TracebackType

from tests.integration.launched import Launched


def _own_the_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests were started by nohup
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class OnTerminal(Launched):
    """As Launched, but input and output are a terminal; what is shown there is kept in the same file."""

    def _start(self, command: list[str], cwd: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
        self._leader, follower = pty.openpty()
        self._closing, self._close = os.pipe()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            preexec_fn=_own_the_terminal,  # noqa: PLW1509 (the tests have no other thread by now)
            env={**env, "TERM": "xterm", "COLUMNS": "120"},
        )
        os.close(follower)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return process

    def _read(self) -> None:
        with self.output_path.open("wb", buffering=0) as stream:
            os.set_blocking(self._leader, False)
            closed = False
            while not closed:
                ready, _, _ = select.select([self._leader, self._closing], [], [], 1.0)
                if self._closing in ready:
                    break
                if self._leader in ready:
                    try:
                        stream.write(os.read(self._leader, 65536))
                    except OSError:  # nobody holds the other end any more
                        closed = True

    def close_terminal(self) -> None:
        """Closes the window: the kernel sends SIGHUP, and nothing can be written any more."""
        os.write(self._close, b"x")
        self._reader.join()
        os.close(self._leader)
        self._leader = -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._leader >= 0:
            self.close_terminal()
        os.close(self._close)
        os.close(self._closing)

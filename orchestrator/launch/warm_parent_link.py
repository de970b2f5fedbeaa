"""The launcher's side of its warm parent: starts it, talks to it, ends it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from pathlib import Path

import orchestrator
from orchestrator.errors import StartError
from orchestrator.launch import temporary_directory
from orchestrator.launch.control_channel import Message, channel_pair
from orchestrator.launch.log_stream import tail
from orchestrator.launch.process_marks import TITLE_ROOM
from orchestrator.launch.process_tree import kill_until_gone, processes_of_run
from orchestrator.launch.task_output import LogFile, OutputPipe

# The interpreter puts the current directory in front of the path for `-c`; a file in it called
# tensorflow.py or json.py must not be imported by the parent.
_BOOT = (
    "import sys; sys.path[:1] = [p for p in sys.path[:1] if p]\n"
    "if sys.argv[1] not in sys.path: sys.path.append(sys.argv[1])\n"
    "path = tuple(sys.path)\n"
    "from orchestrator.launch.warm_parent import main\n"
    "sys.exit(main(sys.argv[2:], path))"
)
_PACKAGE_ROOT = Path(orchestrator.__file__).resolve().parent.parent
_LEAVE_SECONDS = 15.0
_SWEEP_SECONDS = 10.0


class LinkState(str, Enum):
    """How far the warm parent is."""

    STARTING = "starting"
    READY = "ready"
    LOST = "lost"


class WarmParentLink:
    """One warm parent process; StartError when it cannot be started.

    To be made in a thread that lives as long as the run, since the end of that
    thread is the end of the parent.
    """

    def __init__(
        self,
        *,
        run_dir: Path,
        working_dir: Path,
        environ: Mapping[str, str],
        modules: Sequence[str],
        log_path: Path,
        interpreter: str = sys.executable,
        isolated: bool = False,
        secrets: Collection[str] = (),
    ) -> None:
        self._run_dir = run_dir
        self.state = LinkState.STARTING
        self.was_ready = False
        self.modules = tuple(modules)
        self.started_at = time.monotonic()
        self.log_path = log_path
        self.output = OutputPipe(LogFile(log_path), secrets)
        self._temporary = temporary_directory.choose_path(run_dir, environ)
        self._channel, theirs = channel_pair()
        command = [interpreter, "-c", _BOOT, str(_PACKAGE_ROOT), "--channel-fd", str(theirs.fileno())]
        command += ["--launcher", str(os.getpid()), *(f"--import={name}" for name in modules)]
        command += [*(["--isolated"] if isolated else []), f"--temporary={self._temporary}", TITLE_ROOM]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self.output.write_fd,
                stderr=self.output.write_fd,
                env=environ,
                cwd=working_dir,
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )
        except OSError as error:
            self.output.finish()
            self._channel.close()
            raise StartError(f"cannot start {interpreter} in {working_dir}: {error.strerror}.") from error
        finally:
            theirs.close()
        self.output.release_write_end()

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        return self._channel.fileno()

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Sends one message; a parent that is gone is noticed by `receive`."""
        try:
            self._channel.send(message, fds)
        except TimeoutError:
            self.state = LinkState.LOST  # half a message was sent, so that nothing after it can be understood
        except OSError:
            return

    def receive(self) -> list[Message]:
        """What the parent says; sets `state`, LOST at the end of the channel."""
        messages, closed = self._channel.receive()
        for message, _ in messages:
            if message["event"] == "ready":
                self.state = LinkState.READY
                self.was_ready = True
        if closed:
            self.state = LinkState.LOST
        return [message for message, _ in messages]

    def last_words(self) -> str:
        """How the process ended and the last line it wrote."""
        self.output.read()
        code = self._process.poll()
        how = (
            "ended"
            if code is None
            else f"was ended by signal {-code}"
            if code < 0
            else f"ended with code {code}"
        )
        lines = [line for line in tail(self.log_path, 5) if line.strip()]
        return how + (f"; its last line: {lines[-1]}" if lines else "")

    def kill(self) -> None:
        """Ends a parent that does not answer; the kernel ends its tasks."""
        self._process.kill()
        self.state = LinkState.LOST

    def end(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Ends the process and every process of the run. Waits at most half a minute, calling `meanwhile`."""
        self._channel.close()
        try:
            self._wait(_LEAVE_SECONDS, meanwhile)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        kill_until_gone(lambda: processes_of_run(self._run_dir), _SWEEP_SECONDS, meanwhile)
        temporary_directory.remove(self._temporary)
        self.output.read()  # what it wrote last may not have been read yet
        self.output.finish()
        self.state = LinkState.LOST

    def _wait(self, seconds: float, meanwhile: Callable[[], None]) -> None:
        end = time.monotonic() + seconds
        while self._process.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("warm parent", seconds)
            self.output.read()  # it may be blocked on a full pipe
            meanwhile()
            time.sleep(0.01)

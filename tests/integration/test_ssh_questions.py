"""What ssh asks of people, on a terminal."""

from __future__ import annotations

import os
import pty
import select
import time
from pathlib import Path

import pytest

from tests.integration.hosts.ssh_hosts import SshHosts
from tests.integration.launched import COMMAND_LINE
from tests.integration.ssh_runs import RUN_LIMIT, Laptop

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]
HIDES_CURSOR = "\x1b[?25l"


class Terminal:
    """A command on a terminal of its own, and somebody who reads and types there."""

    def __init__(self, *command: str, cwd: Path) -> None:
        self.text = ""
        self.pid, self._end = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.environ["COLUMNS"] = "80"
            os.environ["TERM"] = "xterm"
            os.execvp(command[0], command)

    def until(self, text: str, times: int) -> None:
        """Reads until so much of that is there."""
        end = time.monotonic() + RUN_LIMIT
        while self.text.count(text) < times:
            assert time.monotonic() < end, f"waited for '{text}':\n{self.text}"
            assert self._read(), f"it ended without '{text}':\n{self.text}"

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def wait(self) -> int:
        """Reads to the end; the exit code."""
        while self._read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> bool:
        if not select.select([self._end], [], [], 1.0)[0]:
            return True
        try:
            data = os.read(self._end, 1 << 16)
        except OSError:
            return False  # so ends a terminal
        self.text += data.decode(errors="replace")
        return bool(data)


@pytest.fixture
def laptop(hosts: SshHosts, private_place: Path) -> Laptop:
    """Where the launcher runs; it knows no host yet, and asks about each."""
    known = private_place / "known"
    text = hosts.ssh_config.read_text().replace("StrictHostKeyChecking yes", "StrictHostKeyChecking ask")
    lines = [line for line in text.splitlines() if "UserKnownHostsFile" not in line]
    config = private_place / "config"
    config.write_text("\n".join([*lines, f"  UserKnownHostsFile {known}", "  GlobalKnownHostsFile none\n"]))
    made = Laptop(hosts, private_place)
    (private_place / "cluster.yaml").write_text(
        f"name: asks\nlauncher: ssh\ntasks: {{chief: {{}}, worker: {{replicas: 2}}}}\n"
        f"ssh: {{hosts: [h1, h2, h3], config_file: {config}}}\nrun_config: {{model_dir: /mnt/model}}\n"
    )
    return made


def test_unknown_hosts_are_asked_about_one_by_one_and_before_the_view_of_the_run(laptop: Laptop) -> None:
    command = ["run", "cluster.yaml", "--run-dir", "run", "--", "sh", "-c", "echo at $(hostname)"]
    terminal = Terminal(*laptop.hosts.outside(*COMMAND_LINE, *command), cwd=laptop.private)
    for count in (1, 2, 3):
        terminal.until("continue connecting", count)
        assert HIDES_CURSOR not in terminal.text
        assert terminal.text.count("continue connecting") == count, "two questions at once"
        terminal.type("yes\n")
    assert terminal.wait() == 0, terminal.text
    assert terminal.text.count(" at h") == 3, terminal.text


def test_ctrl_c_at_a_question_ends_the_run(laptop: Laptop) -> None:
    terminal = Terminal(
        *laptop.hosts.outside(*COMMAND_LINE, "run", "cluster.yaml", "--run-dir", "run", "--", "true"),
        cwd=laptop.private,
    )
    terminal.until("continue connecting", 1)
    terminal.type("\x03")
    assert terminal.wait() == 130, terminal.text

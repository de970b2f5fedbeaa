"""The warm parent, spoken to in its own language."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.launch.control_channel import Message
from orchestrator.launch.process_marks import PLACEHOLDER
from orchestrator.launch.process_tree import processes_of_run
from orchestrator.launch.warm_parent_link import LinkState, WarmParentLink
from tests.launch.local_runs import LIMIT, alive, environment, python, wait_until


class Conversation:
    """A warm parent and what it has said."""

    def __init__(self, folder: Path, modules: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.link = WarmParentLink(
            run_dir=folder,
            working_dir=folder,
            environ=environment(ORCHESTRATOR_RUN_DIR=str(folder), ORCHESTRATOR_TASK=PLACEHOLDER),
            modules=modules,
            log_path=folder / "parent.log",
        )
        self.said: list[Message] = []

    def start(self, id: int, *command: str, fork: bool = False, env: dict[str, str] | None = None) -> int:
        """Asks for a process; the read end of its output."""
        output, control = os.pipe(), os.pipe()
        message = {
            "do": "start", "id": id, "task": f"worker-{id}", "command": command, "fork": fork,
            "env": {"PATH": os.environ["PATH"], "ORCHESTRATOR_RUN_DIR": str(self.folder), **(env or {})},
            "working_dir": str(self.folder),
        }  # fmt: skip
        self.link.send(message, (output[1], control[0]))
        for fd in (output[1], *control):
            os.close(fd)
        return output[0]

    def hear(self, event: str, id: int | None = None) -> Message:
        """Waits for that event."""
        end = time.monotonic() + LIMIT
        while True:
            for message in self.said:
                if message["event"] == event and message.get("id") == id:
                    return message
            assert self.link.state is not LinkState.LOST, f"the parent is gone; it said {self.said}"
            assert time.monotonic() < end, f"no {event} of {id}; it said {self.said}"
            select.select([self.link], [], [], 0.1)
            self.said += self.link.receive()


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Conversation]:
    conversation = Conversation(tmp_path)
    yield conversation
    conversation.link.end()
    assert processes_of_run(tmp_path) == []


def read_all(fd: int) -> str:
    with os.fdopen(fd, "rb") as stream:
        return stream.read().decode()


def test_it_says_when_it_is_ready(parent: Conversation) -> None:
    ready = parent.hear("ready")
    assert ready["unfit"] is None
    assert ready["pid"] == parent.link.pid


def test_starts_and_exits_are_told(parent: Conversation) -> None:
    output = parent.start(3, "sh", "-c", "echo $ORCHESTRATOR_CONTROL_FD; exit 4")
    assert parent.hear("started", 3)["fork"] is False
    exited = parent.hear("exited", 3)
    assert (exited["status"], exited["pid"]) == (4, parent.hear("started", 3)["pid"])
    assert int(read_all(output)) > 2


def test_the_signal_that_ended_a_process_is_told(parent: Conversation) -> None:
    output = parent.start(1, "sleep", "1000")
    parent.hear("started", 1)
    parent.link.send({"do": "signal", "id": 1, "number": int(signal.SIGUSR1)})
    assert parent.hear("exited", 1)["status"] == -signal.SIGUSR1
    assert read_all(output) == ""


def test_orders_for_a_process_that_has_ended_are_let_go(parent: Conversation) -> None:
    os.close(parent.start(1, "true"))
    parent.hear("exited", 1)
    parent.link.send({"do": "kill", "id": 1})
    parent.link.send({"do": "signal", "id": 1, "number": 15})
    os.close(parent.start(2, "true"))
    assert parent.hear("exited", 2)["status"] == 0


def test_a_process_cannot_read_what_belongs_to_another(parent: Conversation) -> None:
    parent.hear("ready")
    (parent.folder / "list.py").write_text(
        "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[3:])"
    )
    outputs = [parent.start(id, *python("list.py"), fork=True) for id in range(6)]
    for id in range(6):
        parent.hear("exited", id)
    for output in outputs:
        assert read_all(output).count(",") == 1, "its control pipe, and the directory that it lists"


def test_it_adopts_and_buries_orphans(parent: Conversation) -> None:
    output = parent.start(1, "sh", "-c", "(env -i setsid sh -c 'echo $$; exec sleep 0.2' &) ; sleep 1000")
    orphan = int(os.read(output, 100))
    wait_until(lambda: not Path(f"/proc/{orphan}").exists(), "burial of the orphan")
    os.close(output)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_makes_it_leave_with_everything(tmp_path: Path, number: int) -> None:
    parent = Conversation(tmp_path)
    output = parent.start(1, "sh", "-c", "trap '' TERM HUP; echo up; setsid sleep 1000")
    assert os.read(output, 10) == b"up\n"
    pid = parent.hear("started", 1)["pid"]
    os.kill(parent.link.pid, number)
    wait_until(lambda: not alive(parent.link.pid) and not alive(pid), "end of both")
    os.close(output)
    parent.link.end()


def test_an_interrupt_from_the_terminal_is_not_for_it(parent: Conversation) -> None:
    parent.hear("ready")
    os.kill(parent.link.pid, signal.SIGINT)
    os.close(parent.start(1, "true"))
    assert parent.hear("exited", 1)["status"] == 0


def test_its_last_words_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sys_exit.py").write_text("print('no licence'); raise SystemExit(5)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    parent = Conversation(tmp_path, modules=("sys_exit",))
    assert parent.hear("import_failed")["reason"] == "cannot import sys_exit: SystemExit: 5"
    wait_until(lambda: not alive(parent.link.pid), "its end, while nobody reads its output")
    parent.link.end()
    assert parent.link.last_words().startswith("ended with code 1")
    assert "no licence" in (tmp_path / "parent.log").read_text()

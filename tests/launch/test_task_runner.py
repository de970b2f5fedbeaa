"""The task runner as it is used: by its path, by any interpreter, without the package."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.launch import task_runner
from tests.launch.local_runs import LIMIT, alive, wait_until


def run(
    *command: str, parent: int | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    runner = [sys.executable, "-I", "-S", task_runner.__file__, str(parent or os.getpid()), "--", *command]
    return subprocess.run(runner, capture_output=True, text=True, timeout=LIMIT, cwd=cwd)


def test_it_becomes_the_command() -> None:
    done = run("sh", "-c", 'printf "%s|" "$@"; exit 5', "sh", "a b", "--", "")
    assert (done.returncode, done.stdout, done.stderr) == (5, "a b|--||", "")


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("no-such-command", 127, "no such command"),
        ("./no-such-file", 127, "no such command"),
        ("./text", 126, "Permission denied"),
        ("./script", 127, "its interpreter is missing (No such file or directory)"),
    ],
)
def test_what_cannot_run_is_one_line(tmp_path: Path, command: str, code: int, said: str) -> None:
    (tmp_path / "text").write_text("text")
    (tmp_path / "script").write_text("#!/no/interpreter\n")
    (tmp_path / "script").chmod(0o755)
    done = run(command, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (code, f"orchestrator: cannot run '{command}': {said}\n")


def test_it_does_not_start_when_its_parent_is_gone() -> None:
    done = run("echo", "started", parent=1234567)
    assert (done.returncode, done.stdout) == (task_runner.PARENT_GONE, "")


def test_signals_are_reset() -> None:
    script = f"""
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.execv({sys.executable!r}, [{sys.executable!r}, {task_runner.__file__!r}, str(os.getppid()), "--",
    "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT)
    assert done.stdout.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


def test_the_command_dies_with_its_parent() -> None:
    script = f"""
import os, subprocess, sys, time
runner = [sys.executable, {task_runner.__file__!r}, str(os.getpid()), "--"]
process = subprocess.Popen([*runner, "sleep", "1000"])
print(process.pid, flush=True)
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_until(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep"), "exec of sleep")
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not alive(pid), "end of sleep")

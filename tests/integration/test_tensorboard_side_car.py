"""TensorBoard beside a run, played by a small program of its name: it comes and goes with the run."""

from __future__ import annotations

import random
import socket
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.launch.process_record import recorded
from tests.integration.launched import Launched, wait_until
from tests.launch.local_runs import alive, write_program

CLUSTER = "{name: small, tasks: {chief: {}}, tensorboard: {port: PORT}}"
PAGE = """
    import sys
    from http.server import HTTPServer, SimpleHTTPRequestHandler
    words = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    HTTPServer((words["--host"], int(words["--port"])), SimpleHTTPRequestHandler).serve_forever()
"""
BROKEN = "raise SystemExit('broken')"


def free_port() -> int:
    """None that the kernel gives to others: it is used much later than it is looked for."""
    for port in random.sample(range(15000, 20000), 200):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("200 ports are taken")


def launch(folder: Path, program: str, *command: str) -> tuple[Launched, int]:
    """A run with that program as TensorBoard, and the port of its page."""
    port = free_port()
    (folder / "cluster.yaml").write_text(CLUSTER.replace("PORT", str(port)))
    write_program(folder, program, "site/tensorboard/main.py")
    (folder / "site" / "tensorboard" / "__init__.py").touch()
    words = ("cluster.yaml", "--model-dir", str(folder / "model"), "--", *command)
    return Launched(folder, *words, env={"PYTHONPATH": str(folder / "site")}), port


def answers(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
        return bool(page.status == 200)
    return False


def pids(run: Launched) -> list[int]:
    return [found.identity.pid for found in recorded(run.run_dir.processes) if found.label == "tensorboard"]


def test_its_page_is_there_while_the_job_runs_and_ends_with_it(tmp_path: Path) -> None:
    wait = 'until [ -e "$0" ]; do sleep 0.05; done'
    run, port = launch(tmp_path, PAGE, "sh", "-c", wait, str(tmp_path / "go"))
    with run:
        wait_until(lambda: answers(port), lambda: f"an answer; so far:\n{run.output}")
        (tmp_path / "go").touch()
        assert run.wait() == 0, run.output
        assert f"TensorBoard at http://127.0.0.1:{port}/, open to this machine alone" in run.output
        assert not answers(port)
        assert not any(map(alive, pids(run)))


def test_a_killed_launcher_takes_it_along(tmp_path: Path) -> None:
    run, port = launch(tmp_path, PAGE, "sleep", "1000")
    with run:
        wait_until(lambda: answers(port), lambda: f"an answer; so far:\n{run.output}")
        run.process.kill()
        wait_until(lambda: not any(map(alive, pids(run))), lambda: "the end of TensorBoard")
        assert not answers(port)


@pytest.mark.faults
def test_one_that_never_works_costs_the_job_nothing_but_a_note(tmp_path: Path) -> None:
    run, _ = launch(
        tmp_path, BROKEN, "sh", "-c", 'until [ -e "$0" ]; do sleep 0.1; done', str(tmp_path / "go")
    )
    with run:
        told = "tensorboard ended with exit code 1, after 3 restarts; training goes on without it"
        wait_until(lambda: told in run.output, lambda: f"the note; so far:\n{run.output}")
        (tmp_path / "go").touch()
        assert run.wait() == 0, run.output
        assert run.summary["state"] == "succeeded"
        assert (run.run_dir.logs / "tensorboard.log").read_text().count("broken") == 4

"""How TensorBoard is found, called and told of."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentProblem, PortError
from orchestrator.launch import tensorboard
from orchestrator.launch.tensorboard import FIRST_PORT, Tensorboard, choose, find_program


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "tensorboard"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(package.parent))


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.mark.usefixtures("installed")
def test_the_module_of_this_interpreter_is_called(tmp_path: Path) -> None:
    board = choose("127.0.0.1", None, "models/a", tmp_path)
    assert board.command == (
        *(sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path / "models/a")),
        *("--host", "127.0.0.1", "--port", str(board.port)),
    )
    assert FIRST_PORT <= board.port < FIRST_PORT + tensorboard.PORTS_TRIED
    assert board.url == f"http://127.0.0.1:{board.port}/"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("model_dir", ["gs://bucket/model", "/models/a"])
def test_a_place_that_is_whole_stays_as_it_is(tmp_path: Path, model_dir: str) -> None:
    assert choose("127.0.0.1", None, model_dir, tmp_path).command[4] == model_dir


def server_on_an_early_port() -> socket.socket:
    """On the first port that nobody has at this moment: tests beside this one look for ports too."""
    for port in range(FIRST_PORT, FIRST_PORT + tensorboard.PORTS_TRIED):
        with suppress(OSError):
            return socket.create_server(("127.0.0.1", port))
    raise AssertionError("all ports are taken")


@pytest.mark.usefixtures("installed")
def test_a_port_that_is_taken_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        taken = int(held.getsockname()[1])
        monkeypatch.setattr(tensorboard, "FIRST_PORT", taken)
        assert choose("127.0.0.1", None, "m", tmp_path).port > taken


@pytest.mark.usefixtures("installed")
def test_a_port_that_was_asked_for_and_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        taken = int(held.getsockname()[1])
        said = rf"cannot listen on 127\.0\.0\.1, port {taken}: .*in use.*tensorboard\.port"
        with pytest.raises(PortError, match=said):
            choose("127.0.0.1", taken, "m", tmp_path)


@pytest.mark.usefixtures("installed")
def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PortError, match=r"tensorboard\.host"):
        choose("192.0.2.7", None, "m", tmp_path)


@pytest.mark.usefixtures("not_installed")
def test_without_it_the_error_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(
        EnvironmentProblem, match=r"tensorboard is not installed\. Run pip install tensorboard"
    ):
        choose("127.0.0.1", None, "m", tmp_path)


@pytest.mark.usefixtures("not_installed")
def test_a_command_on_the_path_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tensorboard"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program() == (str(program),)


def test_a_folder_of_that_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorboard").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_program() is None


@pytest.mark.parametrize(
    ("host", "audience"),
    [
        ("127.0.0.1", "this machine alone"),
        ("localhost", "this machine alone"),
        ("0.0.0.0", "anybody who reaches this machine"),
        ("10.0.0.7", "anybody who reaches this machine"),
    ],
)
def test_who_can_open_the_page_is_told(host: str, audience: str) -> None:
    board = Tensorboard((), host, 6006)
    assert board.audience == audience
    assert "0.0.0.0" not in board.url


def test_it_takes_no_gpu() -> None:
    assert tensorboard.environment({"CUDA_VISIBLE_DEVICES": "0,1", "A": "b"})["CUDA_VISIBLE_DEVICES"] == "-1"

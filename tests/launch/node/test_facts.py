"""What a host says of itself, and whether two of them find each other."""

from __future__ import annotations

import importlib.metadata
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import EnvironmentProblem
from orchestrator.launch.node import facts, model_dir_probe
from orchestrator.launch.node.facts import gather, in_parallel
from orchestrator.launch.node.model_dir_probe import PREFIX, ModelDirProbe


def ask(stage: str, token: str, **more: Any) -> dict[str, Any]:
    header = {"do": "facts", "request": 1, "stage": stage, "token": token, **more}
    return gather(header, sys.executable, {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"})


@pytest.fixture
def tokens() -> Iterator[tuple[str, str]]:
    """Of two hosts; what they began is ended."""
    yield ("check-h1", "check-h2")
    for token in ("check-h1", "check-h2"):
        if token in facts._probes:
            ask("end", token)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not there is not waited for."""
    monkeypatch.setattr(model_dir_probe, "_PATIENCE", 0.0)


def test_a_host_tells_what_it_has(tmp_path: Path, tokens: tuple[str, str]) -> None:
    packages = [["numpy", "numpy"], ["no-such", "no_such_module"]]
    found = ask(
        "begin", tokens[0], model_dir=str(tmp_path), packages=packages, names=["localhost", "no.such.invalid"]
    )
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["executable"] == sys.executable
    assert found["packages"]["numpy"] == importlib.metadata.version("numpy")
    assert found["packages"]["no-such"] is None
    assert found["tensorflow"] == importlib.metadata.version("tensorflow")
    assert found["cpus"] == len(os.sched_getaffinity(0))
    assert found["gpus"] == []
    assert 0 < found["available_bytes"] <= found["memory_bytes"]
    assert set(found["names"]["localhost"]) <= {"127.0.0.1", "::1"}
    assert isinstance(found["names"]["no.such.invalid"], str), "an error is a text"


def test_two_hosts_on_one_disk_find_each_other(tmp_path: Path, tokens: tuple[str, str]) -> None:
    model_dir = tmp_path / "not" / "yet" / "made"
    began = [ask("begin", token, model_dir=str(model_dir)) for token in tokens]
    assert [found["model_dir"]["place"] for found in began] == [str(tmp_path)] * 2, "nothing is made"
    assert all(found["model_dir"]["error"] is None for found in began)
    others = {
        f"h{number}": {"address": "127.0.0.1", "port": found["port"], "token": token}
        for number, (token, found) in enumerate(zip(tokens, began, strict=True), start=1)
    }
    looked = ask("look", tokens[0], others=others, tokens=list(tokens))
    assert looked == {"reached": {"h1": None, "h2": None}, "seen": dict.fromkeys(tokens)}
    for token in tokens:
        assert ask("end", token) == {}
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", began[0]["port"]), timeout=60)
    with pytest.raises(EnvironmentProblem, match="ended before"):
        ask("look", tokens[0], others={}, tokens=[])


def test_a_disk_that_is_not_shared_and_a_port_that_is_another_machines(
    tmp_path: Path, tokens: tuple[str, str], impatient: None
) -> None:
    ask("begin", tokens[0], model_dir=str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as stranger, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))

        def answer() -> None:
            stranger.accept()[0].close()

        threading.Thread(target=answer, daemon=True).start()
        others = {
            "h2": {"address": "127.0.0.1", "port": stranger.getsockname()[1], "token": tokens[1]},
            "h3": {"address": "127.0.0.1", "port": silent.getsockname()[1], "token": "check-h3"},
        }
        looked = ask("look", tokens[0], others=others, tokens=[tokens[1], "check-h3"])
    assert looked["reached"]["h2"] == "another machine answers there"
    assert looked["reached"]["h3"] == "Connection refused"
    assert looked["seen"] == {tokens[1]: "not seen", "check-h3": "not seen"}


def test_a_declared_port_that_is_taken_is_said(tmp_path: Path, tokens: tuple[str, str]) -> None:
    with socket.create_server(("", 0)) as taken:
        found = ask("begin", tokens[0], model_dir=str(tmp_path), port=taken.getsockname()[1])
    assert found["port"] is None
    assert found["port_error"] == "Address already in use"


def test_a_probe_that_nobody_ends_goes_away(
    tmp_path: Path, tokens: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "KEPT_SECONDS", 0.0)
    before = set(threading.enumerate())
    ask("begin", tokens[0], model_dir=str(tmp_path))
    for thread in set(threading.enumerate()) - before:
        thread.join(120)
    assert not list(tmp_path.iterdir())


def test_a_model_directory_that_cannot_be_written_is_said(tmp_path: Path, impatient: None) -> None:
    (tmp_path / "file").write_text("")
    below = ModelDirProbe(str(tmp_path / "file" / "model"), "t", sys.executable, os.environ)
    assert below.leave()["error"] == "Not a directory"
    probe = ModelDirProbe(str(tmp_path), "t", sys.executable, os.environ)
    assert probe.leave()["error"] is None
    assert (tmp_path / f"{PREFIX}t").read_text() == "t"
    probe.take_away()
    probe.take_away()
    assert probe.look(["t"]) == {"t": "not seen"}


def assert_sees_through_tensorflow(tmp_path: Path, python: str) -> None:
    """Two probes find each other below a URL, and leave nothing."""
    place = f"file://{tmp_path}/models/digits"
    first, second = (ModelDirProbe(place, token, python, os.environ) for token in ("a", "b"))
    assert first.leave() == {"place": place, "error": None, "free_bytes": None}
    assert second.look(["a", "b"]) == {"a": None, "b": "not seen"}
    first.take_away()
    assert not list((tmp_path / "models" / "digits").iterdir())


FAKE_TENSORFLOW = """\
import os
print("TensorFlow says hello")
def plain(url): return url.removeprefix("file://")
class io:
    class gfile:
        makedirs = lambda url: os.makedirs(plain(url), exist_ok=True)
        GFile = lambda url, mode: open(plain(url), mode)
        exists = lambda url: os.path.exists(plain(url))
        remove = lambda url: os.remove(plain(url))
"""


def test_a_remote_model_directory_is_asked_through_the_tasks_interpreter(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(FAKE_TENSORFLOW)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert_sees_through_tensorflow(tmp_path, str(python))


@pytest.mark.faults
def test_a_remote_model_directory_is_asked_through_tensorflow(tmp_path: Path) -> None:
    assert_sees_through_tensorflow(tmp_path, sys.executable)


def test_tensorflow_that_cannot_be_asked_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'No module named tensorflow' >&2\nexit 1\n")
    broken.chmod(0o755)
    assert ModelDirProbe("gs://b/m", "t", str(broken), {}).leave()["error"] == "No module named tensorflow"
    assert ModelDirProbe("gs://b/m", "t", "/no/python", {}).leave()["error"] == "No such file or directory"


def test_packages_are_those_that_tasks_see(tmp_path: Path, tokens: tuple[str, str]) -> None:
    (tmp_path / "of_the_user.py").write_text("print('imported')")
    information = tmp_path / "of_the_user-3.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: of-the-user\nVersion: 3.2\n")
    header = {"stage": "begin", "token": tokens[0], "model_dir": str(tmp_path)}
    header["packages"] = [["of-the-user", "of_the_user"], ["no-distribution", "of_the_user"]]
    found = gather(header, sys.executable, {"PYTHONPATH": str(tmp_path)})
    assert found["packages"] == {"of-the-user": "3.2", "no-distribution": "?"}
    assert found["python_error"] is None


def test_what_does_not_answer_keeps_nobody_waiting() -> None:
    released = threading.Event()
    found = in_parallel({"slow": released.wait, "quick": lambda: "here"}, limit=0.5)
    released.set()
    assert found["slow"] == "no answer in 0.5 s"


def test_no_package_of_ours_is_needed_but_the_standard_library() -> None:
    program = (
        "import sys; from orchestrator.launch.node import facts, code_store\n"
        "foreign = {'pydantic', 'typer', 'psutil', 'yaml', 'rich', 'numpy'} & set(sys.modules)\n"
        "assert not foreign, foreign\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)

"""Tests for orchestrator.launch.node.bootstrap and delivery: the first words on a host."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from orchestrator.launch.node import delivery
from orchestrator.launch.node.bootstrap import make_root
from orchestrator.launch.node.frames import FrameReader, Header, encode
from tests.launch.node.host import Host

OLD = "import sys; sys.version_info = (3, 8, 19); exec(eval(open(0,'rb',0,closefd=False).readline()))"


def first_event(command: list[str], stream: bytes, home: Path) -> tuple[Header, int]:
    """What a host answers to these bytes, and the exit code."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(home)}
    run = subprocess.run(command, input=stream, env=environ, cwd=home, capture_output=True, timeout=300)
    frames = FrameReader(marker=delivery.MARKER).feed(run.stdout)
    assert frames, run.stderr
    return frames[0][0], run.returncode


def answer_to(host: Host, **changed: Any) -> tuple[Header, int]:
    command = ["sh", "-c", delivery.remote_command(sys.executable)]
    return first_event(command, delivery.opening() + encode({**host.hello, **changed}), host.home)


def test_an_old_python_is_told_to_be_too_old(tmp_path: Path) -> None:
    failed, code = first_event([sys.executable, "-c", OLD], delivery.opening(), tmp_path)
    assert (failed["event"], failed["kind"], code) == ("failed", "python", 3)
    assert "Python 3.8 is too old" in failed["message"]


def test_another_protocol_is_refused(bare_host: Host) -> None:
    failed, code = answer_to(bare_host, protocol=delivery.PROTOCOL + 1)
    assert (failed["event"], code) == ("failed", 3)
    assert "protocol" in failed["message"]


@pytest.mark.parametrize("root", ["relative/path", "~nobody-here/x"])
def test_a_root_that_is_no_place_is_refused(bare_host: Host, root: str) -> None:
    failed, _ = answer_to(bare_host, root=root)
    assert root in failed["message"]


def test_a_root_into_which_others_may_write_is_refused(bare_host: Host) -> None:
    shared = bare_host.home / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    failed, _ = answer_to(bare_host, root=str(shared))
    assert "others may write" in failed["message"]
    assert not list(shared.iterdir())


def test_a_root_that_cannot_be_made_is_told(bare_host: Host) -> None:
    (bare_host.home / "file").touch()
    failed, _ = answer_to(bare_host, root="~/file/root")
    assert (failed["event"], str(bare_host.home / "file") in failed["message"]) == ("failed", True)


def test_a_run_name_that_leads_elsewhere_is_refused(bare_host: Host) -> None:
    bare_host.welcomed()
    for run_id in ("../x", "a/b", ".hidden", "-option", ""):
        failed, _ = answer_to(bare_host, run_id=run_id)
        assert failed["event"] == "failed"
    assert [path.name for path in (bare_host.root / "runs").iterdir()] == [bare_host.run_id]


def test_a_package_that_was_changed_on_its_way_is_not_unpacked(bare_host: Host) -> None:
    command = ["sh", "-c", delivery.remote_command(sys.executable)]
    wrong = encode({"do": "package"}, delivery.package().data + b"x")
    environ = {"PATH": os.environ["PATH"], "HOME": str(bare_host.home)}
    stream = delivery.opening() + encode(bare_host.hello) + wrong
    run = subprocess.run(command, input=stream, env=environ, capture_output=True, timeout=300)
    events = [h["event"] for h, _ in FrameReader(marker=delivery.MARKER).feed(run.stdout)]
    assert events == ["need_package", "failed"]
    assert not list((bare_host.root / "packages").iterdir())


def test_a_given_root_is_used(bare_host: Host) -> None:
    bare_host.root = bare_host.home / "a b"
    _, welcome = bare_host.welcomed(root="~/a b")
    assert welcome["root"] == str(bare_host.root)
    assert not (bare_host.home / ".cache").exists()


def test_a_root_is_private_and_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert make_root(None) == str(tmp_path / ".cache" / "tf-orchestrator")
    assert (tmp_path / ".cache" / "tf-orchestrator").stat().st_mode & 0o777 == 0o700
    assert make_root("~/.cache/tf-orchestrator") == make_root(None)


def test_the_package_holds_every_module_and_nothing_else() -> None:
    package = delivery.package()
    assert package.digest == hashlib.sha256(package.data).hexdigest()
    names = zipfile.ZipFile(io.BytesIO(package.data)).namelist()
    assert "orchestrator/launch/node/agent.py" in names
    assert "orchestrator/experiments/program.py" in names
    assert all(name.startswith("orchestrator/") and name.endswith(".py") for name in names)


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "fish", "csh", "tcsh", "ksh"])
def test_every_login_shell_takes_the_command(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    (tmp_path / "a dir").mkdir()
    python = tmp_path / "a dir" / "python"
    python.symlink_to(sys.executable)
    for name in (str(python), "~/a dir/python"):
        command = [shell, "-c", delivery.remote_command(name)]
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        run = subprocess.run(
            command, input=b"'print(7 * 6)'\n", env=environ, capture_output=True, timeout=300
        )
        assert run.stdout == b"42\n", run.stderr


def test_the_command_is_the_same_for_every_run() -> None:
    words = shlex.split(delivery.remote_command("python3"))
    assert words[:4] == ["exec", "python3", "-I", "-c"]
    assert len(words) == 5
    assert not set("!\\\n'") & set(words[4])

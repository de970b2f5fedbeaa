from __future__ import annotations

import pytest

from orchestrator.launch.python_command import PythonCommand, parse_python_command


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("python train.py", PythonCommand("python", "train.py", None, ())),
        ("python3 -u a/train.py --x 1", PythonCommand("python3", "a/train.py", None, ("--x", "1"), True)),
        ("/v/python3.12 -m pkg.mod -m x", PythonCommand("/v/python3.12", None, "pkg.mod", ("-m", "x"))),
        ("python -u -m pkg", PythonCommand("python", None, "pkg", (), True)),
    ],
)  # fmt: skip
def test_plain_programs(command: str, program: PythonCommand) -> None:
    assert parse_python_command(command.split()) == program


@pytest.mark.parametrize(
    "command",
    [
        "", "python", "python -u", "python -m", "python -m -x", "python -c pass", "python -",
        "python -O a.py", "python -W error a.py", "python -um pkg", "python package_dir", "python app.pyz",
        "bash a.py", "./train.py", "torchrun a.py", "python -X dev -m pkg", "pypy a.py",
    ],
)  # fmt: skip
def test_everything_else_is_left_to_exec(command: str) -> None:
    assert parse_python_command(command.split()) is None


def test_a_program_is_named_as_it_was_written() -> None:
    script, module = parse_python_command(["python", "a.py"]), parse_python_command(["python", "-m", "b"])
    assert script is not None
    assert module is not None
    assert (script.program, module.program) == ("a.py", "-m b")

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator
from orchestrator.cli.main import main

ROOT = Path(__file__).parents[2]
SUBCOMMANDS = ("run", "render", "check", "status", "logs", "stop", "config")


def call(
    *words: str, cwd: Path, program: tuple[str, ...] = ("-m", "orchestrator.cli.main")
) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, *program, *words], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_the_shim_and_the_module_are_the_same_program(place: Path) -> None:
    assert call("--help", cwd=place) == call("--help", cwd=place, program=(str(ROOT / "launch.py"),))


def test_help_names_every_subcommand_and_fits_80_columns(place: Path) -> None:
    code, out, err = call("--help", cwd=place)
    assert (code, err) == (0, "")
    assert all(f" {name} " in out for name in SUBCOMMANDS)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", ["run", "render", "check"])
def test_the_options_of_a_job_are_the_same_everywhere(
    place: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("--experiment", "--model-dir", "--run-dir", "--data-dir", "--set", "[-- COMMAND ...]"):
        assert option in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"orchestrator {orchestrator.__version__}\n"


def test_an_error_is_one_message_on_stderr_and_its_exit_code(place: Path) -> None:
    (place / "wrong.yaml").write_text("name: one\ntasks: {chief: {}}\nstratgy: none\n")
    code, out, err = call("run", "wrong.yaml", cwd=place)
    assert (code, out) == (2, "")
    assert err == "error: wrong.yaml, line 3: stratgy: unknown key. Did you mean 'strategy'?\n"


def test_a_long_error_is_not_broken_into_lines(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "very/long/" * 30 + "name.yaml"
    assert main(["render", name]) == 2
    assert f"{name}: no such file" in capsys.readouterr().err


def test_brackets_in_an_error_are_no_markup(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "one.yaml", "--set", "tasks.chief.hosts=['[bold]x']"]) == 2
    assert "[bold]x" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["render"],
        ["rendr", "one.yaml"],
        ["render", "one.yaml", "--sett", "a=b"],
        ["render", "one.yaml", "python", "train.py"],
        ["render", "--set"],
        ["render", "one.yaml", "--"],
        ["logs"],
    ],
)
def test_wrong_usage_ends_with_2(place: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "Error" in err
    assert "Traceback" not in err


def test_help_is_shown_where_nothing_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) in (0, 2)
    captured = capsys.readouterr()
    assert "render" in captured.out + captured.err


@pytest.mark.parametrize(
    "words",
    [["--help"], ["run", "--help"], ["config", "schema"], ["render", "five.yaml"], ["check", "five.yaml"]],
)
def test_nothing_but_a_task_imports_tensorflow(place: Path, words: list[str]) -> None:
    program = (
        "import sys\nfrom orchestrator.cli.main import main\n"
        f"code = main({words!r})\n"
        "heavy = {'tensorflow', 'numpy', 'sklearn', 'mine'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=place, capture_output=True, text=True, timeout=120
    )
    assert done.returncode in (0, 3), done.stderr
    assert "heavy" not in done.stderr

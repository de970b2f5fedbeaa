"""What `check`, `render` and the header of a run say of TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cli import progress_text, tensorboard_side_car
from orchestrator.cli.job_options import JobOptions, resolve
from orchestrator.cli.main import main
from orchestrator.launch import tensorboard
from orchestrator.launch.tensorboard import Tensorboard

ON = ("--set", "tensorboard=true")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "find_program", lambda: ("tensorboard",))


@pytest.fixture
def no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "find_program", lambda: None)


def line_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    main([*words])
    return next((line for line in capsys.readouterr().out.splitlines() if "tensorboard" in line), "")


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize("value", ["true", "{}", "{host: 127.0.0.1}"])
def test_check_and_render_tell_its_address(
    place: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    for command in ("check", "render"):
        line = line_of(capsys, command, "one.yaml", "--set", f"tensorboard={value}")
        assert "http://127.0.0.1:60" in line
        assert line.endswith("/, open to this machine alone")
        assert len(line) <= 80


@pytest.mark.usefixtures("no_program")
def test_check_says_what_to_install(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "one.yaml", "-q", *ON]) == 3
    assert capsys.readouterr().out.startswith("FAIL  tensorboard not installed. Run pip install tensorboard")


@pytest.mark.usefixtures("no_program")
def test_a_run_without_it_is_refused_before_anything_is_made(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(place.rglob("*"))
    assert main(["run", "one.yaml", *ON]) == 3
    assert "pip install tensorboard" in capsys.readouterr().err
    assert sorted(place.rglob("*")) == before


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("words", [(), ("--set", "tensorboard=false"), ("--set", "tensorboard=null")])
def test_who_does_not_ask_for_it_does_not_need_it(
    place: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert line_of(capsys, "check", "one.yaml", *words) == ""
    main(["render", "one.yaml", "--json", *words])
    assert json.loads(capsys.readouterr().out)["tensorboard"] is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{port: 0}", "port"),
        ("{port: 70000}", "port"),
        ("{prot: 6006}", "port"),
        ("{host: -x}", "host"),
        ("6006", "tensorboard"),
    ],
)
def test_a_mistake_is_named(place: Path, capsys: pytest.CaptureFixture[str], value: str, said: str) -> None:
    assert main(["render", "one.yaml", "--set", f"tensorboard={value}"]) == 2
    error = capsys.readouterr().err
    assert f"tensorboard={value}" in error
    assert said in error.replace(f"tensorboard={value}", "")


def test_the_header_has_a_line_for_it(place: Path) -> None:
    resolved = resolve(JobOptions(Path("one.yaml")), need_packages=False)
    assert tensorboard_side_car.wanted(resolved) is None
    lines = list(progress_text.header(resolved, Tensorboard((), "127.0.0.1", 6006)))
    assert "  board     TensorBoard at http://127.0.0.1:6006/, open to this machine alone" in lines

"""`check` with the ssh launcher: its table, its verdict, and what it asks the hosts for."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli import host_checks
from orchestrator.cli.host_checks import imported
from orchestrator.cli.job_options import ResolvedJob
from orchestrator.cli.main import main
from orchestrator.errors import EnvironmentProblem
from orchestrator.launch.ssh.host_comparison import Comparison
from tests.cli.conftest import files_in

ROWS = (
    ("node-a.lab", "2", "3.11.7", "2.21.0", "8", "16 GiB", "2", "free", "ok"),
    ("node-b.lab", "3", "3.11.7", "2.21.0", "8", "16 GiB", "2", "closed", "no"),
)


@pytest.fixture
def cluster(place: Path) -> Path:
    """A cluster file with two hosts that nobody will ask."""
    text = (place / "five.yaml").read_text()
    hosts = "launcher: ssh\nssh: {hosts: [node-a.lab, node-b.lab]}\nrun_config: {model_dir: /shared/m}\n"
    (place / "far.yaml").write_text(text + hosts)
    return place


def answer(monkeypatch: pytest.MonkeyPatch, found: Comparison | Exception) -> list[ResolvedJob]:
    """Replaces the hosts; what was asked for."""
    asked = []

    def compare(resolved: ResolvedJob) -> Comparison:
        asked.append(resolved)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(host_checks, "compare_hosts", compare)
    return asked


def test_hosts_that_fit_are_a_go(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_in(cluster)
    asked = answer(monkeypatch, Comparison(ROWS[:1], (), ("numpy differs.",)))
    assert main(["check", "far.yaml"]) == 0
    output = capsys.readouterr().out
    assert "python  tensorflow" in output
    assert "node-a.lab" in output
    assert "note  numpy differs." in output
    assert output.endswith("\ngo\n")
    assert len(asked) == 1
    assert files_in(cluster) == before


def test_each_problem_has_a_line_and_the_table_80_columns(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = ("node-b.lab cannot connect to node-a.lab. Open the ports.", "model dir is not shared.")
    answer(monkeypatch, Comparison(ROWS, problems, ("numpy differs.",)))
    assert main(["check", "far.yaml"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert [line for line in lines if line.startswith("FAIL")] == [f"FAIL  {text}" for text in problems]
    assert lines[-1] == "no-go: 2 problems"
    assert main(["check", "far.yaml", "--quiet"]) == 3
    assert capsys.readouterr().out.splitlines() == [f"FAIL  {text}" for text in problems]


def test_hosts_that_cannot_be_asked_are_one_line(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, EnvironmentProblem("ssh cannot be started: No such file or directory."))
    assert main(["check", "far.yaml"]) == 3
    assert "FAIL  hosts       ssh cannot be started" in capsys.readouterr().out


def test_what_a_program_imports_is_read_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "beside.py").write_text("")
    source = tmp_path / "train.py"
    source.write_text(
        "import json, yaml\nimport tensorflow as tf\nfrom rich.table import Table\nfrom . import near\n"
        "import mine.model, beside, no_such_module\nfrom orchestrator import Experiment\n"
        "try:\n    import optional\nexcept ImportError:\n    pass\n"
        "def later():\n    import lazy\nraise SystemExit(1)\n"
    )
    assert imported(source, tmp_path) == [
        ("PyYAML", "yaml"),
        ("rich", "rich"),
        ("no_such_module", "no_such_module"),
    ]
    source.write_text("not python (")
    assert imported(source, tmp_path) == imported(tmp_path / "none.py", tmp_path) == []

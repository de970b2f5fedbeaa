"""A working directory with an experiment and a few cluster files; the command line called within it."""

from __future__ import annotations

from pathlib import Path

import pytest

EXPERIMENT = "def experiment(config, max_steps: int = 5): ...\n"
TASKS = "tasks: {chief: {}, worker: {replicas: 2}, ps: {}, evaluator: {}}\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: `mine:experiment`, `one.yaml` (one process) and `five.yaml` (all task types)."""
    (tmp_path / "mine.py").write_text(EXPERIMENT)
    (tmp_path / "one.yaml").write_text("name: one\ntasks: {chief: {}}\nexperiment: mine:experiment\n")
    (tmp_path / "five.yaml").write_text(
        f"name: five\n{TASKS}strategy: parameter_server\nexperiment: mine:experiment\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def files_in(folder: Path) -> set[str]:
    """Every path under `folder`."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}

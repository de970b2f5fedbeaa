"""Values of secret variables stand in nothing that the command line prints or writes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator.cli.main import main

CLUSTER = """\
name: small
tasks: {worker: {replicas: 1, env: {DB_PASSWORD: from-the-task}}}
env: {API_TOKEN: from-the-file, BADGE: from-the-list, PLAIN: to-be-seen}
secret_env: [BADGE]
local: {start_method: spawn}
run_policy: {max_restarts: 0}
"""
PROGRAM = """
import os
names = "API_TOKEN", "BADGE", "DB_PASSWORD", "SHELL_SECRET"
raise SystemError(" ".join(os.environ[name] for name in names))
"""
SECRETS = ("from-the-task", "from-the-file", "from-the-list", "from-the-shell")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHELL_SECRET", "from-the-shell")
    return "cluster.yaml"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_render(cluster: str, form: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "program.py", "--token=from-the-shell"]
    assert main(["render", cluster, *form, "--", *command]) == 0
    out = capsys.readouterr().out
    assert "to-be-seen" in out
    assert "API_TOKEN" in out
    assert not [secret for secret in SECRETS if secret in out]


def test_run_and_its_records(cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["run", cluster, "--run-dir", "run", "--", sys.executable, "program.py"])
    assert code == 1
    out = capsys.readouterr().out
    said_by_us = "".join(line for line in out.splitlines(keepends=True) if not line.startswith("worker-0 |"))
    assert "SystemError: *** *** *** ***" in said_by_us
    assert not [secret for secret in SECRETS if secret in said_by_us]
    written = {path: path.read_text() for path in (tmp_path / "run").glob("*.json*")}
    assert {"plan.json", "events.jsonl", "summary.json", "verdict.json"} <= {path.name for path in written}
    for path, text in written.items():
        assert not [secret for secret in SECRETS if secret in text], path
    assert "to-be-seen" in (tmp_path / "run" / "plan.json").read_text()

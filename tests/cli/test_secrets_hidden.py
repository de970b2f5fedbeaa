"""Values of secret variables stand in nothing that the command line prints or writes."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest

from orchestrator.cli.job_options import JobOptions, resolve
from orchestrator.cli.main import main
from orchestrator.cli.run import _make_run_dir
from orchestrator.cluster.records import FailureRecord
from orchestrator.cluster.secrets import ENV_SECRET_EXPERIMENT
from orchestrator.experiments.request import ExperimentRequest
from orchestrator.launch.run_dir import RunDir
from tests.launch.local_runs import CHIEF, local_job, python, run_to_end, write_program

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
print("hello", os.environ["API_TOKEN"])
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
    assert "worker-0 | hello ***" in out
    assert "SystemError: *** *** *** ***" in out
    assert not [secret for secret in SECRETS if secret in out]
    written = {path: path.read_text() for path in (tmp_path / "run").glob("**/*") if path.is_file()}
    assert {"plan.json", "events.jsonl", "summary.json", "verdict.json", "worker-0.log"} <= {
        path.name for path in written
    }
    for path, text in written.items():
        assert not [secret for secret in SECRETS if secret in text], path
    assert "to-be-seen" in (tmp_path / "run" / "plan.json").read_text()


EXPERIMENT = """
def experiment(config, api_token, note):
    raise ValueError(f"{api_token} {note}")
"""


def test_params_of_an_experiment_reach_it_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(EXPERIMENT)
    (tmp_path / "cluster.yaml").write_text(
        "name: small\ntasks: {chief: {}}\nexperiment: mine:experiment\nrun_policy: {max_restarts: 0}\n"
        "params: {api_token: from-the-params, note: with from-the-shell in it}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHELL_SECRET", "from-the-shell")
    options = JobOptions(Path("cluster.yaml"), run_dir="run")
    resolved = resolve(options, environ=os.environ)
    assert main(["render", "cluster.yaml"]) == 0
    out = capsys.readouterr().out
    assert "api_token = '***'" in out
    assert "from-the-params" not in out
    _make_run_dir(resolved)
    written = (tmp_path / "run" / "experiment.json").read_text()
    assert json.loads(written)["params"] == {"api_token": "***", "note": "with *** in it"}
    monkeypatch.setenv(ENV_SECRET_EXPERIMENT, resolved.job.env[ENV_SECRET_EXPERIMENT])
    read = ExperimentRequest.read(tmp_path / "run" / "experiment.json")
    assert read.params == {"api_token": "from-the-params", "note": "with from-the-shell in it"}


def test_the_record_of_a_failure_is_masked(tmp_path: Path) -> None:
    program = write_program(
        tmp_path, "import os; raise SystemError(os.environ['API_TOKEN'] + os.environ['BADGE'])"
    )
    env = {"API_TOKEN": "from-the-file", "BADGE": "from-the-list"}
    job = dataclasses.replace(local_job(tmp_path, python(program)), env=env, secret_env=("BADGE",))
    _, watch = run_to_end(job)
    failure = RunDir(job.run_dir).records(CHIEF).read(FailureRecord)
    assert failure is not None
    assert failure.message == "******"
    assert "from-the" not in failure.traceback.replace(program.read_text(), "")
    assert "from-the" not in watch.output(CHIEF)

from __future__ import annotations

import dataclasses
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from orchestrator.cli.job_options import JobOptions, ResolvedJob, resolve
from orchestrator.cluster.config import LogSection
from orchestrator.cluster.launcher_sections import SshHostSection, SshSection
from orchestrator.cluster.run_policy_section import RunPolicySection
from orchestrator.cluster.task import TaskType
from orchestrator.errors import ClusterConfigError, ConfigError, ExperimentError, OrchestratorError
from orchestrator.launch.job import (
    HangLimits,
    Job,
    LogLimits,
    RunPolicy,
    StartMethod,
    StrategyKind,
    TaskRequest,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
EXPERIMENT = "def experiment(config, max_steps: int = 5): ...\n"
ONE = "name: one\ntasks: {chief: {}}\nexperiment: mine:experiment\n"
PS = "tasks: {chief: {}, worker: {}, ps: {}}\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(EXPERIMENT)
    (tmp_path / "cluster.yaml").write_text(ONE)
    return tmp_path


def resolved(place: Path, text: str | None = None, *command: str, **options: object) -> ResolvedJob:
    path = place / "cluster.yaml"
    if text is not None:
        path.write_text(text)
    if "overrides" in options:
        options["overrides"] = tuple(options["overrides"])
    return resolve(JobOptions(path, command=command, **options), working_dir=place, now=NOW)


def refusal(kind: type[OrchestratorError], place: Path, *given: str, **options: object) -> str:
    with pytest.raises(kind) as error:
        resolved(place, *given, **options)
    return str(error.value)


def test_an_experiment_becomes_a_job_and_a_request(place: Path) -> None:
    text = """
name: four
env: {COMMON: "1"}
tasks:
  chief: {}
  worker:
    {replicas: 2, resources: {cpus: 2, memory: 1GiB, gpus: 1}, env: {OWN: x}, hosts: [localhost, localhost]}
  ps: {}
  evaluator: {}
strategy: parameter_server
experiment: mine:experiment
params: {max_steps: 7}
run_config: {tf_random_seed: 3, model_dir: elsewhere}
run_policy: {max_restarts: 1, restart: {ps: never}}
local: {start_method: spawn}
"""
    result = resolved(place, text)
    run_dir = place / "runs" / "four-20260102T030405Z"
    spec = str(run_dir / "experiment.json")
    assert result.job == Job(
        name="four",
        tasks={
            TaskType.CHIEF: TaskRequest(1),
            TaskType.WORKER: TaskRequest(
                2, ("localhost", "localhost"), {"OWN": "x"}, cpus=2, memory_bytes=1024**3, gpus=1
            ),
            TaskType.PS: TaskRequest(1),
            TaskType.EVALUATOR: TaskRequest(1),
        },
        command=(sys.executable, "-m", "orchestrator.experiments.program", spec),
        strategy=StrategyKind.ASYNCHRONOUS,
        run_dir=run_dir,
        working_dir=place,
        model_dir=str(place / "elsewhere"),
        env={"COMMON": "1"},
        start_method=StartMethod.EXEC,
        is_experiment=True,
        policy=RunPolicy(max_restarts=1, restart={TaskType.PS: "never"}),
    )
    assert result.experiment == {
        "experiment": "mine:experiment",
        "params": {"max_steps": 7},
        "strategy": {"name": "parameter_server", "logical_devices": None},
        "run_config": {"tf_random_seed": 3},
        "model_dir": str(place / "elsewhere"),
        "data_dir": None,
        "working_dir": str(place),
    }
    assert not run_dir.exists()


def test_options_go_before_the_file(place: Path) -> None:
    (place / "other.py").write_text(EXPERIMENT + "def prepare_data(data_dir): ...\n")
    result = resolved(
        place,
        experiment="other:experiment",
        model_dir="m",
        run_dir="r",
        data_dir="/data",
        overrides=["params.max_steps=9", "run_config.model_dir=elsewhere"],
    )
    job = result.job
    assert (job.model_dir, job.run_dir, job.data_dir) == (str(place / "m"), place / "r", "/data")
    assert job.prepare_command == (
        *(sys.executable, "-m", "orchestrator.experiments.program", "--prepare"),
        str(place / "r" / "experiment.json"),
    )
    assert result.experiment is not None
    assert result.experiment["params"] == {"max_steps": 9}
    assert result.notes == ("--experiment other:experiment goes before the file's mine:experiment",)


def test_the_same_command_again_has_the_same_model_directory_and_another_run_directory(place: Path) -> None:
    first = resolved(place).job
    first.run_dir.mkdir(parents=True)
    second = resolved(place).job
    assert first.model_dir == second.model_dir == str(place / "models" / "one")
    assert second.run_dir.name == f"{first.run_dir.name}-2"


def test_the_policy_of_a_silent_file_is_the_launchers_default() -> None:
    declared = RunPolicySection()
    for field in dataclasses.fields(RunPolicy):
        if field.name not in ("restart", "hang_seconds"):
            assert getattr(declared, field.name) == getattr(RunPolicy(), field.name), field.name
    assert declared.hang_seconds.model_dump() == dataclasses.asdict(HangLimits())
    logs = LogSection()
    assert LogLimits(logs.max_size, logs.keep) == LogLimits()
    assert declared.restart.by_type() == RunPolicy().restart == {}


@pytest.mark.parametrize(
    ("text", "command", "kind"),
    [
        ("tasks: {chief: {}}", False, StrategyKind.SINGLE),
        ("tasks: {chief: {}, evaluator: {}}\nstrategy: mirrored", False, StrategyKind.SINGLE),
        ("tasks: {chief: {}, worker: {}}\nstrategy: multi_worker_mirrored", False, StrategyKind.SYNCHRONOUS),
        (PS + "strategy: parameter_server", False, StrategyKind.ASYNCHRONOUS),
        (PS + "strategy: parameter_server", True, StrategyKind.COORDINATOR),
        (PS + "strategy: {name: parameter_server, style: between_graph}", True, StrategyKind.ASYNCHRONOUS),
        (PS, True, StrategyKind.UNKNOWN),
        ("tasks: {worker: {replicas: 2}}", True, StrategyKind.UNKNOWN),
        ("tasks: {worker: {}}", True, StrategyKind.SINGLE),
        ("tasks: {worker: {}, ps: {replicas: 0}}", True, StrategyKind.SINGLE),
        ("tasks: {worker: {replicas: 2}}\nstrategy: multi_worker_mirrored", True, StrategyKind.SYNCHRONOUS),
    ],
)
def test_what_a_lost_task_means(place: Path, text: str, command: bool, kind: StrategyKind) -> None:
    words = (sys.executable, "x.py") if command else ()
    result = resolved(place, f"name: a\n{text}\nexperiment: mine:experiment\n", *words)
    assert result.job.strategy is kind


def test_a_command_is_every_task_and_sees_no_params(place: Path) -> None:
    text = (
        ONE
        + "params: {max_steps: 3}\nrun_config: {xla: true}\nstrategy: {name: mirrored, logical_devices: 2}\n"
    )
    command = (sys.executable, "-u", "train.py", "--set", "a=b", "--", "x y")
    result = resolved(place, text, *command)
    assert result.job.command == command
    assert result.experiment is None
    assert result.target is None
    assert not result.job.is_experiment
    assert result.job.prepare_command is None
    notes = " ".join(result.notes)
    assert "params and run_config" in notes
    assert "logical_devices" in notes


def test_a_local_program_is_found_before_anything_starts(place: Path) -> None:
    (place / "train.sh").write_text("#!/bin/sh\n")
    assert "'train.sh' is not an executable file on PATH" in refusal(ConfigError, place, ONE, "train.sh")
    assert "'./train.sh' is not an executable file in" in refusal(ConfigError, place, ONE, "./train.sh")
    assert "Did you mean 'python train.py'?" in refusal(ConfigError, place, ONE, "train.py")
    (place / "train.sh").chmod(0o755)
    assert resolved(place, ONE, "./train.sh").job.command == ("./train.sh",)
    assert resolved(place, ONE + "env: {PATH: /opt}\n", "train.sh").job.command == ("train.sh",)


def test_params_of_the_file_are_refused_with_line_and_near_miss(place: Path) -> None:
    message = refusal(ClusterConfigError, place, ONE + "params:\n  max_step: 3\n")
    assert message.startswith(
        f"{place / 'cluster.yaml'}, line 5: params.max_step: unknown to mine:experiment."
    )
    assert "Did you mean 'max_steps'?" in message
    message = refusal(ClusterConfigError, place, ONE, overrides=["params.max_step=3"])
    assert "--set params.max_step=3: params.max_step: unknown" in message


@pytest.mark.parametrize("key", ["params.max_steps=3", "run_config.xla=true", "experiment=a:b"])
def test_set_of_what_a_command_never_sees_is_refused(place: Path, key: str) -> None:
    assert f"--set {key}" in refusal(ConfigError, place, ONE, sys.executable, overrides=[key])


def test_an_unknown_experiment_names_its_place(place: Path) -> None:
    assert refusal(ExperimentError, place, ONE, experiment="mime:experiment").startswith(
        "--experiment mime:experiment: module mime does not exist"
    )
    message = refusal(ExperimentError, place, ONE.replace("mine:", "mime:"))
    assert message.startswith(f"{place / 'cluster.yaml'}, line 3: experiment: module mime does not exist")
    assert "Did you mean 'mine'?" in message


def test_an_experiment_and_a_command_exclude_each_other(place: Path) -> None:
    assert "one of the two" in refusal(ConfigError, place, ONE, sys.executable, experiment="mine:experiment")


def test_an_unknown_launcher_names_file_and_near_miss(place: Path) -> None:
    message = refusal(ClusterConfigError, place, ONE + "launcher: lokal\n")
    assert "line 4: launcher: 'lokal' is not known. Did you mean 'local'?" in message


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"model_dir": " "}, "--model-dir: empty"),
        ({"data_dir": ""}, "--data-dir: empty"),
        ({"run_dir": "gs://bucket/run"}, "--run-dir gs://bucket/run: must be a directory"),
    ],
)
def test_wrong_directories(place: Path, options: dict[str, str], fragment: str) -> None:
    assert fragment in refusal(ConfigError, place, **options)


def test_urls_and_homes_are_understood(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    job = resolved(place, model_dir="gs://bucket/model", data_dir="~/data", run_dir="../r/./x").job
    assert job.model_dir == "gs://bucket/model"
    assert job.data_dir == "/home/me/data"
    assert job.run_dir == place.parent / "r" / "x"


def test_worker_0_is_the_chief_of_the_job(place: Path) -> None:
    text = (
        "name: a\npromote_worker_to_chief: true\ntasks: {worker: {replicas: 2}}\nstrategy:"
        " multi_worker_mirrored\n"
        "experiment: mine:experiment\n"
    )
    assert {kind: request.replicas for kind, request in resolved(place, text).job.tasks.items()} == {
        TaskType.CHIEF: 1,
        TaskType.WORKER: 1,
    }


HOSTS = "name: far\nlauncher: ssh\ntasks: {chief: {}}\nssh: {hosts: [h1, {name: h2, gpus: 1}]}\n"


def test_the_options_of_the_ssh_launcher_go_along_as_plain_values(place: Path) -> None:
    job = resolved(place, HOSTS, "true", model_dir="/shared/model").job
    assert [host["name"] for host in job.launcher_options["hosts"]] == ["h1", "h2"]
    assert SshSection.model_validate(dict(job.launcher_options)) == SshSection(
        hosts=(SshHostSection(name="h1"), SshHostSection(name="h2", gpus=1))
    )
    assert resolved(place, "name: near\ntasks: {chief: {}}\n", sys.executable).job.launcher_options == {}


def test_several_hosts_need_a_model_directory_that_was_named(place: Path) -> None:
    message = refusal(ConfigError, place, HOSTS, "true")
    assert "needs a model directory that every host sees" in message
    assert "--model-dir" in message
    assert (
        resolved(place, HOSTS + "run_config: {model_dir: 'gs://b/m'}\n", "true").job.model_dir == "gs://b/m"
    )

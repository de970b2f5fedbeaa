from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from orchestrator.cli.main import main
from orchestrator.cli.render import PORTS_NOTE, pretty_tf_config
from orchestrator.cluster.config_file import load
from orchestrator.cluster.tf_config import decode
from tests.cli.conftest import files_in

SHIPPED = sorted((Path(__file__).parents[2] / "cluster_configs").glob("*.yaml"))
TASKS = ["chief-0", "worker-0", "worker-1", "ps-0", "evaluator-0"]


def rendered(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["render", *words]) == 0
    return capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    before, dashes, command = " ".join(words).partition(" -- ")
    tail = ["--", *command.split()] if dashes else []
    return json.loads(rendered(capsys, *before.split(), "--json", *tail))


def test_every_task_is_shown_with_address_start_and_both_forms_of_tf_config(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = rendered(capsys, "five.yaml")
    blocks = dict(zip(TASKS, out.split("\n\n")[2:], strict=False))
    for task, block in blocks.items():
        lines = block.splitlines()
        assert lines[0] == task
        assert any(line.split() == ["host", "127.0.0.1"] for line in lines)
        assert any(line.split()[:1] == ["address"] and "127.0.0.1:" in line for line in lines)
        assert any(line.split()[:2] == ["start", "fork:"] for line in lines)
        assert f"ORCHESTRATOR_TASK={task}" in block
        [exact] = [line.split(maxsplit=1)[1] for line in lines if line.strip().startswith("exactly")]
        [assignment] = shlex.split(exact)
        config = decode(assignment.removeprefix("TF_CONFIG="))
        assert str(config.task) == task
        assert config.cluster is not None
        assert ("evaluator" in config.cluster.as_dict()) == (task == "evaluator-0")
        shown = [line for line in lines if line.startswith(" " * 14) or line.split()[:1] == ["TF_CONFIG"]]
        pretty = "\n".join(line[14:] for line in shown if "ORCHESTRATOR" not in line)
        assert json.loads(pretty) == config.as_dict()
    assert PORTS_NOTE in out


def test_lines_made_for_people_fit_80_columns(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = ("command", "exactly", "environment", "ORCHESTRATOR_")
    for line in rendered(capsys, "five.yaml").splitlines():
        assert len(line) <= 80 or any(word in line for word in long), line


def test_nothing_is_written_and_nothing_held(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_in(place)
    rendered(capsys, "five.yaml")
    assert files_in(place) == before
    port = "tasks.chief.hosts=['localhost:23987']"
    for _ in range(2):
        assert "23987" in rendered(capsys, "five.yaml", "--set", port)


def test_a_lone_process_has_no_tf_config(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = rendered(capsys, "one.yaml")
    assert "not set, as TensorFlow expects of a lone process" in out
    assert "exactly" not in out
    value = as_json(capsys, "one.yaml")
    assert value["tasks"]["chief-0"]["tf_config"] is None
    assert "TF_CONFIG" not in value["tasks"]["chief-0"]["env"]
    assert value["cluster"] is None


def test_json_holds_all_that_would_happen(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = as_json(capsys, "five.yaml", "--set params.max_steps=7 --run-dir r --model-dir m")
    assert list(value["tasks"]) == TASKS
    assert value["strategy"] == "asynchronous"
    assert value["run_dir"] == str(place / "r")
    assert value["experiment"]["params"] == {"max_steps": 7}
    assert value["experiment"]["model_dir"] == value["model_dir"] == str(place / "m")
    addresses = [address for hosts in value["cluster"].values() for address in hosts]
    assert len(set(addresses)) == len(TASKS)
    for task, plan in value["tasks"].items():
        assert plan["tf_config"] == json.loads(plan["env"]["TF_CONFIG"])
        assert "model_dir" not in plan["tf_config"]
        assert plan["env"]["ORCHESTRATOR_TASK"] == task
        assert plan["env"]["ORCHESTRATOR_MODEL_DIR"] == str(place / "m")
        assert plan["command"] == [
            sys.executable,
            "-m",
            "orchestrator.experiments.program",
            str(place / "r/experiment.json"),
        ]
    assert PORTS_NOTE in value["notes"]


def test_a_command_gets_the_model_directory_in_tf_config(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = as_json(capsys, f"five.yaml --model-dir m -- {sys.executable} -u mine.py --set x=y")
    assert value["experiment"] is None
    assert value["strategy"] == "coordinator"
    for plan in value["tasks"].values():
        assert plan["command"] == [sys.executable, "-u", "mine.py", "--set", "x=y"]
        assert plan["tf_config"]["model_dir"] == str(place / "m")


def test_an_inherited_tf_config_is_named_and_not_passed_on(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["elsewhere:1"]}}')
    out = rendered(capsys, "five.yaml")
    assert "elsewhere" not in out
    assert sum("TF_CONFIG" in line for line in out.splitlines() if line.startswith("note: ")) == 1


def test_a_variable_read_at_start_forbids_the_fork_and_says_why(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", "five.yaml", "--json", "--set", "tasks.worker.env={OMP_NUM_THREADS: 1}"]) == 0
    tasks = json.loads(capsys.readouterr().out)["tasks"]
    assert tasks["chief-0"]["start_method"] == "fork"
    assert tasks["worker-0"]["start_method"] == "exec"
    assert "OMP_NUM_THREADS" in tasks["worker-0"]["why"]


def test_rendering_needs_no_packages_of_the_default(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.cli.experiment_target.importlib.util.find_spec", lambda name: None)
    (place / "default.yaml").write_text("name: a\ntasks: {chief: {}}\n")
    assert "first, once" in rendered(capsys, "default.yaml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_cluster_file_is_planned(
    place: Path, capsys: pytest.CaptureFixture[str], path: Path
) -> None:
    assert main(["render", str(path), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    declared = load(path).effective_tasks()
    assert len(value["tasks"]) == sum(section.replicas for section in declared.values())
    assert (value["cluster"] is None) == (len(value["tasks"]) == 1)
    assert value["prepare_command"] is not None


def test_a_pretty_tf_config_is_still_json() -> None:
    value = {
        "cluster": {"worker": ["a:1", "b:1"], "ps": ["c:1"]},
        "task": {"type": "ps", "index": 0},
        "model_dir": "é",
    }
    text = pretty_tf_config(value)
    assert json.loads(text) == value
    assert '    "worker": ["a:1", "b:1"],' in text.splitlines()


def test_the_rules_for_restarts_and_hangs_are_shown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = rendered(capsys, "five.yaml")
    assert "restarts    a lost task is restarted alone\n" in out
    assert "hangs       after 30:00 min before the first step, 10:00 min between two\n" in out
    assert as_json(capsys, "five.yaml")["restart_rule"] == "a lost task is restarted alone"

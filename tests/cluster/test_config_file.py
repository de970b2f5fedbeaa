from __future__ import annotations

import contextlib
import os
import textwrap
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.cluster.config import ClusterConfig, StrategyName
from orchestrator.cluster.config_file import Override, load
from orchestrator.cluster.task import TaskType
from orchestrator.errors import ClusterConfigError
from tests.cluster.refused_files import REFUSED

MINIMAL = "name: a\ntasks: {chief: {}}\n"


def written(directory: Path, text: str) -> Path:
    path = directory / "cluster.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def refusal(path: Path, *overrides: str, for_command: bool = False) -> str:
    with pytest.raises(ClusterConfigError) as error:
        load(path, overrides, for_command=for_command)
    assert error.value.exit_code == 2
    return str(error.value)


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_file_is_refused_by_file_key_value_and_fix(tmp_path: Path, name: str) -> None:
    text, fragments = REFUSED[name]
    path = written(tmp_path, text)
    message = refusal(path)
    assert message.startswith(str(path))
    assert "mistakes" not in message
    for fragment in fragments:
        assert fragment in message


def test_several_mistakes_are_listed_together(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """\
        name: a
        tasks: {worker: {replicas: two}}
        strategy: mirored
        run_policy: {grace: 3}
        """,
    )
    first, *listed = refusal(path).splitlines()
    assert first == f"{path}: 3 mistakes:"
    assert [line.split(": ")[:2] for line in listed] == [
        ["  line 2", "tasks.worker.replicas"],
        ["  line 3", "strategy.name"],
        ["  line 4", "run_policy.grace"],
    ]


def test_a_minimal_file_has_the_documented_defaults(tmp_path: Path) -> None:
    config = load(written(tmp_path, MINIMAL))
    assert config.launcher == "local"
    assert config.strategy is None
    assert config.experiment == "orchestrator.experiments.digits:experiment"
    assert config.effective_tasks()[TaskType.CHIEF].replicas == 1
    assert config.run_config.arguments() == {}
    assert config.run_policy.grace_seconds == 30


def test_every_key_is_read(tmp_path: Path) -> None:
    config = load(
        written(
            tmp_path,
            """\
            name: all-keys_1.0
            launcher: local
            env: {COMMON: "1", PORT: 8080}
            tasks:
              chief: {}
              worker:
                replicas: 2
                resources: {cpus: 1, memory: 2GiB, gpus: 0}
                env: {OWN: " a b "}
                hosts: [localhost, "localhost:2222"]
              ps: {replicas: 1}
              evaluator: {replicas: 1}
            strategy: {name: parameter_server, style: between_graph}
            experiment: my.module:f
            params: {rate: 1e-3, big: 1.5E+3, text: "1e-3", nested: {a: [1, null]}}
            run_config: {tf_random_seed: 3, save_checkpoints_secs: null, steps_per_loop: auto, model_dir: m}
            run_policy: {max_restarts: 1, total_timeout_seconds: 60, restart: {ps: attempt}}
            local: {start_method: spawn}
            """,
        )
    )
    tasks = config.effective_tasks()
    worker = tasks[TaskType.WORKER]
    assert list(tasks) == [TaskType.CHIEF, TaskType.WORKER, TaskType.PS, TaskType.EVALUATOR]
    assert (worker.resources.cpus, worker.resources.memory, worker.resources.gpus) == (1, 2 * 1024**3, 0)
    assert worker.env == {"OWN": " a b "}
    assert worker.hosts == ("localhost", "localhost:2222")
    assert config.env == {"COMMON": "1", "PORT": "8080"}
    assert config.params == {"rate": 0.001, "big": 1500.0, "text": "1e-3", "nested": {"a": [1, None]}}
    assert config.run_config.arguments() == {
        "tf_random_seed": 3,
        "save_checkpoints_secs": None,
        "steps_per_loop": "auto",
    }
    assert config.run_policy.restart.by_type() == {TaskType.PS: "attempt"}
    assert config.local.start_method == "spawn"


def test_sections_whose_lines_are_all_commented_out_are_empty(tmp_path: Path) -> None:
    config = load(written(tmp_path, MINIMAL + "params:\nrun_config:\nrun_policy:\nenv:\nlocal:\n"))
    assert config == load(written(tmp_path, MINIMAL))


def test_worker_0_is_promoted_with_what_is_declared_for_workers(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """\
        name: a
        promote_worker_to_chief: true
        strategy: multi_worker_mirrored
        tasks: {worker: {replicas: 3, env: {A: b}, hosts: ["localhost:1", "localhost:2", "localhost:3"]}}
        """,
    )
    tasks = load(path).effective_tasks()
    assert {kind: section.replicas for kind, section in tasks.items()} == {
        TaskType.CHIEF: 1,
        TaskType.WORKER: 2,
    }
    assert tasks[TaskType.CHIEF].hosts == ("localhost:1",)
    assert tasks[TaskType.WORKER].hosts == ("localhost:2", "localhost:3")
    assert tasks[TaskType.CHIEF].env == {"A": "b"}
    alone = load(
        path, ["tasks.worker.replicas=1", "tasks.worker.hosts=[]", "strategy=none"]
    ).effective_tasks()
    assert {kind: section.replicas for kind, section in alone.items()} == {TaskType.CHIEF: 1}


@pytest.mark.parametrize(
    "text",
    [
        "name: a\ntasks: {worker: {replicas: 2}}\nstrategy: multi_worker_mirrored\n",
        "name: a\ntasks: {worker: {replicas: 2}}\n",
        "name: a\ntasks: {chief: {}, worker: {replicas: 2}, ps: {}}\n",
        "name: a\ntasks: {chief: {}, worker: {}, ps: {}}\nstrategy: parameter_server\n",
        "name: a\ntasks: {worker: {}, ps: {}}\nstrategy: {name: parameter_server, style: between_graph}\n",
    ],
)
def test_a_command_may_be_a_cluster_that_an_experiment_may_not(tmp_path: Path, text: str) -> None:
    assert load(written(tmp_path, text), for_command=True).name == "a"


@pytest.mark.parametrize("types", ["worker: {}, ps: {}", "chief: {}, ps: {}"])
def test_a_coordinator_needs_chief_and_worker(tmp_path: Path, types: str) -> None:
    path = written(tmp_path, f"name: a\ntasks: {{{types}}}\nstrategy: parameter_server\n")
    message = refusal(path, for_command=True)
    assert "the chief drives the workers" in message
    assert "between_graph" in message


def test_set_changes_the_file_before_it_is_checked(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL)
    config = load(
        path,
        [
            "params.max_steps=200",
            "params.rate=1e-3",
            "params.layers=[1, 2]",
            "tasks.worker.replicas=2",
            "strategy.name=multi_worker_mirrored",
            "params.max_steps=300",
            "params.text='200'",
        ],
    )
    assert config.params == {"max_steps": 300, "rate": 0.001, "layers": [1, 2], "text": "200"}
    assert config.effective_tasks()[TaskType.WORKER].replicas == 2
    assert config.strategy is not None
    assert config.strategy.name is StrategyName.MULTI_WORKER_MIRRORED


def test_set_may_make_a_wrong_file_right(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL + "strategy: multi_worker_mirrored\nrun_policy: {max_restarts: -1}\n")
    assert load(path, ["run_policy.max_restarts=0"]).run_policy.max_restarts == 0


def test_set_of_one_task_leaves_another_that_shares_its_lines(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """\
        name: a
        tasks:
          chief: &task {replicas: 1, resources: {cpus: 1}}
          worker: *task
        strategy: multi_worker_mirrored
        """,
    )
    tasks = load(path, ["tasks.worker.replicas=3", "tasks.worker.resources.cpus=2"]).effective_tasks()
    assert (tasks[TaskType.CHIEF].replicas, tasks[TaskType.WORKER].replicas) == (1, 3)
    assert (tasks[TaskType.CHIEF].resources.cpus, tasks[TaskType.WORKER].resources.cpus) == (1, 2)


@pytest.mark.parametrize(
    ("option", "fragments"),
    [
        ("params.max_steps", ["not KEY=VALUE", "--set params.max_steps=200"]),
        ("=3", ["not KEY=VALUE"]),
        ("params..a=3", ["not KEY=VALUE"]),
        ("params.a=", ["no value", "null"]),
        ("params.a=[1, 2", ["not YAML"]),
        ("params.a={b: 1, b: 2}", ["b", "twice"]),
        ("name.first=x", ["'name' is 'a' in the file, not a mapping"]),
        ("tasks.chief.replicas=two", ["tasks.chief.replicas: 'two'"]),
        ("task.chief.replicas=1", ["--set task.chief.replicas=1: task", "Did you mean 'tasks'?"]),
        ("tasks.wroker.replicas=1", ["tasks.wroker", "Did you mean 'worker'?"]),
        ("tasks.chief.replicas=2", ["tasks.chief.replicas: 2", "one chief"]),
    ],
)
def test_a_wrong_set_is_refused_by_its_own_text(tmp_path: Path, option: str, fragments: list[str]) -> None:
    message = refusal(written(tmp_path, MINIMAL), option)
    for fragment in (f"--set {option}", *fragments):
        assert fragment in message


def test_a_mistake_of_the_file_is_not_blamed_on_set(tmp_path: Path) -> None:
    path = written(tmp_path, "name: a\ntasks: {chief: {replicas: two}}\n")
    assert "--set" not in refusal(path, "params.a=1", "tasks.chief.env={A: b}")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    written(tmp_path, MINIMAL)
    assert "Did you mean 'cluster.yaml'?" in refusal(tmp_path / "clutser.yaml")
    assert "There are: cluster.yaml." in refusal(tmp_path / "q.yaml")
    assert "no such file" in refusal(tmp_path / "none" / "q.yaml")
    assert "is a directory" in refusal(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: ü".encode("latin-1"))
    assert "not UTF-8" in refusal(tmp_path / "latin.yaml")
    (tmp_path / "nul.yaml").write_bytes(b"name: \0\n")
    assert "not YAML" in refusal(tmp_path / "nul.yaml")
    (tmp_path / "huge.yaml").write_bytes(b"#" * (2 << 20))
    assert "larger than 1 MiB" in refusal(tmp_path / "huge.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL)
    path.chmod(0)
    assert "cannot be read: Permission denied" in refusal(path)


def test_a_short_file_that_means_a_huge_one_is_refused(tmp_path: Path) -> None:
    lines = ["name: a", "params:", "  v0: &v0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"  v{n}: &v{n} [{', '.join([f'*v{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "aliases" in refusal(written(tmp_path, "\n".join(lines)))


def test_a_byte_order_mark_and_merge_keys_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    text = "name: a\ntasks:\n  chief: &c {replicas: 1}\n  evaluator: {<<: *c, env: {A: b}}\n"
    path.write_text("\ufeff" + text, encoding="utf-8")
    assert load(path).effective_tasks()[TaskType.EVALUATOR].env == {"A": "b"}


def load_or_refuse(path: Path) -> ClusterConfig | str:
    try:
        return load(path)
    except ClusterConfigError as error:
        return str(error)


words = st.sampled_from(
    [
        "name",
        "tasks",
        "chief",
        "worker",
        "replicas",
        "strategy",
        "params",
        "a",
        "1",
        "two",
        "null",
        "~",
        "&x",
        "*x",
    ]
)
soup = st.lists(
    words | st.sampled_from([": ", "\n", "\n  ", "- ", "{", "}", "[", "]", ",", "#", "'", '"', "!!int "])
)


@given(soup.map("".join) | st.text())
@example("name: a\ntasks: {chief: {}}\n? [a]\n: b\n")
@example("name: a\ntasks: {chief: {}}\nparams: {<<: 3}\n")
@example("name: a\ntasks: {chief: {}}\nparams: {a: !!set {b}, c: !!binary aGk=}\n")
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    outcome = load_or_refuse(path)
    assert isinstance(outcome, ClusterConfig) or str(path) in outcome


@given(st.text())
def test_any_set_option_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ClusterConfigError):
        assert Override.parse(text).text == text

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from orchestrator.cluster.records import TaskEnvironment
from orchestrator.cluster.task import TaskId
from orchestrator.errors import ConfigError, InvalidArgument, InvalidType
from orchestrator.estimator.distribute_config import DistributeConfig
from orchestrator.estimator.run_config import RunConfig, default_session_config

pytestmark = pytest.mark.xdist_group("estimator_api")
CLUSTER = {"chief": ["c:1"], "worker": ["w:1"], "ps": ["p:1"]}


@pytest.fixture
def as_task(monkeypatch: pytest.MonkeyPatch) -> Any:
    def enter(task_type: str, index: int = 0, cluster: Any = CLUSTER, **extra: Any) -> None:
        task = {"type": task_type, "index": index}
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task, **extra}))

    return enter


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TaskEnvironment:
    environment = TaskEnvironment(tmp_path, TaskId.parse("worker-0"), 0, model_dir="/models/launched")
    for name, value in environment.as_environment().items():
        monkeypatch.setenv(name, value)
    return environment


def mirrored() -> Any:
    return tf.compat.v1.distribute.MirroredStrategy(["/cpu:0"])


def test_defaults() -> None:
    config = RunConfig()
    assert (config.save_checkpoints_secs, config.save_checkpoints_steps) == (600, None)
    assert config.steps_per_loop == 1
    assert (config.save_checkpoints_async, config.save_input_state) == (False, False)
    assert (config.mixed_precision, config.xla, config.memory_growth) == (False, False, False)
    assert config.task_environment is None


def test_every_argument_is_an_attribute_and_immutable() -> None:
    config = RunConfig(steps_per_loop="auto", model_dir=Path("/models/x"))
    assert (config.steps_per_loop, config.model_dir) == ("auto", "/models/x")
    with pytest.raises(AttributeError, match=r"config.replace\(steps_per_loop"):
        config.steps_per_loop = 5


def test_fields_are_visible_on_the_class() -> None:
    for name in ("model_dir", "steps_per_loop", "cluster_spec", "is_chief", "service"):
        assert hasattr(RunConfig, name)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("model_dir", ""),
        ("model_dir", 5),
        ("tf_random_seed", 1.5),
        ("save_summary_steps", -1),
        ("save_checkpoints_steps", "many"),
        ("session_config", {}),
        ("keep_checkpoint_every_n_hours", 0),
        ("log_step_count_steps", 0),
        ("train_distribute", "mirrored"),
        ("eval_distribute", object()),
        ("device_fn", "/cpu:0"),
        ("device_fn", lambda node: "/cpu:0"),
        ("protocol", "http"),
        ("experimental_distribute", 1),
        ("experimental_max_worker_delay_secs", "5"),
        ("session_creation_timeout_secs", 0),
        ("checkpoint_save_graph_def", "yes"),
        ("steps_per_loop", 0),
        ("steps_per_loop", "fast"),
        ("save_checkpoints_async", 1),
        ("save_input_state", "no"),
        ("mixed_precision", "float8"),
        ("xla", 1),
        ("memory_growth", 0.5),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(argument: str, value: Any) -> None:
    for make in (RunConfig, RunConfig().replace):
        with pytest.raises(InvalidArgument, match=argument) as caught:
            make(**{argument: value})
        assert repr(value) in str(caught.value)


def test_only_one_checkpoint_period() -> None:
    with pytest.raises(ValueError, match="cannot be both set"):
        RunConfig(save_checkpoints_steps=1, save_checkpoints_secs=1)
    by_steps = RunConfig().replace(save_checkpoints_steps=7)
    assert (by_steps.save_checkpoints_steps, by_steps.save_checkpoints_secs) == (7, None)
    none = by_steps.replace(save_checkpoints_steps=None)
    assert (none.save_checkpoints_steps, none.save_checkpoints_secs) == (None, None)


def test_replace_leaves_the_original_alone_and_refuses_other_names() -> None:
    config = RunConfig(model_dir="/a")
    assert config.replace(model_dir="/b").model_dir == "/b"
    assert config.model_dir == "/a"
    with pytest.raises(InvalidArgument, match=r"modeldir is not supported\. Did you mean 'model_dir'"):
        config.replace(modeldir="/c")


def test_the_task_comes_from_tf_config(as_task: Any) -> None:
    as_task("worker")
    config = RunConfig()
    assert (config.task_type, config.task_id, config.is_chief) == ("worker", 0, False)
    assert config.cluster_spec.as_dict() == CLUSTER
    assert list(config.session_config.device_filters) == ["/job:ps", "/job:worker/task:0"]
    assert config.replace(model_dir="/x").task_type == "worker"


def test_the_session_config_that_is_given_is_kept(as_task: Any) -> None:
    as_task("chief")
    assert RunConfig(session_config=default_session_config()).session_config == default_session_config()


def test_a_strategy_decides_its_sessions_itself(as_task: Any) -> None:
    as_task("worker", cluster={"worker": ["w:1", "w:2"]})
    config = RunConfig(train_distribute=mirrored())
    assert config.session_config is None
    assert config.is_chief


def test_model_dir_of_tf_config(as_task: Any) -> None:
    as_task("chief", model_dir="/from/tf_config")
    assert RunConfig().model_dir == "/from/tf_config"
    assert RunConfig(model_dir="/from/tf_config").model_dir == "/from/tf_config"
    with pytest.raises(InvalidArgument, match="must have the same value as the model_dir in TF_CONFIG"):
        RunConfig(model_dir="/other")


def test_service_must_be_an_object(as_task: Any) -> None:
    as_task("chief", service=[1])
    with pytest.raises(InvalidType, match="it must be a dict"):
        RunConfig()


def test_strategies_may_stand_in_experimental_distribute() -> None:
    strategy = mirrored()
    config = RunConfig(experimental_distribute=DistributeConfig(train_distribute=strategy))
    assert config.train_distribute is strategy
    assert config.replace(model_dir="/x").train_distribute is strategy, "a strategy is never copied"
    with pytest.raises(InvalidArgument, match="Either `train_distribute`"):
        RunConfig(train_distribute=strategy, experimental_distribute=DistributeConfig(strategy))


def test_a_remote_cluster_is_refused_with_what_to_do() -> None:
    remote = DistributeConfig(train_distribute=mirrored(), remote_cluster={"worker": ["w:1"]})
    with pytest.raises(InvalidArgument, match=r"remote_cluster.*Run the program in every task"):
        RunConfig(experimental_distribute=remote)


def test_the_coordinator_strategy_is_refused_with_the_one_to_take() -> None:
    kind = tf.distribute.experimental.ParameterServerStrategy
    with pytest.raises(InvalidArgument, match=r"Please use `tf\.compat\.v1\.distribute\.experimental"):
        RunConfig(train_distribute=kind.__new__(kind))


def test_from_environment_without_launcher_is_a_plain_run_config() -> None:
    strategy = mirrored()
    config = RunConfig.from_environment("/models/x", strategy, save_checkpoints_steps=9)
    assert (config.model_dir, config.save_checkpoints_steps) == ("/models/x", 9)
    assert config.train_distribute is strategy
    assert config.experimental_max_worker_delay_secs is None


def test_from_environment_under_the_launcher(launched: TaskEnvironment) -> None:
    config = RunConfig.from_environment()
    assert config.model_dir == "/models/launched"
    assert config.task_environment == launched
    assert config.experimental_max_worker_delay_secs == 0
    assert RunConfig.from_environment("/mine").model_dir == "/mine"


def test_from_environment_refuses_an_unknown_argument() -> None:
    with pytest.raises(ConfigError, match=r"'save_checkpoint_steps' is not an argument .* Did you mean"):
        RunConfig.from_environment(save_checkpoint_steps=5)

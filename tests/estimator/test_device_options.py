"""Mixed precision, XLA and memory growth: what sessions are told, and what is said about idle options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.estimator import device_options, server, strategies
from orchestrator.estimator.device_options import DeviceOptions, Gpu, idle_options, rewrites_to
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig, default_session_config
from tests.estimator import linear_model

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")
ONE_GPU = (Gpu(0),)
SPLIT_GPU = (Gpu(0, parts=(512, 512)),)


@pytest.mark.parametrize(
    ("setting", "gpus", "precision"),
    [
        (False, ONE_GPU, None),
        (True, ONE_GPU, "float16"),
        (True, (), "bfloat16"),
        ("float16", (), "float16"),
        ("bfloat16", ONE_GPU, "bfloat16"),
    ],
)
def test_precision_follows_the_device_unless_it_is_named(setting: Any, gpus: Any, precision: Any) -> None:
    assert DeviceOptions.of(RunConfig(mixed_precision=setting), gpus).precision == precision


def test_options_become_session_options_beside_the_users_own() -> None:
    proto = v1.ConfigProto(inter_op_parallelism_threads=3)
    proto.graph_options.rewrite_options.constant_folding = 2
    device_options.add_graph_options(proto, DeviceOptions("float16", xla=True))
    assert proto.graph_options.rewrite_options.auto_mixed_precision == 1
    assert proto.graph_options.rewrite_options.constant_folding == 2
    assert proto.graph_options.optimizer_options.global_jit_level == v1.OptimizerOptions.ON_1
    assert proto.graph_options.optimizer_options.cpu_global_jit
    assert proto.inter_op_parallelism_threads == 3


def test_without_options_the_session_config_stays_as_it_is() -> None:
    assert strategies.session_config_for(RunConfig(), None) == default_session_config()


def test_memory_growth_reaches_sessions_also_when_tf_config_asked_for_it() -> None:
    for gpus, growth in ((ONE_GPU, True), ((Gpu(0, memory_growth=True),), False)):
        options = v1.GPUOptions()
        device_options.add_gpus(options, gpus, growth)
        assert options.allow_growth
    options = v1.GPUOptions()
    device_options.add_gpus(options, ONE_GPU, False)
    assert options == v1.GPUOptions()


def test_sessions_split_a_gpu_as_tf_config_does() -> None:
    options = v1.GPUOptions()
    device_options.add_gpus(options, (Gpu(0, (512, 256)), Gpu(2, (128,))), True)
    assert options.visible_device_list == "0,2"
    limits = [list(part.memory_limit_mb) for part in options.experimental.virtual_devices]
    assert limits == [[512, 256], [128]]
    assert not options.allow_growth, "TensorFlow refuses growth for a GPU that is split"


def test_the_users_own_split_of_a_gpu_is_kept() -> None:
    options = v1.GPUOptions(visible_device_list="1")
    device_options.add_gpus(options, SPLIT_GPU, False)
    assert options == v1.GPUOptions(visible_device_list="1")


@pytest.mark.parametrize(
    ("gpus", "logical", "devices"),
    [
        (0, None, ["/cpu:0"]),
        (0, 3, ["/cpu:0", "/cpu:1", "/cpu:2"]),
        (2, None, ["/gpu:0", "/gpu:1"]),
        (2, 3, ["/gpu:0", "/gpu:1"]),
    ],
)
def test_replicas_take_every_gpu_and_cpus_only_without_one(gpus: int, logical: Any, devices: Any) -> None:
    assert strategies.replica_devices(gpus, logical) == devices


def test_logical_gpus_are_counted() -> None:
    assert device_options.logical_gpu_count((Gpu(0, (1, 1, 1)), Gpu(1))) == 4


@pytest.mark.parametrize(
    ("options", "gpus", "part"),
    [
        (DeviceOptions(memory_growth=True), (), "memory_growth=True) has no effect here: no GPU"),
        (DeviceOptions(memory_growth=True), SPLIT_GPU, "fixed shares"),
        (DeviceOptions("bfloat16"), ONE_GPU, "rewrites graphs to float16 for the GPUs here"),
        (DeviceOptions("float16"), (), "rewrites graphs to bfloat16 for this CPU"),
        (DeviceOptions("float16"), ONE_GPU, "no graphs to float16 for the GPUs here: no effect"),
    ],
)
def test_idle_options_are_named(
    monkeypatch: pytest.MonkeyPatch, options: DeviceOptions, gpus: Any, part: str
) -> None:
    monkeypatch.setattr(device_options, "rewrites_to", lambda *_: False)
    (sentence,) = idle_options(options, gpus, v1.ConfigProto())
    assert part in sentence


def test_options_with_an_effect_are_not_spoken_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_options, "rewrites_to", lambda *_: True)
    options = DeviceOptions("float16", memory_growth=True)
    assert idle_options(options, ONE_GPU, v1.ConfigProto()) == []


def test_an_idle_option_is_said_once(warnings_said: list[str]) -> None:
    config = RunConfig(memory_growth=True)
    for _ in range(3):
        strategies.session_config_for(config, None)
    if not tf.config.list_physical_devices("GPU"):
        assert len(warnings_said) == 1
    server._server_config(config)
    assert len(warnings_said) <= 1


def compiled_nodes(config: RunConfig) -> tuple[set[str], set[str]]:
    """Kinds and types of the operations that a session of `config` really runs for a product."""
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, [64, 64])
        y = tf.reduce_mean(tf.square(tf.nn.relu(tf.matmul(tf.nn.relu(tf.matmul(x, x)), x))))
        options, metadata = v1.RunOptions(output_partition_graphs=True), v1.RunMetadata()
        with v1.Session(config=strategies.session_config_for(config, None)) as session:
            session.run(y, {x: np.ones([64, 64])}, options=options, run_metadata=metadata)
    nodes = [node for partition in metadata.partition_graphs for node in partition.node]
    types = {tf.as_dtype(node.attr["T"].type).name for node in nodes if node.attr["T"].type}
    return {node.op for node in nodes}, types


def test_xla_compiles_also_on_a_cpu() -> None:
    if not tf.test.is_built_with_xla():
        pytest.skip("this TensorFlow is built without XLA")
    assert "_XlaCompile" in compiled_nodes(RunConfig(xla=True))[0]
    assert "_XlaCompile" not in compiled_nodes(RunConfig())[0]


def test_mixed_precision_has_an_effect_or_is_said_to_have_none(warnings_said: list[str]) -> None:
    assert compiled_nodes(RunConfig())[1] == {"float32"}
    for precision in ("float16", "bfloat16"):
        warnings_said.clear()
        effective = precision in compiled_nodes(RunConfig(mixed_precision=precision))[1]
        assert effective == (not warnings_said), warnings_said


def test_the_trial_sees_what_a_session_does() -> None:
    plain = v1.ConfigProto().SerializeToString()
    assert rewrites_to("float32", plain)
    assert not rewrites_to("bfloat16", plain)


def test_a_model_trains_with_every_option_and_its_checkpoint_is_the_usual_one(tmp_path: Path) -> None:
    config = RunConfig(mixed_precision=True, xla=True, memory_growth=True, tf_random_seed=1)
    estimator = Estimator(linear_model.model_fn, tmp_path, config, params={})
    estimator.train(linear_model.training_input, steps=60)
    assert estimator.evaluate(linear_model.evaluation_input)["mae"] < 0.5
    assert sorted(estimator.get_variable_names()) == ["global_step", "kernel"]

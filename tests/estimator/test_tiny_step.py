"""Only steps whose every operation is small compute in one thread, and nobody else's choice is changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.estimator import evaluation, own_threads, tiny_step, training
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.input_source import read_input
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.tiny_step import compute_in_one_thread_if_tiny, work_of
from tests.estimator import linear_model

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")
ROWS = np.ones((8, 16), np.float32)


def rows(batch: int) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(ROWS).repeat().batch(batch).prefetch(1)


def product(features: tf.Tensor, columns: int = 32) -> tf.Tensor:
    return tf.matmul(features, tf.ones([features.shape[-1], columns]))


def threads(
    dataset: Callable[[], tf.data.Dataset],
    model: Callable[[tf.Tensor], tf.Tensor] = product,
    config: Any = None,
    in_loop: bool = False,
    master: str = "",
) -> tuple[int, int]:
    """Threads within and between operations that the step gets; 0: TensorFlow's choice."""
    config = v1.ConfigProto() if config is None else config
    with tf.Graph().as_default():
        source = read_input(dataset(), threads)
        compute_in_one_thread_if_tiny(config, source, [model(source.features).op], master, in_loop)
    return config.intra_op_parallelism_threads, config.inter_op_parallelism_threads


def test_a_small_product_is_tiny_and_a_large_one_is_not() -> None:
    assert threads(lambda: rows(64)) == (1, 0)
    assert threads(lambda: rows(64), lambda x: product(x, 4096)) == (0, 0)
    assert threads(lambda: rows(8192)) == (0, 0)


def test_many_small_operations_are_not_tiny() -> None:
    def deep(features: tf.Tensor) -> tf.Tensor:
        net = product(features, 16)
        for _ in range(20):
            net = tf.matmul(tf.matmul(net, tf.ones([16, 1700])), tf.ones([1700, 16]))
        return net

    assert threads(lambda: rows(64), deep) == (0, 0)


@pytest.mark.parametrize(
    "model",
    [
        lambda x: tf.nn.conv1d(x[:, :, None], tf.ones([3, 1, 4]), 1, "SAME"),
        lambda x: tf.linalg.svd(x)[0],
        lambda x: tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2), [0, x])[1],
        lambda x: tf.py_function(lambda y: y, [x], tf.float32),
        lambda x: tf.ensure_shape(v1.placeholder_with_default(x, None), None),
    ],
)
def test_what_may_work_much_on_little_data_is_not_tiny(model: Callable[[tf.Tensor], tf.Tensor]) -> None:
    assert threads(lambda: rows(4), model) == (0, 0)


@pytest.mark.parametrize(
    "dataset",
    [
        lambda: tf.data.Dataset.from_generator(
            lambda: iter([ROWS]), output_signature=tf.TensorSpec([None, 16], tf.float32)
        ),
        lambda: rows(4).map(lambda x: tf.matmul(x, x, transpose_b=True)[:, :1] * x),
        lambda: tf.data.Dataset.from_tensors(np.ones((4, 5, 16), np.float32)).padded_batch(
            2, padded_shapes=(None, None, 16)
        ),
    ],
    ids=["unknown batch", "work in the input", "unknown length"],
)
def test_an_input_that_may_be_large_is_not_tiny(dataset: Callable[[], tf.data.Dataset]) -> None:
    assert threads(dataset, lambda x: x * 2) == (0, 0)


def test_the_batch_may_have_been_joined_with_other_dimensions() -> None:
    images = lambda: tf.data.Dataset.from_tensors(np.ones((300, 16), np.float32)).repeat().batch(8)  # noqa: E731
    flat = lambda x: product(tf.reshape(x, [-1, 16]), 64)  # noqa: E731
    assert threads(lambda: rows(8), lambda x: product(x, 64)) == (1, 0)
    assert threads(images, flat) == (0, 0)


def test_what_the_user_has_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads(lambda: rows(4), config=v1.ConfigProto(intra_op_parallelism_threads=3)) == (3, 0)
    chosen = v1.ConfigProto(inter_op_parallelism_threads=5)
    assert threads(lambda: rows(4), config=chosen, in_loop=True) == (1, 5)
    assert threads(lambda: rows(4), master="grpc://somewhere:1") == (0, 0)
    monkeypatch.setenv(own_threads.VARIABLE, "0")
    assert threads(lambda: rows(4)) == (0, 0)


def test_a_loop_runs_in_the_callers_thread_unless_the_input_needs_others() -> None:
    parallel = lambda: rows(4).map(lambda x: x + 1, num_parallel_calls=2)  # noqa: E731
    assert threads(lambda: rows(4), in_loop=True) == (1, -1)
    assert threads(parallel, in_loop=True) == (1, 0)


def test_work_is_that_of_the_product() -> None:
    with tf.Graph().as_default():
        left = v1.placeholder(tf.float32, [None, 16])
        assert work_of(product(left, 32).op, 10) == 2 * 10 * 16 * 32
        assert work_of(product(left, 32).op, None) is None
        assert work_of((left + 1.0).op, 10) == 2 * 160 + 1


def test_training_gives_the_same_weights_and_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At this size a product is never split along what is summed, so not even the rounding differs."""
    found = {}
    for tiny in (False, True):
        if not tiny:
            for module in (training, evaluation):
                monkeypatch.setattr(module, "compute_in_one_thread_if_tiny", lambda *_: None)
        config = RunConfig(tf_random_seed=3)
        estimator = Estimator(linear_model.model_fn, tmp_path / str(tiny), config, params={})
        estimator.train(linear_model.training_input, steps=20)
        found[tiny] = {name: estimator.get_variable_value(name) for name in estimator.get_variable_names()}
        found[tiny] |= estimator.evaluate(linear_model.evaluation_input)
        monkeypatch.undo()
    assert found[True].keys() == found[False].keys()
    for name, value in found[True].items():
        np.testing.assert_array_equal(value, found[False][name])


def test_one_thread_is_what_the_session_of_a_tiny_step_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    inner = tiny_step.compute_in_one_thread_if_tiny

    def noted(config: Any, *others: Any) -> None:
        inner(config, *others)
        given.append(config.intra_op_parallelism_threads)

    for module in (training, evaluation):
        monkeypatch.setattr(module, "compute_in_one_thread_if_tiny", noted)
    estimator = Estimator(linear_model.model_fn, tmp_path, params={})
    estimator.train(linear_model.training_input, steps=2)
    estimator.evaluate(linear_model.evaluation_input)
    assert given == [1, 1]


PROGRAM = """
import os
import orchestrator.estimator
import tensorflow as tf

def threads():
    return len(os.listdir("/proc/self/task"))

tf.constant(1) + 1  # the eager context comes first, as when a Dataset is mapped
before = threads()
graph = tf.Graph()
with graph.as_default():
    one = tf.constant(1)
config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=300)
with tf.compat.v1.Session(graph=graph, config=config) as session:
    session.run(one)
    print(os.environ["TF_OVERRIDE_GLOBAL_THREADPOOL"], threads() - before >= 300)
"""


@pytest.mark.parametrize(("chosen", "expected"), [(None, "1 True"), ("0", "0 False")])
def test_importing_the_engine_gives_sessions_threads_of_their_own(chosen: str | None, expected: str) -> None:
    environ = {key: value for key, value in os.environ.items() if key != own_threads.VARIABLE}
    environ |= {} if chosen is None else {own_threads.VARIABLE: chosen}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, timeout=240
    )
    assert done.stdout.strip() == expected, done.stderr

"""Loss scaling: the same weights, no step that is not finite, no trace in checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.estimator import device_options, logger, loss_scaling, strategies
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EstimatorSpec
from tests.estimator import linear_model

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")


def adam(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    """Clips gradients, which must be the unscaled ones."""
    kernel = v1.get_variable("kernel", [4, 1], initializer=v1.zeros_initializer())
    loss = v1.losses.mean_squared_error(labels, tf.matmul(features, kernel))
    optimizer = v1.train.AdamOptimizer(0.1)
    pairs = [(tf.clip_by_norm(g, 1.0), v) for g, v in optimizer.compute_gradients(loss)]
    train_op = optimizer.apply_gradients(pairs, v1.train.get_global_step())
    return EstimatorSpec(mode, loss=loss, train_op=train_op)


def embedding(features: Any, labels: Any, mode: str) -> EstimatorSpec:
    """Sparse gradients and a global step given by name."""
    table = v1.get_variable("kernel", [8, 1], initializer=v1.zeros_initializer())
    rows = tf.nn.embedding_lookup(table, tf.cast(tf.abs(features[:, 0]) * 2.0, tf.int32))
    loss = v1.losses.mean_squared_error(labels, rows)
    train_op = v1.train.AdagradOptimizer(0.1).minimize(loss, global_step=v1.train.get_global_step())
    return EstimatorSpec(mode, loss=loss, train_op=train_op)


def trained(model_dir: Path, model_fn: Any, strategy: str = "none", **config: Any) -> Estimator:
    distribute = strategies.make_strategy(strategy, 2) if strategy != "none" else None
    run_config = RunConfig(tf_random_seed=1, train_distribute=distribute, **config)
    estimator = Estimator(model_fn, model_dir, run_config)
    return estimator.train(linear_model.training_input, steps=12)


@pytest.mark.parametrize("model_fn", [adam, embedding])
@pytest.mark.parametrize(
    ("strategy", "extra"),
    [("none", {}), ("none", {"steps_per_loop": 5}), ("mirrored", {}), ("central_storage", {})],
)
def test_weights_are_those_without_scaling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_fn: Any, strategy: str, extra: dict[str, Any]
) -> None:
    scaled = trained(tmp_path / "scaled", model_fn, strategy, mixed_precision="float16", **extra)
    plain = trained(tmp_path / "plain", model_fn, strategy)
    if device_options.rewrites_to("float16", float16_session()):
        pytest.skip("this device calculates in float16: results differ by rounding")
    assert sorted(scaled.get_variable_names()) == sorted(plain.get_variable_names())
    for name in plain.get_variable_names():
        # Inside of a loop TensorFlow moves multiplications around, which rounds otherwise.
        limit = 1e-6 if extra else 0.0
        both = (scaled.get_variable_value(name), plain.get_variable_value(name))
        np.testing.assert_allclose(*both, rtol=limit, atol=limit)
    assert np.abs(plain.get_variable_value("kernel")).max() > 0.1


def float16_session() -> bytes:
    proto = strategies.session_config_for(RunConfig(mixed_precision="float16"), None)
    return proto.SerializeToString()


def test_small_gradients_survive_float16_only_with_scaling(tmp_path: Path) -> None:
    """The rewriter that emulates float16 on CPUs stands for a GPU."""

    def tiny(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        kernel = v1.get_variable("kernel", [4, 4], initializer=v1.zeros_initializer())
        outputs = tf.matmul(tf.matmul(features, kernel), tf.ones([4, 4]))
        loss = tf.reduce_sum(outputs) * 1e-8  # below the smallest number of float16
        train_op = v1.train.GradientDescentOptimizer(1e6).minimize(loss, v1.train.get_global_step())
        return EstimatorSpec(mode, loss=loss, train_op=train_op)

    emulated = v1.ConfigProto()
    emulated.graph_options.rewrite_options.auto_mixed_precision_cpu = 1
    weights = {}
    for precision in (False, "float16"):
        estimator = Estimator(
            tiny,
            tmp_path / str(precision),
            RunConfig(session_config=emulated, mixed_precision=precision),
        ).train(linear_model.training_input, steps=1)
        weights[precision] = np.abs(estimator.get_variable_value("kernel")).max()
    assert weights[False] == 0.0
    assert weights["float16"] > 1e-3


@pytest.mark.parametrize("strategy", ["none", "mirrored"])
def test_a_step_without_finite_gradients_is_left_out_and_the_scale_halved(
    tmp_path: Path, strategy: str
) -> None:
    """One bad batch among good ones; gradient descent would turn every weight into NaN."""
    scales: list[float] = []

    def sometimes_bad(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        kernel = v1.get_variable("kernel", [1], initializer=v1.ones_initializer())
        bad = tf.reduce_any(features[:, 0] < 0)
        loss = tf.reduce_mean(kernel)
        # The gradient is infinite for a bad batch, the loss is not.
        steep = tf.custom_gradient(lambda x: (x, lambda dy: dy * tf.where(bad, np.float32("inf"), 1.0)))
        loss = steep(loss)
        train_op = v1.train.GradientDescentOptimizer(0.1).minimize(loss, v1.train.get_global_step())
        return EstimatorSpec(mode, loss=loss, train_op=train_op)

    class Look(v1.train.SessionRunHook):
        def after_run(self, run_context: Any, run_values: Any) -> None:
            variables = [v for v in v1.local_variables() if v.op.name.endswith("loss_scale")]
            scales.append(float(run_context.session.run(variables[0])))

    rows = [1.0, 1.0, -1.0, 1.0, 1.0, 1.0]
    inputs = lambda: tf.data.Dataset.from_tensor_slices([[r] for r in rows]).batch(1)  # noqa: E731
    distribute = None if strategy == "none" else strategies.make_strategy(strategy, 2)
    config = RunConfig(mixed_precision="float16", train_distribute=distribute)
    estimator = Estimator(lambda features, mode: sometimes_bad(features, None, mode), tmp_path, config)
    estimator.train(inputs, hooks=[Look()])
    steps = 6 if strategy == "none" else 3
    assert int(estimator.get_variable_value("global_step")) == steps - 1
    np.testing.assert_allclose(estimator.get_variable_value("kernel"), [1.0 - 0.1 * (steps - 1)], rtol=1e-5)
    assert set(scales) == {2.0**15, 2.0**14}


def test_the_scale_doubles_after_many_good_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_scaling, "GOOD_STEPS_UNTIL_DOUBLED", 4)
    scales: list[float] = []

    class Look(v1.train.SessionRunHook):
        def after_run(self, run_context: Any, run_values: Any) -> None:
            (scale,) = [v for v in v1.local_variables() if v.op.name == "loss_scale"]
            scales.append(float(run_context.session.run(scale)))

    config = RunConfig(mixed_precision="float16", tf_random_seed=1)
    Estimator(adam, tmp_path, config).train(linear_model.training_input, steps=9, hooks=[Look()])
    assert [np.log2(scale) for scale in scales] == [15, 15, 15, 16, 16, 16, 16, 17, 17]


def test_a_user_who_scales_is_left_alone(tmp_path: Path) -> None:
    def by_hand(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        kernel = v1.get_variable("kernel", [4, 1], initializer=v1.zeros_initializer())
        loss = v1.losses.mean_squared_error(labels, tf.matmul(features, kernel))
        optimizer = v1.mixed_precision.MixedPrecisionLossScaleOptimizer(
            v1.train.GradientDescentOptimizer(0.05), v1.mixed_precision.FixedLossScale(128.0)
        )
        train_op = optimizer.minimize(loss, v1.train.get_global_step())
        assert not any("loss_scale" in v.op.name for v in v1.local_variables())
        return EstimatorSpec(mode, loss=loss, train_op=train_op)

    scaled = trained(tmp_path / "by_hand", by_hand, mixed_precision="float16")
    assert int(scaled.get_variable_value("global_step")) == 12


def test_optimizers_are_as_before_outside_of_model_fn() -> None:
    methods = [getattr(v1.train.Optimizer, name) for name in ("compute_gradients", "apply_gradients")]
    with loss_scaling.scaling_losses(None), loss_scaling.scaling_losses(None):
        assert v1.train.Optimizer.compute_gradients is not methods[0]
    assert [getattr(v1.train.Optimizer, n) for n in ("compute_gradients", "apply_gradients")] == methods


def test_training_in_float16_without_any_scaling_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(logger, "_said", set())
    monkeypatch.setattr(logger.log, "warning", lambda text, *values: said.append(text))

    def no_optimizer(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        step = v1.assign_add(v1.train.get_global_step(), 1)
        return EstimatorSpec(mode, loss=tf.constant(1.0), train_op=step)

    estimator = Estimator(no_optimizer, tmp_path, RunConfig(mixed_precision="float16"))
    estimator.train(linear_model.training_input, steps=1)
    assert any("without loss scaling" in text for text in said)

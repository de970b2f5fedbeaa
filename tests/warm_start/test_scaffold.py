"""Plans applied in sessions: values, graphs left alone, replicas, partitions, vocabularies."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator import warm_start
from orchestrator.errors import WarmStartError
from tests.warm_start.test_checkpoint_reader import KERNEL, write_by_name

v1 = tf.compat.v1


@pytest.fixture
def donor(tmp_path: Path) -> str:
    (tmp_path / "donor").mkdir()
    return write_by_name(
        tmp_path / "donor" / "model.ckpt",
        {"net/kernel": KERNEL, "net/bias": np.array([1.0, 2.0, 3.0], np.float32), "global_step": np.int64(9)},
    )


def net(scope: str = "net", **arguments: Any) -> tuple[Any, Any]:
    with v1.variable_scope(scope):
        zeros = v1.zeros_initializer()
        return (
            v1.get_variable("kernel", [4, 3], initializer=zeros, **arguments),
            v1.get_variable("bias", [3], initializer=zeros),
        )


def values_after(init_fn: Any, variables: Any) -> list[np.ndarray]:
    """What the variables hold in a session that was opened as programs do it."""
    scaffold = v1.train.Scaffold(init_fn=init_fn)
    scaffold.finalize()
    graph = tf.compat.v1.get_default_graph()
    before = len(graph.get_operations())
    with v1.train.MonitoredSession(v1.train.ChiefSessionCreator(scaffold)) as session:
        values = session.run(variables)
    assert len(graph.get_operations()) == before
    return values


def test_values_are_loaded_and_the_finalized_graph_stays_as_it_was(donor: str) -> None:
    with tf.Graph().as_default():
        v1.train.create_global_step()
        kernel, bias = values_after(warm_start.scaffold_init_fn(donor), net())
    np.testing.assert_array_equal(kernel, KERNEL)
    np.testing.assert_array_equal(bias, [1, 2, 3])


@pytest.mark.parametrize("use_resource", [True, False])
def test_both_kinds_of_variables(donor: str, use_resource: bool) -> None:
    with tf.Graph().as_default():
        kernel, _ = values_after(warm_start.scaffold_init_fn(donor), net(use_resource=use_resource))
    np.testing.assert_array_equal(kernel, KERNEL)


def test_the_step_is_loaded_only_when_asked_for(donor: str) -> None:
    for asked, step in ((False, 0), (True, 9)):
        with tf.Graph().as_default():
            read = v1.train.create_global_step()
            net()
            assert values_after(warm_start.scaffold_init_fn(donor, global_step=asked), [read]) == [step]


def test_rules_are_followed(donor: str) -> None:
    with tf.Graph().as_default():
        init_fn = warm_start.scaffold_init_fn(donor, rename="net=body", exclude="bias")
        kernel, bias = values_after(init_fn, net("body"))
    np.testing.assert_array_equal(kernel, KERNEL)
    np.testing.assert_array_equal(bias, [0, 0, 0])


def test_layouts_and_casts(donor: str) -> None:
    with tf.Graph().as_default():
        kernel = v1.get_variable("k", [3, 4], tf.float16, initializer=v1.zeros_initializer())
        mapping = {"k": {"source": "net/kernel", "layout": "transpose"}}
        init_fn = warm_start.scaffold_init_fn(donor, map=mapping, allow_cast=True)
        (value,) = values_after(init_fn, [kernel])
    np.testing.assert_array_equal(value, KERNEL.T.astype(np.float16))
    assert value.dtype == np.float16


def test_parts_of_a_partitioned_variable_take_their_slices(donor: str) -> None:
    for axis in (0, 1):
        with tf.Graph().as_default():
            kernel, _ = net(partitioner=v1.fixed_size_partitioner(2, axis=axis))
            parts = values_after(warm_start.scaffold_init_fn(donor), list(kernel))
        np.testing.assert_array_equal(np.concatenate(parts, axis=axis), KERNEL)


def test_every_replica_of_a_mirrored_variable_is_loaded(donor: str) -> None:
    with tf.Graph().as_default():
        strategy = v1.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
        with strategy.scope():
            kernel, _ = net()
        assert len(kernel.values) == 2
        scaffold = v1.train.Scaffold(init_fn=warm_start.scaffold_init_fn(donor))
        scaffold.finalize()
        config = v1.ConfigProto(device_count={"CPU": 2})
        with v1.train.MonitoredSession(v1.train.ChiefSessionCreator(scaffold, config=config)) as session:
            for value in session.run(list(kernel.values)):
                np.testing.assert_array_equal(value, KERNEL)


@pytest.mark.parametrize("aggregation", [tf.VariableAggregation.SUM, tf.VariableAggregation.MEAN])
def test_variables_that_replicas_keep_apart(tmp_path: Path, aggregation: Any) -> None:
    path = write_by_name(tmp_path / "a", {"total": np.float32(6.0)})
    with tf.Graph().as_default():
        strategy = v1.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
        with strategy.scope():
            total = v1.get_variable(
                "total",
                [],
                initializer=v1.zeros_initializer(),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=aggregation,
            )
            read = strategy.extended.read_var(total)
        scaffold = v1.train.Scaffold(init_fn=warm_start.scaffold_init_fn(path))
        scaffold.finalize()
        config = v1.ConfigProto(device_count={"CPU": 2})
        with v1.train.MonitoredSession(v1.train.ChiefSessionCreator(scaffold, config=config)) as session:
            assert session.run(read) == 6.0


def test_init_fn_is_not_called_where_the_model_has_its_own_checkpoint(donor: str, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    stored = {"net/kernel": KERNEL * 5, "net/bias": np.zeros(3, np.float32), "global_step": np.int64(3)}
    write_by_name(tmp_path / "own" / "model.ckpt-3", stored)
    (tmp_path / "own" / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-3"')
    with tf.Graph().as_default():
        v1.train.create_global_step()
        kernel, _ = net()
        scaffold = v1.train.Scaffold(init_fn=warm_start.scaffold_init_fn(donor))
        creator = v1.train.ChiefSessionCreator(scaffold, checkpoint_dir=str(tmp_path / "own"))
        with v1.train.MonitoredSession(creator) as session:
            np.testing.assert_array_equal(session.run(kernel), KERNEL * 5)


def test_a_missing_checkpoint_and_wrong_options_are_told_at_once(tmp_path: Path, donor: str) -> None:
    with pytest.raises(WarmStartError, match=f"warm_start: {tmp_path}/gone: there is no such checkpoint"):
        warm_start.scaffold_init_fn(str(tmp_path / "gone"))
    with pytest.raises(WarmStartError, match="no such option"):
        warm_start.scaffold_init_fn(donor, includes="net")
    with pytest.raises(WarmStartError, match="not with a plan"):
        warm_start.scaffold_init_fn(warm_start.WarmStart.of(donor), include="net")


def test_nothing_is_loaded_by_a_plan_with_a_problem(donor: str) -> None:
    with tf.Graph().as_default():
        init_fn = warm_start.scaffold_init_fn(donor)
        other = net("other")
        with pytest.raises(WarmStartError, match=r"nothing matches.*'net=other' \(2 of 2\)"):
            values_after(init_fn, other)


def test_a_plan_is_applied_as_it_was_made(donor: str) -> None:
    with tf.Graph().as_default() as graph:
        net()
        plan = warm_start.plan_for_graph(graph, warm_start.WarmStart.of(donor, include="kernel"))
    with tf.Graph().as_default():
        kernel, bias = values_after(warm_start.scaffold_init_fn(plan), net())
    np.testing.assert_array_equal(kernel, KERNEL)
    np.testing.assert_array_equal(bias, [0, 0, 0])
    with tf.Graph().as_default():
        wide = v1.get_variable("net/kernel", [4, 5])
        with pytest.raises(WarmStartError, match="made for another model"):
            values_after(warm_start.scaffold_init_fn(plan), [wide])


def test_what_keeps_its_initial_value_is_said(donor: str, caplog: pytest.LogCaptureFixture) -> None:
    with tf.Graph().as_default(), caplog.at_level(logging.INFO, "orchestrator"):
        new = v1.get_variable("net/kernels", [2], initializer=v1.ones_initializer())
        values_after(warm_start.scaffold_init_fn(donor), [*net(), new])
    assert "2 variables loaded" in caplog.text
    assert (
        "net/kernels keeps its initial value: not in the checkpoint. Did you mean 'net/kernel'" in caplog.text
    )


def test_a_vocabulary_that_has_changed(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("cat\ndog\nfish\n")
    (tmp_path / "new.txt").write_text("fish\nbird\ncat\n")
    path = write_by_name(tmp_path / "a", {"words": np.array([[1, 1], [2, 2], [3, 3]], np.float32)})
    info = tf.compat.v1.train.VocabInfo(
        new_vocab=str(tmp_path / "new.txt"),
        new_vocab_size=3,
        num_oov_buckets=1,
        old_vocab=str(tmp_path / "old.txt"),
        backup_initializer=v1.constant_initializer(9.0),
    )
    with tf.Graph().as_default():
        words = v1.get_variable("words", [4, 2], initializer=v1.zeros_initializer())
        init_fn = warm_start.scaffold_init_fn(path, vocabularies={"words": info})
        (value,) = values_after(init_fn, [words])
    np.testing.assert_array_equal(value[:, 0], [3, 9, 1, 9])
    with tf.Graph().as_default():
        words = v1.get_variable("words", [3, 2], initializer=v1.zeros_initializer())
        with pytest.raises(WarmStartError, match="vocabulary of 'word': no such variable"):
            values_after(warm_start.scaffold_init_fn(path, vocabularies={"word": info}), [words])

"""Copies of variables in host memory: right in pieces, whole and by rows, in the same memory each time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.estimator import snapshot as module
from orchestrator.estimator.snapshot import Snapshot

v1 = tf.compat.v1


def variable(shape: list[int], dtype: Any = tf.float32, resource: bool = True) -> Any:
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype.as_numpy_dtype)
    return v1.get_variable("v", initializer=values, dtype=dtype, use_resource=resource)


@pytest.mark.parametrize("resource", [True, False])
@pytest.mark.parametrize("shape", [[1000], [1, 1000], [10, 100], [1000, 1], [7, 3, 50], [], [3]])
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.int64])
def test_the_copy_is_of_one_moment_and_its_memory_is_used_again(
    monkeypatch: pytest.MonkeyPatch, shape: list[int], resource: bool, dtype: Any
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 600)
    with tf.Graph().as_default(), v1.Session() as session:
        present = variable(shape, dtype, resource)
        add = v1.assign_add(present, tf.ones(shape, dtype))
        snapshot = Snapshot([tf.identity(present.read_value() if resource else present)])
        session.run(v1.global_variables_initializer())
        snapshot.open(session)
        expected = session.run(present)
        (first,) = snapshot.take()
        session.run(add)
        np.testing.assert_array_equal(first, expected)
        (second,) = snapshot.take()
        assert second is first
        np.testing.assert_array_equal(second, session.run(present))
        assert not np.array_equal(second, expected)
        assert second.ctypes.data % 64 == 0


def operation_types(graph: tf.Graph) -> set[str]:
    return {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize("columns", [1, 100])
@pytest.mark.parametrize("in_function", [False, True])
def test_rows_are_read_of_variables_that_are_updated_by_rows(
    monkeypatch: pytest.MonkeyPatch, columns: int, in_function: bool
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 500)
    with tf.Graph().as_default() as graph, v1.Session() as session:
        table = variable([1000, columns])

        def change() -> None:
            rows = tf.zeros([2, columns]) - 1.0
            tf.raw_ops.ResourceScatterUpdate(resource=table.handle, indices=[3, 900], updates=rows)

        if in_function:
            tf.function(change)()
        else:
            change()
        kind = "StatefulPartitionedCall" if in_function else "ResourceScatterUpdate"
        update = next(operation for operation in graph.get_operations() if operation.type == kind)
        snapshot = Snapshot([table.read_value()])
        assert "ResourceGather" in operation_types(graph)
        session.run(v1.global_variables_initializer())
        snapshot.open(session)
        session.run(update)
        (copy,) = snapshot.take()
        np.testing.assert_array_equal(copy, session.run(table))
        assert (copy[[3, 900]] == -1.0).all()


def test_rows_of_other_variables_are_not_read_since_their_training_would_get_slower(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 500)
    with tf.Graph().as_default() as graph:
        table = variable([1000, 100])
        tf.function(lambda: table.assign_add(tf.ones([1000, 100])) * 2.0)()
        Snapshot([table.read_value()])
        assert "ResourceGather" not in operation_types(graph)
        assert "Slice" in operation_types(graph)


def test_small_tensors_are_read_together_and_strings_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUP_BYTES", 100)
    with tf.Graph().as_default(), v1.Session() as session:
        numbers = [tf.fill([20], float(n)) for n in range(5)]
        growing = v1.placeholder_with_default(tf.zeros([2]), [None])
        snapshot = Snapshot([*numbers, tf.constant(["a", "bc"]), growing])
        snapshot.open(session)
        values = snapshot.take()
    assert [value[0] for value in values[:5]] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert values[5].tolist() == [b"a", b"bc"]
    assert values[6].shape == (2,)

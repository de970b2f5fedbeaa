"""Tensors that no single message can hold, with small numbers in place of gigabytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator import warm_start
from orchestrator.warm_start import assignment
from orchestrator.warm_start.assignment import slices
from tests.warm_start.test_checkpoint_reader import write_by_name

v1 = tf.compat.v1


@pytest.mark.parametrize("shape", [(7,), (5, 3), (1, 11), (2, 3, 4), (3, 1, 5, 2)])
@pytest.mark.parametrize("limit", [1, 30, 60, 100_000])
def test_slices_are_small_and_together_the_whole(shape: tuple[int, ...], limit: int) -> None:
    value = np.random.RandomState(1).rand(*shape).astype(np.float32)
    rebuilt = np.full(shape, np.nan, np.float32)
    for places, values in slices(value, limit):
        assert len(places) == 1 or places.nbytes + values.nbytes <= limit
        assert places.dtype == np.int64
        rebuilt[tuple(places.T)] = values
    np.testing.assert_array_equal(rebuilt, value)


@pytest.fixture(scope="module")
def target() -> str:
    """A session on it talks to a server, as with parameter servers, and shares its variables by name."""
    target: str = tf.distribute.Server.create_local_server().target
    return target


@pytest.mark.parametrize("use_resource", [True, False])
def test_large_tensors_reach_a_server_in_slices(
    tmp_path: Path, monkeypatch: Any, target: str, use_resource: bool
) -> None:
    monkeypatch.setattr(assignment.assign, "__defaults__", (64,))
    stored = {
        "rows": np.arange(60, dtype=np.float32).reshape(20, 3),
        "wide": np.arange(40, dtype=np.float64).reshape(1, 40),
        "parted": np.arange(80, dtype=np.float32).reshape(40, 2),
        "small": np.ones([4], np.float32),
    }
    path = write_by_name(tmp_path / "a", stored)
    with tf.Graph().as_default() as graph, v1.variable_scope("", use_resource=use_resource):
        read: dict[str, Any] = {}
        for name, value in stored.items():
            parts = v1.fixed_size_partitioner(2) if name == "parted" else None
            variable = v1.get_variable(name, value.shape, tf.as_dtype(value.dtype), partitioner=parts)
            read[name] = tf.identity(variable)
        scaffold = v1.train.Scaffold(init_fn=warm_start.scaffold_init_fn(path))
        scaffold.finalize()
        before = len(graph.get_operations())
        with v1.train.MonitoredSession(v1.train.ChiefSessionCreator(scaffold, master=target)) as session:
            values = session.run(read)
        assert graph.finalized
        cut = 4  # rows, wide, and both parts of the third; three operations each
        assert len(graph.get_operations()) == before + 3 * cut
    for name, value in stored.items():
        np.testing.assert_array_equal(values[name], value)


def test_a_session_of_this_process_takes_any_size_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(assignment.assign, "__defaults__", (4,))
    path = write_by_name(tmp_path / "a", {"rows": np.arange(60, dtype=np.float32).reshape(20, 3)})
    with tf.Graph().as_default() as graph:
        rows = v1.get_variable("rows", [20, 3])
        scaffold = v1.train.Scaffold(init_fn=warm_start.scaffold_init_fn(path))
        scaffold.finalize()
        before = len(graph.get_operations())
        with v1.train.MonitoredSession(v1.train.ChiefSessionCreator(scaffold)) as session:
            assert session.run(rows)[-1, -1] == 59
        assert len(graph.get_operations()) == before

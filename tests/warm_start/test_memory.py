"""How much a warm start reads at a time, and that steps cost what they did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from orchestrator.warm_start import checkpoint_reader
from orchestrator.warm_start.request import WarmStart
from orchestrator.warm_start.scaffold import loader_for_graph
from tests.warm_start.test_checkpoint_reader import write_by_name

v1 = tf.compat.v1


def test_tensors_are_read_one_at_a_time_and_only_those_that_are_loaded(
    tmp_path: Path, monkeypatch: Any
) -> None:
    names = [f"layer_{number}/kernel" for number in range(5)]
    stored = {name: np.full([8], number, np.float32) for number, name in enumerate(names)}
    path = write_by_name(tmp_path / "a", {**stored, "other/Adam": np.zeros([8], np.float32)})
    history: list[tuple[str, str]] = []
    read = checkpoint_reader.OpenCheckpoint.read

    def noted_read(self: Any, tensor: Any) -> Any:
        history.append(("read", tensor.name))
        return read(self, tensor)

    monkeypatch.setattr(checkpoint_reader.OpenCheckpoint, "read", noted_read)
    with tf.Graph().as_default() as graph, v1.Session() as session:
        variables = [v1.get_variable(name, [8]) for name in names]
        initialize = v1.global_variables_initializer()
        graph.finalize()
        session.run(initialize)
        load = loader_for_graph(graph, WarmStart.of(path))
        assert history == []
        run = session.run
        monkeypatch.setattr(
            session, "run", lambda op, feeds=None: (history.append(("set", op.name)), run(op, feeds))[1]
        )
        load(session)
        values = run(variables)
    assert [kind for kind, _ in history] == ["read", "set"] * 5
    assert [name for kind, name in history if kind == "read"] == names
    for number, value in enumerate(values):
        np.testing.assert_array_equal(value, np.full([8], number))

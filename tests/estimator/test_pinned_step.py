"""A checkpoint's name and its global step agree, whatever other tasks do meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from orchestrator.estimator.pinned_step import StepPinnedSaver, saved_step_tensors

v1 = tf.compat.v1


@pytest.mark.parametrize("sharded", [False, True])
def test_the_step_of_the_name_is_written(tmp_path: Path, sharded: bool) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        step = v1.train.create_global_step()
        weight = v1.get_variable("w", initializer=tf.constant([1.0, 2.0]))
        saver = StepPinnedSaver(v1.train.Saver(sharded=sharded))
        session.run([v1.global_variables_initializer()])
        session.run([step.assign(12), weight.assign([3.0, 4.0])])
        prefix = saver.save(session, str(tmp_path / "model.ckpt"), global_step=11)
        assert session.run(step) == 12, "the variable itself is left alone"
    assert prefix.endswith("model.ckpt-11")
    written = tf.train.load_checkpoint(prefix)
    assert written.get_tensor("global_step") == 11
    assert written.get_tensor("w").tolist() == [3.0, 4.0]


def test_a_graph_without_a_step_or_saver_has_nothing_to_hold() -> None:
    with tf.Graph().as_default() as graph:
        assert list(saved_step_tensors(graph)) == []
        v1.train.create_global_step()
        assert list(saved_step_tensors(graph)) == []

"""Lean session runs: the results, errors and random numbers of `Session.run`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.estimator.kept_graph import GraphKeepingSaver, keeping_graph
from orchestrator.estimator.lean_callable import lean_callable

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")


def test_results_come_in_order_and_operations_give_none() -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        fed = v1.placeholder(tf.int32, [])
        text = tf.strings.as_string(fed)
        variable = v1.get_variable("v", initializer=1.5)
        session.run(variable.initializer)
        run = lean_callable(session, [tf.no_op(), fed + 1, text, fed + 1, variable, text], [fed])
        assert run(4) == [None, 5, b"4", 5, 1.5, b"4"]


def test_a_server_s_session_is_run_as_ever() -> None:
    server = tf.distribute.Server.create_local_server()
    with tf.Graph().as_default(), v1.Session(server.target) as session:
        assert lean_callable(session, [tf.constant(3), tf.no_op()])() == [3, None]


def test_the_end_of_the_input_is_told() -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        element = v1.data.make_one_shot_iterator(tf.data.Dataset.range(2)).get_next()
        run = lean_callable(session, [element])
        assert [run(), run()] == [[0], [1]]
        with pytest.raises(tf.errors.OutOfRangeError):
            run()


def test_random_numbers_go_on_from_run_to_run() -> None:
    def drawn(lean: bool) -> list[float]:
        with tf.Graph().as_default(), v1.Session() as session:
            number = tf.random.uniform([], seed=3)
            run = lean_callable(session, [number]) if lean else lambda: session.run([number])
            return [session.run(number), *run(), session.run(number + 0.0), *run()]

    np.testing.assert_array_equal(drawn(lean=True), drawn(lean=False))


def test_each_checkpoint_has_the_graph_of_the_saver(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph, v1.Session() as session:
        session.run(v1.get_variable("v", [2]).initializer)
        saver = v1.train.Saver(sharded=True, max_to_keep=3)
        graph.finalize()
        keeping = keeping_graph(saver)
        assert isinstance(keeping, GraphKeepingSaver)
        for name in ("plain", "kept", "none"):
            (tmp_path / name).mkdir()
        saver.save(session, str(tmp_path / "plain" / "model.ckpt"), global_step=1)
        expected = (tmp_path / "plain" / "model.ckpt-1.meta").read_bytes()
        for step in (1, 2, 3):
            keeping.save(session, str(tmp_path / "kept" / "model.ckpt"), global_step=step)
        keeping.save(session, str(tmp_path / "none" / "model.ckpt"), write_meta_graph=False)
    found = {path.name: path.read_bytes() for path in (tmp_path / "kept").glob("*.meta")}
    assert sorted(found) == ["model.ckpt-2.meta", "model.ckpt-3.meta"]
    assert all(meta_graph(content) == meta_graph(expected) for content in found.values())
    assert not list((tmp_path / "none").glob("*.meta"))


def meta_graph(content: bytes) -> v1.MetaGraphDef:
    return v1.MetaGraphDef.FromString(content)


def test_a_saver_of_another_kind_writes_in_its_own_way() -> None:
    class Own(v1.train.Saver):
        pass

    with tf.Graph().as_default():
        v1.get_variable("v", [2])
        saver = Own()
        assert keeping_graph(saver) is saver

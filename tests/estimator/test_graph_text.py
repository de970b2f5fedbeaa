"""The text of a graph is protobuf's own."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_encoding, text_format

from orchestrator.estimator.graph_text import escaped, graph_text

v1 = tf.compat.v1


def _def_of(graph: tf.Graph) -> v1.GraphDef:
    return graph.as_graph_def(add_shapes=True)


def test_a_training_graph_with_its_optimizer_functions_and_data_reads_the_same() -> None:
    with tf.Graph().as_default() as graph:
        rows = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
        dataset = tf.data.Dataset.from_tensor_slices(rows).map(lambda row: row + 1.0).batch(4)
        features = v1.data.make_initializable_iterator(dataset).get_next()
        kernel = v1.get_variable("kernel", [8, 3])
        loss = tf.reduce_mean(
            tf.cond(tf.reduce_sum(features) > 0, lambda: features @ kernel, lambda: 0.0 * kernel)
        )
        v1.train.AdamOptimizer().minimize(loss)
        names = tf.constant(["plain", 'quoted "twice"', "tab\t", "é"], name="names")
        with tf.device("/cpu:0"), tf.control_dependencies([names]):
            v1.train.Saver()
    graph_def = _def_of(graph)
    assert graph_def.library.function
    assert graph_text(graph_def) == text_format.MessageToString(graph_def)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 1025, 2**20 - 1, 2**20 + 3])
def test_a_constant_of_any_bytes_reads_the_same(size: int) -> None:
    content = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    with tf.Graph().as_default() as graph:
        tf.constant(content, name="bytes")
    assert escaped(content.tobytes()) == text_encoding.CEscape(content.tobytes(), as_utf8=False)
    assert graph_text(_def_of(graph)) == text_format.MessageToString(_def_of(graph))


def test_nodes_with_unusual_words_and_fields_read_the_same() -> None:
    graph_def = v1.GraphDef(version=3)
    graph_def.node.add(name='with "quotes" and é', op="NoOp", device="back\\slash")
    traced = graph_def.node.add(name="traced", op="NoOp", input=["a", "^b", "c:1"])
    traced.experimental_debug_info.original_node_names.append("before")
    traced.attr["list"].list.i.extend([1, 2, 3])
    graph_def.node.add()
    named = graph_def.node.add(name="named", op="PartitionedCall", device="/job:ps/task:1")
    named.attr["f"].func.name = "body"
    named.attr["f"].func.attr["T"].type = 1
    named.attr["large"].s = b"\x00'\"" * 1000
    graph_def.versions.producer = 9
    assert graph_text(graph_def) == text_format.MessageToString(graph_def)


def test_an_empty_graph_has_no_text() -> None:
    assert graph_text(v1.GraphDef()) == ""

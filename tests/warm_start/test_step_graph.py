"""What a warm start leaves in the graph: steps are those of a cold start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator import warm_start
from orchestrator.estimator import Estimator, EstimatorSpec
from orchestrator.warm_start import assignment
from tests.warm_start.test_checkpoint_reader import write_by_name

v1 = tf.compat.v1
LAYERS = 3
SIZE = 40
TENSOR_BYTES = SIZE * SIZE * 4
NODES_FOR_A_VARIABLE = 3


@pytest.fixture
def donor(tmp_path: Path) -> str:
    kernel = np.eye(SIZE, dtype=np.float32)
    values = {f"layer_{number}/kernel": kernel * number for number in range(LAYERS)}
    (tmp_path / "donor").mkdir()
    return write_by_name(tmp_path / "donor" / "model.ckpt", values)


def training(features: Any) -> tuple[Any, Any]:
    """Loss and training operation, named `train`."""
    net = features
    for number in range(LAYERS):
        net = net @ v1.get_variable(f"layer_{number}/kernel", [SIZE, SIZE])
    loss = tf.reduce_mean(tf.square(net))
    step = v1.train.get_or_create_global_step()
    return loss, v1.train.AdamOptimizer().minimize(loss, step, name="train")


class GraphWhenTraining(v1.train.SessionRunHook):
    """The graph as the first step finds it."""

    def __init__(self) -> None:
        self.definition: Any = None

    def before_run(self, run_context: Any) -> None:
        self.definition = self.definition or run_context.session.graph.as_graph_def()


def estimators_graph(place: Path, donor: str | None) -> Any:
    def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        loss, train_op = training(features)
        return EstimatorSpec(mode, loss=loss, train_op=train_op)

    hook = GraphWhenTraining()
    estimator = Estimator(model_fn, place, warm_start_from=donor)
    estimator.train(lambda: tf.data.Dataset.from_tensors(tf.ones([2, SIZE])), hooks=[hook], steps=1)
    return hook.definition


def scaffolds_graph(place: Path, donor: str | None, target: str = "") -> Any:
    hook = GraphWhenTraining()
    with tf.Graph().as_default():
        _, train_op = training(tf.ones([2, SIZE]))
        init_fn = warm_start.scaffold_init_fn(donor) if donor else None
        creator = v1.train.ChiefSessionCreator(v1.train.Scaffold(init_fn=init_fn), master=target)
        with v1.train.MonitoredSession(creator, hooks=[hook]) as session:
            session.run(train_op)
    return hook.definition


def server_graph(place: Path, donor: str | None) -> Any:
    """With every tensor too large for a message."""
    return scaffolds_graph(place, donor, tf.distribute.Server.create_local_server().target)


@pytest.mark.parametrize(
    ("graph_of", "nodes"), [(estimators_graph, 0), (scaffolds_graph, 0), (server_graph, NODES_FOR_A_VARIABLE)]
)
def test_a_warm_start_adds_little_to_the_graph_and_nothing_to_steps(
    tmp_path: Path, donor: str, monkeypatch: Any, graph_of: Any, nodes: int
) -> None:
    monkeypatch.setattr(assignment.assign, "__defaults__", (TENSOR_BYTES // 4,))
    cold, warm = graph_of(tmp_path / "cold", None), graph_of(tmp_path / "warm", donor)
    assert len(warm.node) == len(cold.node) + nodes * LAYERS
    known = {node.name for node in cold.node}
    added = [node for node in warm.node if node.name not in known]
    assert len(added) == nodes * LAYERS
    assert not [node for node in added if node.op == "Const"]
    assert max(node.ByteSize() for node in warm.node) < TENSOR_BYTES
    assert step_of(warm) == step_of(cold)


def step_of(definition: Any) -> list[Any]:
    """All operations of a training step; of the input, whose functions are numbered anew, only the last."""
    step = v1.graph_util.extract_sub_graph(definition, ["train"])
    return [node for node in step.node if "Dataset" not in node.op]

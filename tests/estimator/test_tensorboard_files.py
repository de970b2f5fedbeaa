"""What TensorBoard finds in a model directory: summaries, rates, evaluations, graph, profiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EstimatorSpec, EvalSpec, TrainSpec
from orchestrator.estimator.training_and_evaluation import train_and_evaluate
from orchestrator.hooks.profiler import ProfilerHook
from tests.estimator import linear_model

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")


def values_of(directory: Path, tag: str) -> dict[int, Any]:
    """Steps and values of one tag, from the event files of a directory alone."""
    found: dict[int, Any] = {}
    for path in sorted(directory.glob("events.out.tfevents.*")):
        for event in v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag == tag:
                    found[event.step] = value
    return found


def summarized(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> EstimatorSpec:
    """The linear model with summaries of several kinds."""
    spec = linear_model.model_fn(features, labels, mode, params)
    if mode == "train":
        v1.summary.scalar("double_loss", 2.0 * spec.loss)
        v1.summary.histogram("weights", v1.trainable_variables()[0])
        v1.summary.text("note", tf.constant("hello"))
        v1.summary.image("picture", tf.reshape(features[:1], [1, 2, 2, 1]))
    return spec


def summarized_input() -> Any:
    """An input_fn that reports on its batches."""
    features, labels = v1.data.make_one_shot_iterator(linear_model.training_input()).get_next()
    v1.summary.scalar("mean_feature", tf.reduce_mean(features))
    return features, labels


def test_summaries_of_model_fn_and_input_fn_are_written(tmp_path: Path) -> None:
    config = RunConfig(save_summary_steps=10)
    Estimator(summarized, tmp_path, config, params={}).train(summarized_input, steps=25)
    steps = [1, 11, 21]
    loss, double = values_of(tmp_path, "loss"), values_of(tmp_path, "double_loss")
    assert list(loss) == list(double) == steps
    for step in steps:
        assert double[step].simple_value == pytest.approx(2 * loss[step].simple_value)
    means = values_of(tmp_path, "mean_feature")
    first, _ = linear_model.examples()
    assert list(means) == steps
    assert means[1].simple_value == pytest.approx(float(np.mean(first[:8])), rel=1e-5)
    assert [values_of(tmp_path, "weights")[step].HasField("histo") for step in steps] == [True] * 3
    assert list(values_of(tmp_path, "note")) == steps
    assert list(values_of(tmp_path, "picture/image/0")) == steps


def test_the_rate_of_steps_is_written_with_its_period(tmp_path: Path) -> None:
    config = RunConfig(log_step_count_steps=10)
    Estimator(summarized, tmp_path, config, params={}).train(linear_model.training_input, steps=35)
    rates = values_of(tmp_path, "global_step/sec")
    assert list(rates) == [11, 21, 31]
    assert all(value.simple_value > 0 for value in rates.values())


def test_each_named_evaluation_has_a_directory_of_its_own(tmp_path: Path) -> None:
    config = RunConfig(save_checkpoints_steps=10)
    sets = {
        "held_out": linear_model.evaluation_input,
        "other": lambda: linear_model.evaluation_input().take(2),
    }
    train_and_evaluate(
        Estimator(summarized, tmp_path, config, params={}),
        TrainSpec(linear_model.training_input, max_steps=20),
        EvalSpec(sets, steps=None, start_delay_secs=0, throttle_secs=0),
    )
    for name, rows in (("held_out", 44), ("other", 16)):
        counted = values_of(tmp_path / f"eval_{name}", "rows")
        assert {step: value.simple_value for step, value in counted.items()} == {10: rows, 20: rows}
        assert list(values_of(tmp_path / f"eval_{name}", "loss")) == [10, 20]
        paths = values_of(tmp_path / f"eval_{name}", "checkpoint_path")
        assert tf.make_ndarray(paths[20].tensor).item().decode().endswith("model.ckpt-20")


def test_the_graph_is_there_and_its_nodes_can_be_read(tmp_path: Path) -> None:
    Estimator(summarized, tmp_path, RunConfig(), params={}).train(linear_model.training_input, steps=1)
    (path,) = tmp_path.glob("events.out.tfevents.*")
    graphs = [event.graph_def for event in v1.train.summary_iterator(str(path)) if event.graph_def]
    assert graphs
    nodes = {node.name for node in v1.GraphDef.FromString(graphs[-1]).node}
    assert {"kernel", "global_step", "double_loss"} <= nodes
    text = v1.GraphDef()
    from google.protobuf import text_format

    text_format.Parse((tmp_path / "graph.pbtxt").read_text(), text)
    assert {node.name for node in text.node} == nodes


def test_tensorboards_own_reader_reads_all_of_it(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = RunConfig(save_summary_steps=5, log_step_count_steps=5)
    profiler = ProfilerHook(save_steps=7, output_dir=tmp_path)
    Estimator(summarized, tmp_path, config, params={}).train(
        linear_model.training_input, steps=20, hooks=[profiler]
    )
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    tags = events.Tags()
    assert {"loss", "double_loss", "global_step/sec"} <= set(tags["scalars"])
    assert tags["histograms"] == ["weights"]
    assert tags["graph"]
    assert events.Graph().node
    assert tags["run_metadata"]
    assert events.RunMetadata(tags["run_metadata"][0]).step_stats.dev_stats


@pytest.mark.parametrize("steps_per_loop", [1, 5])
def test_a_profile_is_a_valid_trace_of_the_step_it_names(tmp_path: Path, steps_per_loop: int) -> None:
    profiler = ProfilerHook(save_steps=10, output_dir=tmp_path / "profile", show_memory=True)
    config = RunConfig(steps_per_loop=steps_per_loop)
    Estimator(summarized, tmp_path, config, params={}).train(
        linear_model.training_input, steps=25, hooks=[profiler]
    )
    files = list((tmp_path / "profile").glob("timeline-*.json"))
    steps = sorted(int(path.stem.partition("-")[2]) for path in files)
    assert len(steps) == 2
    # TensorFlow's hook reads the step beside the update: each period may end a step early or late
    assert steps == pytest.approx([11, 21], abs=3)
    for path in files:
        trace = json.loads(path.read_text())["traceEvents"]
        names = {event["args"].get("op") for event in trace if event["ph"] == "X"}
        assert names & {"MatMul", "_MklMatMul", "_FusedMatMul", "_MklFusedMatMul"}, names
        assert all(event["ts"] >= 0 and event["dur"] >= 0 for event in trace if event["ph"] == "X")


class Tracing(v1.train.SessionRunHook):
    """A user's own way to a trace."""

    def __init__(self) -> None:
        self.operations = 0

    def before_run(self, run_context: Any) -> Any:
        options = v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE)
        return v1.train.SessionRunArgs(None, options=options)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        devices = run_values.run_metadata.step_stats.dev_stats
        self.operations = sum(len(device.node_stats) for device in devices)


def test_a_users_hook_that_traces_gets_its_numbers(tmp_path: Path) -> None:
    hooks = [Tracing(), Tracing()]
    estimator = Estimator(summarized, tmp_path, RunConfig(), params={})
    estimator.train(linear_model.training_input, steps=2, hooks=hooks[:1])
    estimator.evaluate(linear_model.evaluation_input, hooks=hooks[1:])
    assert all(hook.operations > 5 for hook in hooks)

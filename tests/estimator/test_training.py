"""Training in one process: steps, files, hooks, stops and resumption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument, InvalidType
from orchestrator.estimator import stop_request
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EstimatorSpec
from tests.estimator import linear_model

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")


def estimator(model_dir: Path, model_fn: Any = linear_model.model_fn, **config: Any) -> Estimator:
    return Estimator(model_fn, model_dir, RunConfig(tf_random_seed=1, **config), params={})


def step_of(trained: Estimator) -> int:
    return int(trained.get_variable_value("global_step"))


def kernel_of(trained: Estimator) -> np.ndarray:
    return trained.get_variable_value("kernel")


def events(directory: Path, tag: str) -> list[int]:
    """Steps at which a summary was written."""
    found = []
    for path in sorted(directory.glob("events.out.tfevents.*")):
        for event in v1.train.summary_iterator(str(path)):
            found += [event.step for value in event.summary.value if value.tag == tag]
    return found


class SessionCounter(v1.train.SessionRunHook):
    """Counts the runs it sees and can stop or fail at one of them."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.runs = 0
        self.ends = 0
        self._stop_at = stop_at

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self.runs += 1
        if self.runs == self._stop_at:
            run_context.request_stop()

    def end(self, session: Any) -> None:
        self.ends += 1


def test_steps_count_from_now_and_max_steps_in_total(tmp_path: Path) -> None:
    trained = estimator(tmp_path)
    trained.train(linear_model.training_input, steps=7)
    trained.train(linear_model.training_input, steps=7)
    assert step_of(trained) == 14
    trained.train(linear_model.training_input, max_steps=20)
    assert step_of(trained) == 20
    hook = SessionCounter()
    trained.train(linear_model.training_input, max_steps=20, hooks=[hook])
    assert (step_of(trained), hook.runs) == (20, 0)


def test_training_in_parts_gives_the_weights_of_training_at_once(tmp_path: Path) -> None:
    once = estimator(tmp_path / "once").train(linear_model.training_input, steps=16)
    parts = estimator(tmp_path / "parts")
    for _ in range(2):  # 8 batches are one epoch: each part begins at the first row again
        parts.train(linear_model.training_input, steps=8)
    np.testing.assert_array_equal(kernel_of(once), kernel_of(parts))


def test_the_same_seed_gives_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    def drawing(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        kernel = v1.get_variable("kernel", [4, 1])
        loss = v1.losses.mean_squared_error(labels, tf.matmul(tf.nn.dropout(features, rate=0.3), kernel))
        train_op = v1.train.AdamOptimizer(0.1).minimize(loss, v1.train.get_global_step())
        return EstimatorSpec(mode, loss=loss, train_op=train_op)

    runs = [
        Estimator(drawing, tmp_path / str(n), RunConfig(tf_random_seed=7)).train(
            linear_model.training_input, steps=12
        )
        for n in range(2)
    ]
    np.testing.assert_array_equal(kernel_of(runs[0]), kernel_of(runs[1]))


def test_the_files_are_those_of_tensorflow(tmp_path: Path) -> None:
    estimator(tmp_path, save_checkpoints_steps=10, keep_checkpoint_max=3).train(
        linear_model.training_input, steps=35
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert {"checkpoint", "graph.pbtxt"} <= names
    assert {n for n in names if n.endswith(".index")} == {f"model.ckpt-{n}.index" for n in (20, 30, 35)}
    for ending in (".meta", ".data-00000-of-00001"):
        assert f"model.ckpt-35{ending}" in names
    state = tf.train.get_checkpoint_state(str(tmp_path))
    assert 'model_checkpoint_path: "model.ckpt-35"' in (tmp_path / "checkpoint").read_text()
    assert [Path(p).name for p in state.all_model_checkpoint_paths] == [
        f"model.ckpt-{n}" for n in (20, 30, 35)
    ]


def test_summaries_are_written_at_the_original_steps(tmp_path: Path) -> None:
    estimator(tmp_path, save_summary_steps=10, log_step_count_steps=15).train(
        linear_model.training_input, steps=40
    )
    assert events(tmp_path, "loss") == [1, 11, 21, 31]
    assert events(tmp_path, "global_step/sec") == [16, 31]


def test_no_summaries_and_no_checkpoints_where_none_are_wanted(tmp_path: Path) -> None:
    nothing = {"save_summary_steps": None, "save_checkpoints_steps": None, "save_checkpoints_secs": None}
    estimator(tmp_path, **nothing).train(linear_model.training_input, steps=3)
    assert not list(tmp_path.glob("model.ckpt*"))
    assert events(tmp_path, "loss") == []


def test_a_bad_loss_ends_training_before_it_is_saved(tmp_path: Path) -> None:
    def diverging(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        step = v1.train.get_or_create_global_step()
        loss = tf.where(step >= 25, np.float32("nan"), 1.0)
        with tf.control_dependencies([loss]):
            return EstimatorSpec(mode, loss=loss, train_op=step.assign_add(1))

    broken = Estimator(diverging, tmp_path, RunConfig(save_checkpoints_steps=10))
    hook = SessionCounter()
    with pytest.raises(v1.train.NanLossDuringTrainingError):
        broken.train(linear_model.training_input, steps=100, hooks=[hook])
    assert step_of(broken) == 20
    with pytest.raises(v1.train.NanLossDuringTrainingError):
        broken.train(linear_model.training_input, steps=100)
    assert step_of(broken) == 20
    assert hook.ends == 0


def test_a_hook_that_looks_at_runs_sees_every_one(tmp_path: Path) -> None:
    hook = SessionCounter()
    estimator(tmp_path).train(linear_model.training_input, steps=23, hooks=[hook])
    assert (hook.runs, hook.ends) == (23, 1)


def test_a_hook_can_stop_training(tmp_path: Path) -> None:
    trained = estimator(tmp_path).train(linear_model.training_input, hooks=[SessionCounter(stop_at=5)])
    assert step_of(trained) == 5


def test_training_ends_with_its_input_and_saves(tmp_path: Path) -> None:
    hook = SessionCounter()
    trained = estimator(tmp_path).train(linear_model.evaluation_input, hooks=[hook])
    assert (step_of(trained), hook.ends) == (6, 1)
    trained.train(linear_model.evaluation_input)
    assert step_of(trained) == 12


def test_a_request_ends_training_at_a_step_boundary_with_a_checkpoint(tmp_path: Path) -> None:
    request = stop_request.current()

    class Asking(v1.train.SessionRunHook):
        def after_run(self, run_context: Any, run_values: Any) -> None:
            if int(run_context.session.run(v1.train.get_global_step())) == 9:
                request.set()

    try:
        trained = estimator(tmp_path).train(linear_model.training_input, max_steps=1000, hooks=[Asking()])
        assert step_of(trained) == 9
    finally:
        request.clear()


class Listener(v1.train.CheckpointSaverListener):
    """Notes what the saver tells it."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.calls: list[tuple[str, int]] = []
        self._stop_after = stop_after

    def begin(self) -> None:
        self.calls.append(("begin", 0))

    def before_save(self, session: Any, global_step_value: int) -> None:
        self.calls.append(("before", int(global_step_value)))

    def after_save(self, session: Any, global_step_value: int) -> bool:
        self.calls.append(("after", int(global_step_value)))
        return int(global_step_value) == self._stop_after

    def end(self, session: Any, global_step_value: int) -> None:
        self.calls.append(("end", int(global_step_value)))


def test_listeners_hear_of_every_checkpoint(tmp_path: Path) -> None:
    listener = Listener()
    estimator(tmp_path, save_checkpoints_steps=4).train(
        linear_model.training_input, steps=6, saving_listeners=[listener]
    )
    saves = [(what, step) for step in (0, 4, 6) for what in ("before", "after")]
    assert listener.calls == [("begin", 0), *saves, ("end", 6)]


def test_a_listener_can_stop_training(tmp_path: Path) -> None:
    trained = estimator(tmp_path, save_checkpoints_steps=4).train(
        linear_model.training_input, steps=100, saving_listeners=[Listener(stop_after=8)]
    )
    assert step_of(trained) == 8


def test_listeners_go_to_a_saver_that_the_user_brings(tmp_path: Path) -> None:
    listener = Listener()
    saver = v1.train.CheckpointSaverHook(str(tmp_path), save_steps=5)
    estimator(tmp_path, save_checkpoints_steps=2).train(
        linear_model.training_input, steps=10, hooks=[saver], saving_listeners=[listener]
    )
    assert [step for what, step in listener.calls if what == "after"] == [0, 5, 10]


def test_listeners_need_a_saver(tmp_path: Path) -> None:
    without = estimator(tmp_path, save_checkpoints_steps=None, save_checkpoints_secs=None)
    with pytest.raises(InvalidArgument, match="There should be a CheckpointSaverHook"):
        without.train(linear_model.training_input, steps=1, saving_listeners=[Listener()])


def test_the_whole_scaffold_is_honoured(tmp_path: Path) -> None:
    seen: list[str] = []

    def scaffolded(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        spec = linear_model.model_fn(features, labels, mode, {})
        marker = v1.get_variable("marker", [], initializer=v1.zeros_initializer(), trainable=False)
        local = v1.get_variable(
            "local", [], initializer=v1.zeros_initializer(), collections=[v1.GraphKeys.LOCAL_VARIABLES]
        )

        def init_fn(scaffold: Any, session: Any) -> None:
            seen.append("init_fn")
            marker.load(float(session.run(marker)) + 1.0, session)

        with tf.control_dependencies([v1.local_variables_initializer()]):
            set_local = local.assign(5.0)
        fed = v1.placeholder(tf.float32, [])
        with tf.control_dependencies([v1.global_variables_initializer()]):
            set_fed = v1.get_variable("fed", [], trainable=False).assign(fed)
        scaffold = v1.train.Scaffold(
            init_op=set_fed,
            init_feed_dict={fed: 3.0},
            init_fn=init_fn,
            local_init_op=set_local,
            saver=v1.train.Saver(max_to_keep=1),
        )
        checked = v1.Assert(tf.equal(local.read_value(), 5.0), [local.read_value()])
        return spec._replace(scaffold=scaffold, train_op=tf.group(spec.train_op, checked))

    trained = estimator(tmp_path, scaffolded_fn(scaffolded), save_checkpoints_steps=2)
    trained.train(linear_model.training_input, steps=5)
    trained.train(linear_model.training_input, steps=5)
    assert seen == ["init_fn"], "init_fn runs once, and never over a restored checkpoint"
    assert trained.get_variable_value("marker") == 1.0
    assert trained.get_variable_value("fed") == 3.0
    assert len(list(tmp_path.glob("*.index"))) == 1


def scaffolded_fn(model_fn: Any) -> Any:
    """A model_fn that takes params, as `estimator` gives them."""
    return lambda features, labels, mode, params: model_fn(features, labels, mode)


def test_hooks_of_the_spec_run_in_training(tmp_path: Path) -> None:
    plain, chief = SessionCounter(), SessionCounter()

    def hooked(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        spec = linear_model.model_fn(features, labels, mode, {})
        return spec._replace(training_hooks=[plain], training_chief_hooks=[chief])

    Estimator(hooked, tmp_path).train(linear_model.training_input, steps=3)
    assert (plain.runs, chief.runs) == (3, 3)


def test_warm_start_once_and_never_over_a_resumed_checkpoint(tmp_path: Path) -> None:
    donor = estimator(tmp_path / "donor").train(linear_model.training_input, steps=50)
    frozen = {"learning_rate": 0.0}
    taker = Estimator(
        linear_model.model_fn, tmp_path / "taker", params=frozen, warm_start_from=donor.model_dir
    )
    taker.train(linear_model.training_input, steps=2)
    np.testing.assert_array_equal(kernel_of(taker), kernel_of(donor))
    assert step_of(taker) == 2
    donor.train(linear_model.training_input, steps=50)
    before = kernel_of(taker)
    taker.train(linear_model.training_input, steps=2)
    np.testing.assert_array_equal(kernel_of(taker), before)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"steps": 1, "max_steps": 2}, InvalidArgument, "both steps and max_steps"),
        ({"steps": 0}, InvalidArgument, "steps > 0"),
        ({"max_steps": -1}, InvalidArgument, "max_steps > 0"),
        ({"steps": 1, "hooks": ["hook"]}, InvalidType, "SessionRunHook"),
        ({"steps": 1, "saving_listeners": ["listener"]}, InvalidType, "CheckpointSaverListener"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, arguments: Any, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        estimator(tmp_path).train(linear_model.training_input, **arguments)


def test_an_input_fn_with_strange_arguments_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="batch_size"):
        estimator(tmp_path).train(lambda batch_size: None, steps=1)
    with pytest.raises(InvalidType, match="input_fn must be callable"):
        estimator(tmp_path).train(linear_model.training_input(), steps=1)
    with pytest.raises(InvalidArgument, match="returned None"):
        estimator(tmp_path).train(lambda: None, steps=1)

"""Evaluation: every kind of input counts the same examples each time, on a graph that is built once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator import evaluation
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig
from tests.estimator import linear_model

v1 = tf.compat.v1
pytestmark = pytest.mark.xdist_group("estimator")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Estimator:
    config = RunConfig(save_checkpoints_steps=10, keep_checkpoint_max=10, tf_random_seed=3)
    model_dir = tmp_path_factory.mktemp("model")
    return Estimator(linear_model.model_fn, model_dir, config, params={}).train(
        linear_model.training_input, steps=30
    )


def _tensors(rows: int = 44) -> tuple[Any, Any]:
    features, labels = linear_model.examples(rows, seed=1)
    return tf.constant(features), tf.constant(labels)


def plain() -> tf.data.Dataset:
    return linear_model.evaluation_input()


def shuffled() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(linear_model.examples(44, seed=1)).shuffle(44, seed=5).batch(8)


def shuffled_without_seed() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(linear_model.examples(44, seed=1)).shuffle(44).batch(8)


def augmented() -> tf.data.Dataset:
    noise = lambda x, y: (x + tf.random.normal(tf.shape(x), seed=4), y)  # noqa: E731
    return linear_model.evaluation_input().map(noise)


def generated() -> tf.data.Dataset:
    features, labels = linear_model.examples(44, seed=1)
    signature = (tf.TensorSpec([4], tf.float32), tf.TensorSpec([1], tf.float32))
    rows = lambda: zip(features, labels, strict=True)  # noqa: E731
    return tf.data.Dataset.from_generator(rows, output_signature=signature).batch(8)


def one_shot() -> Any:
    return v1.data.make_one_shot_iterator(linear_model.evaluation_input()).get_next()


def one_shot_iterator() -> Any:
    return v1.data.make_one_shot_iterator(linear_model.evaluation_input())


def own_iterator() -> Any:
    iterator = v1.data.make_initializable_iterator(linear_model.evaluation_input())
    v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
    return iterator.get_next()


def queued() -> Any:
    features, labels = _tensors()
    feature, label = v1.train.slice_input_producer([features, labels], num_epochs=1, shuffle=False)
    return v1.train.batch([feature, label], 8, allow_smaller_final_batch=True)


def constant() -> Any:
    return _tensors(8)


def random_tensors() -> Any:
    features = tf.random.normal([8, 4], seed=7)
    return features, tf.reduce_sum(features, 1, keepdims=True)


INPUTS = [plain, shuffled, augmented, generated, one_shot, one_shot_iterator, own_iterator, queued]


@pytest.mark.parametrize("input_fn", INPUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("steps", [None, 3])
def test_each_evaluation_of_a_kept_graph_equals_one_on_a_graph_of_its_own(
    trained: Estimator, input_fn: Callable[[], Any], steps: int | None
) -> None:
    checkpoints = tf.train.get_checkpoint_state(trained.model_dir).all_model_checkpoint_paths[-3:]
    alone = [trained.evaluate(input_fn, steps, checkpoint_path=path) for path in checkpoints]
    with evaluation.kept_open():
        kept = [trained.evaluate(input_fn, steps, checkpoint_path=path) for path in checkpoints]
    assert [m["rows"] for m in alone] == [24 if steps else 44] * 3
    assert kept == alone
    assert [m["global_step"] for m in kept] == [10, 20, 30]


@pytest.mark.parametrize("input_fn", [constant, random_tensors], ids=lambda f: f.__name__)
def test_tensors_that_never_end_are_evaluated_for_so_many_steps(
    trained: Estimator, input_fn: Callable[[], Any]
) -> None:
    alone = [trained.evaluate(input_fn, steps=2) for _ in range(3)]
    with evaluation.kept_open():
        kept = [trained.evaluate(input_fn, steps=2) for _ in range(3)]
    assert kept == alone
    assert kept[0]["rows"] == 16


def test_shuffling_without_a_seed_loses_no_example(trained: Estimator) -> None:
    with evaluation.kept_open():
        results = [trained.evaluate(shuffled_without_seed) for _ in range(3)]
    assert [m["rows"] for m in results] == [44] * 3
    np.testing.assert_allclose([m["mae"] for m in results], results[0]["mae"], rtol=1e-5)


class Recorder(v1.train.SessionRunHook):
    """Notes what is called on it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.sessions: list[Any] = []

    def begin(self) -> None:
        self.calls.append("begin")

    def after_create_session(self, session: Any, coord: Any) -> None:
        self.calls.append("after_create_session")
        self.sessions.append(session)

    def before_run(self, run_context: Any) -> None:
        self.calls.append("before_run")

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self.calls.append("after_run")

    def end(self, session: Any) -> None:
        self.calls.append("end")


def test_hooks_see_each_evaluation_whole_and_one_session_serves_all(trained: Estimator) -> None:
    hook = Recorder()
    with evaluation.kept_open():
        for _ in range(3):
            trained.evaluate(plain, steps=2, hooks=[hook])
    once = ["begin", "after_create_session", *["before_run", "after_run"] * 2, "end"]
    assert hook.calls == once * 3
    assert hook.sessions[0] is hook.sessions[1] is hook.sessions[2]


class GraphChanger(v1.train.SessionRunHook):
    """Adds an operation in `begin`, as FinalOps-like hooks of users do."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def begin(self) -> None:
        self._doubled = 2.0 * v1.get_default_graph().get_tensor_by_name("mean_absolute_error/value:0")

    def end(self, session: Any) -> None:
        self.values.append(float(session.run(self._doubled)))


def test_a_hook_that_adds_operations_gets_a_new_graph_each_time(trained: Estimator) -> None:
    hook = GraphChanger()
    with evaluation.kept_open():
        results = [trained.evaluate(plain, hooks=[hook]) for _ in range(3)]
    assert len(hook.values) == 3
    np.testing.assert_allclose(hook.values, [2 * m["mae"] for m in results], rtol=1e-6)


def test_the_graph_is_built_once_while_kept_open(tmp_path: Path) -> None:
    calls: list[str] = []

    def counting(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> Any:
        calls.append(mode)
        return linear_model.model_fn(features, labels, mode, params)

    estimator = Estimator(counting, tmp_path, params={}).train(linear_model.training_input, steps=1)
    with evaluation.kept_open():
        for _ in range(3):
            estimator.evaluate(plain)
    assert calls == ["train", "eval"]


def short() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(linear_model.examples(20, seed=9)).batch(5)


def test_several_inputs_share_one_graph_and_one_loading_of_the_checkpoint(
    trained: Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored: list[str] = []
    restore = v1.train.Saver.restore

    def counting(self: Any, session: Any, path: str) -> None:
        restored.append(path)
        restore(self, session, path)

    monkeypatch.setattr(v1.train.Saver, "restore", counting)
    checkpoints = tf.train.get_checkpoint_state(trained.model_dir).all_model_checkpoint_paths[-2:]
    inputs = {"long": plain, "short": short}
    alone = [
        trained.evaluate(f, checkpoint_path=path, name=n) for path in checkpoints for n, f in inputs.items()
    ]
    restored.clear()
    with evaluation.kept_open([plain, short]):
        shared = [
            trained.evaluate(f, checkpoint_path=path, name=n)
            for path in checkpoints
            for n, f in inputs.items()
        ]
    assert shared == alone
    assert [m["rows"] for m in shared] == [44, 20, 44, 20]
    assert restored == list(checkpoints)


def test_inputs_that_differ_in_structure_get_graphs_of_their_own(trained: Estimator) -> None:
    with evaluation.kept_open([plain, one_shot]):
        results = [trained.evaluate(input_fn) for input_fn in (plain, one_shot, plain)]
    assert [m["rows"] for m in results] == [44] * 3


def test_metrics_are_written_where_tensorboard_looks(trained: Estimator) -> None:
    trained.evaluate(plain, name="held_out")
    trained.evaluate(plain)
    for directory in ("eval_held_out", "eval"):
        (events,) = Path(trained.model_dir, directory).glob("events.out.tfevents.*")
        tags = {v.tag for e in v1.train.summary_iterator(str(events)) for v in e.summary.value}
        assert tags >= {"loss", "mae", "checkpoint_path"}


def test_without_a_checkpoint_fresh_weights_are_evaluated(tmp_path: Path) -> None:
    metrics = Estimator(linear_model.model_fn, tmp_path, params={}).evaluate(plain)
    assert metrics["global_step"] == 0
    assert metrics["rows"] == 44


@pytest.mark.parametrize("name", ["loss", "global_step"])
def test_a_metric_may_not_take_a_reserved_name(tmp_path: Path, name: str) -> None:
    def renaming(features: Any, labels: Any, mode: str) -> Any:
        spec = linear_model.model_fn(features, labels, mode, {})
        return spec._replace(eval_metric_ops={name: v1.metrics.mean(spec.loss)})

    with pytest.raises(InvalidArgument, match=name):
        Estimator(renaming, tmp_path).evaluate(plain)


def test_the_number_of_steps_must_be_positive(trained: Estimator) -> None:
    with pytest.raises(InvalidArgument, match="steps > 0"):
        trained.evaluate(plain, steps=0)

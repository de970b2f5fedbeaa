"""Graphs for training, evaluation and prediction on one device, and what every kind has in common."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.in_graph_loop import InGraphLoop, Repetition, StepRecorder
from orchestrator.estimator.input_source import InputSource, read_input, read_inputs
from orchestrator.estimator.loss_summary import LOSS, add_loss_summary
from orchestrator.estimator.model import Model
from orchestrator.estimator.modes import ModeKeys
from orchestrator.estimator.placement import is_on_own_cpus

v1 = tf.compat.v1
GLOBAL_STEP = v1.GraphKeys.GLOBAL_STEP


@contextlib.contextmanager
def entered(graph: tf.Graph, strategy: Any = None, device_fn: Any = None) -> Iterator[None]:
    """Makes `graph` the default one, in the strategy's scope or with the device function."""
    with graph.as_default(), strategy.scope() if strategy is not None else graph.device(device_fn):
        yield


@dataclass
class TrainingGraph:
    """A graph that trains; its tensors are those of one run of one step."""

    graph: tf.Graph
    train_op: Any
    loss: tf.Tensor
    step: tf.Tensor
    """The global step after `train_op` of the same run."""
    read_step: tf.Tensor
    """The global step as it is."""
    scaffold: v1.train.Scaffold
    input: InputSource
    training_hooks: list[Any] = field(default_factory=list)
    training_chief_hooks: list[Any] = field(default_factory=list)
    strategy: Any = None
    device_fn: Any = None
    repetition: Repetition | None = None
    """What is needed to build the step again in a loop, where that can be done at all."""
    loop: InGraphLoop | None = None
    votes: Any = None
    """The Agreement of tasks that step together (see `agreement.py`), else None."""

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """Makes this the default graph, as it was while it was built."""
        return entered(self.graph, self.strategy, self.device_fn)

    def results(self) -> list[tf.Operation]:
        """What a step runs, alone or in a loop."""
        looped = [self.loop.step.op] if self.loop is not None else []
        return [self.step.op, self.loss.op, *looped]


@dataclass
class EvaluationGraph:
    """A graph that evaluates: run `update` for each batch, then fetch `metrics` once."""

    graph: tf.Graph
    update: Any
    metrics: dict[str, Any]
    scaffold: v1.train.Scaffold
    input: InputSource
    evaluation_hooks: list[Any] = field(default_factory=list)
    strategy: Any = None
    inputs: list[InputSource] = field(default_factory=list)
    """Every input that can feed this graph, where there are several; `input` is the first."""

    def input_of(self, input_fn: Any) -> InputSource:
        """The source that was made from `input_fn`."""
        return next((source for source in self.inputs if source.input_fn is input_fn), self.input)

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """Makes this the default graph, as it was while it was built."""
        return entered(self.graph, self.strategy)

    def results(self) -> list[tf.Operation]:
        """What an evaluation runs."""
        return [self.update, *(value.op for value in tf.nest.flatten(self.metrics))]


@dataclass
class PredictionGraph:
    """A graph that predicts."""

    graph: tf.Graph
    predictions: Any
    scaffold: v1.train.Scaffold
    input: InputSource
    prediction_hooks: list[Any] = field(default_factory=list)

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """Makes this the default graph, as it was while it was built."""
        return entered(self.graph)


def start_graph(model: Model) -> Any:
    """Seeds the default graph and gives it a global step, which it returns."""
    v1.random.set_random_seed(model.config.tf_random_seed)
    global_step = model.create_global_step(tf.compat.v1.get_default_graph())
    if global_step is not v1.train.get_global_step() or not global_step.dtype.is_integer:
        raise InvalidArgument("the global step must be an integer variable in the GLOBAL_STEP collection.")
    return global_step


def step_after(train_op: Any, read_step: Callable[[], tf.Tensor]) -> tf.Tensor:
    """The global step as it is once `train_op` of the same run is done."""
    with tf.control_dependencies([train_op]):
        return tf.identity(read_step(), name="step_after_training")


def add_default_saver(scaffold: v1.train.Scaffold, config: Any) -> None:
    """Adds the saver that RunConfig describes, where neither scaffold nor graph has one."""
    if scaffold.saver or v1.get_collection(v1.GraphKeys.SAVERS):
        return
    saver = v1.train.Saver(
        sharded=True,
        max_to_keep=config.keep_checkpoint_max,
        keep_checkpoint_every_n_hours=config.keep_checkpoint_every_n_hours,
        defer_build=True,
        save_relative_paths=True,
    )
    v1.add_to_collection(v1.GraphKeys.SAVERS, saver)


def build_training_graph(model: Model, input_fn: Callable[..., Any], device_fn: Any) -> TrainingGraph:
    """Builds the training graph of one device, or of one task beside parameter servers."""
    graph = tf.Graph()
    with entered(graph, device_fn=device_fn):
        start_graph(model)
        in_place = is_on_own_cpus(model.config.master)
        source = read_input(model.call_input_fn(input_fn, ModeKeys.TRAIN), input_fn, in_place)
        recorder = StepRecorder()
        with recorder.recording():
            spec = model.call_model_fn(source.features, source.labels, ModeKeys.TRAIN)
        global_step = v1.train.get_global_step(graph)
        add_loss_summary(spec.loss)
        add_default_saver(spec.scaffold, model.config)
        return TrainingGraph(
            graph,
            train_op=spec.train_op,
            loss=spec.loss,
            step=step_after(spec.train_op, global_step.read_value),
            read_step=tf.identity(global_step.read_value()),
            scaffold=spec.scaffold,
            input=source,
            training_hooks=list(spec.training_hooks or ()),
            training_chief_hooks=list(spec.training_chief_hooks or ()),
            device_fn=device_fn,
            repetition=_repetition(model, source, recorder, global_step),
        )


def _repetition(
    model: Model, source: InputSource, recorder: StepRecorder, global_step: Any
) -> Repetition | None:
    def build(element: Any) -> tuple[Any, tf.Tensor]:
        spec = model.call_model_fn(*source.split(element), ModeKeys.TRAIN)
        return spec.train_op, spec.loss

    if source.next_element is None:
        return None
    return Repetition(recorder, build, source.next_element, global_step.read_value)


def build_evaluation_graph(
    model: Model,
    input_fns: Sequence[Callable[..., Any]],
) -> EvaluationGraph:
    """Builds the evaluation graph of one device; NotShareable where several inputs cannot feed it."""
    graph = tf.Graph()
    with entered(graph):
        start_graph(model)
        results = [model.call_input_fn(input_fn, ModeKeys.EVAL) for input_fn in input_fns]
        if len(input_fns) == 1:
            in_place = is_on_own_cpus(model.config.evaluation_master)
            sources = [read_input(results[0], input_fns[0], in_place)]
        else:
            sources = read_inputs(results, input_fns)
        spec = model.call_model_fn(sources[0].features, sources[0].labels, ModeKeys.EVAL)
        pairs = with_loss_metric(spec.eval_metric_ops, lambda: v1.metrics.mean(spec.loss))
        update, values = split_metrics(pairs, lambda op: op)
        values[GLOBAL_STEP] = v1.train.get_global_step(graph)
        return EvaluationGraph(
            graph,
            update=update,
            metrics=values,
            scaffold=evaluation_scaffold(spec.scaffold),
            input=sources[0],
            inputs=sources,
            evaluation_hooks=list(spec.evaluation_hooks or ()),
        )


def build_prediction_graph(
    model: Model,
    input_fn: Callable[..., Any],
    predict_keys: Any = None,
) -> PredictionGraph:
    """Builds the prediction graph; of `(features, labels)` only the features are used."""
    graph = tf.Graph()
    with entered(graph):
        start_graph(model)
        source = read_input(model.call_input_fn(input_fn, ModeKeys.PREDICT), input_fn)
        spec = model.call_model_fn(source.features, None, ModeKeys.PREDICT)
        return PredictionGraph(
            graph,
            predictions=select_predictions(spec.predictions, predict_keys),
            scaffold=spec.scaffold,
            input=source,
            prediction_hooks=list(spec.prediction_hooks or ()),
        )


def with_loss_metric(eval_metric_ops: dict[str, Any], loss_metric: Callable[[], Any]) -> dict[str, Any]:
    """The metrics of a spec and the mean loss; raises InvalidArgument where a name is taken."""
    for reserved, quoted in ((LOSS, f'"{LOSS}"'), (GLOBAL_STEP, f"`{GLOBAL_STEP}`")):
        if reserved in eval_metric_ops:
            raise InvalidArgument(
                f"Metric with name {quoted} is not allowed, because Estimator already defines a default"
                " metric with the same name. Rename it in the eval_metric_ops of model_fn."
            )
    return {**eval_metric_ops, LOSS: loss_metric()}


def split_metrics(pairs: dict[str, Any], group: Callable[[Any], Any]) -> tuple[Any, dict[str, Any]]:
    """One operation that updates all metrics, and the value tensors by name."""
    ordered = sorted(pairs.items())  # the same graph every time
    update = tf.group(*[group(pair[1]) for _, pair in ordered])
    return update, {name: pair[0] for name, pair in ordered}


def evaluation_scaffold(scaffold: v1.train.Scaffold | None) -> v1.train.Scaffold:
    """The scaffold, with a local init operation that covers the metrics' variables too."""
    if scaffold is None or scaffold.local_init_op is None:
        return scaffold or v1.train.Scaffold()
    both = tf.group(scaffold.local_init_op, v1.train.Scaffold.default_local_init_op())
    return v1.train.Scaffold(local_init_op=both, copy_from_scaffold=scaffold)


def select_predictions(predictions: Any, predict_keys: Any) -> Any:
    """The predictions named by `predict_keys`; all of them where that is None."""
    if not predict_keys:
        return predictions
    if not isinstance(predictions, dict):
        raise InvalidArgument("predict_keys argument is not valid in case of non-dict predictions.")
    wanted = [predict_keys] if isinstance(predict_keys, str) else list(predict_keys)
    chosen = {key: value for key, value in predictions.items() if key in wanted}
    if not chosen:
        raise InvalidArgument(
            f"Expected to run at least one output from {sorted(predictions)}, provided {wanted}."
        )
    return chosen

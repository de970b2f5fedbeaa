"""Graphs for training and evaluation on the replicas of a `tf.distribute.Strategy`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from orchestrator.estimator import python_seed
from orchestrator.estimator.agreement import Agreement
from orchestrator.estimator.graph import (
    GLOBAL_STEP,
    EvaluationGraph,
    TrainingGraph,
    add_default_saver,
    add_loss_summary,
    entered,
    evaluation_scaffold,
    split_metrics,
    start_graph,
    step_after,
    with_loss_metric,
)
from orchestrator.estimator.host_iterator import read_on_host
from orchestrator.estimator.in_graph_loop import Repetition, StepRecorder
from orchestrator.estimator.input_source import (
    InputSource,
    IteratorInitializerHook,
    dataset_for_replicas,
    read_iterator,
)
from orchestrator.estimator.model import Model
from orchestrator.estimator.modes import ModeKeys
from orchestrator.estimator.strategies import crosses_processes

v1 = tf.compat.v1
_STEP_READ_COLLECTION = "global_step_read_op_cache"  # where TensorFlow's own hooks look for it


def build_replicated_training_graph(
    model: Model,
    input_fn: Callable[..., Any],
    strategy: Any,
) -> TrainingGraph:
    """Builds one training step on every replica of `strategy` in this process.

    Losses and gradients follow the documented rule: a mean loss counts with
    one over the number of replicas, a summed loss (reduction SUM) as it is.
    """
    graph = tf.Graph()
    # Version 1 optimizers divide the loss by the number of replicas only in this context.
    with strategy._scale_loss_for_estimator_enabled(), entered(graph, strategy):
        global_step = start_graph(model)  # first, as the seed is for the input too
        source = _distributed_input(model, input_fn, ModeKeys.TRAIN, strategy)
        read_step = strategy.extended.read_var(global_step)
        v1.add_to_collection(_STEP_READ_COLLECTION, read_step)
        recorder = StepRecorder()
        with recorder.recording():
            spec = _call_on_replicas(model, (source.features, source.labels), ModeKeys.TRAIN, strategy)
        train_op, loss = _step_of(spec, strategy)
        scaffold = combine_scaffolds(spec.scaffold, strategy)
        add_loss_summary(loss)
        add_default_saver(scaffold, model.config)
        votes = Agreement.build(strategy) if crosses_processes(strategy) else None
        return TrainingGraph(
            graph,
            train_op=train_op,
            loss=loss,
            step=step_after(train_op, lambda: strategy.extended.read_var(global_step)),
            read_step=read_step,
            scaffold=scaffold,
            input=source,
            training_hooks=_of_first_replica(spec.training_hooks, strategy),
            training_chief_hooks=_of_first_replica(spec.training_chief_hooks, strategy),
            strategy=strategy,
            repetition=_repetition(model, source, recorder, lambda: strategy.extended.read_var(global_step)),
            votes=votes,
        )


def _step_of(spec: Any, strategy: Any) -> tuple[Any, tf.Tensor]:
    """The one train_op and the one loss of all replicas."""
    loss = strategy.reduce(_loss_reduction(v1.get_default_graph()), spec.loss, axis=None)
    return strategy.group(spec.train_op), loss


def _repetition(
    model: Model, source: InputSource, recorder: StepRecorder, read_step: Callable[[], tf.Tensor]
) -> Repetition:
    strategy = model.config.train_distribute

    def build(element: Any) -> tuple[Any, tf.Tensor]:
        with strategy._scale_loss_for_estimator_enabled():
            spec = _call_on_replicas(model, source.split(element), ModeKeys.TRAIN, strategy)
            return _step_of(spec, strategy)

    return Repetition(recorder, build, source.next_element, read_step)


def build_replicated_evaluation_graph(
    model: Model,
    input_fn: Callable[..., Any],
    strategy: Any,
) -> EvaluationGraph:
    """Builds one evaluation step on every replica; metrics are combined over replicas.

    A step takes one batch for each replica. Batches that are left at the end,
    fewer than there are replicas, are not counted: a replica without a batch
    would have to report a loss of no examples.
    """
    graph = tf.Graph()
    with entered(graph, strategy):
        start_graph(model)
        source = _distributed_input(model, input_fn, ModeKeys.EVAL, strategy)
        batch = _all_or_none((source.features, source.labels), strategy)
        spec = _call_on_replicas(model, batch, ModeKeys.EVAL, strategy)
        on_replicas = strategy.extended.call_for_each_replica
        pairs = with_loss_metric(
            spec.eval_metric_ops, lambda: on_replicas(v1.metrics.mean, args=(spec.loss,))
        )
        update, values = split_metrics(pairs, strategy.group)
        values[GLOBAL_STEP] = v1.train.get_global_step(graph)
        return EvaluationGraph(
            graph,
            update=update,
            metrics=values,
            scaffold=evaluation_scaffold(combine_scaffolds(spec.scaffold, strategy)),
            input=source,
            evaluation_hooks=_of_first_replica(spec.evaluation_hooks, strategy),
            strategy=strategy,
        )


def _distributed_input(model: Model, input_fn: Callable[..., Any], mode: str, strategy: Any) -> InputSource:
    if mode == ModeKeys.TRAIN and model.config.save_input_state:
        return read_on_host(model, input_fn, mode, strategy)

    def call(context: Any) -> Any:
        return dataset_for_replicas(model.call_input_fn(input_fn, mode, context), input_fn)

    iterator = strategy.make_input_fn_iterator(call)
    return read_iterator(iterator, [IteratorInitializerHook(iterator.initializer)], input_fn)


def _all_or_none(batch: Any, strategy: Any) -> Any:
    """The batch, which flows on no replica before it is there for all.

    Otherwise metrics would count batches of a last, incomplete group, or not,
    as replicas happen to run before the one that finds the input at its end.
    """
    parts = tf.nest.map_structure(strategy.experimental_local_results, tf.nest.flatten(batch))
    tensors = tf.nest.flatten(parts, expand_composites=True)

    def on_replica(mine: Any) -> Any:
        with tf.control_dependencies([tensor for tensor in tensors if tensor is not None]):
            return tf.nest.map_structure(
                lambda tensor: None if tensor is None else tf.identity(tensor), mine, expand_composites=True
            )

    return strategy.extended.call_for_each_replica(on_replica, args=(batch,))


def _call_on_replicas(model: Model, batch: tuple[Any, Any], mode: str, strategy: Any) -> Any:
    with python_seed.seeded(model.config.tf_random_seed):
        return strategy.extended.call_for_each_replica(model.call_model_fn, args=(*batch, mode))


def _of_first_replica(hooks: Any, strategy: Any) -> list[Any]:
    return [strategy.experimental_local_results(hook)[0] for hook in hooks or ()]


def _loss_reduction(graph: tf.Graph) -> Any:
    """How the reported loss is put together: as the gradients were."""
    if getattr(graph, "_is_loss_scaled_by_optimizer", False):
        return v1.distribute.get_loss_reduction()
    return tf.distribute.ReduceOp.SUM


def combine_scaffolds(scaffold: Any, strategy: Any) -> v1.train.Scaffold:
    """One scaffold of those that `model_fn` returned on the replicas.

    Operations are grouped, readiness reports joined; `init_fn`, feeds and
    saver are taken from the first replica, since they work on whole variables.
    """
    scaffolds = strategy.experimental_local_results(scaffold)

    def grouped(name: str) -> Any:
        operations = [getattr(s, name) for s in scaffolds if getattr(s, name) is not None]
        return strategy.group(operations) if operations else None

    def first(name: str) -> Any:
        return next((getattr(s, name) for s in scaffolds if getattr(s, name) is not None), None)

    def joined(function: Callable[[v1.train.Scaffold], Any]) -> Any:
        reports = strategy.extended.call_for_each_replica(function, args=(scaffold,))
        if reports is None:
            return None
        parts = tf.nest.flatten(strategy.experimental_local_results(reports))
        return parts[0] if len(parts) == 1 else tf.concat(parts, 0)

    return v1.train.Scaffold(
        init_op=grouped("init_op"),
        init_feed_dict=first("init_feed_dict"),
        init_fn=first("_user_init_fn"),
        ready_op=joined(lambda s: s.ready_op),
        ready_for_local_init_op=joined(_ready_for_local_init),
        local_init_op=grouped("local_init_op"),
        summary_op=first("summary_op"),
        saver=first("saver"),
    )


def _ready_for_local_init(scaffold: v1.train.Scaffold) -> Any:
    if scaffold.ready_for_local_init_op is not None:
        return scaffold.ready_for_local_init_op
    return v1.train.Scaffold.get_or_default(
        "ready_for_local_init_op",
        v1.GraphKeys.READY_FOR_LOCAL_INIT_OP,
        lambda: v1.report_uninitialized_variables(v1.global_variables()),
    )

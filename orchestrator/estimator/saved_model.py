"""Export: a SavedModel from a checkpoint, for one mode or several."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import tensorflow as tf
from tensorflow.python.checkpoint import graph_view  # nothing public freezes a Checkpoint

from orchestrator.cluster.records import Phase
from orchestrator.errors import InvalidArgument, InvalidType, NotTrained
from orchestrator.estimator import checkpoints
from orchestrator.estimator.export.outputs import EvalOutput, TrainOutput, serving_outputs
from orchestrator.estimator.graph import start_graph
from orchestrator.estimator.model import Model
from orchestrator.estimator.modes import ModeKeys
from orchestrator.estimator.progress import reporter_of
from orchestrator.estimator.serving_signatures import build_signatures
from orchestrator.estimator.signatures import describe
from orchestrator.estimator.specs import EstimatorSpec
from orchestrator.estimator.strategies import session_config_for
from orchestrator.estimator.warm_starting import plan_warm_start
from orchestrator.exporters.receiver import check_receiver_fn

v1 = tf.compat.v1

# Variables are saved with the first of these: only the training graph has all that a checkpoint holds.
_MODES = (ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.PREDICT)
_TAGS = {ModeKeys.TRAIN: ["train"], ModeKeys.EVAL: ["eval"], ModeKeys.PREDICT: [tf.saved_model.SERVING]}
_NAME_ATTEMPTS = 10


@dataclass(frozen=True)
class ExportRequest:
    """What one call of `export_saved_model` asks for."""

    export_dir_base: Any
    receiver_fns: Mapping[str, Callable[[], Any]]
    """Functions that return input receivers, by mode."""
    assets_extra: Mapping[str, str] | None = None
    as_text: bool = False
    strip_default_attrs: bool = True


def export(model: Model, request: ExportRequest, checkpoint_path: str | None) -> bytes:
    """Writes a SavedModel into a new directory below `export_dir_base`, named after the time in seconds.

    The directory appears complete or not at all. Returns its path, as bytes like
    the original. Raises NotTrained without a checkpoint, InvalidArgument
    without a receiver function or where the checkpoint lacks variables.
    """
    modes = [mode for mode in _MODES if request.receiver_fns.get(mode)]
    if not modes:
        raise InvalidArgument(f"No valid modes for exporting found. Got {list(request.receiver_fns)}.")
    for mode in modes:
        check_receiver_fn(request.receiver_fns[mode], "Estimator.export_saved_model")
    checkpoint = checkpoint_path or _checkpoint(model)
    with reporter_of(model.config.task_environment).during(Phase.EXPORTING):
        final = _new_directory(request.export_dir_base)
        temporary = os.path.join(os.path.dirname(final), f"temp-{os.path.basename(final)}")
        try:
            _write(model, request, modes, checkpoint, temporary)
            tf.io.gfile.rename(temporary, final)
        except BaseException:
            if tf.io.gfile.exists(temporary):
                tf.io.gfile.rmtree(temporary)
            raise
        return os.fsencode(final)


def _write(
    model: Model, request: ExportRequest, modes: list[str], checkpoint: str | None, export_dir: str
) -> None:
    builder = v1.saved_model.Builder(export_dir)
    for mode in modes:
        with tf.Graph().as_default():
            graph = _build(model, mode, request.receiver_fns[mode])
            add = partial(
                builder.add_meta_graph_and_variables if mode == modes[0] else _without_session(builder),
                strip_default_attrs=request.strip_default_attrs,
            )
            _add(builder, graph, model, checkpoint, add)
    builder.save(request.as_text)
    _copy_assets(export_dir, request.assets_extra or {})


def _checkpoint(model: Model) -> str | None:
    """The newest checkpoint; None where the weights to warm-start from are to be exported."""
    newest = checkpoints.newest(model.model_dir)
    if newest is not None or model.warm_start is not None:
        return newest
    raise NotTrained(f"Couldn't find trained model at {model.model_dir}.")


def _new_directory(export_dir_base: Any) -> str:
    if not isinstance(export_dir_base, (str, bytes, os.PathLike)):
        raise InvalidType(f"export_dir_base must be a string or a path, given: {export_dir_base!r}.")
    base = os.fsdecode(export_dir_base)
    for _ in range(_NAME_ATTEMPTS):
        path = os.path.join(base, str(int(time.time())))
        if not tf.io.gfile.exists(path):
            return path
        time.sleep(1)  # names are whole seconds: TensorFlow Serving takes the largest number
    raise InvalidArgument(f"export_dir_base {base} has no free directory name: something else exports there.")


@dataclass(frozen=True)
class _ExportGraph:
    spec: EstimatorSpec
    signatures: dict[str, Any]


def _build(model: Model, mode: str, receiver_fn: Callable[[], Any]) -> _ExportGraph:
    start_graph(model)
    receiver = receiver_fn()
    if not hasattr(receiver, "features") or not hasattr(receiver, "receiver_tensors"):
        raise InvalidArgument(
            f"serving_input_receiver_fn {describe(receiver_fn)} must return a ServingInputReceiver;"
            f" it returned {type(receiver).__name__}."
        )
    spec = model.call_model_fn(receiver.features, getattr(receiver, "labels", None), mode)
    signatures = build_signatures(
        receiver.receiver_tensors,
        _outputs(spec),
        getattr(receiver, "receiver_tensors_alternatives", None),
        serving=mode == ModeKeys.PREDICT,
    )
    return _ExportGraph(spec, signatures)


def _add(
    builder: Any, graph: _ExportGraph, model: Model, checkpoint: str | None, add: Callable[..., None]
) -> None:
    """Adds one graph by calling `add`, a method of the builder."""
    scaffold, mode = graph.spec.scaffold, graph.spec.mode
    with v1.Session(config=session_config_for(model.config, None)) as session:
        local_init = scaffold.local_init_op
        if local_init is None:
            local_init = v1.train.Scaffold.default_local_init_op()
        saver = _saver_of(scaffold)
        if checkpoint is None:
            session.run(v1.global_variables_initializer())
            load = plan_warm_start(model.warm_start)
            if load is not None:
                load(session)
        else:
            _restore(saver, session, checkpoint, mode)
        builder._add_train_op(graph.spec.train_op)  # the public interface has no argument for it
        add(
            session,
            tags=_TAGS[mode],
            signature_def_map=graph.signatures,
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=local_init,
            saver=saver,
        )


def _saver_of(scaffold: v1.train.Scaffold) -> v1.train.Saver:
    """The saver of checkpoint and SavedModel; a `tf.train.Checkpoint` becomes one by its objects."""
    if not isinstance(scaffold.saver, tf.train.Checkpoint):
        return scaffold.saver or v1.train.Saver(sharded=True)
    objects = graph_view.ObjectGraphView(scaffold.saver).frozen_saveable_objects()
    return v1.train.Saver(var_list=objects, sharded=True)


def _without_session(builder: Any) -> Callable[..., None]:
    return lambda session, **arguments: builder.add_meta_graph(**arguments)


def _outputs(spec: EstimatorSpec) -> dict[str, Any]:
    if spec.mode == ModeKeys.PREDICT:
        return serving_outputs(spec.export_outputs, spec.predictions)
    kind, key = (TrainOutput, "train") if spec.mode == ModeKeys.TRAIN else (EvalOutput, "eval")
    return {key: kind(loss=spec.loss, predictions=spec.predictions, metrics=spec.eval_metric_ops)}


def _restore(saver: Any, session: v1.Session, checkpoint: str, mode: str) -> None:
    try:
        saver.restore(session, checkpoint)
    except (tf.errors.NotFoundError, ValueError) as error:
        raise InvalidArgument(
            "Could not load all requested variables from checkpoint. Please make sure your model_fn does not"
            f" expect variables that were not saved in the checkpoint.\n\nMode `{mode}`, {checkpoint}:"
            f" {error}"
        ) from error


def _copy_assets(export_dir: str, assets_extra: Mapping[str, str]) -> None:
    for relative, source in assets_extra.items():
        target = os.path.join(export_dir, "assets.extra", os.fsdecode(relative))
        tf.io.gfile.makedirs(os.path.dirname(target))
        tf.io.gfile.copy(os.fsdecode(source), target)

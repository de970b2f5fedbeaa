"""The input pipeline's position, saved beside each checkpoint: a resumed run goes on with the next example.

One file a task, `model.ckpt-STEP.input-INDEX-of-TASKS`, written before its
checkpoint is and removed after it. It holds the state of the tf.data iterator,
with what shuffling and prefetching have buffered.
"""

from __future__ import annotations

import os
import re
from typing import Any

import tensorflow as tf

from orchestrator.errors import CheckpointError, InvalidArgument
from orchestrator.estimator.checkpoint_writer import write_whole
from orchestrator.estimator.input_source import InputSource
from orchestrator.estimator.logger import log
from orchestrator.estimator.position import Position
from orchestrator.estimator.signatures import describe
from orchestrator.estimator.strategies import crosses_processes

v1 = tf.compat.v1
_SETTING = "RunConfig(save_input_state=True)"
_FILE = re.compile(r"-(\d+)\.input-\d+-of-\d+$")
_STATEFUL = re.compile(r"^(\w+) is stateful", re.MULTILINE)


def check_tasks(config: Any) -> None:
    """Raises InvalidArgument where a checkpoint has no step that all tasks have reached together."""
    strategy = config.train_distribute
    if config.num_ps_replicas or (config.num_worker_replicas > 1 and not crosses_processes(strategy)):
        raise InvalidArgument(
            f"{_SETTING}: beside asynchronous parameter servers each task is at a step of its own, so"
            " no position of the inputs belongs to a checkpoint. Leave save_input_state out, or train with"
            " MultiWorkerMirroredStrategy."
        )


class PositionFiles:
    """Where the positions of one task's input are kept."""

    def __init__(self, checkpoint_path: str, index: int, tasks: int) -> None:
        self._checkpoint_path = checkpoint_path
        self._ending = f".input-{index:05d}-of-{tasks:05d}"

    @staticmethod
    def of(config: Any, checkpoint_path: str) -> PositionFiles:
        """The files of this process; `checkpoint_path` is a checkpoint's name without `-STEP`."""
        return PositionFiles(checkpoint_path, config.global_id_in_cluster or 0, config.num_worker_replicas)

    def path(self, step: int) -> str:
        """The file that belongs to the checkpoint of that global step."""
        return f"{self._checkpoint_path}-{step}{self._ending}"

    def write(self, step: int, state: bytes) -> None:
        """Writes the file, complete or not at all."""
        path = self.path(step)
        tf.io.gfile.makedirs(os.path.dirname(path))
        write_whole(path, state)

    def read(self, step: int) -> bytes | None:
        """What was written for that step; None where there is no such file."""
        try:
            with tf.io.gfile.GFile(self.path(step), "rb") as stream:
                return stream.read()
        except tf.errors.NotFoundError:
            return None

    def remove_orphans(self, newest_step: int) -> None:
        """Removes all tasks' files of checkpoints that are gone, up to the newest complete one's step."""
        for path in tf.io.gfile.glob(f"{self._checkpoint_path}-*.input-*"):
            found = _FILE.search(path.removesuffix(".unfinished"))
            if found is None or int(found[1]) >= newest_step:
                continue
            if not tf.io.gfile.exists(f"{self._checkpoint_path}-{found[1]}.index"):
                tf.io.gfile.remove(path)


class InputPosition(v1.train.SessionRunHook):
    """Puts the input where it was when the checkpoint was written that training starts from.

    Runs after the hook that starts the input. An input that had come to its
    end starts again. Raises InvalidArgument, before the first step, for an
    input whose state cannot be saved.
    """

    def __init__(self, source: InputSource, files: PositionFiles, position: Position) -> None:
        if source.iterator is None:
            tensor = next(t for t in tf.nest.flatten(source.features) if isinstance(t, tf.Tensor))
            raise InvalidArgument(
                f"{_SETTING}: input_fn returned tensors ('{tensor.op.name}', a {tensor.op.type}), whose"
                " position cannot be saved. Return a tf.data.Dataset."
            )
        self._source = source
        self._files = files
        self._position = position

    def begin(self) -> None:
        iterator = self._source.iterator
        resource = iterator._iterator_resource
        with v1.colocate_with(resource):
            state = tf.raw_ops.SerializeIterator(
                resource_handle=resource,
                external_state_policy=tf.data.experimental.ExternalStatePolicy.FAIL.value,
            )
            self._state = tf.io.serialize_tensor(state)
            self._given = v1.placeholder(tf.string, [], name="input_position")
            self._restore = tf.raw_ops.DeserializeIterator(
                resource_handle=resource, serialized=tf.io.parse_tensor(self._given, tf.variant)
            )
            self._has_more = tf.data.experimental.get_next_as_optional(iterator).has_value()

    def after_create_session(self, session: v1.Session, coord: Any) -> None:
        self.state(session)
        step = self._position.step
        saved = self._files.read(step)
        if saved is not None:
            self._go_to(session, saved, step)
        elif step > 0:
            log.warning(
                "%s: there is no %s, so the input starts at its beginning.", _SETTING, self._files.path(step)
            )

    def state(self, session: v1.Session) -> bytes:
        """The input's present position; raises InvalidArgument where it has none that can be saved."""
        try:
            return bytes(session.run(self._state))
        except tf.errors.FailedPreconditionError as error:
            raise InvalidArgument(
                f"{_SETTING}: the input of {describe(self._source.input_fn)} cannot be saved:"
                f" {self._reason(error)}. Draw random numbers with the stateless operations of"
                " TensorFlow, and let no Python code run in the pipeline."
            ) from error

    def _reason(self, error: tf.errors.OpError) -> str:
        found = _STATEFUL.search(str(error.message))
        if found is None:
            return str(error.message).splitlines()[0]
        names = _operations_of_type(self._state.graph, found[1])
        return f"the operation {', '.join(names) or found[1]} ({found[1]}) keeps a state of its own"

    def _go_to(self, session: v1.Session, saved: bytes, step: int) -> None:
        try:
            session.run(self._restore, {self._given: saved})
            if session.run(self._has_more):  # which took an element away
                session.run(self._restore, {self._given: saved})
                return
        except tf.errors.OpError as error:
            raise CheckpointError(
                f"{_SETTING}: {self._files.path(step)} does not fit the input of"
                f" {describe(self._source.input_fn)}, which is another one than was saved. Remove the file"
                " to start the input at its beginning."
            ) from error
        log.info("The input had come to its end at step %d and starts again.", step)
        for hook in self._source.hooks:
            hook.after_create_session(session, None)


def _operations_of_type(graph: tf.Graph, wanted: str) -> list[str]:
    """Names of the operations of one type in the functions of the input pipeline."""
    library = graph.as_graph_def().library.function
    return [
        f"'{node.name}' of {function.signature.name}"
        for function in library
        for node in function.node_def
        if node.op == wanted
    ]


class PositionSaving(v1.train.CheckpointSaverListener):
    """Writes the position before each checkpoint; on the chief, removes those whose checkpoint is gone."""

    def __init__(self, input_position: InputPosition, files: PositionFiles, cleans_up: bool) -> None:
        self._input_position = input_position
        self._files = files
        self._cleans_up = cleans_up

    def before_save(self, session: v1.Session, global_step_value: int) -> None:
        self._files.write(int(global_step_value), self._input_position.state(session))

    def after_save(self, session: v1.Session, global_step_value: int) -> None:
        if self._cleans_up:
            self._files.remove_orphans(int(global_step_value))

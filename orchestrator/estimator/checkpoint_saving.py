"""The hook that writes checkpoints."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from orchestrator.cluster.records import TaskEnvironment
from orchestrator.estimator import checkpoints
from orchestrator.estimator.checkpoint_writer import write_whole
from orchestrator.estimator.graph_text import graph_text
from orchestrator.estimator.kept_graph import keeping_graph
from orchestrator.estimator.pinned_step import StepPinnedSaver
from orchestrator.estimator.position import Position, SleepingHook
from orchestrator.estimator.triggers import NEVER, Trigger, Wake

v1 = tf.compat.v1
Pause = Callable[[int], contextlib.AbstractContextManager[Any]]


class CheckpointSaver(v1.train.CheckpointSaverHook, SleepingHook):
    """Saves when the session is created, periodically and at the end; tells its listeners.

    The files are TensorFlow's own (`checkpoint`, `graph.pbtxt`, `model.ckpt-N.*`
    and the graph in the event file). `while_saving`, given the step, is entered around each save.
    `others_step` says that the global step moves on while this task saves.
    """

    def __init__(
        self,
        position: Position,
        checkpoint_dir: str,
        *,
        scaffold: v1.train.Scaffold,
        trigger: Trigger,
        listeners: list[Any],
        save_graph_def: bool = True,
        while_saving: Pause = contextlib.nullcontext,
        others_step: bool = False,
    ) -> None:
        super().__init__(
            checkpoint_dir,
            save_steps=1,
            scaffold=scaffold,
            listeners=listeners,
            save_graph_def=save_graph_def,
        )
        self._writes_graph = save_graph_def
        self._position = position
        self._trigger = trigger
        self.while_saving = while_saving
        self._others_step = others_step
        self._faster_saver: Any = None

    def wake(self) -> Wake:
        return self._trigger.wake()

    def after_create_session(self, session: v1.Session, coord: Any) -> None:
        remove_unfinished(self._save_path)
        checkpoints.recover_kept(super()._get_saver(), self._checkpoint_dir)
        step = int(session.run(self._global_step_tensor))
        if self._writes_graph:
            self._write_graph(session.graph)
        self._save(session, step)
        self._trigger.fire(self._position.step, self._position.clock())

    def _write_graph(self, graph: tf.Graph) -> None:
        """`graph.pbtxt`, and the graph in the event file."""
        graph_def = graph.as_graph_def(add_shapes=True)
        write_whole(os.path.join(self._checkpoint_dir, "graph.pbtxt"), graph_text(graph_def).encode())
        self._summary_writer.add_graph(graph)
        with graph.as_default():
            self._summary_writer.add_meta_graph(
                v1.train.export_meta_graph(graph_def=graph_def, saver_def=self._get_saver().saver_def)
            )

    def before_run(self, run_context: Any) -> Any:
        return None

    def after_run(self, run_context: Any, run_values: Any) -> None:
        step, now = self._position.step, self._position.clock()
        if self._is_due(step, now):
            self._trigger.fire(step, now)
            if self._save(run_context.session, step):
                run_context.request_stop()
            self._trigger.fire(step, self._position.clock())

    def _is_due(self, step: int, now: float) -> bool:
        return self._trigger.due(step, now)

    def end(self, session: v1.Session) -> None:
        step = int(session.run(self._global_step_tensor))
        if step != self._trigger.last_step:
            self._save(session, step)
        for listener in self._listeners:
            listener.end(session, step)

    def _get_saver(self) -> Any:
        saver = super()._get_saver()
        if self._faster_saver is None:
            self._faster_saver = keeping_graph(saver)
        return StepPinnedSaver(self._faster_saver) if self._others_step else self._faster_saver

    def _save(self, session: v1.Session, step: int) -> bool:
        with self.while_saving(step):
            return bool(super()._save(session, step))


class AgreedCheckpointSaver(CheckpointSaver):
    """For tasks that step together: all save at the same step, since saving may run collectives.

    A period in seconds is the chief's: when it is over, the chief votes for a
    checkpoint and all save at the step that shows the vote. Tasks other than
    the chief write into a scratch directory that is removed at the end.
    """

    def __init__(self, *args: Any, scratch: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._scratch = scratch

    def wake(self) -> Wake:
        by_chief = self._trigger.seconds is not None and self._scratch
        return NEVER if by_chief else super().wake()

    def wants_save(self) -> bool:
        """Whether this task votes for a checkpoint now."""
        by_time = self._trigger.seconds is not None and not self._scratch
        return by_time and self._trigger.due(self._position.step + 1, self._position.clock())

    def _is_due(self, step: int, now: float) -> bool:
        return self._position.ballot.save or (
            self._trigger.steps is not None and self._trigger.due(step, now)
        )

    def end(self, session: v1.Session) -> None:
        super().end(session)
        if self._scratch:
            v1.summary.FileWriterCache.get(self._checkpoint_dir).close()
            shutil.rmtree(self._checkpoint_dir, ignore_errors=True)


def remove_unfinished(save_path: str) -> None:
    """Removes what a killed process had begun to write."""
    for ending in (".data-*.tempstate*", ".index.tempstate*", ".meta.unfinished"):
        for path in tf.io.gfile.glob(f"{save_path}-*{ending}"):
            tf.io.gfile.remove(path)
    for path in tf.io.gfile.glob(f"{save_path}-*_temp"):  # parts of what several tasks write
        tf.io.gfile.rmtree(path)


def scratch_directory(environment: TaskEnvironment | None) -> str:
    """Where a task writes what only the chief's model directory is to keep.

    Under the launcher it lies in the run directory, so that a task that is
    killed leaves nothing elsewhere; what an earlier start left is removed.
    """
    if environment is None:
        made = tempfile.mkdtemp(prefix="orchestrator-scratch-")
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        return made
    place = environment.records.directory / "scratch"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    return str(place)

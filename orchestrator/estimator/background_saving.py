"""Checkpoint savers that let training go on while the files are written."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from orchestrator.estimator.checkpoint_saving import AgreedCheckpointSaver, CheckpointSaver
from orchestrator.estimator.checkpoint_writer import CheckpointWriter
from orchestrator.estimator.logger import log
from orchestrator.estimator.triggers import Wake, earliest

v1 = tf.compat.v1
POLL_SECONDS = 0.1


class BackgroundCheckpointSaver(CheckpointSaver):
    """Copies the variables at the step, writes the copy in a thread.

    Listeners hear `before_save` at the step and `after_save` when the
    checkpoint is complete, a few steps later. The last checkpoint is complete
    when training ends.
    """

    _writer: CheckpointWriter
    _pending: int | None = None

    def begin(self) -> None:
        super().begin()
        saver = self._scaffold.saver or v1.get_collection(v1.GraphKeys.SAVERS)[0]
        saver.build()
        self._writer = CheckpointWriter(saver)

    def after_create_session(self, session: v1.Session, coord: Any) -> None:
        self._pending = None
        self._writer.open(session)
        super().after_create_session(session, coord)

    def wake(self) -> Wake:
        due = super().wake()
        if self._pending is None:
            return due
        return earliest([due, Wake(time=self._position.clock() + POLL_SECONDS)])

    def after_run(self, run_context: Any, run_values: Any) -> None:
        written = self._pending is not None and not self._writer.is_writing
        if written and self._complete(run_context.session):
            run_context.request_stop()
        super().after_run(run_context, run_values)

    def end(self, session: v1.Session) -> None:
        step = int(session.run(self._global_step_tensor))
        if step != self._trigger.last_step:
            self._save(session, step)
        self._complete(session)
        self._trigger.fire(step, self._position.clock())
        super().end(session)

    def _save(self, session: v1.Session, step: int) -> bool:
        stop = self._complete(session)
        for listener in self._listeners:
            listener.before_save(session, step)
        log.info("Saving checkpoints for %d into %s, beside training.", step, self._save_path)
        self._writer.start(session, self._save_path, step, self._save_graph_def)
        self._pending = step
        return stop

    def _complete(self, session: v1.Session) -> bool:
        """Waits for the checkpoint and tells the listeners; returns whether one wants to stop."""
        step, self._pending = self._pending, None
        if step is None:
            return False
        with self._while_saving(step):
            self._writer.wait()
        self._summary_writer.add_session_log(
            v1.SessionLog(status=v1.SessionLog.CHECKPOINT, checkpoint_path=self._save_path), step
        )
        answers = [listener.after_save(session, step) for listener in self._listeners]
        return any(answers)


class AgreedBackgroundCheckpointSaver(BackgroundCheckpointSaver, AgreedCheckpointSaver):
    """The same for tasks that step together: all copy at the same step."""

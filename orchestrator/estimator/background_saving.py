"""Checkpoint savers that let training go on while the files are written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

from orchestrator.estimator.checkpoint_saving import AgreedCheckpointSaver, CheckpointSaver
from orchestrator.estimator.checkpoint_writer import CheckpointWriter, SavedTensors
from orchestrator.estimator.logger import log
from orchestrator.estimator.triggers import Wake, earliest

v1 = tf.compat.v1
POLL_SECONDS = 0.05


class BackgroundCheckpointSaver(CheckpointSaver):
    """Copies the variables at the step, writes the copy in a thread.

    Listeners hear `before_save` at the step and `after_save` when the
    checkpoint is complete, a few steps later; only then, old checkpoints are
    removed. A failed write is raised at the next step. A checkpoint that is
    due while another is being written waits for it, and training waits too.
    The last checkpoint is complete when training ends.

    Where variables are on parameter servers, or the Saver is not one whose
    write can be taken over, it saves as its base class does, and says so.
    """

    _writer: CheckpointWriter | None = None
    _pending: int | None = None
    _said_that_it_waits = False

    def begin(self) -> None:
        super().begin()
        saver = self._scaffold.saver or v1.get_collection(v1.GraphKeys.SAVERS)[0]
        saved = SavedTensors([], [], [])
        if isinstance(saver, v1.train.Saver):
            saver.build()
            saved = SavedTensors.of(saver, v1.get_default_graph())
        reason = reason_against(saved)
        if reason is not None:
            log.warning("save_checkpoints_async: training waits for each checkpoint, since %s.", reason)
            return
        self._writer = CheckpointWriter(saver, saved)

    def after_create_session(self, session: v1.Session, coord: Any) -> None:
        if self._writer is not None:
            self._complete(session)
            self._writer.open(session)
        super().after_create_session(session, coord)

    def wake(self) -> Wake:
        due = super().wake()
        if self._pending is None:
            return due
        return earliest([due, Wake(time=self._position.clock() + POLL_SECONDS)])

    def after_run(self, run_context: Any, run_values: Any) -> None:
        written = self._pending is not None and not self._is_writing()
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

    def close(self) -> None:
        """Lets the write that is under way end, also after training has failed."""
        if self._writer is not None:
            self._writer.close()

    def _is_writing(self) -> bool:
        return self._writer is not None and self._writer.is_writing

    def _save(self, session: v1.Session, step: int) -> bool:
        if self._writer is None:
            return super()._save(session, step)
        if self._is_writing() and not self._said_that_it_waits:
            self._said_that_it_waits = True
            log.warning(
                "Checkpoint %d is due while %d is being written: training waits for it. Save less often to"
                " avoid that.",
                step,
                self._pending,
            )
        stop = self._complete(session)
        for listener in self._listeners:
            listener.before_save(session, step)
        log.info("Saving checkpoints for %d into %s, beside training.", step, self._save_path)
        self._writer.start(self._save_path, step, self._save_graph_def)
        self._pending = step
        return stop

    def _complete(self, session: v1.Session) -> bool:
        """Waits for the checkpoint and tells the listeners; returns whether one wants to stop."""
        step, self._pending = self._pending, None
        if step is None or self._writer is None:
            return False
        with self.while_saving(step):
            self._writer.wait()
        self._summary_writer.add_session_log(
            v1.SessionLog(status=v1.SessionLog.CHECKPOINT, checkpoint_path=self._save_path), step
        )
        answers = [listener.after_save(session, step) for listener in self._listeners]
        return any(answers)


class AgreedBackgroundCheckpointSaver(BackgroundCheckpointSaver, AgreedCheckpointSaver):
    """The same for tasks that step together: all copy at the same step."""


def reason_against(saved: SavedTensors) -> str | None:
    """Why these tensors cannot be written by a thread of this process, or None where they can."""
    if not saved.tensors:
        return "the Saver has no save operation of the present format"
    for name, tensor in zip(saved.names, saved.tensors, strict=True):
        if "/job:ps" in (tensor.device or "") or "/job:ps" in (tensor.op.device or ""):
            return "the variables are on parameter servers, which write them themselves"
        if tensor.dtype in (tf.variant, tf.resource):
            return f"'{name.decode()}' is a {tensor.dtype.name}, which cannot be copied out of the session"
    return None


@contextlib.contextmanager
def finishing_writes(hooks: Iterable[Any]) -> Iterator[None]:
    """Leaves only when nothing is being written any more."""
    try:
        yield
    finally:
        for hook in hooks:
            if isinstance(hook, BackgroundCheckpointSaver):
                hook.close()

"""Opening sessions: as the chief, who initialises or restores, or as a worker, who waits for the chief."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from orchestrator.errors import CheckpointError, ConfigError
from orchestrator.estimator import checkpoints
from orchestrator.estimator.checkpoint_writer import SavedTensors
from orchestrator.estimator.start_mark import StartMark

v1 = tf.compat.v1


CHIEF_POLL_SECONDS = 0.5
"""How often a worker looks whether the chief has initialised the variables; TensorFlow's default is 30 s."""


class CheckpointMisfit(CheckpointError, ConfigError, tf.errors.InvalidArgumentError):
    """A checkpoint of another model; also the error that TensorFlow has for it.

    A ConfigError, since no restart mends it: the model directory or the model is the wrong one.
    """

    def __init__(self, message: str) -> None:
        tf.errors.InvalidArgumentError.__init__(self, None, None, message)


@dataclass(frozen=True)
class SessionTarget:
    """Where a session runs and how it is configured."""

    master: str = ""
    config: Any = None
    max_wait_seconds: float | None = None
    """How long a worker waits for the chief; None: for ever."""
    mark: StartMark | None = None
    """Where a chief initialises variables for others too, as with parameter servers."""


def finalize(scaffold: v1.train.Scaffold) -> None:
    """Fills the scaffold's gaps and finalizes the default graph; a second call changes nothing."""
    if not v1.get_default_graph().finalized:
        scaffold.finalize()


def open_as_chief(
    scaffold: v1.train.Scaffold,
    target: SessionTarget,
    find_checkpoint: Callable[[], str | None],
    warm_start: Callable[[v1.Session], None] | None = None,
) -> v1.Session:
    """A session whose variables are restored from `find_checkpoint()`, or initialised where that is None.

    Where nothing is restored, `warm_start` and then the scaffold's `init_fn`
    run after initialisation. Raises CheckpointMisfit where the checkpoint is of
    another model, and RuntimeError, as TensorFlow does, when variables are
    still uninitialised afterwards.
    """
    finalize(scaffold)
    checkpoint = find_checkpoint()
    if checkpoint is not None:
        _refuse_misfit(checkpoint, scaffold.saver)
    session = _manager(scaffold).prepare_session(
        target.master,
        saver=scaffold.saver,
        checkpoint_filename_with_path=checkpoint,
        config=target.config,
        init_op=scaffold.init_op,
        init_feed_dict=scaffold.init_feed_dict,
        init_fn=_one_after_the_other(warm_start, scaffold.init_fn),
    )
    if target.mark is not None:
        session.run(target.mark.set)
    return session


def _refuse_misfit(checkpoint: str, saver: Any) -> None:
    """TensorFlow itself would restore a variable of another shape without a word."""
    if not isinstance(saver, v1.train.Saver):
        return
    restored = {os.fsdecode(name) for name in SavedTensors.of(saver, v1.get_default_graph()).names}
    variables = [
        variable for variable in v1.global_variables() if checkpoints.saved_name(variable) in restored
    ]
    misfits = checkpoints.misfits(checkpoint, variables)
    if misfits is not None:
        raise CheckpointMisfit(
            f"Restoring from checkpoint failed: there is a mismatch between {checkpoint} and what model_fn"
            f" builds: {misfits}. Use another model_dir (--model-dir), or model_fn as it was."
        )


def _one_after_the_other(
    *functions: Callable[[v1.Session], None] | None,
) -> Callable[[v1.Session], None] | None:
    given = [function for function in functions if function is not None]
    if not given:
        return None

    def run_all(session: v1.Session) -> None:
        for function in given:
            function(session)

    return run_all


def restore_again(session: v1.Session, scaffold: v1.train.Scaffold, checkpoint: str | None) -> v1.Session:
    """Brings an open session to where `open_as_chief` would start a new one; returns it.

    The variables are read anew (None: they are those of the checkpoint already),
    local variables (metrics) and tables initialised anew.
    """
    if checkpoint is not None:
        scaffold.saver.restore(session, checkpoint)
    session.run(scaffold.local_init_op, feed_dict=scaffold.local_init_feed_dict)
    return session


def open_as_worker(scaffold: v1.train.Scaffold, target: SessionTarget) -> v1.Session:
    """A session on variables that the chief initialises; waits for it, and for its warm start.

    Raises tf.errors.DeadlineExceededError when the chief does not do it in time.
    """
    finalize(scaffold)
    limit = target.max_wait_seconds
    end = math.inf if limit is None else time.monotonic() + limit
    session = _manager(scaffold).wait_for_session(target.master, config=target.config, max_wait_secs=limit)
    while target.mark is not None and not session.run(target.mark.is_set):
        if time.monotonic() > end:
            session.close()
            raise tf.errors.DeadlineExceededError(
                None, None, f"The chief has not given the variables their first values after {limit:g} s."
            )
        time.sleep(CHIEF_POLL_SECONDS)
    return session


def _manager(scaffold: v1.train.Scaffold) -> v1.train.SessionManager:
    return v1.train.SessionManager(
        local_init_op=scaffold.local_init_op,
        local_init_feed_dict=scaffold.local_init_feed_dict,
        ready_op=scaffold.ready_op,
        ready_for_local_init_op=scaffold.ready_for_local_init_op,
        graph=v1.get_default_graph(),
        recovery_wait_secs=CHIEF_POLL_SECONDS,
    )

"""How a task that failed says so: on its log, in its record and by its exit code."""

from __future__ import annotations

import os
import re
import sys
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import TextIO

from orchestrator.cluster.records import FailureRecord, ProgressRecord, TaskEnvironment
from orchestrator.cluster.secrets import masker_of_task
from orchestrator.errors import ConfigError, EnvironmentProblem, EstimatorError, OrchestratorError
from orchestrator.experiments.function import ExperimentRaised

USER_ERROR = 2
EXCEPTION = 1


def report(error: BaseException, environment: TaskEnvironment | None, stream: TextIO | None = None) -> int:
    """Prints the failure, leaves a FailureRecord where there is a run directory, returns the exit code.

    A mistake in the input is one line; what the user's own code raised while
    it was built has the user's part of the traceback before that line; anything
    else has its whole traceback. The record holds the user's part, where there is one.
    """
    stream = stream or sys.stderr
    by_user = isinstance(error, ConfigError | EstimatorError | EnvironmentProblem)
    cause = error.__cause__ if isinstance(error, ExperimentRaised) and error.__cause__ else error
    short = _text(cause, users_part(cause.__traceback__) or (None if by_user else cause.__traceback__))
    if isinstance(error, ExperimentRaised):
        stream.write(short)
    elif not by_user:
        stream.write(_text(cause, cause.__traceback__))
    if by_user:
        stream.write(f"error: {error}\n")
    stream.flush()
    if environment is not None:
        progress = environment.records.read(ProgressRecord)
        masker = masker_of_task(os.environ)
        environment.records.write(
            FailureRecord(
                time=time.time(),
                type=type(cause).__name__,
                message=masker.text(str(error)) or type(error).__name__,
                traceback=masker.text(short),
                step=None if progress is None else progress.step,
                user_error=by_user,
            )
        )
    return USER_ERROR if by_user else EXCEPTION


def preparation_code(error: BaseException) -> int:
    """The exit code of the preparation, which the launcher makes its own."""
    return error.exit_code if isinstance(error, OrchestratorError) else EXCEPTION


def users_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame of the user's own code; None where there is no such frame."""
    while trace is not None and _NOT_THE_USERS.search(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _text(error: BaseException, trace: TracebackType | None) -> str:
    return "".join(traceback.format_exception(type(error), error, trace))


_PACKAGE = re.escape(str(Path(__file__).parents[1]))
_NOT_THE_USERS = re.compile(
    rf"^{_PACKAGE}/|^<|[a-z]-packages/(tensorflow|keras|tf_keras)/|/importlib/__init__\.py$|/runpy\.py$"
)

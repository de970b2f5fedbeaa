"""How a task that failed says so: on its log, in its record and by its exit code."""

from __future__ import annotations

import sys
import time
import traceback
from types import TracebackType
from typing import TextIO

from orchestrator.cluster.records import FailureRecord, ProgressRecord, TaskEnvironment
from orchestrator.errors import ConfigError, EnvironmentProblem, EstimatorError, OrchestratorError
from orchestrator.experiments import function
from orchestrator.experiments.function import ExperimentRaised

USER_ERROR = 2
EXCEPTION = 1


def report(error: BaseException, environment: TaskEnvironment | None, stream: TextIO | None = None) -> int:
    """Prints the failure, leaves a FailureRecord where there is a run directory, returns the exit code.

    A mistake in the input is one line; what the user's own code raised while
    it was built has the user's part of the traceback before that line; anything
    else has its whole traceback.
    """
    stream = stream or sys.stderr
    shown = _traceback(error)
    by_user = isinstance(error, ConfigError | EstimatorError | EnvironmentProblem)
    cause = error.__cause__ if isinstance(error, ExperimentRaised) and error.__cause__ else error
    if not by_user or isinstance(error, ExperimentRaised):
        stream.write(shown)
    if by_user:
        stream.write(f"error: {error}\n")
    stream.flush()
    if environment is not None:
        progress = environment.records.read(ProgressRecord)
        environment.records.write(
            FailureRecord(
                time=time.time(),
                type=type(cause).__name__,
                message=str(error) or type(error).__name__,
                traceback=shown,
                step=None if progress is None else progress.step,
                user_error=by_user,
            )
        )
    return USER_ERROR if by_user else EXCEPTION


def preparation_code(error: BaseException) -> int:
    """The exit code of the preparation, which the launcher makes its own."""
    return error.exit_code if isinstance(error, OrchestratorError) else EXCEPTION


def _traceback(error: BaseException) -> str:
    if isinstance(error, ExperimentRaised) and error.__cause__ is not None:
        cause = error.__cause__
        lines = traceback.format_exception(type(cause), cause, _users_part(cause.__traceback__))
    else:
        lines = traceback.format_exception(type(error), error, error.__traceback__)
    return "".join(lines)


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is neither ours nor the import machinery's."""
    while trace is not None and trace.tb_next is not None:
        name = trace.tb_frame.f_code.co_filename
        if name != function.__file__ and not name.startswith("<frozen") and "/importlib/" not in name:
            break
        trace = trace.tb_next
    return trace

"""TensorBoard beside a run: what the cluster file asks for, told and carried out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from orchestrator.cli.job_options import ResolvedJob
from orchestrator.cli.machine_checks import Finding
from orchestrator.errors import EnvironmentProblem
from orchestrator.launch import tensorboard
from orchestrator.launch.side_car import SideCar
from orchestrator.launch.tensorboard import Tensorboard

Beat = Callable[[float], str | None]


def wanted(resolved: ResolvedJob) -> Tensorboard | None:
    """The TensorBoard of a job; None where the file asks for none. Raises EnvironmentProblem."""
    section = resolved.config.tensorboard
    if section is None:
        return None
    job = resolved.job
    return tensorboard.choose(section.host, section.port, job.model_dir, job.working_dir)


def check(resolved: ResolvedJob) -> Iterator[Finding]:
    """Whether it could be started; nothing where the file asks for none."""
    try:
        board = wanted(resolved)
    except EnvironmentProblem as error:
        yield Finding("tensorboard", False, str(error).removeprefix("tensorboard is "))
        return
    if board is not None:
        yield Finding("tensorboard", True, f"{board.url}, open to {board.audience}")


@contextlib.contextmanager
def beside(board: Tensorboard | None, resolved: ResolvedJob, beat: Beat) -> Iterator[Beat]:
    """What is to be called in place of `beat` while the context lasts, to keep TensorBoard running too.

    It ends with the context. It runs on the machine of the launcher, whatever launches the tasks.
    """
    if board is None:
        yield beat
        return
    environ = tensorboard.environment(os.environ)
    side_car = SideCar(tensorboard.NAME, board.command, run_dir=resolved.job.run_dir, environ=environ)
    try:
        yield lambda now: beat(now) or side_car.beat(now)
    finally:
        side_car.close()

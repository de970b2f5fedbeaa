"""The program that every task of an experiment runs.

    python -m orchestrator.experiments.program [--prepare] RUN_DIR/experiment.json

It builds the experiment and trains and evaluates as the task's place in the
cluster has it; with --prepare it prepares the experiment's data instead, once,
before the tasks start.

Exit codes: 0 done, 1 an exception, 2 a mistake in the input, 143 stopped on
request after a checkpoint. With --prepare a missing requirement is 3.
"""

from __future__ import annotations

import argparse
import atexit
import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from orchestrator.cluster import stacks
from orchestrator.cluster.records import Phase, ProgressRecord, TaskEnvironment
from orchestrator.experiments import task_log
from orchestrator.experiments.request import ExperimentRequest

LOG = logging.getLogger("orchestrator")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one task, or the preparation, and returns its exit code."""
    parser = argparse.ArgumentParser(prog="orchestrator.experiments.program", description=__doc__)
    parser.add_argument("--prepare", action="store_true", help="prepare the data and end")
    parser.add_argument("request", type=Path, help="the experiment.json of a run directory")
    arguments = parser.parse_args(argv)
    environment = TaskEnvironment.read()
    stacks.register(environment, os.getpid())
    task_log.quiet_start()
    task_log.configure()
    # After the variables that TensorFlow reads when it is imported.
    from orchestrator.experiments import failure

    try:
        request = ExperimentRequest.read(arguments.request)
        if arguments.prepare:
            _prepare(request)
            return 0
        return _run(request, environment)
    except Exception as error:
        code = failure.report(error, environment)
        return failure.preparation_code(error) if arguments.prepare else code


def _prepare(request: ExperimentRequest) -> None:
    from orchestrator.experiments import devices
    from orchestrator.experiments.function import ExperimentFunction

    devices.configure(logical_devices=None)
    found = ExperimentFunction.find(request.experiment, Path(request.working_dir))
    found.prepare(request.data_dir, request.params)


def _run(request: ExperimentRequest, environment: TaskEnvironment | None) -> int:
    from orchestrator.estimator import stop_request, strategies
    from orchestrator.estimator.estimator import set_warm_start
    from orchestrator.estimator.run_config import RunConfig
    from orchestrator.estimator.training_and_evaluation import train_and_evaluate
    from orchestrator.experiments import devices, injected_hang, stop_signals
    from orchestrator.experiments.function import ExperimentFunction
    from orchestrator.warm_start.request import WarmStart

    injected_hang.listen()
    asked = stop_request.current()
    stop_signals.handle_signals(asked.set)
    if environment is not None and environment.control_fd is not None:
        stop_signals.watch_control_pipe(environment.control_fd, asked.set)
    devices.configure(request.logical_devices, request.run_config.get("memory_growth", True) is not False)
    strategy = strategies.make_strategy(request.strategy, request.logical_devices)
    stop_signals.handle_signals(asked.set)
    config = RunConfig.from_environment(
        model_dir=request.model_dir, strategy=strategy, **dict(request.run_config)
    )
    found = ExperimentFunction.find(request.experiment, Path(request.working_dir))
    experiment = found.build(config, request.params)
    if request.warm_start is not None:
        set_warm_start(experiment.estimator, WarmStart.of(**dict(request.warm_start)))
    train_and_evaluate(experiment.estimator, experiment.train_spec, experiment.eval_spec)
    if asked.is_set() and not _finished(environment):
        if environment is None or not environment.task.trains:  # trainers say at which step
            LOG.info("Stopped on request.")
        return stop_signals.STOPPED
    return 0


def _finished(environment: TaskEnvironment | None) -> bool:
    """Whether the task had done all its work before it was asked to stop."""
    progress = environment.records.read(ProgressRecord) if environment else None
    return progress is not None and progress.phase is Phase.DONE and not progress.stopped


def _leave(code: int) -> NoReturn:
    """Ends the process as an interpreter does, but for sessions that are still being closed."""
    if held := sys.modules.get("orchestrator.estimator.held_threads"):
        atexit.unregister(held.wait_for_held_threads)
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _leave(main())

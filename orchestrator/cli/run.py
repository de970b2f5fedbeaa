"""`run`: starts a job, stays with it to its end, and says how it went."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

from orchestrator.cli import progress_text, tensorboard_side_car
from orchestrator.cli.arguments import (
    ConfigArgument,
    DataDirOption,
    ExperimentOption,
    ModelDirOption,
    RunDirOption,
    SetOption,
    command_of,
)
from orchestrator.cli.display import Display, SteadyConsole, make_display
from orchestrator.cli.job_options import JobOptions, ResolvedJob, resolve
from orchestrator.cli.warm_start_options import (
    ExcludeOption,
    IncludeOption,
    MapOption,
    OnMismatchOption,
    RenameOption,
    WarmStartOption,
    WarmStartOptions,
)
from orchestrator.cluster.files import write_json_atomically
from orchestrator.cluster.task import TaskId
from orchestrator.errors import ConfigError, EnvironmentProblem, RunDirectoryError
from orchestrator.launch import fault_injection
from orchestrator.launch.completion import EXIT_INTERRUPTED, EXIT_TERMINATED
from orchestrator.launch.fault_injection import InjectingLauncher, Injection
from orchestrator.launch.job import Job
from orchestrator.launch.registry import make_launcher
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.run_result import RunResult, StopRequest
from orchestrator.launch.summary import last_words, shown_path, write_summary
from orchestrator.launch.supervisor import Supervisor
from orchestrator.launch.verdict import render, write_verdict
from orchestrator.launch.writer_lease import WriterLease


def run(
    ctx: typer.Context,
    *,
    config: ConfigArgument,
    experiment: ExperimentOption = None,
    model_dir: ModelDirOption = None,
    run_dir: RunDirOption = None,
    data_dir: DataDirOption = None,
    overrides: SetOption = None,
    warm_start: WarmStartOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    rename: RenameOption = None,
    map_file: MapOption = None,
    on_mismatch: OnMismatchOption = None,
    inject: Annotated[
        list[str] | None,
        typer.Option(
            "--inject",
            metavar="FAULT:TASK@step=N",
            help="Does that to a task when it is so far: kill, stop (SIGSTOP), hang or preempt (SIGTERM)."
            " May be repeated.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Start every task of CONFIG, show progress, restart what is lost, and end with the last evaluation.

    The first Ctrl-C asks for a checkpoint and waits for it, the second kills.
    Exit codes: 0 done, 1 the job failed, 2 wrong input, 3 the machine lacks
    something, 130 Ctrl-C, 143 SIGTERM.
    """
    options = JobOptions(
        config, experiment, model_dir, run_dir, data_dir, tuple(overrides or ()), command_of(ctx)
    )
    given = WarmStartOptions("--warm-start", warm_start, include, exclude, rename, map_file, on_mismatch)
    options = replace(options, warm_start=given)
    console = SteadyConsole(highlight=False)
    try:
        code = carry_out(resolve(options), console, [Injection.parse(text) for text in inject or ()])
    finally:
        console.settle()
    raise typer.Exit(code)


def carry_out(resolved: ResolvedJob, console: Console, injections: Sequence[Injection] = ()) -> int:
    """Runs a resolved job to its end; the exit code. Raises OrchestratorError when it cannot start."""
    job = resolved.job
    fault_injection.check(injections, job)
    tasks = [TaskId(kind, i) for kind, request in job.tasks.items() for i in range(request.replicas)]
    display = make_display(console, tasks)
    board = tensorboard_side_car.wanted(resolved)
    if resolved.config.launcher != "ssh":  # whose hosts make it: this machine may not see their disk
        _refuse_files_as_directories(job)
        _make_model_dir(job)
    with held_model_dir(job) as (heartbeat, notes):
        _make_run_dir(resolved)
        lines = [*progress_text.header(resolved, board), *(progress_text.note_line(note) for note in notes)]
        for number, line in enumerate(map(job.masker().text, lines)):
            display.say(line, "bold" if number == 0 else "")
        launcher = make_launcher(resolved.config.launcher, job.run_dir)
        launcher = InjectingLauncher(launcher, injections) if injections else launcher
        with tensorboard_side_car.beside(board, resolved, heartbeat) as beat:
            supervisor = Supervisor(launcher, job, observer=display, heartbeat=beat)
            with stop_signals(supervisor), display.open():
                result = supervisor.run()
    _conclude(resolved, result, display)
    return result.exit_code


@contextlib.contextmanager
def held_model_dir(job: Job) -> Iterator[tuple[Callable[[float], str | None], list[str]]]:
    """The writer's lease on the model directory: how to renew it, and what to say about it.

    Raises EnvironmentProblem when another run holds it. A URL has no lease, nor
    has a directory that this machine does not see.
    """
    if "://" in job.model_dir or not Path(job.model_dir).is_dir():
        yield (lambda now: None), []
        return
    lease = WriterLease(Path(job.model_dir), job.run_dir)
    note = lease.take()
    try:
        yield lease.renew, [note] if note is not None else []
    finally:
        lease.release()


def _refuse_files_as_directories(job: Job) -> None:
    named = {"--model-dir": job.model_dir, "--run-dir": str(job.run_dir), "--data-dir": job.data_dir or "."}
    for option, place in named.items():
        if "://" in place:
            continue
        there = next(path for path in (Path(place), *Path(place).absolute().parents) if path.exists())
        if not there.is_dir():
            shown = place if place == str(there) else f"{place}: {there}"
            raise ConfigError(f"{option} {shown} is a file. Name a directory.")


def _make_model_dir(job: Job) -> None:
    if "://" in job.model_dir:
        return
    try:
        Path(job.model_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"cannot make model directory {job.model_dir}: {error.strerror}.") from error


def _make_run_dir(resolved: ResolvedJob) -> None:
    """The run directory with what the tasks read there."""
    run_dir = RunDir(resolved.job.run_dir)
    run_dir.create()
    if resolved.experiment is None:
        return
    try:
        write_json_atomically(run_dir.experiment, resolved.job.masker().plain(resolved.experiment))
    except OSError as error:
        raise RunDirectoryError(f"cannot write {run_dir.experiment}: {error.strerror}.") from error


def _conclude(resolved: ResolvedJob, result: RunResult, display: Display) -> None:
    """Writes the summary and says the last words, the verdict last of all."""
    for name, write in (("verdict.json", write_verdict), ("summary.json", write_summary)):
        try:
            write(resolved.job, result, time.time())
        except OSError as error:
            display.say(f"cannot write {name}: {error.strerror or error}", "red")
    display.say("")
    masker = resolved.job.masker()
    for number, line in enumerate(map(masker.text, last_words(resolved.job, result, program()))):
        display.say(line, "bold" if number == 0 else "")
    for note in result.notes_beside_verdict:
        display.say(f"  note    {note}", "yellow")
    if result.root_cause is not None:
        display.say("")
        verdict = render(result) or ""
        if result.why and not verdict.startswith(result.why):
            display.say(masker.text(result.why))
        for line in masker.text(verdict).splitlines():
            display.say(line, "red")


def program() -> str:
    """How this command line was called, for lines that can be copied."""
    return f"python {shown_path(sys.argv[0])}" if Path(sys.argv[0]).name == "launch.py" else "orchestrator"


@contextlib.contextmanager
def stop_signals(supervisor: Supervisor) -> Iterator[None]:
    """Turns signals into stop requests while the context lasts.

    SIGINT asks for a checkpoint, and kills where that was asked before; SIGTERM
    and SIGHUP ask. SIGHUP stays ignored where it was (nohup).
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        if supervisor.stop_requested():
            supervisor.hurry()
        supervisor.request_stop(StopRequest(EXIT_INTERRUPTED, "Ctrl-C"))

    def terminate(number: int, frame: FrameType | None) -> None:
        supervisor.request_stop(StopRequest(EXIT_TERMINATED, signal.Signals(number).name))

    handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {
        signal.SIGINT: interrupt,
        signal.SIGTERM: terminate,
    }
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handlers[signal.SIGHUP] = terminate
    before: dict[signal.Signals, Any] = {
        number: signal.signal(number, handler) for number, handler in handlers.items()
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

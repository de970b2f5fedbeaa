"""How a run is put into words while it goes on: pure, one line each, made for 80 columns."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Sequence

from orchestrator.cli.job_options import ResolvedJob
from orchestrator.cluster.records import Phase
from orchestrator.cluster.task import TaskId
from orchestrator.launch.job import Job
from orchestrator.launch.restart import Action, scope
from orchestrator.launch.snapshot import RunPhase, Snapshot, TaskView
from orchestrator.launch.summary import format_metrics, format_seconds, shown_path
from orchestrator.launch.tensorboard import Tensorboard

_LABEL = 8
_WIDTH = 80
MOST_PORTS = 12
"""So many are named in the header."""
_THEN = {
    Action.RESTART_TASK: "is restarted alone",
    Action.RESTART_ATTEMPT: "restarts all of them",
    Action.GIVE_UP: "ends the run",
    Action.LEAVE: "stays away",
}
MOST_TASKS = 12
"""So many tasks have a line of their own; of more, those with something to tell."""


def header(resolved: ResolvedJob, board: Tensorboard | None = None) -> Iterator[str]:
    """What is about to run, and where it leaves things."""
    job = resolved.job
    yield f"{job.name}: {_counts(job)}"
    # With its quotes and on one line, so that one sees where an argument ends.
    command = shlex.join(job.command).replace("\n", "\\n")
    what = str(resolved.target) if resolved.target is not None else command
    yield _line("runs", what if len(what) <= 200 else what[:197] + "...")
    name = resolved.config.strategy.name.value if resolved.config.strategy is not None else "not declared"
    yield _wrapped("strategy", f"{name}; {restart_rule(job)}")
    yield _wrapped("hangs", hang_rule(job))
    yield _line("run", shown_path(str(job.run_dir)))
    yield _line("model", shown_path(job.model_dir))
    if board is not None:
        yield _line("board", f"TensorBoard at {board.url}, open to {board.audience}")
    for note in resolved.notes:
        yield note_line(note)


def note_line(note: str) -> str:
    """Something that people should know before the start."""
    return _wrapped("note", note)


def restart_rule(job: Job) -> str:
    """What a lost task restarts, in words."""
    if job.policy.max_restarts == 0:
        return "a lost task ends the run (max_restarts 0)"
    kinds: dict[Action, list[str]] = {}
    for kind, request in job.tasks.items():
        if request.replicas:
            kinds.setdefault(scope(TaskId(kind, 0), job.strategy, job.policy), []).append(str(kind))
    if job.size == 1 and not {Action.GIVE_UP, Action.LEAVE} & set(kinds):
        return f"restarted when lost, {job.policy.max_restarts} times at most"
    lost = {action: "task" if len(kinds) == 1 else _either(names) for action, names in kinds.items()}
    return "; ".join(f"a lost {lost[action]} {then}" for action, then in _THEN.items() if action in lost)


def _either(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def hang_rule(job: Job) -> str:
    """When a task counts as hung, in words."""
    start, step = job.policy.start_timeout_seconds, job.policy.hang_seconds.stepping
    between = "never between steps" if step is None else f"{format_seconds(step)} between two"
    limits = f"after {format_seconds(start)} before the first step, {between}"
    return limits if job.is_experiment else f"{limits}; a task that writes no progress record is not watched"


def ports_line(addresses: Sequence[str], *, isolated: bool = False) -> str:
    """Which ports are open to whom; on several lines where it takes them."""
    if not addresses:
        return _line("ports", "none")
    hosts = {address.rsplit(":", 1)[0] for address in addresses}
    scattered = len(hosts) > 1 and not hosts <= {"localhost", "127.0.0.1"}
    shown = [address if scattered else address.rsplit(":", 1)[-1] for address in addresses[:MOST_PORTS]]
    if len(addresses) > MOST_PORTS:
        shown.append(f"and {len(addresses) - MOST_PORTS} more (in plan.json)")
    if isolated:
        whom = "in a private network, open to the tasks alone"
    elif scattered:
        whom = "open to anybody who reaches these hosts"
    else:
        whom = "on every interface, open to anybody"
    return _wrapped("ports", f"{', '.join(shown)}: {whom}")


def host_width(views: Sequence[TaskView]) -> int:
    """The width of a column of hosts; 0 where all tasks are on one."""
    hosts = {view.host for view in views}
    return max(map(len, hosts)) if len(hosts) > 1 else 0


def task_line(view: TaskView, width: int, hosts: int = 0) -> str:
    """`worker-0  running  step 420`: one task's state; with `hosts` columns for where it runs."""
    words = [f"{view.task!s:<{width}}", *([f"{view.host:<{hosts}}"] if hosts else []), _doing(view)]
    if view.progress is not None and view.progress.step is not None and view.task.trains:
        words.append(f"step {view.progress.step}")
    if view.evaluation is not None and view.evaluation.metrics:
        words.append(f"step {view.evaluation.global_step}: {format_metrics(view.evaluation.metrics)}")
    if view.starts > 1:
        words.append(f"(start {view.starts})")
    return "  ".join(words)


def shown_tasks(views: Sequence[TaskView]) -> tuple[list[TaskView], int]:
    """The tasks that get a line, and how many of the others run quietly."""
    if len(views) <= MOST_TASKS:
        return list(views), 0
    chosen = [v for v in views if v.state != "running" or not v.task.trains or v.task.index == 0][:MOST_TASKS]
    return chosen, len(views) - len(chosen)


def progress_line(snapshot: Snapshot) -> str:
    """`step 420/1000  350 steps/s  11200 examples/s  loss 0.31  eta 0:02  |  step 400: accuracy 0.95`."""
    return "  ".join(_progress_words(snapshot))


def progress_lines(snapshot: Snapshot, width: int) -> list[str]:
    """The same in lines of at most `width` columns, as far as its parts allow."""
    lines: list[str] = []
    for word in _progress_words(snapshot):
        if lines and len(lines[-1]) + 2 + len(word) <= width:
            lines[-1] += f"  {word}"
        else:
            lines.append(word.removeprefix("| "))
    return lines


def _progress_words(snapshot: Snapshot) -> list[str]:
    """Its parts, each to be read as a whole."""
    if snapshot.stop_seconds_left is not None and snapshot.phase is RunPhase.STOPPING:
        return [_stopping(snapshot, snapshot.stop_seconds_left)]
    lead = snapshot.lead
    words: list[str] = []
    if snapshot.step is not None:
        most = f"/{lead.max_steps}" if lead is not None and lead.max_steps is not None else ""
        words.append(f"step {snapshot.step}{most}")
    if lead is not None and lead.steps_per_second:
        words.append(f"{lead.steps_per_second:.4g} steps/s")
    if lead is not None and lead.examples_per_second:
        words.append(f"{lead.examples_per_second:.4g} examples/s")
    if lead is not None and lead.loss is not None:
        words.append(f"loss {lead.loss:.4g}")
    if snapshot.seconds_left and snapshot.phase is RunPhase.RUNNING:
        words.append(f"{format_seconds(snapshot.seconds_left)} left")
    evaluation = snapshot.evaluation
    if evaluation is not None and evaluation.metrics:
        first, *others = format_metrics(evaluation.metrics).split("  ")
        words += [f"| step {evaluation.global_step}: {first}", *others]
    if snapshot.phase is RunPhase.DRAINING:
        words.append("| evaluating the last checkpoint")
    elif not words or snapshot.phase is not RunPhase.RUNNING:
        words.insert(0, _phase_words(snapshot))
    return words


def _stopping(snapshot: Snapshot, seconds_left: float) -> str:
    running = [view.task for view in snapshot.tasks if view.state == "running"]
    if seconds_left <= 0:
        return "stopping: ending what is left"
    saves = snapshot.saves and any(task.trains for task in running)
    what = "a checkpoint" if saves else f"{len(running)} task{'s' * (len(running) != 1)} to end"
    return f"stopping: waiting for {what}, {seconds_left:.0f} s left; Ctrl-C again kills"


def _phase_words(snapshot: Snapshot) -> str:
    if snapshot.phase is not RunPhase.RUNNING:
        return str(snapshot.phase)
    alive = sum(view.state == "running" and not _begins(view) for view in snapshot.tasks)
    beginning = sum(map(_begins, snapshot.tasks))
    if beginning and not alive:
        return f"starting {beginning} task{'s' * (beginning > 1)}"
    return f"{alive} of {len(snapshot.tasks)} tasks running"


def _begins(view: TaskView) -> bool:
    """It was asked for, and has no process yet."""
    return view.state == "running" and view.pid is None and view.progress is None


def _doing(view: TaskView) -> str:
    if _begins(view):
        return "starting"
    if view.state != "running" or view.progress is None:
        failed = view.state == "failed" and view.code is not None
        return f"{view.state} ({view.code})" if failed else view.state
    if view.progress.phase is Phase.WAITING:
        return "waiting for peers"
    return str(view.progress.phase)


def _counts(job: Job) -> str:
    if job.size == 1:
        return "one process"
    names = [
        f"{r.replicas} {kind}" if r.replicas > 1 else str(kind) for kind, r in job.tasks.items() if r.replicas
    ]
    return ", ".join(names)


def _wrapped(label: str, text: str) -> str:
    """A line that goes on below itself where it is too long; words stay whole, to be copied."""
    begin = _line(label, "")
    return textwrap.fill(
        text,
        width=_WIDTH,
        initial_indent=begin,
        subsequent_indent=" " * len(begin),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _line(label: str, text: str) -> str:
    return f"  {label:{_LABEL}}  {text}"

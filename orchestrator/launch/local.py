"""LocalLauncher: every task is a process of this machine."""

from __future__ import annotations

import errno
import itertools
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.cluster.records import ExitRecord, FailureRecord, ProgressRecord
from orchestrator.cluster.stacks import ASK_SIGNAL, stack_path
from orchestrator.cluster.task import TaskId
from orchestrator.errors import PortError, StartError
from orchestrator.launch.device_shares import Machine
from orchestrator.launch.job import Job, LaunchPlan, StartMethod, TaskPlan
from orchestrator.launch.launcher import LauncherNote, PeakUsage, StackFile, StopKind, TaskEvent
from orchestrator.launch.local_plan import (
    all_tasks,
    declared_address,
    make_plan,
    parent_environment,
    preparation_environment,
    preparation_plan,
    task_environment,
)
from orchestrator.launch.local_process import LocalProcess, Preparation, TaskProcess
from orchestrator.launch.log_stream import read_logs
from orchestrator.launch.ports import PortHolder
from orchestrator.launch.process_tree import catches, kill_until_gone, processes_of_run
from orchestrator.launch.resources import ResourceSampler
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.warm_parent_link import LinkState, WarmParentLink

_SWEEP_SECONDS = 10.0
_KILL_SECONDS = 30.0
"""How long the warm parent may take to kill a task before it is taken for stuck itself."""


class LocalLauncher:
    """Starts tasks on this machine, forked from one warm parent or as programs of their own.

    One object serves one job, from one thread. `environ` is what tasks inherit
    (the launcher's own environment by default), `imports` the modules that the
    warm parent imports before it forks, `import_limit` how many seconds that
    may take.
    """

    name = "local"

    def __init__(
        self,
        run_dir: Path,
        *,
        environ: Mapping[str, str] | None = None,
        imports: Sequence[str] = ("tensorflow",),
        import_limit: float = 600.0,
        interpreter: str = sys.executable,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._paths = RunDir(run_dir)
        self._environ = dict(os.environ if environ is None else environ)
        self._imports = tuple(imports)
        self._import_limit = import_limit
        self._interpreter = interpreter
        self._clock = clock
        self._ports = PortHolder()
        self._link: WarmParentLink | None = None
        self._selector = selectors.DefaultSelector()
        self._processes: dict[int, LocalProcess] = {}
        self._running: dict[TaskId, TaskProcess] = {}
        self._starts: dict[TaskId, int] = {}
        self._ids = itertools.count()
        self._events: list[TaskEvent] = []
        self._sampler = ResourceSampler(self._paths.resources, clock)
        self._closed = False

    def plan(self, job: Job, attempt: int) -> LaunchPlan:
        self._check_run_dir(job)
        addresses: dict[TaskId, str] = {}
        if job.size > 1:
            for task in all_tasks(job):
                host, declared = declared_address(job, task)
                addresses[task] = f"{host}:{self._ports.hold(task, declared)}"
        environ, machine = self._environ, Machine.look(self._environ)
        interpreter = self._interpreter
        return make_plan(job, attempt, addresses, environ=environ, interpreter=interpreter, machine=machine)

    def prepare(self, job: Job) -> None:
        self._check_run_dir(job)
        if job.prepare_command is None:
            raise ValueError("the job has no prepare_command")
        self._keep_up(0)
        method, why = preparation_plan(job, self._environ, self._interpreter)
        self._start_parent(job, fork=method is StartMethod.FORK)
        process = Preparation(
            next(self._ids), self._paths.preparation_log, tuple(job.prepare_command), method, why
        )
        self._begin(process, preparation_environment(job, self._environ), job.working_dir)

    def submit(self, plan: LaunchPlan, tasks: Collection[TaskId] | None = None) -> None:
        self._check_run_dir(plan.job)
        chosen = [p for p in plan.tasks if tasks is None or p.task in tasks]
        still = sorted(p.task for p in chosen if p.task in self._running)
        if still:
            raise StartError(
                f"{', '.join(map(str, still))} cannot be started: the process before still runs."
            )
        self._keep_up(0)
        self._check_ports(chosen)
        self._start_parent(plan.job, fork=any(p.start_method is StartMethod.FORK for p in chosen))
        begun: list[TaskProcess] = []
        try:
            for task_plan in chosen:
                begun.append(self._begin_task(task_plan, plan))
        except OSError as error:
            for process in begun:
                self._drop(process)
            hint = " Raise the limit (ulimit -n)." if error.errno == errno.EMFILE else ""
            raise StartError(f"{len(chosen)} tasks cannot be started: {error.strerror}.{hint}") from error

    def poll(self, timeout: float) -> list[TaskEvent]:
        end = time.monotonic() + timeout
        while True:
            self._settle()
            left = end - time.monotonic()
            if self._events or left <= 0:
                self._wait(0)
                self._settle()
                events, self._events = self._events, []
                return events
            self._wait(left)

    def stop(self, tasks: Collection[TaskId], kind: StopKind) -> None:
        for task in tasks:
            process = self._running.get(task)
            if process is not None:
                process.requested = True
                if not process.sent:
                    process.cancel(self._clock(), signal.SIGKILL if kind is StopKind.KILL else signal.SIGTERM)
                elif self._link is not None and kind is StopKind.REQUEST:
                    process.ask_to_stop()
                    self._link.send({"do": "signal", "id": process.id, "number": int(signal.SIGTERM)})
                elif self._link is not None:
                    process.kill_asked_at = process.kill_asked_at or time.monotonic()
                    self._link.send({"do": "kill", "id": process.id})

    def signal(self, tasks: Collection[TaskId], number: int) -> None:
        for task in tasks:
            process = self._running.get(task)
            if process is not None and process.pid and self._link is not None:
                self._link.send({"do": "signal", "id": process.id, "number": number})

    def dump_stacks(self, tasks: Collection[TaskId]) -> Mapping[TaskId, StackFile]:
        ready: dict[TaskId, StackFile] = {}
        for task in tasks:
            pid = self._running[task].pid if task in self._running else 0
            path = stack_path(self._paths.records(task).directory, pid)
            if path.exists() and catches(pid, ASK_SIGNAL):
                ready[task] = StackFile(path, path.stat().st_size)
        self.signal(list(ready), ASK_SIGNAL)
        return ready

    def sample(self, now: float) -> None:
        pids = {task: process.pid for task, process in self._running.items() if process.pid}
        self._sampler.sample(now, pids)
        self._events += [LauncherNote(text) for text in self._sampler.take_notes()]

    def peaks(self) -> Mapping[TaskId, PeakUsage]:
        return self._sampler.peaks()

    def logs(self, task: TaskId, follow: bool = False) -> Iterator[str]:
        finished = (lambda: task not in self._running) if follow else None
        for _, line in read_logs({task: self._paths.log(task)}, finished, self._keep_up):
            yield line

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._end_parent()
        for process in self._processes.values():
            process.output.read()
            process.discard()
        self._processes.clear()
        self._running.clear()
        self._ports.close()
        self._sampler.close()
        self._selector.close()

    def _check_run_dir(self, job: Job) -> None:
        if Path(job.run_dir) != self._paths.path:
            raise ValueError(f"this launcher serves {self._paths.path}, not {job.run_dir}")

    def _check_ports(self, plans: Sequence[TaskPlan]) -> None:
        taken = self._ports.taken([p.task for p in plans if p.address is not None])
        for task in taken:
            self._ports.give_up(task)
        if taken:
            ports = ", ".join(f"{port} of {task}" for task, port in sorted(taken.items()))
            raise PortError(
                f"port {ports} was taken by another process after it was planned."
                " Start again: another port is found, unless the cluster file declares it."
            )

    def _start_parent(self, job: Job, fork: bool) -> None:
        modules = self._imports if fork else ()
        link = self._link
        if link is not None and not link.modules and modules and not self._processes:
            self._end_parent()  # it was made for programs only
        if self._link is not None:
            return
        try:
            self._paths.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(f"cannot make {self._paths.logs}: {error.strerror}.") from error
        self._link = WarmParentLink(
            run_dir=self._paths.path,
            working_dir=job.working_dir,
            environ=parent_environment(job, self._environ),
            modules=modules,
            log_path=self._paths.warm_parent_log,
            interpreter=self._interpreter,
        )
        self._selector.register(self._link, selectors.EVENT_READ)
        self._selector.register(self._link.output.read_fd, selectors.EVENT_READ)
        if modules:
            names = ", ".join(modules)
            self._events.append(
                LauncherNote(f"importing {names} once, in process {self._link.pid}", passing=True)
            )

    def _end_parent(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            self._selector.unregister(link)
            if link.output.open:
                self._selector.unregister(link.output.read_fd)
            link.end()

    def _begin_task(self, task_plan: TaskPlan, plan: LaunchPlan) -> TaskProcess:
        task = task_plan.task
        records = self._paths.records(task)
        try:
            records.remove(ProgressRecord)
            records.remove(FailureRecord)
            records.remove(ExitRecord)
        except OSError as error:
            self._events.append(LauncherNote(f"old records of {task} stay: {error.strerror}"))
        start = self._starts.get(task, 0)
        process = TaskProcess(
            next(self._ids), task_plan, plan.attempt, start, records, limits=plan.job.log_limits
        )
        self._starts[task] = start + 1
        self._running[task] = process
        self._begin(process, task_environment(task_plan, self._environ), plan.job.working_dir)
        return process

    def _begin(self, process: LocalProcess, env: Mapping[str, str], working_dir: Path) -> None:
        process.request = {
            "do": "start",
            "id": process.id,
            "task": process.label,
            "command": list(process.command),
            "env": dict(env),
            "working_dir": str(working_dir),
            "fork": process.method is StartMethod.FORK,
        }
        self._processes[process.id] = process
        self._selector.register(process.output.read_fd, selectors.EVENT_READ, process)

    def _keep_up(self, seconds: float) -> None:
        """Serves the tasks for so long; what happens is for the next `poll` to tell."""
        end = time.monotonic() + seconds
        left = seconds
        while left >= 0:
            self._wait(left)
            self._settle()
            left = end - time.monotonic()

    def _wait(self, timeout: float) -> None:
        """Waits for the parent or for output, no longer than until the next limit, and takes what came."""
        for key, _ in self._selector.select(max(0.0, min(timeout, self._next_limit()))):
            if isinstance(key.data, LocalProcess):
                self._take_output(key.data)
            elif self._link is not None and key.fileobj is self._link:
                self._take_messages(self._link)
            elif self._link is not None:
                self._link.output.read()
                if not self._link.output.open:
                    self._selector.unregister(key.fd)

    def _next_limit(self) -> float:
        now = time.monotonic()
        processes = self._processes.values()
        limits = [p.drain_until for p in processes if p.drain_until is not None]
        limits += [p.kill_asked_at + _KILL_SECONDS for p in processes if p.kill_asked_at is not None]
        if self._link is not None and self._link.state is LinkState.STARTING:
            limits.append(self._link.started_at + self._import_limit)
        return min(limits, default=now + 3600.0) - now

    def _settle(self) -> None:
        """Acts on what is known: sends requests, ends what has ended, keeps the limits."""
        link = self._link
        if link is not None and self._kill_overdue():
            self._events.append(
                LauncherNote(f"process {link.pid}, which starts the tasks, is stuck: it is killed")
            )
            link.kill()
        if link is not None and link.state is LinkState.LOST:
            self._parent_lost(link)
        elif link is not None and link.state is LinkState.STARTING:
            if time.monotonic() > link.started_at + self._import_limit:
                self._refuse(
                    f"importing {', '.join(link.modules)} in process {link.pid} took more than"
                    f" {self._import_limit:g} s; see {link.log_path}"
                )
        elif link is not None:
            for process in self._processes.values():
                if not process.sent and process.exit is None:
                    process.send(link)
        for process in list(self._processes.values()):
            if process.exit is not None and (not process.output.open or process.drain_over()):
                self._report_exit(process)

    def _kill_overdue(self) -> bool:
        latest = time.monotonic() - _KILL_SECONDS
        asked = (p.kill_asked_at for p in self._processes.values() if p.exit is None)
        return any(at is not None and at < latest for at in asked)

    def _take_output(self, process: LocalProcess) -> None:
        fd = process.output.read_fd
        self._events += process.take_output()
        if not process.output.open:
            self._selector.unregister(fd)

    def _take_messages(self, link: WarmParentLink) -> None:
        for message in link.receive():
            event = message["event"]
            if event == "ready":
                self._note_ready(link, message["seconds"], message["unfit"])
            elif event == "import_failed":
                self._refuse(f"{message['reason']}. The whole output is in {link.log_path}")
            else:
                process = self._processes.get(message["id"])
                if process is not None:
                    self._events += process.tell(message, self._clock())

    def _note_ready(self, link: WarmParentLink, seconds: float, unfit: str | None) -> None:
        if link.modules:
            text = f"imported {', '.join(link.modules)} in {seconds:.1f} s"
            self._events.append(LauncherNote(text, passing=True))
        if unfit is not None:
            self._events.append(LauncherNote(f"tasks are not forked: {unfit}"))

    def _refuse(self, reason: str) -> None:
        """Gives up on everything that waits for the parent; StartError."""
        for process in list(self._processes.values()):
            self._drop(process)
        self._end_parent()
        raise StartError(f"tasks cannot be started: {reason}.")

    def _drop(self, process: LocalProcess) -> None:
        """Forgets a process that was never started."""
        if process.output.open:
            self._selector.unregister(process.output.read_fd)
        process.discard()
        del self._processes[process.id]
        if isinstance(process, TaskProcess):
            del self._running[process.task]
            self._starts[process.task] -= 1

    def _parent_lost(self, link: WarmParentLink) -> None:
        """The parent has ended unasked; its tasks have died with it."""
        early = not link.was_ready
        self._end_parent()
        words = link.last_words()
        if early and self._processes:
            self._refuse(f"the process that starts them {words}")
        kill_until_gone(lambda: processes_of_run(self._paths.path), _SWEEP_SECONDS)
        if self._processes:
            self._events.append(
                LauncherNote(f"the process that starts the tasks {words}; its tasks ended with it")
            )
        for process in self._processes.values():
            if process.exit is None:
                process.ended(-int(signal.SIGKILL), self._clock())

    def _report_exit(self, process: LocalProcess) -> None:
        if process.output.open:
            self._selector.unregister(process.output.read_fd)
        self._events += process.finish()
        del self._processes[process.id]
        if isinstance(process, TaskProcess):
            del self._running[process.task]

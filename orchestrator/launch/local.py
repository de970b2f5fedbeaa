"""LocalLauncher: every task is a process of this machine."""

from __future__ import annotations

import errno
import os
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
from orchestrator.launch.launcher import PeakUsage, StackFile, StopKind, TaskEvent
from orchestrator.launch.local_plan import (
    all_tasks,
    declared_address,
    make_plan,
    parent_environment,
    preparation_environment,
    preparation_plan,
    task_environment,
)
from orchestrator.launch.local_process import Preparation, TaskProcess
from orchestrator.launch.local_processes import LocalProcesses
from orchestrator.launch.log_stream import read_logs
from orchestrator.launch.ports import PortHolder, PrivatePorts
from orchestrator.launch.process_tree import catches
from orchestrator.launch.resource_warnings import ResourceWarnings
from orchestrator.launch.resources import ResourceSampler
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.start_method import gpu_visible
from orchestrator.launch.temporary_directory import VARIABLE as TEMPORARY_DIRECTORY


class LocalLauncher:
    """Starts tasks on this machine, forked from one warm parent or as programs of their own.

    One object serves one job, from one thread. `environ` is what tasks inherit
    (the launcher's own environment by default), `imports` the modules that the
    warm parent imports before it forks, `import_limit` how many seconds that
    may take. `meanwhile` is called again and again while a warm parent is
    ended, which may take half a minute.
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
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self._paths = RunDir(run_dir)
        self._environ = dict(os.environ if environ is None else environ)
        self._imports = tuple(imports)
        self._interpreter = interpreter
        self._ports: PortHolder | PrivatePorts = PortHolder()
        self._processes = LocalProcesses(self._paths, interpreter, import_limit, clock, meanwhile)
        self._sampler = ResourceSampler(self._paths.resources, clock)
        self._warnings: ResourceWarnings | None = None
        self._closed = False

    @property
    def parent_pid(self) -> int | None:
        """Process id of the warm parent; None while there is none."""
        return self._processes.parent_pid

    @property
    def environ(self) -> Mapping[str, str]:
        """What tasks inherit."""
        return self._environ

    @property
    def running(self) -> frozenset[TaskId]:
        """The tasks that were submitted and whose end was not told yet."""
        return frozenset(self._processes.running)

    def fileno(self) -> int:
        """Readable when `poll` has something to do; beside that it is to be called every second or so."""
        return self._processes.fileno()

    def hold(self, task: TaskId, declared: int | None = None) -> int:
        """Holds a port for a task that is planned elsewhere: `declared`, or a free one. Raises PortError."""
        return self._ports.hold(task, declared)

    def plan(self, job: Job, attempt: int) -> LaunchPlan:
        self._check_run_dir(job)
        addresses = self._addresses(job) if job.size > 1 else {}
        environ, machine = self._environ, Machine.look(self._environ)
        interpreter = self._interpreter
        return make_plan(job, attempt, addresses, environ=environ, interpreter=interpreter, machine=machine)

    def warm(self, job: Job) -> None:
        """Starts importing what tasks of `job` are forked from, before there are any. Raises StartError.

        As after `submit`, `poll` raises StartError where that fails.
        """
        self._check_run_dir(job)
        self._need_parent(job, fork=True)

    def prepare(self, job: Job) -> None:
        self._check_run_dir(job)
        if job.prepare_command is None:
            raise ValueError("the job has no prepare_command")
        self._processes.keep_up(0)
        method, why = preparation_plan(job, self._environ, self._interpreter)
        self._need_parent(job, fork=method is StartMethod.FORK)
        process = Preparation(
            self._processes.next_id(),
            self._paths.preparation_log,
            tuple(job.prepare_command),
            method,
            why,
            secrets=job.masker(self._environ).values,
        )
        env = preparation_environment(job, self._environ)
        own_temporary = TEMPORARY_DIRECTORY not in job.env
        self._processes.begin(process, env, job.working_dir, own_temporary=own_temporary)

    def submit(self, plan: LaunchPlan, tasks: Collection[TaskId] | None = None) -> None:
        self._check_run_dir(plan.job)
        chosen = [p for p in plan.tasks if tasks is None or p.task in tasks]
        still = sorted(p.task for p in chosen if p.task in self._processes.running)
        if still:
            raise StartError(
                f"{', '.join(map(str, still))} cannot be started: the process before still runs."
            )
        self._processes.keep_up(0)
        self._check_ports(chosen)
        self._need_parent(plan.job, fork=any(p.start_method is StartMethod.FORK for p in chosen))
        if self._warnings is None:
            self._warnings = ResourceWarnings(plan.job, gpu=gpu_visible(self._environ))
        begun: list[TaskProcess] = []
        try:
            for task_plan in chosen:
                begun.append(self._begin_task(task_plan, plan))
        except OSError as error:
            for process in begun:
                self._processes.drop(process)
            hint = " Raise the limit (ulimit -n)." if error.errno == errno.EMFILE else ""
            raise StartError(f"{len(chosen)} tasks cannot be started: {error.strerror}.{hint}") from error

    def move(self, plan: LaunchPlan, tasks: Collection[TaskId]) -> LaunchPlan:
        return plan.moved(self.plan(plan.job, plan.attempt), tasks)

    def poll(self, timeout: float) -> list[TaskEvent]:
        return self._processes.poll(timeout)

    def stop(self, tasks: Collection[TaskId], kind: StopKind) -> None:
        for process in self._running(tasks):
            self._processes.stop(process, kind)

    def signal(self, tasks: Collection[TaskId], number: int) -> None:
        for process in self._running(tasks):
            self._processes.signal(process, number)

    def dump_stacks(self, tasks: Collection[TaskId]) -> Mapping[TaskId, StackFile]:
        ready: dict[TaskId, StackFile] = {}
        for task in tasks:
            process = self._processes.running.get(task)
            pid = 0 if process is None else process.pid
            path = stack_path(self._paths.records(task).directory, pid)
            if path.exists() and catches(pid, ASK_SIGNAL):
                ready[task] = StackFile(path, path.stat().st_size)
        self.signal(list(ready), ASK_SIGNAL)
        return ready

    def sample(self, now: float) -> None:
        self._processes.look_for_suspended()
        pids = {task: process.pid for task, process in self._processes.running.items() if process.pid}
        usage = self._sampler.sample(now, pids)
        for text in self._sampler.take_notes():
            self._processes.note(text)
        for text in self._warnings.look(now, usage) if self._warnings is not None else ():
            self._processes.note(text)

    def peaks(self) -> Mapping[TaskId, PeakUsage]:
        return self._sampler.peaks()

    def logs(self, task: TaskId, follow: bool = False) -> Iterator[str]:
        finished = (lambda: task not in self._processes.running) if follow else None
        for _, line in read_logs({task: self._paths.log(task)}, finished, self._processes.keep_up):
            yield line

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._processes.close()
        self._ports.close()
        self._sampler.close()

    def _addresses(self, job: Job) -> dict[TaskId, str]:
        if job.isolated and isinstance(self._ports, PortHolder):
            self._ports = PrivatePorts()
        addresses: dict[TaskId, str] = {}
        declared = {task: declared_address(job, task) for task in all_tasks(job)}
        # Ports that are declared go first, so that no other task is given one of them.
        for task, (host, port) in sorted(declared.items(), key=lambda item: item[1][1] is None):
            addresses[task] = f"{host}:{self._ports.hold(task, port)}"
        return addresses

    def _running(self, tasks: Collection[TaskId]) -> list[TaskProcess]:
        running = self._processes.running
        return [running[task] for task in tasks if task in running]

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

    def _need_parent(self, job: Job, fork: bool) -> None:
        environ = parent_environment(job, self._environ)
        self._processes.need_parent(job, environ, self._imports if fork else ())

    def _begin_task(self, task_plan: TaskPlan, plan: LaunchPlan) -> TaskProcess:
        task = task_plan.task
        records = self._paths.records(task)
        try:
            records.remove(ProgressRecord)
            records.remove(FailureRecord)
            records.remove(ExitRecord)
        except OSError as error:
            self._processes.note(f"old records of {task} stay: {error.strerror}")
        start = self._processes.starts(task)
        process = TaskProcess(
            self._processes.next_id(),
            task_plan,
            plan.attempt,
            start,
            records,
            limits=plan.job.log_limits,
            secrets=plan.job.masker(self._environ).values,
        )
        env = task_environment(task_plan, self._environ)
        own_temporary = TEMPORARY_DIRECTORY not in task_plan.env
        self._processes.begin(process, env, plan.job.working_dir, own_temporary=own_temporary)
        return process

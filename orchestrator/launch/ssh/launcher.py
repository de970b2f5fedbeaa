"""SshLauncher: tasks run on several hosts, each under an agent of ours that came over ssh."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from orchestrator.cluster.records import ENV_RUN_DIR
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import Abandoned, ConfigError, PortError, StartError
from orchestrator.launch.job import Job, LaunchPlan, StartMethod
from orchestrator.launch.launcher import PeakUsage, StackFile, StopKind, TaskEvent
from orchestrator.launch.local_plan import all_tasks
from orchestrator.launch.log_stream import read_logs
from orchestrator.launch.node.job_wire import encode_job, encode_plan
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.ssh.client import Connect, over_ssh, somebody_to_ask
from orchestrator.launch.ssh.host_comparison import require_common_ground
from orchestrator.launch.ssh.host_survey import Visit
from orchestrator.launch.ssh.placement import can_wait, declared, place
from orchestrator.launch.ssh.plan import (
    KEEPALIVE_VARIABLE,
    NAME,
    Host,
    job_on,
    make_ssh_plan,
    plan_on,
    preparing_on,
)
from orchestrator.launch.ssh.reports import Reports
from orchestrator.launch.ssh.roster import Resolve, Roster
from orchestrator.launch.ssh.shared_files import SharedFiles

CLOSE_SECONDS = 60.0
_STOP_SECONDS = 120.0


class SshLauncher:
    """Starts tasks on the hosts of the job's `launcher_options` (a `SshSection` as plain values).

    One object serves one job, from one thread; a second one keeps up the
    conversations with the hosts. `connect` makes connections, `resolve` tells
    the addresses of hosts where the options do not, `meet` refuses hosts that
    cannot work together, `environ` is the launcher's own environment, of which
    tasks are given nothing but the keepalives of gRPC.
    """

    name = NAME

    def __init__(
        self,
        run_dir: Path,
        *,
        connect: Connect = over_ssh,
        resolve: Resolve | None = None,
        meet: Callable[[Job, Visit], None] = require_common_ground,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._paths = RunDir(run_dir)
        self._meet = meet
        self._environ = os.environ if environ is None else environ
        self._roster = Roster(self._paths, connect, resolve)
        self._hosts = self._roster.hosts
        self._shared = SharedFiles(self._paths, self._hosts)
        self._reports = Reports(self._paths, self._hosts, self._shared.share)
        self._placed: dict[TaskId, str] = {}
        self._plan: LaunchPlan | None = None
        """The newest."""
        self._closed = False

    def heed(self, stopped: Callable[[], bool]) -> None:
        """As `Heeding`."""
        self._hosts.stopped = stopped

    def preview(self, job: Job) -> LaunchPlan:
        """As `Previewing`: asks `ssh` for addresses, and no host for anything."""
        self._take_options(job)
        placed = place(job, self._roster.capacities(self._roster.names(job)))
        hosts = {task: self._roster.placeholder(name) for task, name in placed.items()}
        shown = {t: declared(job, t).port or f"<port of {t}>" for t in placed}
        ports: dict[TaskId, object] = dict(shown) if job.size > 1 else {}
        return preparing_on(self._make_plan(job, 0, hosts, ports, {}), hosts[min(placed)])

    def plan(self, job: Job, attempt: int) -> LaunchPlan:
        """As `Launcher.plan`; connects to the hosts and brings them the code where that is not done yet.

        Tasks that run stay where they are. Raises HostsAway where a later
        attempt needs hosts that were lost.
        """
        self._take_options(job)
        self._reports.begin(job)
        staying, first = self._reports.places, attempt == 0 and not self._placed
        names = self._roster.names(job)
        notes = self._roster.reach(job, [n for n in names if n not in staying.values()], first=first)
        usable = [name for name in names if self._hosts.usable(name)]
        if not self._placed:
            addresses = {name: self._roster.addresses[name] for name in usable}
            self._meet(job, Visit(addresses, {}, {}, self._hosts.ask))
        self._placed = self._place(job, usable, staying)
        before = {} if self._plan is None else {part.task: part for part in self._plan.tasks}
        away = [task for task in all_tasks(job) if task not in self._placed]
        known = {task: before[task].address or "" for task in (*staying, *away)} if job.size > 1 else {}
        ports = self._hold(job, {t: n for t, n in self._placed.items() if t not in known})
        plan = self._equip(job, attempt, self._placed, ports, known)
        tasks = sorted([*plan.tasks, *(before[task] for task in away)], key=lambda part: part.task)
        self._prepare_late(job)
        self._plan = replace(plan, tasks=tuple(tasks), away=frozenset(away), notes=(*notes, *plan.notes))
        return self._plan

    def move(self, plan: LaunchPlan, tasks: Collection[TaskId]) -> LaunchPlan:
        """As `Launcher.move`: to hosts that answer now and have the data; lost ones are sought meanwhile."""
        job, names = plan.job, self._roster.names(plan.job)
        staying = {task: name for task, name in self._placed.items() if task not in tasks}
        fit = [name for name in names if self._fits(job, name, tasks, staying)]
        try:
            placed = place(job, self._roster.capacities(fit), staying, plan.away.difference(tasks))
        except ConfigError as error:
            away = self._roster.tasks_without_host(job, tasks, error)
            self._hosts.seek([name for name in names if name not in self._reports.places.values()])
            raise away from error
        there = {placed[task] for task in tasks}
        self._roster.bring_code(job, there)
        known = {p.task: p.address for p in plan.tasks if p.address is not None and p.task not in tasks}
        ports = self._hold(job, {task: placed[task] for task in tasks})
        self._placed = placed
        here = {task: name for task, name in placed.items() if name in there}
        self._plan = plan.moved(self._equip(job, plan.attempt, here, ports, known), tasks)
        for name in there:
            self._shared.catch_up(name)
        return self._plan

    def visit(self, job: Job) -> Visit:
        """Connects to the hosts and brings them nothing, so that they can be asked; then `close`."""
        self._take_options(job)
        names = self._roster.names(job)
        failures = self._hosts.connect(names, ask=somebody_to_ask())
        usable = [name for name in names if name not in failures]
        addresses = {name: self._roster.addresses[name] for name in names}
        try:
            placed, unplaced = {} if failures else place(job, self._roster.capacities(usable)), ""
        except ConfigError as error:
            placed, unplaced = {}, str(error)
        return Visit(addresses, failures, placed, self._hosts.ask, unplaced)

    def prepare(self, job: Job) -> None:
        """As `Launcher.prepare`, on every host that reads data, one after the other: they may share it."""
        if job.prepare_command is None:
            raise ValueError("the job has no prepare_command")
        self._reports.prepare_on(self._readers(job), lambda name: self._prepare(job, name))

    def submit(self, plan: LaunchPlan, tasks: Collection[TaskId] | None = None) -> None:
        chosen = [part.task for part in plan.tasks if tasks is None or part.task in tasks]
        still = sorted(task for task in chosen if task in self._reports.running)
        if still:
            raise StartError(
                f"{', '.join(map(str, still))} cannot be started: the process before still runs."
            )
        by_host: dict[str, list[TaskId]] = {}
        for task in chosen:
            by_host.setdefault(plan.task(task).host, []).append(task)
        self._need(plan, by_host)
        for task in chosen:
            self._reports.starting(plan, task)
        questions = {
            name: {
                "do": "submit",
                "plan": encode_plan(plan_on(plan, self._roster.host(name), self._roster.code_dir), here),
            }
            for name, here in by_host.items()
        }
        refused: dict[str, tuple[str, str]] = {}
        try:
            answers = self._hosts.ask(questions)
        except Abandoned:
            self._reports.not_started(chosen)
            for name, here in by_host.items():
                names = [str(task) for task in here]
                self._hosts.tell(name, {"do": "stop", "tasks": names, "kind": StopKind.KILL.value})
            raise
        for name, (answer, _) in answers.items():
            if answer["event"] != "accepted":
                kind = str(answer.get("kind", "port"))  # a lost host's addresses are lost
                refused[name] = (kind, f"{name}: {answer.get('message', 'the host was lost')}")
        if refused:
            self._take_back(by_host, refused)

    def poll(self, timeout: float) -> list[TaskEvent]:
        return self._reports.take(timeout)

    def stop(self, tasks: Collection[TaskId], kind: StopKind) -> None:
        self._reports.asked_to_end(tasks)
        for name, here in self._running_by_host(tasks).items():
            self._hosts.tell(name, {"do": "stop", "tasks": here, "kind": kind.value})

    def signal(self, tasks: Collection[TaskId], number: int) -> None:
        for name, here in self._running_by_host(tasks).items():
            self._hosts.tell(name, {"do": "signal", "tasks": here, "signal": int(number)})

    def dump_stacks(self, tasks: Collection[TaskId]) -> Mapping[TaskId, StackFile]:
        """As `Launcher.dump_stacks`; hosts that cannot be reached at present are left out."""
        found: dict[TaskId, StackFile] = {}
        by_host = self._running_by_host(tasks)
        questions = {
            n: {"do": "dump_stacks", "tasks": h} for n, h in by_host.items() if self._hosts[n].connected
        }
        try:
            answers = self._hosts.ask(questions)
        except Abandoned:
            return found
        for answer, _ in answers.values():
            for text, (name, size) in answer.get("files", {}).items():
                task = TaskId.parse(text)
                found[task] = StackFile(self._paths.records(task).directory / name, size)
        return found

    def sample(self, now: float) -> None:
        """Does nothing: each host measures its own tasks."""

    def peaks(self) -> Mapping[TaskId, PeakUsage]:
        return self._reports.peaks

    def logs(self, task: TaskId, follow: bool = False) -> Iterator[str]:
        finished = (lambda: task not in self._reports.running) if follow else None
        for _, line in read_logs({task: self._paths.log(task)}, finished, self._reports.keep_up):
            yield line

    def close(self) -> None:
        """As `Launcher.close`; a host out of reach ends its tasks by itself when its lease is over."""
        if self._closed:
            return
        self._closed = True
        self._hosts.close(CLOSE_SECONDS)
        self._reports.close()

    # Starting

    def _take_options(self, job: Job) -> None:
        if Path(job.run_dir) != self._paths.path:
            raise ValueError(f"this launcher serves {self._paths.path}, not {job.run_dir}")
        self._roster.take_options(job)

    def _place(self, job: Job, usable: Collection[str], staying: Mapping[TaskId, str]) -> dict[TaskId, str]:
        """The host of every task that has one. Raises HostsAway where one is missing that cannot wait."""
        capacities = self._roster.capacities(usable)
        try:
            return place(job, capacities, staying)
        except ConfigError as error:
            if not self._placed or all(host.usable for host in self._hosts.known()):
                raise
            planned = self._plan is not None
            waiting = [t for t in all_tasks(job) if planned and can_wait(job, t) and t not in staying]
            try:
                return place(job, capacities, staying, waiting)
            except ConfigError:
                trained = [task for task in all_tasks(job) if task not in waiting]
                raise self._roster.tasks_without_host(job, trained, error) from error

    def _fits(self, job: Job, name: str, tasks: Collection[TaskId], staying: Mapping[TaskId, str]) -> bool:
        """Whether tasks that nobody waits for can be started on a host now, and take nothing from others."""
        if not self._hosts.usable(name) or not self._hosts[name].connected:
            return False
        greedy = any(job.tasks[task.type].gpus for task in tasks)
        if greedy and any(task.trains and at == name for task, at in staying.items()):
            return False
        return not self._reports.prepared or name in self._reports.prepared

    def _make_plan(
        self,
        job: Job,
        attempt: int,
        hosts: Mapping[TaskId, Host],
        ports: Mapping[TaskId, object],
        known: Mapping[TaskId, str],
    ) -> LaunchPlan:
        keepalive = self._environ.get(KEEPALIVE_VARIABLE)
        code_dir = self._roster.code_dir
        return make_ssh_plan(job, attempt, hosts, ports, code_dir=code_dir, known=known, keepalive=keepalive)

    def _equip(
        self,
        job: Job,
        attempt: int,
        placed: Mapping[TaskId, str],
        ports: Mapping[TaskId, object],
        known: Mapping[TaskId, str],
    ) -> LaunchPlan:
        """The plan of tasks that have their places; their hosts get what tasks read at their start."""
        hosts = {task: self._roster.host(name) for task, name in placed.items()}
        plan = self._make_plan(job, attempt, hosts, ports, known)
        by_name = {host.name: host for host in hosts.values()}
        self._shared.spread(job, by_name, self._placed, self._roster.code_dir)
        self._warm_up(plan, by_name.values())
        return plan

    def _hold(self, job: Job, placed: Mapping[TaskId, str]) -> dict[TaskId, object]:
        """Has each host hold the ports of its tasks; a lone process needs none. Raises PortError."""
        if job.size == 1:
            return {}
        questions: dict[str, dict[str, object]] = {}
        for name in dict.fromkeys(placed.values()):
            here = {str(task): declared(job, task).port for task in placed if placed[task] == name}
            questions[name] = {"do": "hold", "tasks": here}
        ports: dict[TaskId, object] = {}
        for name, (answer, _) in self._hosts.ask(questions).items():
            if answer["event"] != "held":
                raise PortError(f"host {name}: {answer.get('message', 'it was lost')}")
            ports.update({TaskId.parse(task): port for task, port in answer["ports"].items()})
        return ports

    def _warm_up(self, plan: LaunchPlan, hosts: Collection[Host]) -> None:
        """Has hosts that will fork tasks import TensorFlow already, all at the same time."""
        for host in hosts:
            forks = any(p.host == host.name and p.start_method is StartMethod.FORK for p in plan.tasks)
            if forks and not self._hosts[host.name].warm:
                self._hosts[host.name].warm = True
                there = job_on(plan.job, host, self._roster.code_dir)
                self._hosts.tell(host.name, {"do": "warm", "job": encode_job(there)})

    def _need(self, plan: LaunchPlan, by_host: Mapping[str, list[TaskId]]) -> None:
        """Raises PortError where a host is lost, or was meanwhile: its addresses are, too."""
        lost = []
        for name, here in by_host.items():
            planned = {Path(plan.task(task).env[ENV_RUN_DIR]) for task in here}
            if not self._hosts.usable(name) or planned != {Path(self._roster.host(name).run_dir)}:
                lost.append(name)
        if lost:
            raise PortError(f"{', '.join(lost)} cannot be reached, so the tasks there need other addresses.")

    def _take_back(self, by_host: Mapping[str, list[TaskId]], refused: Mapping[str, tuple[str, str]]) -> None:
        """Ends what was started while others could not be, and raises why."""
        accepted = [task for name, here in by_host.items() if name not in refused for task in here]
        for name in refused:
            self._reports.not_started(by_host[name])
        self.stop(accepted, StopKind.KILL)
        self._reports.swallow(accepted, _STOP_SECONDS)
        text = " ".join(message for _, message in refused.values())
        if all(kind == "port" for kind, _ in refused.values()):
            raise PortError(text)
        raise StartError(text)

    def _prepare(self, job: Job, name: str) -> None:
        there = job_on(job, self._roster.host(name), self._roster.code_dir)
        ((answer, _),) = self._hosts.ask({name: {"do": "prepare", "job": encode_job(there)}}).values()
        if answer["event"] != "accepted":
            raise StartError(f"host {name}: {answer.get('message', 'it was lost')}")

    def _prepare_late(self, job: Job) -> None:
        """Prepares the data on hosts that take the place of lost ones. Raises StartError."""
        if not self._reports.prepared:
            return
        limit = job.policy.start_timeout_seconds
        for name in self._readers(job):
            if name not in self._reports.prepared:
                record = self._reports.prepare_late(name, lambda name: self._prepare(job, name), limit)
                if record is None or record.code:
                    how = f"took more than {limit:g} s" if record is None else f"ended with {record.code}"
                    raise StartError(f"host {name}: the preparation of the data {how}.")

    def _readers(self, job: Job) -> list[str]:
        """The hosts with tasks that read data: all but those that only hold variables."""
        readers = [t for t in self._placed if t.type is not TaskType.PS or len(self._placed) == 1]
        return list(dict.fromkeys(self._placed[task] for task in readers))

    def _running_by_host(self, tasks: Collection[TaskId]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for task in sorted(tasks):
            if task in self._reports.running:
                found.setdefault(self._placed[task], []).append(str(task))
        return found

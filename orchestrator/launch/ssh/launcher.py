"""SshLauncher: tasks run on several hosts, each under an agent of ours that came over ssh."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from orchestrator.cluster.launcher_sections import SshSection
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import Abandoned, ConfigError, HostsAway, PortError, StartError
from orchestrator.launch.job import Job, LaunchPlan, StartMethod
from orchestrator.launch.launcher import PeakUsage, StackFile, StopKind, TaskEvent
from orchestrator.launch.local_plan import all_tasks
from orchestrator.launch.log_stream import read_logs
from orchestrator.launch.node.delivery import package, remote_command
from orchestrator.launch.node.job_wire import encode_job, encode_plan
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.ssh.client import Connect, client_of, over_ssh, somebody_to_ask
from orchestrator.launch.ssh.code_directory import CodeTree, read_code_directory
from orchestrator.launch.ssh.code_transfer import send_code
from orchestrator.launch.ssh.connection_state import ConnectionState
from orchestrator.launch.ssh.conversation import Conversation, Deliver, Terms, begin_link
from orchestrator.launch.ssh.host_comparison import require_common_ground
from orchestrator.launch.ssh.host_survey import Visit
from orchestrator.launch.ssh.placement import Capacity, declared, missing, place
from orchestrator.launch.ssh.plan import NAME, Host, job_on, make_ssh_plan, placeholder, plan_on, preparing_on
from orchestrator.launch.ssh.remote_hosts import RemoteHosts, problem
from orchestrator.launch.ssh.reports import Reports
from orchestrator.launch.ssh.shared_files import SharedFiles
from orchestrator.launch.ssh.switchboard import Switchboard

CLOSE_SECONDS = 60.0
_STOP_SECONDS = 120.0


class SshLauncher:
    """Starts tasks on the hosts of the job's `launcher_options` (a `SshSection` as plain values).

    One object serves one job, from one thread; a second one keeps up the
    conversations with the hosts. `connect` makes connections, `resolve` tells
    the addresses of hosts where the options do not, `meet` refuses hosts that
    cannot work together.
    """

    name = NAME

    def __init__(
        self,
        run_dir: Path,
        *,
        connect: Connect = over_ssh,
        resolve: Callable[[SshSection, Collection[str]], Mapping[str, str]] | None = None,
        meet: Callable[[Job, Visit], None] = require_common_ground,
    ) -> None:
        self._paths = RunDir(run_dir)
        self._connect = connect
        self._meet = meet
        self._resolve = resolve or (lambda options, names: client_of(options).host_names(list(names)))
        self._options = SshSection()
        self._grace = 0.0
        self._run_name = re.sub(r"[^A-Za-z0-9._@-]", "_", run_dir.name).lstrip(".-") or "run"
        self._run_name += f"-{secrets.token_hex(4)}"
        self._generations: dict[str, int] = {}
        self._hosts = RemoteHosts(self._conversation, Switchboard())
        self._shared = SharedFiles(self._paths, self._hosts)
        self._reports = Reports(self._paths, self._hosts, self._shared.share)
        self._addresses: dict[str, str] = {}
        self._code: CodeTree | None = None
        self._code_dir = Path()
        self._placed: dict[TaskId, str] = {}
        self._warm: set[str] = set()
        self._closed = False

    def heed(self, stopped: Callable[[], bool]) -> None:
        """As `Heeding`."""
        self._hosts.stopped = stopped

    def preview(self, job: Job) -> LaunchPlan:
        """As `Previewing`: asks `ssh` for addresses, and no host for anything."""
        self._take_options(job)
        names = self._names(job)
        self._find_addresses(names)
        placed = place(job, self._capacities(names))
        hosts = {task: self._placeholder(name) for task, name in placed.items()}
        shown = {t: declared(job, t).port or f"<port of {t}>" for t in placed}
        ports: dict[TaskId, object] = dict(shown) if job.size > 1 else {}
        plan = make_ssh_plan(job, 0, hosts, ports, code_dir=self._code_dir)
        return preparing_on(plan, hosts[min(placed)])

    def plan(self, job: Job, attempt: int) -> LaunchPlan:
        """As `Launcher.plan`; connects to the hosts and brings them the code where that is not done yet.

        Raises HostsAway where a later attempt needs hosts that were lost.
        """
        self._take_options(job)
        self._reports.begin(job)
        names = self._names(job)
        self._find_addresses(names)
        notes = self._reach(job, names, first=attempt == 0 and not self._placed)
        usable = [name for name in names if self._hosts.usable(name)]
        if not self._placed:
            addresses = {name: self._addresses[name] for name in usable}
            self._meet(job, Visit(addresses, {}, {}, self._hosts.ask))
        self._placed = self._place(job, usable)
        hosts = {task: self._host(name) for task, name in self._placed.items()}
        ports = self._hold(job, self._placed) if job.size > 1 else {}
        plan = make_ssh_plan(job, attempt, hosts, ports, code_dir=self._code_dir)
        self._shared.spread(job, {host.name: host for host in hosts.values()}, self._placed, self._code_dir)
        self._warm_up(plan, hosts.values())
        self._prepare_late(job)
        return replace(plan, notes=(*notes, *plan.notes))

    def visit(self, job: Job) -> Visit:
        """Connects to the hosts and brings them nothing, so that they can be asked; then `close`."""
        self._take_options(job)
        names = self._names(job)
        self._find_addresses(names)
        failures = self._hosts.connect(names, ask=somebody_to_ask())
        usable = [name for name in names if name not in failures]
        addresses = {name: self._addresses[name] for name in names}
        try:
            placed, unplaced = {} if failures else place(job, self._capacities(usable)), ""
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
        self._need(by_host)
        for task in chosen:
            self._reports.starting(plan, task)
        questions = {
            name: {"do": "submit", "plan": encode_plan(plan_on(plan, self._host(name), self._code_dir), here)}
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

    # Hosts

    def _take_options(self, job: Job) -> None:
        if Path(job.run_dir) != self._paths.path:
            raise ValueError(f"this launcher serves {self._paths.path}, not {job.run_dir}")
        self._options = SshSection.model_validate(dict(job.launcher_options))
        self._grace = job.policy.grace_seconds
        self._code_dir = Path(self._options.code_dir).expanduser()
        self._code_dir = Path(job.working_dir, self._code_dir).resolve()

    def _names(self, job: Job) -> list[str]:
        """Every host that may be used, as the cluster file has them."""
        named = [declared(job, task).host for task in all_tasks(job)]
        found = [*(host.name for host in self._options.hosts), *(name for name in named if name is not None)]
        if not found:
            raise ConfigError("the ssh launcher has no host: write them under 'ssh.hosts'.")
        return list(dict.fromkeys(found))

    def _find_addresses(self, names: Collection[str]) -> None:
        known = self._options.addresses
        missing = [name for name in names if name not in known and name not in self._addresses]
        if missing:
            self._addresses.update(self._resolve(self._options, missing))
        self._addresses.update({name: known[name] for name in names if name in known})

    def _capacities(self, names: Collection[str]) -> list[Capacity]:
        said = {host.name: host for host in self._options.hosts}
        found = []
        for name in names:
            welcome = self._hosts[name].welcome if self._hosts.usable(name) else {}
            cpus, gpus = welcome.get("cpus"), len(welcome["gpus"]) if "gpus" in welcome else None
            option = said.get(name)
            if option is not None and option.cpus is not None:
                cpus = option.cpus
            if option is not None and option.gpus is not None:
                gpus = option.gpus
            found.append(Capacity(name, cpus, gpus))
        return found

    def _reach(self, job: Job, names: Collection[str], *, first: bool) -> list[str]:
        """Connects to what is not connected; what there is to note. Raises EnvironmentProblem."""
        new = [name for name in names if not self._hosts.usable(name)]
        failures = self._hosts.connect(new, ask=first and somebody_to_ask())
        if failures and first:
            raise problem(failures)
        away = missing(job, failures, len(names))
        if away is not None:
            raise self._away(away)
        reached = [name for name in new if name not in failures]
        if reached:
            send_code(self._hosts, reached, self._read_code(job))
        notes = [] if self._code is None or not first else list(self._code.notes)
        return notes + [f"host {name} is left out: {reason}" for name, reason in failures.items()]

    def _place(self, job: Job, usable: Collection[str]) -> dict[TaskId, str]:
        try:
            return place(job, self._capacities(usable))
        except ConfigError as error:
            lost = [host.name for host in self._hosts.known() if not host.usable]
            if not self._placed or not lost:
                raise
            text = f"{error} Without {', '.join(lost)} there is no place for it"
            raise self._away(text) from error

    def _away(self, text: str) -> HostsAway:
        return HostsAway(text, self._options.host_wait_seconds, "ssh.host_wait_seconds")

    def _read_code(self, job: Job) -> CodeTree:
        if self._code is None:
            places = [] if "://" in job.model_dir else [Path(job.model_dir)]
            options = self._options
            self._code = read_code_directory(
                self._code_dir, options.include, options.exclude, outcomes=[self._paths.path, *places]
            )
        return self._code

    def _conversation(self, name: str, ask: bool, deliver: Deliver) -> Conversation:
        options, command = self._options, remote_command(self._options.python)
        generation = self._generations[name] = self._generations.get(name, -1) + 1
        place = re.sub(r"[^A-Za-z0-9._@-]", "_", name)
        self._warm.discard(name)
        run_id = f"{self._run_name}-{place}" + (f".{generation}" if generation else "")
        return Conversation(
            terms=Terms(run_id, options.root, options.lease_seconds, self._grace),
            package=package(),
            connect=lambda interactive: begin_link(self._connect(options, name, command, interactive)),
            deliver=deliver,
            state=ConnectionState(options.lease_seconds, self._grace, time.monotonic()),
            patience=options.connect_timeout_seconds + 60.0,
            interactive=ask,
        )

    def _host(self, name: str) -> Host:
        """What plans need to know of a host that was reached."""
        host = self._hosts[name]
        welcome = host.welcome
        (capacity,) = self._capacities([name])
        gpus = tuple(map(str, welcome["gpus"]))
        return Host(
            name=name,
            address=self._addresses[name],
            python=str(welcome["executable"]),
            run_dir=str(welcome["run_dir"]),
            code_dir=host.code_dir,
            cores=None if capacity.cpus is None else max(1, int(capacity.cpus)),
            gpus=gpus if capacity.gpus is None else gpus[: capacity.gpus],
            environ=welcome["environ"],
        )

    def _placeholder(self, name: str) -> Host:
        return placeholder(name, self._addresses[name], self._options.python)

    # Starting

    def _hold(self, job: Job, placed: Mapping[TaskId, str]) -> dict[TaskId, object]:
        """Has each host hold the ports of its tasks. Raises PortError."""
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
        for host in {host.name: host for host in hosts}.values():
            forks = any(p.host == host.name and p.start_method is StartMethod.FORK for p in plan.tasks)
            if forks and host.name not in self._warm:
                self._warm.add(host.name)
                there = job_on(plan.job, host, self._code_dir)
                self._hosts.tell(host.name, {"do": "warm", "job": encode_job(there)})

    def _need(self, names: Collection[str]) -> None:
        """Raises PortError where a host is lost: its addresses are, too."""
        lost = [name for name in names if not self._hosts.usable(name)]
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
        there = job_on(job, self._host(name), self._code_dir)
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
        readers = [t for t in all_tasks(job) if t.type is not TaskType.PS or len(self._placed) == 1]
        return list(dict.fromkeys(self._placed[task] for task in readers))

    def _running_by_host(self, tasks: Collection[TaskId]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for task in sorted(tasks):
            if task in self._reports.running:
                found.setdefault(self._placed[task], []).append(str(task))
        return found

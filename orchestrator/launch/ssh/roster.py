"""The hosts of a job: which there are, what each has, and the way to them."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from orchestrator.cluster.launcher_sections import SshSection
from orchestrator.cluster.task import TaskId
from orchestrator.errors import ConfigError, HostsAway
from orchestrator.launch.job import Job
from orchestrator.launch.local_plan import all_tasks
from orchestrator.launch.node.delivery import package, remote_command
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.ssh.client import Connect, client_of, somebody_to_ask
from orchestrator.launch.ssh.code_directory import CodeTree, read_code_directory
from orchestrator.launch.ssh.code_transfer import send_code
from orchestrator.launch.ssh.connection_state import ConnectionState
from orchestrator.launch.ssh.conversation import Conversation, Deliver, Terms, begin_link
from orchestrator.launch.ssh.placement import Capacity, declared, missing
from orchestrator.launch.ssh.plan import Host, placeholder
from orchestrator.launch.ssh.remote_hosts import RemoteHosts, problem
from orchestrator.launch.ssh.switchboard import Switchboard

Resolve = Callable[[SshSection, Collection[str]], Mapping[str, str]]
"""The addresses of hosts, by name."""


class Roster:
    """Hosts by the names that the cluster file gives them. To be used from one thread."""

    def __init__(self, paths: RunDir, connect: Connect, resolve: Resolve | None) -> None:
        self._paths = paths
        self._connect = connect
        self._resolve = resolve or (lambda options, names: client_of(options).host_names(list(names)))
        self._options = SshSection()
        self._grace = 0.0
        self._run_name = re.sub(r"[^A-Za-z0-9._@-]", "_", paths.path.name).lstrip(".-") or "run"
        self._run_name += f"-{secrets.token_hex(4)}"
        self._generations: dict[str, int] = {}
        self._code: CodeTree | None = None
        self.hosts = RemoteHosts(self._conversation, Switchboard())
        self.addresses: dict[str, str] = {}
        """As the hosts reach each other."""
        self.code_dir = Path()
        """What is sent to the hosts."""

    def take_options(self, job: Job) -> None:
        """Takes over what the job says of its hosts, and asks `ssh` for addresses where it says none."""
        self._options = SshSection.model_validate(dict(job.launcher_options))
        self._grace = job.policy.grace_seconds
        self.code_dir = Path(self._options.code_dir).expanduser()
        self.code_dir = Path(job.working_dir, self.code_dir).resolve()
        names, known = self.names(job), self._options.addresses
        unknown = [name for name in names if name not in known and name not in self.addresses]
        if unknown:
            self.addresses.update(self._resolve(self._options, unknown))
        self.addresses.update({name: known[name] for name in names if name in known})

    def names(self, job: Job) -> list[str]:
        """Every host that may be used, as the cluster file has them."""
        named = [declared(job, task).host for task in all_tasks(job)]
        found = [*(host.name for host in self._options.hosts), *(name for name in named if name is not None)]
        if not found:
            raise ConfigError("the ssh launcher has no host: write them under 'ssh.hosts'.")
        return list(dict.fromkeys(found))

    def capacities(self, names: Collection[str]) -> list[Capacity]:
        """What hosts have for tasks, as the cluster file or they themselves say."""
        said = {host.name: host for host in self._options.hosts}
        found = []
        for name in names:
            welcome = self.hosts[name].welcome if self.hosts.usable(name) else {}
            cpus, gpus = welcome.get("cpus"), len(welcome["gpus"]) if "gpus" in welcome else None
            option = said.get(name)
            if option is not None and option.cpus is not None:
                cpus = option.cpus
            if option is not None and option.gpus is not None:
                gpus = option.gpus
            found.append(Capacity(name, cpus, gpus))
        return found

    def host(self, name: str) -> Host:
        """What plans need to know of a host that was reached."""
        host = self.hosts[name]
        welcome = host.welcome
        (capacity,) = self.capacities([name])
        gpus = tuple(map(str, welcome["gpus"]))
        return Host(
            name=name,
            address=self.addresses[name],
            python=str(welcome["executable"]),
            run_dir=str(welcome["run_dir"]),
            code_dir=host.code_dir,
            cores=None if capacity.cpus is None else max(1, int(capacity.cpus)),
            gpus=gpus if capacity.gpus is None else gpus[: capacity.gpus],
            environ=welcome["environ"],
        )

    def placeholder(self, name: str) -> Host:
        """The same of a host that nobody asks anything."""
        return placeholder(name, self.addresses[name], self._options.python)

    def reach(self, job: Job, names: Collection[str], *, first: bool) -> list[str]:
        """Connects to what is not connected, and brings the code there; what there is to note.

        Raises EnvironmentProblem, and HostsAway where it is not the first time.
        """
        new = [name for name in names if not self.hosts.usable(name)]
        failures = self.hosts.connect(new, ask=first and somebody_to_ask())
        if failures and first:
            raise problem(failures)
        lost = missing(job, failures, len(self.names(job)))
        if lost is not None:
            raise self.away(lost)
        self.bring_code(job, [name for name in names if name not in failures])
        notes = [] if self._code is None or not first else list(self._code.notes)
        return notes + [f"host {name} is left out: {reason}" for name, reason in failures.items()]

    def bring_code(self, job: Job, names: Collection[str]) -> None:
        """Has hosts that were reached have a copy of the code. Raises EnvironmentProblem and Abandoned."""
        without = [name for name in names if not self.hosts[name].code_dir]
        if without:
            send_code(self.hosts, without, self._read_code(job))

    def away(self, text: str) -> HostsAway:
        """That hosts are away, which the cluster file says how long to wait for."""
        return HostsAway(text, self._options.host_wait_seconds, "ssh.host_wait_seconds")

    def tasks_without_host(self, job: Job, tasks: Collection[TaskId], error: ConfigError) -> HostsAway:
        """That tasks cannot be placed on the hosts that are left."""
        names = self.names(job)
        lost = {name: self.hosts[name].reason for name in names if not self.hosts.usable(name)}
        without = f" Without {', '.join(lost)} there is no place for it" if lost else ""
        return self.away(missing(job, lost, len(names), tasks) or f"{error}{without}")

    def _read_code(self, job: Job) -> CodeTree:
        if self._code is None:
            places = [] if "://" in job.model_dir else [Path(job.model_dir)]
            options = self._options
            self._code = read_code_directory(
                self.code_dir, options.include, options.exclude, outcomes=[self._paths.path, *places]
            )
        return self._code

    def _conversation(self, name: str, ask: bool, deliver: Deliver) -> Conversation:
        options, command = self._options, remote_command(self._options.python)
        generation = self._generations[name] = self._generations.get(name, -1) + 1
        place = re.sub(r"[^A-Za-z0-9._@-]", "_", name)
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

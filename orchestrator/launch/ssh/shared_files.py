"""The files of a run that tasks on every host read: what the experiment is, and how far the others are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import RunDirectoryError
from orchestrator.launch.job import Job
from orchestrator.launch.local_plan import all_tasks
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.ssh.plan import Host, inside_code
from orchestrator.launch.ssh.remote_hosts import RemoteHosts

_PROGRESS = "progress.json"


class SharedFiles:
    """Brings files to the run directories of hosts."""

    def __init__(self, paths: RunDir, hosts: RemoteHosts) -> None:
        self._paths = paths
        self._hosts = hosts
        self._hosts_of_evaluator: set[str] = set()
        self._followed: set[TaskId] = set()
        self._placed: Mapping[TaskId, str] = {}

    def spread(
        self, job: Job, hosts: Mapping[str, Host], placed: Mapping[TaskId, str], code_dir: Path
    ) -> None:
        """Gives each host what its tasks read at their start. Raises RunDirectoryError."""
        names = [str(task) for task in all_tasks(job)]
        for host in hosts.values():
            self._hosts.tell(host.name, {"do": "directories", "tasks": names})
            text = self._experiment(job, host, code_dir)
            if text is not None:
                self._hosts.tell(host.name, {"do": "file", "path": self._paths.experiment.name}, text)
        self._hosts_of_evaluator = {name for task, name in placed.items() if task.type is TaskType.EVALUATOR}
        self._followed = {task for task in placed if task.trains and task.index == 0}
        self._placed = placed

    def catch_up(self, host: str) -> None:
        """Gives a host, on which an evaluator is about to start, what was passed on to others before."""
        for task in self._followed:
            if self._placed.get(task) == host:
                continue
            path = self._paths.records(task).directory / _PROGRESS
            try:
                data = path.read_bytes()
            except OSError:
                continue  # it has told nothing yet
            self._hosts.tell(host, {"do": "file", "path": f"tasks/{task}/{_PROGRESS}"}, data)

    def share(self, task: TaskId, name: str, data: bytes | None) -> None:
        """Passes a record on to the evaluator, which ends when the first training task has."""
        if task not in self._followed or name != _PROGRESS:
            return
        for host in self._hosts_of_evaluator - {self._placed[task]}:
            header = {"do": "file", "path": f"tasks/{task}/{name}"}
            if data is None:
                self._hosts.tell(host, {**header, "gone": True})
            else:
                self._hosts.tell(host, header, data)

    def _experiment(self, job: Job, host: Host, code_dir: Path) -> bytes | None:
        """What the experiment program is to read on a host; None for a command."""
        if not job.is_experiment:
            return None
        try:
            value = json.loads(self._paths.experiment.read_bytes())
        except (OSError, ValueError) as error:
            raise RunDirectoryError(f"cannot read {self._paths.experiment}: {error}.") from error
        value["working_dir"] = str(Path(host.code_dir) / inside_code(job, code_dir))
        return json.dumps(value).encode()

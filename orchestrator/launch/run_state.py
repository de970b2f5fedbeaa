"""`launcher.json`: who runs a run, and how far it is; readable from any terminal, also after a crash."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.cluster.files import read_json, write_json_atomically
from orchestrator.cluster.records import EvaluationRecord, ExitRecord, ProgressRecord
from orchestrator.cluster.task import TaskId
from orchestrator.errors import ConfigError, RunDirectoryError
from orchestrator.launch.job import LaunchPlan
from orchestrator.launch.process_identity import ProcessIdentity
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.snapshot import RunPhase, Snapshot, TaskView

FORMAT = 1


@dataclass(frozen=True)
class RunState:
    """Content of `launcher.json`. Times are seconds since the epoch."""

    name: str
    phase: RunPhase
    process: ProcessIdentity
    host: str
    started: float
    updated: float
    launcher: str = ""
    strategy: str = ""
    model_dir: str = ""
    run_dir: str = ""
    """As the tasks were told it: the mark by which their processes are found."""
    attempt: int = 0
    restarts: int = 0
    exit_code: int | None = None
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """The launcher still runs on this machine."""
        return self.host == socket.gethostname() and self.process.alive()

    @property
    def crashed(self) -> bool:
        """The launcher is gone without having said how the run ended."""
        return not self.phase.final and self.host == socket.gethostname() and not self.process.alive()

    def write(self, run_dir: RunDir) -> None:
        """Replaces the file; OSError as the file system raises it."""
        value = {
            "format": FORMAT,
            "name": self.name,
            "state": self.phase.value,
            **self.process.as_json(),
            "host": self.host,
            "started": self.started,
            "updated": self.updated,
            "launcher": self.launcher,
            "strategy": self.strategy,
            "model_dir": self.model_dir,
            "run_dir": self.run_dir,
            "attempt": self.attempt,
            "restarts": self.restarts,
            "exit_code": self.exit_code,
            "tasks": dict(self.tasks),
        }
        write_json_atomically(run_dir.launcher, value)

    @staticmethod
    def read(run_dir: RunDir) -> RunState:
        """Reads the file. Raises RunDirectoryError where there is none, or none that can be read."""
        if not run_dir.path.is_dir():
            raise RunDirectoryError(f"there is no run directory {run_dir.path}.")
        value = read_json(run_dir.launcher)
        if not isinstance(value, dict):
            raise RunDirectoryError(
                f"{run_dir.path} holds no run: {run_dir.launcher.name} is missing or damaged."
            )
        process = ProcessIdentity.from_json(value)
        try:
            if process is None:
                raise KeyError("pid")
            return RunState(
                name=str(value["name"]),
                phase=RunPhase(value["state"]),
                process=process,
                host=str(value["host"]),
                started=float(value["started"]),
                updated=float(value["updated"]),
                launcher=str(value.get("launcher", "")),
                strategy=str(value.get("strategy", "")),
                model_dir=str(value.get("model_dir", "")),
                run_dir=str(value.get("run_dir", run_dir.path)),
                attempt=int(value.get("attempt", 0)),
                restarts=int(value.get("restarts", 0)),
                exit_code=value.get("exit_code"),
                tasks=value.get("tasks", {}),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunDirectoryError(f"{run_dir.launcher} is damaged: {error!r}.") from error

    def snapshot(self, run_dir: RunDir) -> Snapshot:
        """The run as its files have it now."""
        views = []
        for name, value in self.tasks.items():
            try:
                task = TaskId.parse(name)
            except ConfigError:
                continue
            records = run_dir.records(task)
            left = records.read(ExitRecord) if value.get("state") == "running" else None
            views.append(
                TaskView(
                    task=task,
                    state="ended" if left is not None else str(value.get("state", "")),
                    pid=value.get("pid"),
                    starts=int(value.get("starts", 0)),
                    code=left.code if left is not None else value.get("code"),
                    address=value.get("address"),
                    host=str(value.get("host", "")),
                    progress=records.read(ProgressRecord),
                    evaluation=records.read(EvaluationRecord),
                )
            )
        return Snapshot(self.phase, self.attempt, tuple(sorted(views, key=lambda view: view.task)))


def tasks_as_json(views: tuple[TaskView, ...]) -> dict[str, dict[str, Any]]:
    """The `tasks` of `launcher.json`."""
    return {
        str(view.task): {
            "state": view.state,
            "pid": view.pid,
            "starts": view.starts,
            "code": view.code,
            "address": view.address,
            "host": view.host,
        }
        for view in views
    }


def plan_as_json(plan: LaunchPlan) -> dict[str, Any]:
    """A plan as plain JSON, as `plan.json` holds it; secrets are masked."""
    job = plan.job
    masker = job.masker()
    return {
        "name": job.name,
        "attempt": plan.attempt,
        "launcher": plan.launcher,
        "strategy": job.strategy.value,
        "model_dir": job.model_dir,
        "data_dir": job.data_dir,
        "working_dir": str(job.working_dir),
        "command": masker.plain(job.command),
        "policy": _plain(dataclasses.asdict(job.policy)),
        "cluster": plan.cluster.as_dict() if plan.cluster is not None else None,
        "notes": list(plan.notes),
        "tasks": {
            str(task.task): {
                "host": task.host,
                "address": task.address,
                "env": masker.environment(task.env),
                "command": masker.plain(task.command),
                "start_method": task.start_method.value,
                "why": task.why,
                "log": str(task.log_path),
            }
            for task in plan.tasks
        },
    }


def find_run(text: str, runs: Path = Path("runs")) -> RunDir:
    """The run directory that `text` names: a path, a name under `runs`, or the newest run of a cluster name.

    Raises ConfigError that lists the newest runs when there is none.
    """
    for candidate in (Path(text), runs / text):
        if RunDir(candidate).launcher.exists():
            return RunDir(candidate.absolute())
    found = runs_under(runs)
    named = [path for path in found if path.name.startswith(f"{text}-")]
    if named:
        return RunDir(named[0].absolute())
    hint = f" The newest are: {', '.join(path.name for path in found[:5])}." if found else ""
    raise ConfigError(f"there is no run '{text}', neither as a path nor under {runs}/.{hint}")


def runs_under(runs: Path) -> list[Path]:
    """Run directories under `runs`, the newest first."""
    try:
        found = [path for path in runs.iterdir() if RunDir(path).launcher.exists()]
    except OSError:
        return []
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value

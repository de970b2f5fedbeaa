"""What the use of resources gives reason to say while a job runs on this machine."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.cluster.records import Phase, ProgressRecord
from orchestrator.cluster.task import TaskId
from orchestrator.launch.job import Job
from orchestrator.launch.local_plan import all_tasks
from orchestrator.launch.memory_watch import MemoryWatch
from orchestrator.launch.resources import Usage
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.starvation_watch import StarvationWatch


class ResourceWarnings:
    """Memory that runs out soon, and an input that keeps training waiting; each is told once."""

    def __init__(self, job: Job, *, gpu: bool) -> None:
        self._job = job
        self._paths = RunDir(job.run_dir)
        self._gpu = gpu
        self._memory = MemoryWatch()
        self._starvation = StarvationWatch()

    def look(self, now: float, usage: Mapping[TaskId, Usage]) -> list[str]:
        """What is to be said at this sample; `now` is monotonic seconds."""
        if not usage:
            return []
        requests = {task: self._job.tasks[task.type] for task in usage}
        declared = {task: r.memory_bytes for task, r in requests.items() if r.memory_bytes is not None}
        used = {task: use.memory_bytes for task, use in usage.items()}
        found = self._memory.look(now, used, declared)
        if not self._gpu:  # where a GPU computes, idle processors say nothing
            steps = {task: step for task in usage for step in [self._step(task)] if step is not None}
            percents = {task: use.cpu_percent for task, use in usage.items()}
            found += self._starvation.look(now, percents, steps, all_tasks(self._job))
        return found

    def _step(self, task: TaskId) -> int | None:
        """The step of a task that takes steps now."""
        record = self._paths.records(task).read(ProgressRecord) if task.trains else None
        return record.step if record is not None and record.phase is Phase.STEPPING else None

"""Which part of the machine each task gets: threads for its share of the cores, GPUs by its role. Pure.

Every process of TensorFlow takes all cores and all GPUs unless it is told
otherwise; co-located ones then get in each other's way. A lone process is told
nothing, and what the user has set stays.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cluster.task import TaskId
from orchestrator.launch.job import Job

INTRA_OP = "TF_NUM_INTRAOP_THREADS"
INTER_OP = "TF_NUM_INTEROP_THREADS"
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
NO_GPU = "-1"
LEAST_INTER_OP = 2
"""With a single thread between operations, one that blocks (a queue, a Python function) stops all others."""


@dataclass(frozen=True)
class Machine:
    """What there is to share."""

    cores: int | None = None
    """None: unknown, and nothing is shared out."""
    gpus: tuple[str, ...] = ()
    """As CUDA_VISIBLE_DEVICES names them: numbers, or UUIDs where it was inherited so."""

    @staticmethod
    def look(environ: Mapping[str, str], devices: Path = Path("/dev")) -> Machine:
        """This machine, as far as this process may use it and CUDA_VISIBLE_DEVICES lets through."""
        present = len(list(devices.glob("nvidia[0-9]*")))
        return Machine(len(os.sched_getaffinity(0)), visible_gpus(environ.get(VISIBLE_GPUS), present))


def visible_gpus(selection: str | None, present: int) -> tuple[str, ...]:
    """The GPUs that CUDA would show: all that are `present`, or the selected ones up to the first wrong one.

    A GPU may be cut into any number of MIG instances, which only a selection names.
    """
    if selection is None:
        return tuple(map(str, range(present)))
    chosen: list[str] = []
    for entry in (word.strip() for word in selection.split(",")):
        whole = not entry.startswith("MIG-")
        if not present or not _names_gpu(entry, present) or entry in chosen:
            break
        if whole and len(chosen) == present:
            break
        chosen.append(entry)
    return tuple(chosen)


def _names_gpu(entry: str, present: int) -> bool:
    if entry.isdecimal():
        return int(entry) < present
    return entry.startswith(("GPU-", "MIG-"))  # what Slurm and containers write for "none" is neither


def shares(job: Job, tasks: list[TaskId], machine: Machine) -> tuple[dict[TaskId, dict[str, str]], list[str]]:
    """The variables of each task, and what people should know about them."""
    if len(tasks) < 2:
        return {task: {} for task in tasks}, []
    gpus, notes = _deal_gpus(job, tasks, machine.gpus)
    return {
        task: {**_threads(job, task, tasks, machine.cores), **gpus.get(task, {})} for task in tasks
    }, notes


def _threads(job: Job, task: TaskId, tasks: list[TaskId], cores: int | None) -> dict[str, str]:
    declared = job.tasks[task.type].cpus
    if cores is None and declared is None:
        return {}
    computing = [other for other in tasks if other.trains] or tasks
    share = (cores or 1) // len(computing) if declared is None else round(declared)
    intra = max(1, share)
    return {INTRA_OP: str(intra), INTER_OP: str(max(LEAST_INTER_OP, intra))}


def _deal_gpus(
    job: Job, tasks: list[TaskId], gpus: tuple[str, ...]
) -> tuple[dict[TaskId, dict[str, str]], list[str]]:
    """First those that declare how many they need, then training tasks in equal parts; others get none."""
    if not gpus:
        return {}, []
    notes: list[str] = []
    left = list(gpus)
    dealt: dict[TaskId, list[str]] = {}
    for task in tasks:
        wanted = job.tasks[task.type].gpus
        if wanted is None:
            continue
        dealt[task], left = left[:wanted], left[wanted:]
        if len(dealt[task]) < wanted:
            notes.append(f"{task} asks for {wanted} GPUs and gets {len(dealt[task])}: there are {len(gpus)}")
    sharing = [task for task in tasks if task.trains and task not in dealt]
    if sharing and not left:
        notes.append(f"no GPU is left for {', '.join(map(str, sharing))}")
    elif len(left) < len(sharing):
        notes.append(f"{len(sharing)} training tasks share {len(left)} GPU{'s' * (len(left) > 1)}")
    for i, task in enumerate(sharing):
        part = left[i :: len(sharing)]
        dealt[task] = part or (left[i % len(left) :][:1] if left else [])
    return {task: {VISIBLE_GPUS: ",".join(dealt.get(task, [])) or NO_GPU} for task in tasks}, notes

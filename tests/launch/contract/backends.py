"""The backends that keep the contract of a launcher, each ready to run small programs."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from orchestrator.cluster.launcher_sections import SshSection
from orchestrator.cluster.records import ENV_RUN_DIR
from orchestrator.launch.job import Job, LaunchPlan, StartMethod
from orchestrator.launch.launcher import Launcher
from orchestrator.launch.local import LocalLauncher
from orchestrator.launch.process_tree import processes_of_run
from orchestrator.launch.ssh.client import Connect
from orchestrator.launch.ssh.launcher import SshLauncher
from tests.launch.local_runs import local_job, wait_until


class Backend(Protocol):
    """Where the tests run."""

    name: str

    def job(self, folder: Path, command: Collection[str], **replicas: int) -> Job:
        """A job that runs `command`, its code in `folder / "code"`, its run directory beside that."""

    def make(self, job: Job) -> Launcher: ...


class Local:
    """This machine."""

    name = "local"

    def job(self, folder: Path, command: Collection[str], **replicas: int) -> Job:
        job = local_job(folder, tuple(command), **replicas)
        return replace(job, working_dir=folder / "code", start_method=StartMethod.EXEC)

    def make(self, job: Job) -> Launcher:
        return LocalLauncher(job.run_dir, imports=("json",))


class Ssh:
    """Two hosts that are this machine, behind a shell in place of ssh."""

    name = "ssh"

    def job(self, folder: Path, command: Collection[str], **replicas: int) -> Job:
        options = {
            "hosts": ({"name": "h1"}, {"name": "h2"})[: sum(replicas.values()) or 1],
            "root": str(folder / "root"),
            "python": sys.executable,
        }
        return replace(Local().job(folder, command, **replicas), launcher_options=options)

    def make(self, job: Job) -> Launcher:
        return ssh_launcher(job, through_a_shell)


def ssh_launcher(job: Job, connect: Connect) -> SshLauncher:
    """A launcher whose hosts need not reach each other: they are all this machine."""
    return SshLauncher(
        job.run_dir, connect=connect, resolve=named_after_themselves, meet=lambda job, visit: None
    )


def through_a_shell(options: SshSection, host: str, command: str, interactive: bool) -> list[str]:
    """The connection: the command is run as a login shell would."""
    return ["sh", "-c", command]


def named_after_themselves(options: SshSection, names: Collection[str]) -> dict[str, str]:
    """Addresses that nobody has to reach."""
    return {name: f"{name}.test" for name in names}


BACKENDS: tuple[Backend, ...] = (Local(), Ssh())


@contextmanager
def launched(backend: Backend, job: Job) -> Iterator[tuple[Launcher, LaunchPlan]]:
    """A launcher and the plan of the first attempt; asserts that nothing runs when it is closed."""
    made: Any = backend.make(job)
    plan: LaunchPlan | None = None
    try:
        plan = made.plan(job, 0)
        assert plan is not None
        yield made, plan
    finally:
        made.close()
        made.close()
    places = {Path(part.env[ENV_RUN_DIR]) for part in plan.tasks} if plan is not None else set()
    wait_until(lambda: not any(processes_of_run(place) for place in places), "the end of all processes")

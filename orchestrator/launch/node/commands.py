"""What a launcher asks of an agent, by name."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from orchestrator.cluster.files import write_bytes_atomically
from orchestrator.cluster.task import TaskId
from orchestrator.errors import OrchestratorError, PortError, StartError
from orchestrator.launch.job import Job, LaunchPlan
from orchestrator.launch.launcher import StopKind
from orchestrator.launch.local import LocalLauncher
from orchestrator.launch.node import facts
from orchestrator.launch.node.code_store import CodeStore
from orchestrator.launch.node.code_tree import CodeStoreError
from orchestrator.launch.node.frames import Header
from orchestrator.launch.node.job_wire import decode_job, decode_plan
from orchestrator.launch.node.outbox import Outbox
from orchestrator.launch.node.places import Places
from orchestrator.launch.run_dir import RunDir

Answer = Callable[[tuple[Header, bytes]], None]
_KINDS: Mapping[type[Exception], str] = {PortError: "port", StartError: "start", CodeStoreError: "code"}
_STARTING = ("submit", "prepare", "warm", "hold")


class Commands:
    """Does what it is told; answers and refusals go to the outbox.

    `answer_later` takes answers from another thread.
    """

    def __init__(
        self,
        places: Places,
        launcher: LocalLauncher,
        outbox: Outbox,
        *,
        package: Path,
        answer_later: Answer,
    ) -> None:
        self._places = places
        self._launcher = launcher
        self._outbox = outbox
        self._answer_later = answer_later
        self._package = package
        self._code = CodeStore(places.root)
        self._code.prune()
        self._by_name: Mapping[str, Callable[[Header, bytes], None]] = {
            "directories": self._directories,
            "file": self._file,
            "hold": self._hold,
            "submit": self._submit,
            "prepare": self._prepare,
            "warm": self._warm,
            "stop": self._stop,
            "signal": self._signal,
            "dump_stacks": self._dump_stacks,
            "offer": self._offer,
            "blob": self._blob,
            "tree": self._tree,
            "facts": self._facts,
        }

    def obey(self, header: Header, payload: bytes, ending: bool) -> None:
        """Does one thing; whatever is wrong with it is answered by `refused`."""
        do = str(header.get("do"))
        try:
            if do not in self._by_name:
                raise ValueError(f"'{do}' is nothing that can be asked for")
            if ending and do in _STARTING:
                raise StartError("nothing is started any more: the launcher was not heard for too long.")
            self._by_name[do](header, payload)
        except (OrchestratorError, OSError, KeyError, TypeError, ValueError) as error:
            kind = next((name for base, name in _KINDS.items() if isinstance(error, base)), "error")
            text = str(error) if isinstance(error, OrchestratorError) else f"{do}: {error!r}"
            self._answer(header, "refused", kind=kind, message=text)

    def close(self) -> None:
        """Lets go of what was used for the run."""
        self._code.close()

    def _answer(self, header: Header, event: str, **said: object) -> None:
        self._outbox.add({"event": event, "request": header.get("request"), **said})

    def _directories(self, header: Header, _: bytes) -> None:
        RunDir(self._places.run_dir).create_records(_tasks(header["tasks"]))

    def _file(self, header: Header, payload: bytes) -> None:
        target = self._places.inside(header["path"])
        if header.get("gone"):
            target.unlink(missing_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomically(target, payload)

    def _hold(self, header: Header, _: bytes) -> None:
        wanted = {TaskId.parse(task): port for task, port in header["tasks"].items()}
        ports = {str(task): self._launcher.hold(task, port) for task, port in wanted.items()}
        self._answer(header, "held", ports=ports)

    def _submit(self, header: Header, _: bytes) -> None:
        plan = with_package(decode_plan(header["plan"]), self._package)
        RunDir(self._places.run_dir).create_records(part.task for part in plan.tasks)
        self._launcher.submit(plan)
        self._answer(header, "accepted")

    def _prepare(self, header: Header, _: bytes) -> None:
        job = decode_job(header["job"])
        self._launcher.prepare(replace(job, env=_extended(job.env, self._package)))
        self._answer(header, "accepted")

    def _warm(self, header: Header, _: bytes) -> None:
        job = decode_job(header["job"])
        self._launcher.warm(replace(job, env=_extended(job.env, self._package)))

    def _stop(self, header: Header, _: bytes) -> None:
        self._launcher.stop(_tasks(header["tasks"]), StopKind(header["kind"]))

    def _signal(self, header: Header, _: bytes) -> None:
        self._launcher.signal(_tasks(header["tasks"]), int(header["signal"]))

    def _dump_stacks(self, header: Header, _: bytes) -> None:
        asked = self._launcher.dump_stacks(_tasks(header["tasks"]))
        files = {str(task): [file.path.name, file.size_before] for task, file in asked.items()}
        self._answer(header, "stacks", files=files)

    def _offer(self, header: Header, _: bytes) -> None:
        self._answer(header, "missing", digests=self._code.missing(header["digests"]))

    def _blob(self, header: Header, payload: bytes) -> None:
        self._code.put(header["digest"], payload)

    def _tree(self, header: Header, _: bytes) -> None:
        path = self._code.tree(header["digest"], header["entries"])
        self._answer(header, "tree_ready", path=str(path))

    def _facts(self, header: Header, _: bytes) -> None:
        threading.Thread(target=self._gather, args=(header,), daemon=True).start()

    def _gather(self, header: Header) -> None:
        said: Header = {"request": header.get("request")}
        try:
            found = facts.gather(header, sys.executable, self._launcher.environ)
        except Exception as error:
            said |= {"event": "refused", "kind": "facts", "message": f"{type(error).__name__}: {error}"}
        else:
            said |= {"event": "facts", "facts": found}
        self._answer_later((said, b""))


def _tasks(names: Collection[str]) -> list[TaskId]:
    return [TaskId.parse(name) for name in names]


def with_package(plan: LaunchPlan, package: Path) -> LaunchPlan:
    """The plan with the package found by every Python of it, also where the user has set PYTHONPATH."""
    job: Job = replace(plan.job, env=_extended(plan.job.env, package))
    tasks = tuple(replace(part, env=_extended(part.env, package)) for part in plan.tasks)
    return replace(plan, job=job, tasks=tasks)


def _extended(env: Mapping[str, str], package: Path) -> Mapping[str, str]:
    path = env.get("PYTHONPATH")
    return env if path is None else {**env, "PYTHONPATH": f"{path}:{package}" if path else str(package)}

"""Whether hosts fit a job and each other: a table, and what stands against it. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.cluster.quantity import format_size
from orchestrator.cluster.task import TaskId
from orchestrator.errors import EnvironmentProblem
from orchestrator.launch.job import Job
from orchestrator.launch.ssh.host_survey import HostAnswers, Visit, survey

OLDEST_TENSORFLOW = (2, 16)
ENOUGH_SPACE = 256 * 1024**2
"""Bytes below which checkpoints of a small model already fill the disk."""
COLUMNS = ("host", "tasks", "python", "tensorflow", "cpus", "memory", "gpus", "ports", "model dir")
NOTHING = "-"


@dataclass(frozen=True)
class Needs:
    """What the tasks of one host declare together."""

    tasks: int = 0
    cpus: float = 0.0
    memory_bytes: int = 0
    gpus: int = 0


@dataclass(frozen=True)
class Comparison:
    """The answer: go when there is no problem."""

    rows: tuple[tuple[str, ...], ...]
    """One a host, in the order of COLUMNS: its tasks, and what it has."""
    problems: tuple[str, ...]
    """Each with what to do about it."""
    remarks: tuple[str, ...]

    @property
    def go(self) -> bool:
        return not self.problems


def needs_by_host(job: Job, placed: Mapping[TaskId, str]) -> dict[str, Needs]:
    """What each host must have for the tasks that are placed there."""
    found: dict[str, Needs] = {}
    for task, host in placed.items():
        request, so_far = job.tasks[task.type], found.get(host, Needs())
        found[host] = Needs(
            so_far.tasks + 1,
            so_far.cpus + (request.cpus or 0),
            so_far.memory_bytes + (request.memory_bytes or 0),
            so_far.gpus + (request.gpus or 0),
        )
    return found


def compare(
    job: Job, answers: Mapping[str, HostAnswers], needs: Mapping[str, Needs], *, tensorflow: bool = True
) -> Comparison:
    """Judges the answers of all hosts. `tensorflow`: the tasks run it by the hosts' interpreter."""
    heard = {name: answer for name, answer in answers.items() if answer.facts and not answer.problem}
    problems = [f"{name}: {answer.problem}" for name, answer in answers.items() if answer.problem]
    for name, answer in heard.items():
        problems += _of_one(answer, needs.get(name, Needs()))
        if tensorflow:
            problems += _tensorflow_of(answer)
    problems += _network(heard)
    problems += _model_dir(job.model_dir, heard)
    remarks: list[str] = []
    if tensorflow and _split(heard, _tensorflow, _minor):
        problems += _differing(heard, "TensorFlow", _tensorflow, str, "Install one version on all hosts.")
    elif tensorflow:
        remarks += _differing(heard, "TensorFlow", _tensorflow, str)
    problems += _differing(heard, "the processor", _of("machine"), str, "Use hosts of one kind.")
    remarks += _differing(heard, "Python", _of("python"), _minor)
    for package in dict.fromkeys(p for answer in heard.values() for p in answer.facts["packages"]):
        remarks += _differing(heard, package, _version_of(package), str)
    rows = tuple(_row(answer, needs.get(name, Needs()).tasks) for name, answer in answers.items())
    return Comparison(rows, tuple(problems), tuple(remarks))


def require_common_ground(job: Job, visit: Visit) -> None:
    """Has the hosts look for each other and for the model directory, before tasks do.

    A URL is left to the tasks: to ask for it takes as long as they take to start.
    Raises EnvironmentProblem that names every host at fault, and the fix.
    """
    if "://" in job.model_dir:
        return
    answers = survey(job, visit)
    heard = {name: answer for name, answer in answers.items() if answer.facts and not answer.problem}
    problems = [f"{name}: {answer.problem}" for name, answer in answers.items() if answer.problem]
    problems += [*_model_dir(job.model_dir, heard), *_network(heard)]
    if problems:
        raise EnvironmentProblem("\n  ".join(["the hosts cannot run this job together:", *problems]))


def _of_one(answer: HostAnswers, needs: Needs) -> Iterator[str]:
    """What one host lacks for its own tasks."""
    host, facts = answer.host, answer.facts
    lower = "Lower resources.{} or replicas, or put tasks on other hosts."
    if needs.cpus > (facts["cpus"] or float("inf")):
        yield f"{host}: {needs.cpus:g} cores declared, {facts['cpus']} usable. {lower.format('cpus')}"
    available = facts["available_bytes"]
    if available is not None and needs.memory_bytes > available:
        declared = format_size(needs.memory_bytes)
        yield f"{host}: {declared} declared, {format_size(available)} available. {lower.format('memory')}"
    if needs.gpus > len(facts["gpus"]):
        yield f"{host}: {needs.gpus} GPUs declared, {len(facts['gpus'])} visible. {lower.format('gpus')}"
    if facts["port_error"] is not None:
        fix = "Write another one under 'hosts', or none."
        yield f"{host}: its port cannot be held: {facts['port_error']}. {fix}"
    if facts["python_error"] is not None:
        yield f"{host}: {facts['executable']} cannot be asked for its packages: {facts['python_error']}."
        return
    lacking = [name for name, version in facts["packages"].items() if version is None]
    if lacking:
        install = f"{facts['executable']} -m pip install {' '.join(lacking)}"
        yield f"{host}: lacks {', '.join(lacking)}. Run there: {install}"


def _tensorflow_of(answer: HostAnswers) -> Iterator[str]:
    version = _tensorflow(answer)
    if version is None and answer.facts["python_error"] is None:
        yield (
            f"{answer.host}: {answer.facts['executable']} has no TensorFlow. Install it there"
            " (pip install 'tensorflow>=2.16'), or name another interpreter with ssh.python."
        )
    elif version and _numbers(version) and _numbers(version) < OLDEST_TENSORFLOW:
        yield f"{answer.host}: TensorFlow {version} is too old. Install 2.16 or later."


def _network(heard: Mapping[str, HostAnswers]) -> Iterator[str]:
    """Names that mean nothing to a host, and hosts that do not reach each other."""
    for name, answer in heard.items():
        for other in heard.values():
            if other.host == name:
                continue
            address, found = other.address, answer.facts["names"].get(other.address, [])
            example = f"ssh: {{addresses: {{{other.host}: 10.0.0.5}}}}"
            fix = f"Give {other.host} an address that all hosts know: '{example}'."
            if isinstance(found, str):
                yield f"{name} cannot resolve {address}: {found}. {fix}"
            elif any(ipaddress.ip_address(ip.split("%")[0]).is_loopback for ip in found):
                yield f"{name} takes {address} for itself ({', '.join(found)}). {fix}"
            elif answer.reached.get(other.host) is not None:
                yield (
                    f"{name} cannot connect to {other.host} ({address}, port {other.facts['port']}):"
                    f" {answer.reached[other.host]}. Tasks use any port: open them between the hosts,"
                    " or write open ones under 'hosts' as HOST:PORT."
                )


def _model_dir(model_dir: str, heard: Mapping[str, HostAnswers]) -> Iterator[str]:
    """Whether all hosts write to one and the same directory."""
    fix = "Use a directory on a file system that all hosts share, or a URL (--model-dir)."
    wrong = False
    for name, answer in heard.items():
        found = answer.facts["model_dir"]
        if found["error"] is not None:
            wrong = True
            yield f"{name}: model dir {model_dir} cannot be written: {found['error']}. {fix}"
        elif found["free_bytes"] is not None and found["free_bytes"] < ENOUGH_SPACE:
            free = format_size(found["free_bytes"])
            yield f"{name}: {free} are free at model dir {model_dir}. Free some, or name another --model-dir."
    if wrong:
        return
    places = _groups(heard, lambda answer: str(answer.facts["model_dir"]["place"]))
    if len(places) > 1:
        text = "; ".join(f"on {', '.join(hosts)} there is {place}" for place, hosts in places.items())
        yield f"model dir {model_dir} is not shared: {text}. {fix}"
        return
    for name, answer in heard.items():
        unseen = [other for other, why in answer.seen.items() if why is not None]
        if unseen:
            wrote = " and ".join(unseen) if len(unseen) < 3 else f"{len(unseen)} others"
            yield f"model dir {model_dir} is not shared: {name} does not see what {wrote} wrote there. {fix}"
            return  # the others would say the same


def _row(answer: HostAnswers, tasks: int) -> tuple[str, ...]:
    if answer.problem or not answer.facts:
        return (answer.host, str(tasks), *(NOTHING for _ in COLUMNS[2:]))
    facts = answer.facts
    available = facts["available_bytes"]
    shared = facts["model_dir"]["error"] is None and not any(answer.seen.values())
    unreached = [other for other, why in answer.reached.items() if why is not None]
    return (
        answer.host,
        str(tasks),
        str(facts["python"]),
        _tensorflow(answer) or "none",
        str(facts["cpus"]),
        NOTHING if available is None else format_size(available),
        str(len(facts["gpus"])),
        "taken" if facts["port_error"] else "closed" if unreached else "free",
        "ok" if shared else "no",
    )


def _differing(
    heard: Mapping[str, HostAnswers],
    what: str,
    value: Callable[[HostAnswers], str | None],
    key: Callable[[str], str],
    fix: str = "",
) -> list[str]:
    """One text where hosts that have it have different ones."""
    if not _split(heard, value, key):
        return []
    texts = _groups({n: a for n, a in heard.items() if value(a) is not None}, lambda a: str(value(a)))
    shown = "; ".join(f"{text} on {', '.join(hosts)}" for text, hosts in texts.items())
    return [f"{what} differs: {shown}.{' ' * bool(fix)}{fix}"]


def _split(
    heard: Mapping[str, HostAnswers], value: Callable[[HostAnswers], str | None], key: Callable[[str], str]
) -> bool:
    return len({key(text) for answer in heard.values() if (text := value(answer)) is not None}) > 1


def _groups(
    heard: Mapping[str, HostAnswers], value: Callable[[HostAnswers], str]
) -> dict[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for name, answer in heard.items():
        found.setdefault(value(answer), []).append(name)
    return dict(found)


def _of(fact: str) -> Callable[[HostAnswers], str | None]:
    return lambda answer: str(answer.facts[fact])


def _version_of(package: str) -> Callable[[HostAnswers], str | None]:
    return lambda answer: answer.facts["packages"].get(package)


def _tensorflow(answer: HostAnswers) -> str | None:
    version: str | None = answer.facts["tensorflow"]
    return version


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _minor(version: str) -> str:
    return ".".join(map(str, _numbers(version)))

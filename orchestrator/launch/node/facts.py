"""What a host has, and what it sees of the other hosts. Runs on the host; standard library only.

Asked in three stages, each on all hosts before the next. `begin` looks around,
leaves a file in the model directory and listens on a port; `look` looks for the
files of the others and connects to their ports; `end` takes both away. They
also end by themselves when nobody asks.
"""

from __future__ import annotations

import os
import platform
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.errors import EnvironmentProblem
from orchestrator.launch.device_shares import Machine
from orchestrator.launch.node.asked_python import ask_python
from orchestrator.launch.node.model_dir_probe import ModelDirProbe

TENSORFLOW_DISTRIBUTIONS = (
    *("tensorflow", "tensorflow-cpu", "tf-nightly", "tf-nightly-cpu"),
    *("tensorflow-rocm", "tensorflow-aarch64", "intel-tensorflow"),
)
KEPT_SECONDS = 180.0
"""A probe that nobody ends goes away after so long."""
ANSWER_SECONDS = 10.0
"""For a name to be resolved, and for another host to answer."""
PYTHON_SECONDS = 60.0
"""For the interpreter to start and look for packages."""
UNKNOWN = "?"
"""The version of a module that no distribution brought."""
_VERSIONS = """\
import importlib.metadata, importlib.util
def version(distribution, module):
    try:
        if importlib.util.find_spec(module) is None:
            return None
    except (ImportError, ValueError):
        return None
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "?"
def answer(question):
    return {distribution: version(distribution, module) for distribution, module in question}
"""
_T = TypeVar("_T")
_probes: dict[str, _Probe] = {}


def gather(header: Mapping[str, Any], executable: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """The answer to one stage; `executable` and `environ` are those that tasks will have.

    Takes a while: to be called in a thread of its own. What the host lacks is
    said in the answer; raises EnvironmentProblem when the stages come out of order.
    """
    token = str(header["token"])
    if header["stage"] == "begin" and token.replace("-", "").isalnum():
        probe = _Probe(token, ModelDirProbe(str(header["model_dir"]), token, executable, environ))
        _probes[token] = probe
        return {**_machine(header, executable, environ), **probe.begin(header.get("port"))}
    if token not in _probes:
        raise EnvironmentProblem("the check of this host has ended before. Start it again.")
    probe = _probes[token]
    if header["stage"] == "look":
        return probe.look(header["others"], header["tokens"])
    del _probes[token]
    probe.end()
    return {}


class _Probe:
    """What one token stands for on this host: a file, and a port that answers with the token."""

    def __init__(self, token: str, model_dir: ModelDirProbe) -> None:
        self._token = token
        self._model_dir = model_dir
        self._listener: socket.socket | None = None
        self._ended = threading.Event()
        self._server = threading.Thread(target=self._serve, daemon=True)

    def begin(self, port: int | None) -> dict[str, Any]:
        """Leaves the file and listens, on `port` where one is declared."""
        found: dict[str, Any] = {"port": None, "port_error": None}
        try:
            self._listener = socket.create_server(("", port or 0), backlog=64, reuse_port=False)
            found["port"] = self._listener.getsockname()[1]
        except OSError as error:
            found["port_error"] = os.strerror(error.errno) if error.errno else str(error)
        found["model_dir"] = self._model_dir.leave()
        self._server.start()
        return found

    def look(self, others: Mapping[str, Mapping[str, Any]], tokens: Sequence[str]) -> dict[str, Any]:
        """Calls `others`, host -> {address, port, token}; None for what is reached or seen, else why not."""
        reached = in_parallel({name: _caller(other) for name, other in others.items()})
        return {"reached": reached, "seen": self._model_dir.look(tokens)}

    def end(self) -> None:
        """Takes away file and port; may be called twice."""
        self._ended.set()
        if threading.current_thread() is not self._server:
            self._server.join(ANSWER_SECONDS)  # a port stays open while somebody waits on it
        if self._listener is not None:
            self._listener.close()
        self._model_dir.take_away()

    def _serve(self) -> None:
        end = time.monotonic() + KEPT_SECONDS
        if self._listener is not None:
            self._listener.settimeout(0.5)
        while not self._ended.is_set() and time.monotonic() < end:
            try:
                if self._listener is None:
                    self._ended.wait(0.5)
                    continue
                connection, _ = self._listener.accept()
                with connection:
                    connection.settimeout(ANSWER_SECONDS)
                    connection.sendall(self._token.encode())
                    connection.recv(1)  # who hangs up last leaves no trace on the port
            except OSError:
                continue  # nobody called, the caller went away, or the end
        self.end()


def in_parallel(
    questions: Mapping[str, Callable[[], _T]], limit: float = 2 * ANSWER_SECONDS
) -> dict[str, Any]:
    """The answers by name; a text where there is none in time or at all."""
    answers: dict[str, Any] = dict.fromkeys(questions, f"no answer in {limit:g} s")
    threads = []
    for name, question in questions.items():

        def ask(name: str = name, question: Callable[[], _T] = question) -> None:
            try:
                answers[name] = question()
            except OSError as error:
                answers[name] = error.strerror or str(error)

        threads.append(threading.Thread(target=ask, daemon=True))
        threads[-1].start()
    end = time.monotonic() + limit
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(answers)


def _machine(header: Mapping[str, Any], executable: str, environ: Mapping[str, str]) -> dict[str, Any]:
    machine = Machine.look(environ)
    packages = header.get("packages")
    versions: dict[str, str | None] = {}
    error: str | None = None
    if packages is not None:
        wanted = [*([name, "tensorflow"] for name in TENSORFLOW_DISTRIBUTIONS), *packages]
        found, error = ask_python(executable, environ, _VERSIONS, wanted, PYTHON_SECONDS)
        versions = found or {}
    pages = os.sysconf("SC_PAGE_SIZE")
    return {
        "hostname": socket.gethostname(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "executable": executable,
        "python_error": error,
        "tensorflow": _tensorflow([versions.get(name) for name in TENSORFLOW_DISTRIBUTIONS]),
        "packages": {name: versions.get(name) for name, _ in packages or []},
        "cpus": machine.cores,
        "gpus": list(machine.gpus),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * pages,
        "available_bytes": _available_bytes(),
        "names": in_parallel({name: _resolver(name) for name in header.get("names", [])}),
    }


def _tensorflow(versions: Sequence[str | None]) -> str | None:
    """Of those by the names of distributions: all see the module, at most one is what brought it."""
    found = [text for text in versions if text is not None]
    return next((text for text in found if text != UNKNOWN), found[0] if found else None)


def _available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Memory that new processes can have now."""
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _resolver(name: str) -> Callable[[], list[str]]:
    def resolve() -> list[str]:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    return resolve


def _caller(other: Mapping[str, Any]) -> Callable[[], str | None]:
    """Calls another host's port; what answers there must be that host."""

    def call() -> str | None:
        with socket.create_connection(
            (other["address"], other["port"]), timeout=ANSWER_SECONDS
        ) as connection:
            answer = b""
            while len(answer) < len(other["token"]) and (more := connection.recv(256)):
                answer += more
        return None if answer.decode(errors="replace") == other["token"] else "another machine answers there"

    return call

"""Brings the user's code to hosts: what a host has is not sent again."""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.errors import EnvironmentProblem
from orchestrator.launch.node.frames import Header
from orchestrator.launch.ssh.code_directory import CodeTree
from orchestrator.launch.ssh.remote_hosts import RemoteHosts

_UNSENT_BYTES = 64 << 20
"""So much may wait in memory to be written to one host."""
_TURN_SECONDS = 0.2


def send_code(hosts: RemoteHosts, names: Collection[str], code: CodeTree) -> None:
    """Gives each host its copy; `RemoteHost.code_dir` says where.

    Raises EnvironmentProblem and Abandoned.
    """
    offers: dict[str, Header] = {name: {"do": "offer", "digests": list(code.digests)} for name in names}
    for name, (header, _) in hosts.ask(offers).items():
        for digest in _expect(name, header, "missing")["digests"]:
            hosts.send(name, {"do": "blob", "digest": digest}, code.content(digest))
            while hosts.unsent_bytes(name) > _UNSENT_BYTES:
                hosts.wait(_TURN_SECONDS)
    tree: Header = {"do": "tree", "digest": code.digest, "entries": code.as_json()}
    for name, (header, _) in hosts.ask(dict.fromkeys(names, tree)).items():
        hosts[name].code_dir = str(_expect(name, header, "tree_ready")["path"])


def _expect(name: str, header: Header, event: str) -> Header:
    if header["event"] == event:
        return header
    why = header.get("message") or "the connection was lost"
    raise EnvironmentProblem(f"the code cannot be brought to host {name}: {why}")

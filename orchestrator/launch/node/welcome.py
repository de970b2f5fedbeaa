"""What an agent says of its host when a launcher comes."""

from __future__ import annotations

import os
import platform
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.launch.device_shares import Machine
from orchestrator.launch.node.places import Places
from orchestrator.launch.process_identity import boot_id


def describe_host(places: Places, package: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Plain JSON; `environ` is what tasks inherit there, and may hold secrets."""
    machine = Machine.look(environ)
    return {
        "pid": os.getpid(),
        "hostname": socket.gethostname(),
        "boot_id": boot_id(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "package_root": str(package),
        "root": str(places.root),
        "run_dir": str(places.run_dir),
        "cpus": machine.cores,
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "gpus": list(machine.gpus),
        "time": time.time(),
        "environ": dict(environ),
    }

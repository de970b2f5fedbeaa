"""`python -m tests.integration.hosts [COUNT]`: a shell beside a few hosts, which end with it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.integration.hosts.ssh_hosts import SshHosts, why_not


def main() -> None:
    """Starts hosts and a shell in their network; the shell's exit code is ours."""
    reason = why_not()
    if reason is not None:
        sys.exit(reason)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as place, SshHosts(Path(place) / "hosts", count) as hosts:
        print(f"{', '.join(hosts.names)} are up: ssh -F {hosts.ssh_config} h1")
        done = subprocess.run(hosts.outside(os.environ.get("SHELL", "/bin/sh")))
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()

"""Three machines on one: namespaces with a network, processes, a home and an sshd of their own.

The hosts share the disk of this machine, but for their home directories and the
places that are hidden from them, and one at `SHARED` that this machine does not
see there. Nothing of this is seen from the machine itself, and nothing stays:
all of it lives in namespaces that end with the process that made them.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

PACKAGE = Path(__file__).parents[3] / "orchestrator"
NETWORK = "10.77.0"
OUTSIDE = f"{NETWORK}.1"
"""Where the launcher runs."""
SHARED = Path("/mnt")
"""Where the hosts have a disk that they share, as over a network file system."""
LIMIT = 120.0
"""Seconds to wait for anything."""
NEEDED = ("sshd", "ssh", "ssh-keygen", "ip", "tc", "unshare", "nsenter", "setpriv")
_SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_ENVIRONMENT = {**os.environ, "PATH": _SEARCH}
_WITH_US = ["setpriv", "--pdeathsig", "KILL"]


def why_not() -> str | None:
    """Why there can be no such hosts here; None where there can."""
    if os.geteuid() != 0:
        return "hosts in namespaces need root"
    missing = [name for name in NEEDED if shutil.which(name, path=_SEARCH) is None]
    if missing:
        return f"hosts in namespaces need {', '.join(missing)}"
    trial = "ip link add br0 type bridge && ip link add name a type veth peer name b"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "sh", "-c", trial],
        capture_output=True,
        text=True,
        env=_ENVIRONMENT,
    )
    return f"hosts in namespaces cannot be made: {tried.stderr.strip()}" if tried.returncode else None


class SshHosts:
    """`h1`, `h2` and so on, behind one switch; a context manager."""

    def __init__(self, place: Path, count: int = 3, hidden: Sequence[Path] = ()) -> None:
        """`place` is an empty directory, for keys and homes.

        The hosts see nothing of our package, nor of the directories `hidden`.
        """
        self.place = place
        self.names = tuple(f"h{number}" for number in range(1, count + 1))
        self.ssh_config = place / "ssh_config"
        self.disk = place / "disk"
        """What the hosts see at SHARED."""
        self._hidden = [str(path) for path in (PACKAGE, *hidden)]
        self._switch: subprocess.Popen[bytes] | None = None
        self._machines: dict[str, subprocess.Popen[bytes]] = {}
        self._restarted: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> SshHosts:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        switch = [self._switch] if self._switch else []
        for process in [*self._machines.values(), *switch, *self._restarted]:
            process.kill()
            process.wait(LIMIT)

    def address(self, host: str) -> str:
        """As the others reach it."""
        return f"{NETWORK}.{10 + int(host[1:])}"

    def home(self, host: str) -> Path:
        """The home directory of its root."""
        return self.place / host / "home"

    def outside(self, *command: str) -> list[str]:
        """The command as it is run in the network of the hosts, but on none of them."""
        assert self._switch is not None
        return ["nsenter", "--target", str(self._switch.pid), "--net", "--", *command]

    def inside(self, host: str, *command: str) -> list[str]:
        """The command as it is run on a host, without ssh."""
        flags = ["--mount", "--uts", "--pid", "--net"]
        return ["nsenter", "--target", str(self._first_process(host)), *flags, "--", *command]

    def processes(self, host: str) -> dict[int, list[str]]:
        """Every process of a host, but its first, with its command line; by the ids of this machine."""
        if self._machines[host].poll() is not None:
            return {}
        first = self._first_process(host)
        namespace = os.readlink(f"/proc/{first}/ns/pid")
        found = {}
        for process in psutil.process_iter():
            try:
                if process.pid != first and os.readlink(f"/proc/{process.pid}/ns/pid") == namespace:
                    found[process.pid] = process.cmdline()
            except (OSError, psutil.Error):
                continue  # ended meanwhile
        return {pid: words for pid, words in found.items() if words}

    def cut(self, host: str) -> None:
        """Pulls its cable: no packet gets through, and nobody is told."""
        self._run_outside("ip", "link", "set", f"p-{host}", "nomaster")

    def mend(self, host: str) -> None:
        """Plugs the cable in again."""
        self._run_outside("ip", "link", "set", f"p-{host}", "master", "br0")

    def throttle(self, host: str, rate: str = "1mbit") -> None:
        """Lets through no more than so much a second, in both directions."""
        shape = ("root", "tbf", "rate", rate, "burst", "16kb", "latency", "400ms")
        self._run_outside("tc", "qdisc", "replace", "dev", f"p-{host}", *shape)
        _run(*self.inside(host, "tc", "qdisc", "replace", "dev", "eth0", *shape))

    def unthrottle(self, host: str) -> None:
        """Full speed again."""
        self._run_outside("tc", "qdisc", "del", "dev", f"p-{host}", "root")
        _run(*self.inside(host, "tc", "qdisc", "del", "dev", "eth0", "root"))

    def kill_sshd(self, host: str) -> None:
        """SIGKILL to its sshd and to each of its connections."""
        for pid, words in self.processes(host).items():
            # A session calls itself `sshd: root@notty`, and from OpenSSH 9.8 on `sshd-session: root@notty`.
            if Path(words[0].partition(":")[0]).name in ("sshd", "sshd-session"):
                with suppress(psutil.NoSuchProcess):  # ended with the one before it
                    psutil.Process(pid).kill()

    def start_sshd(self, host: str) -> None:
        """As the system does after a crash of it."""
        program = str(self.place / host / "start-sshd")
        self._restarted.append(subprocess.Popen(self.inside(host, program), start_new_session=True))
        self._wait_for_sshd(host)

    def power_off(self, host: str) -> None:
        """Pulls both its plugs: no packet announces its end."""
        self.cut(host)
        self._machines[host].kill()
        self._machines[host].wait(LIMIT)

    def power_on(self, host: str) -> None:
        """Starts it again, with its disk and without its processes."""
        self._boot(host)

    def _start(self) -> None:
        self.disk.mkdir(parents=True)
        self._switch = subprocess.Popen([*_WITH_US, "unshare", "--net", "sleep", "infinity"])
        switch = self._switch.pid
        here = os.readlink("/proc/self/ns/net")
        _wait(lambda: os.readlink(f"/proc/{switch}/ns/net") != here, "a network of its own")
        self._run_outside("ip", "link", "set", "lo", "up")
        self._run_outside("ip", "link", "add", "br0", "type", "bridge")
        self._run_outside("ip", "link", "set", "br0", "up")
        self._run_outside("ip", "address", "add", f"{OUTSIDE}/24", "dev", "br0")
        self._write_files()
        for host in self.names:
            self._boot(host)

    def _boot(self, host: str) -> None:
        (self.place / host / "sshd.log").write_bytes(b"")
        namespaces = ["--net", "--uts", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        words = [host, str(self.place / host), str(SHARED), *self._hidden]
        first = [sys.executable, "-I", str(Path(__file__).with_name("host_init.py"))]
        with (self.place / host / "console.log").open("ab") as console:
            self._machines[host] = subprocess.Popen(
                [*_WITH_US, "unshare", *namespaces, *first, *words],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                env=_ENVIRONMENT,
            )
        pid = self._first_process(host)
        plug, inside = f"p-{host}", ["nsenter", "--target", str(pid), "--net", "--", "ip"]
        subprocess.run(self.outside("ip", "link", "del", plug), capture_output=True)  # of an earlier boot
        card = f"02:00:00:00:00:{int(host[1:]):02x}"  # the same after a boot, or others look for the old one
        peer = ("peer", "name", "eth0", "address", card, "netns", str(pid))
        self._run_outside("ip", "link", "add", plug, "type", "veth", *peer)
        self._run_outside("ip", "link", "set", plug, "master", "br0", "up")
        _run(*inside, "link", "set", "lo", "up")
        _run(*inside, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
        _run(*inside, "link", "set", "eth0", "up")
        self._wait_for_sshd(host)

    def _first_process(self, host: str) -> int:
        """Its process 1, by the ids of this machine."""
        machine = self._machines[host]
        found: list[psutil.Process] = []

        def there() -> bool:
            found[:] = psutil.Process(machine.pid).children()
            return bool(found)

        _wait(there, f"the first process of {host}")
        return found[0].pid

    def _wait_for_sshd(self, host: str) -> None:
        trial = ("ssh", "-F", str(self.ssh_config), host, "true")

        def answers() -> bool:
            return subprocess.run(self.outside(*trial), capture_output=True, timeout=LIMIT).returncode == 0

        console = self.place / host / "console.log"
        _wait(answers, lambda: f"sshd of {host}: {console.read_text()}")

    def _write_files(self) -> None:
        key = self.place / "id"
        _make_key(key)
        known, config = [], []
        for host in self.names:
            (self.place / host / "home").mkdir(parents=True)
            known.append(self._write_host(host, key.with_suffix(".pub").read_text()))
            config.append(f"Host {host}\n  HostName {self.address(host)}\n")
        (self.place / "known_hosts").write_text("".join(known))
        config.append(
            f"Host *\n  User root\n  IdentityFile {key}\n  IdentitiesOnly yes\n  BatchMode yes\n"
            f"  UserKnownHostsFile {self.place}/known_hosts\n  StrictHostKeyChecking yes\n  LogLevel ERROR\n"
        )
        self.ssh_config.write_text("".join(config))

    def _write_host(self, host: str, public_key: str) -> str:
        """The files of one host; its line in `known_hosts`."""
        place = self.place / host
        _make_key(place / "host_key")
        (place / "authorized_keys").write_text(public_key)
        names = "".join(f"{self.address(other)} {other}\n" for other in self.names)
        (place / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        users = pwd.getpwall()
        root, others = users[0], [user for user in users if user.pw_uid != 0]
        (place / "passwd").write_text(
            f"root:x:0:0:root:{place}/home:{root.pw_shell or '/bin/sh'}\n"
            + "".join(f"{u.pw_name}:x:{u.pw_uid}:{u.pw_gid}::{u.pw_dir}:{u.pw_shell}\n" for u in others)
        )
        shadow = place / "shadow"
        shadow.touch(mode=0o600)
        shadow.write_text("".join(f"{user.pw_name}:*:19000:0:99999:7:::\n" for user in users))
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        (place / "sshd_config").write_text(
            f"HostKey {place}/host_key\nAuthorizedKeysFile {place}/authorized_keys\nPidFile none\n"
            "StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
            f"UseDNS no\nSetEnv PATH={path}\n"
        )
        start = place / "start-sshd"
        sshd = shutil.which("sshd", path=_SEARCH)
        start.write_text(f"#!/bin/sh\nexec {sshd} -f {place}/sshd_config -D -E {place}/sshd.log\n")
        start.chmod(0o755)
        kind, value = (place / "host_key.pub").read_text().split()[:2]
        return f"{self.address(host)},{host} {kind} {value}\n"

    def _run_outside(self, *command: str) -> None:
        _run(*self.outside(*command))


def _make_key(path: Path) -> None:
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=_ENVIRONMENT)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def _wait(holds: Callable[[], bool], what: str | Callable[[], str]) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, f"waited for {what if isinstance(what, str) else what()}"
        time.sleep(0.02)

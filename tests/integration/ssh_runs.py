"""Runs over the hosts of `tests.integration.hosts`, started as from a laptop beside them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from orchestrator.launch.run_dir import RunDir
from tests.integration.hosts.ssh_hosts import SHARED, SshHosts
from tests.integration.launched import COMMAND_LINE, LIMIT, Launched, wait_until

RUN_LIMIT = 900.0
"""Seconds for a whole run: each host imports TensorFlow, on the cores of one machine."""
NOTE = "a b'\"$HOME,`id`\\\n%"
MODEL_DIR = SHARED / "models" / "orchestrator-test"
CLUSTERS = {
    "asynchronous": """\
strategy: parameter_server
tasks: {chief: {hosts: [h1]}, worker: {hosts: [h2]}, ps: {hosts: [h3]}, evaluator: {hosts: [h1]}}
""",
    "anywhere": """\
strategy: parameter_server
tasks: {chief: {}, worker: {}, ps: {}, evaluator: {}}
""",
    "together": """\
strategy: multi_worker_mirrored
tasks: {chief: {}, worker: {}}
""",
    "watched": """\
strategy: multi_worker_mirrored
tasks: {chief: {hosts: [h1]}, worker: {hosts: [h2]}, evaluator: {hosts: [h3]}}
""",
    "watched from anywhere": """\
strategy: multi_worker_mirrored
tasks: {chief: {hosts: [h1]}, worker: {hosts: [h2]}, evaluator: {}}
""",
    "synchronous": """\
strategy: multi_worker_mirrored
tasks: {chief: {hosts: [h1]}, worker: {hosts: [h2]}}
""",
}


class Laptop:
    """A code directory that the hosts do not see. Where they have their disk, there is none here."""

    def __init__(self, hosts: SshHosts, private: Path) -> None:
        self.hosts = hosts
        self.private = private
        self.shared = hosts.disk
        shutil.copy(Path(__file__).with_name("sent_digits.py"), private / "mine.py")
        shutil.copy(Path(__file__).with_name("brake.py"), private)
        (private / ".env").write_text("PASSWORD=open sesame\n")

    def write(self, cluster: str, max_steps: int, *, held: bool = False, **ssh: Any) -> None:
        """Writes `cluster.yaml`; a training that is held does not end before `release`."""
        sections = {
            "experiment": "mine:experiment",
            "params": {"max_steps": max_steps, "shared": str(SHARED), "held": held},
            "run_config": {"save_checkpoints_steps": 20 if held else max_steps // 4},
            "run_policy": {"restart_delay_seconds": 0.2, "grace_seconds": 5},
            "env": {"NOTE": NOTE},
            "ssh": {"hosts": ["h1", "h2", "h3"], "config_file": str(self.hosts.ssh_config), **ssh},
        }
        # JSON is YAML.
        text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in sections.items())
        (self.private / "cluster.yaml").write_text(f"name: digits\nlauncher: ssh\n{CLUSTERS[cluster]}{text}")

    @property
    def places(self) -> list[str]:
        """The options that say where model and data are."""
        return ["--model-dir", str(MODEL_DIR), "--data-dir", str(SHARED / "data")]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A subcommand on `cluster.yaml`, to its end."""
        return subprocess.run(
            self.hosts.outside(*COMMAND_LINE, *words),
            cwd=self.private,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            env={**os.environ, "COLUMNS": "80"},
        )

    @property
    def model_dir(self) -> Path:
        """The model directory, as this machine can read it."""
        return self.shared / MODEL_DIR.relative_to(SHARED)

    def ran(self, task: str) -> dict[str, Any]:
        """What a task has told of its place."""
        found: dict[str, Any] = json.loads((self.shared / f"ran-{task}.json").read_text())
        return found

    def first_steps(self, task: str) -> list[int]:
        """The global step at which each start of a task began to train."""
        return [int(line) for line in (self.shared / f"first-steps-{task}").read_text().split()]

    def release(self) -> None:
        """From here on steps take no longer than they need."""
        (self.shared / "release").touch()


class SshRun(Launched):
    """`orchestrator run cluster.yaml` on a laptop, started."""

    def __init__(self, laptop: Laptop, name: str = "run") -> None:
        self.laptop = laptop
        self.run_dir = RunDir(laptop.private / name)
        self.output_path = laptop.private.parent / f"{name}-output.txt"
        words = ["run", "cluster.yaml", *laptop.places, "--run-dir", str(self.run_dir.path)]
        with self.output_path.open("wb") as stream:
            self.process = subprocess.Popen(
                laptop.hosts.outside(*COMMAND_LINE, *words),
                cwd=laptop.private,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> int:
        """The exit code of the launcher; nothing is left on any host that is up."""
        code = self.process.wait(RUN_LIMIT)
        for host in self.laptop.hosts.names:
            self.wait_until_nothing_is_left_on(host)
        return code

    def host_of(self, task: str) -> str:
        """Where a task runs, by the newest plan."""
        plan = json.loads(self.run_dir.plan.read_text())
        return str(plan["tasks"][task]["host"])

    def kill_task(self, task: str, number: int = 9) -> None:
        """Kills it on its host."""
        kill = self.laptop.hosts.inside(self.host_of(task), "kill", f"-{number}", str(self.pid_of(task)))
        subprocess.run(kill, check=True, timeout=LIMIT)

    def left_on(self, host: str) -> list[list[str]]:
        """The command lines of what runs on a host beside sshd."""
        found = self.laptop.hosts.processes(host).values()
        return [words for words in found if "sshd" not in words[0]]

    def wait_until_nothing_is_left(self) -> None:
        """Waits for the end of every process on every host."""
        super().wait_until_nothing_is_left()
        for host in self.laptop.hosts.names:
            self.wait_until_nothing_is_left_on(host)

    def wait_until_nothing_is_left_on(self, host: str) -> None:
        """Waits for the end of every process there but those of sshd."""
        wait_until(lambda: not self.left_on(host), lambda: f"end of {self.left_on(host)} on {host}")

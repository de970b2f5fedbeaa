"""Random signals to random processes of random jobs, with a seed.

    python -m tests.integration.faults.random_kills --signals 200 --seed 1

Each job trains the digits and takes a handful of signals, at any moment of its
life; then it must reach the last step as if nothing had been. A killed launcher
is followed by another run on the same model directory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from orchestrator.launch.process_tree import processes_of_run
from tests.integration.faults.aftermath import assert_finished
from tests.integration.faults.strategies import STRATEGIES, Strategy, start
from tests.integration.launched import Launched, wait_until

SIGNALS_A_JOB = 6
LONGEST_PAUSE = 6.0
END_LIMIT = 600.0
LAUNCHER, PARENT = "launcher", "warm parent"
SIGNALS = [signal.SIGKILL] * 10 + [signal.SIGTERM] * 4 + [signal.SIGSEGV, signal.SIGABRT, signal.SIGSTOP]
PATIENT = ("--set", "run_policy.max_restarts=1000", "--set", "run_policy.start_timeout_seconds=120")
"""Most of the deaths bring no new checkpoint, since they follow so fast; some stop a task at its start."""


@dataclass
class Job:
    """One job of the series, and what was done to it."""

    number: int
    strategy: str
    sent: list[str] = field(default_factory=list)
    runs: int = 1
    seconds: float = 0.0
    failure: str | None = None


class Tormentor:
    """Sends signals to one job until it has had enough."""

    def __init__(self, job: Job, place: Path, data: Path, rng: random.Random) -> None:
        self._job = job
        self._place = place
        self._data = data
        self._rng = rng
        self._strategy: Strategy = STRATEGIES[job.strategy]
        self._left = SIGNALS_A_JOB

    def run(self) -> None:
        """Runs the job to its end; AssertionError where it does not end as it should."""
        while True:
            name = f"run{self._job.runs}"
            with start(self._place, self._strategy, self._data, *PATIENT, name=name) as run:
                while self._left and run.process.poll() is None:
                    time.sleep(self._rng.uniform(0.0, LONGEST_PAUSE))
                    self._left -= self._strike(run)
                if not self._left:
                    (self._place / "release").touch()
                    _wait_for_the_end(run)
                if run.process.wait(END_LIMIT) != -signal.SIGKILL:
                    assert_finished(run, self._strategy, self._place)
                    return
                run.wait_until_nothing_is_left()
            self._job.runs += 1

    def _strike(self, run: Launched) -> bool:
        """Sends one signal; False where nobody was there to get it."""
        victims = self._victims(run)
        if not victims:
            return False
        name = self._rng.choice(sorted(victims))
        number = signal.SIGKILL if name in (LAUNCHER, PARENT) else self._rng.choice(SIGNALS)
        try:
            os.kill(victims[name], number)
        except ProcessLookupError:
            return False
        self._job.sent.append(f"{signal.Signals(number).name} to {name}")
        return True

    def _victims(self, run: Launched) -> dict[str, int]:
        state = run.state()
        if state is None:
            return {}
        there = {entry.pid for entry in processes_of_run(run.run_dir.path)}
        pids = {name: value.get("pid") for name, value in state.tasks.items()}
        found = {name: int(pid) for name, pid in pids.items() if pid in there}
        others = sorted(there - set(found.values()) - {run.process.pid})
        if found and self._rng.random() < 0.15:
            if others and self._rng.random() < 0.5:
                return {PARENT: others[0]}
            return {LAUNCHER: run.process.pid}
        return found


def _wait_for_the_end(run: Launched) -> None:
    wait_until(lambda: run.process.poll() is not None, lambda: f"its end:\n{run.output[-3000:]}", END_LIMIT)


def dealt(strategies: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Each strategy once a round, in an order drawn anew: no series of some length goes without one."""
    while True:
        yield from rng.sample(strategies, len(strategies))


def torment(
    signals: int,
    seed: int,
    place: Path,
    say: Callable[[str], None] = print,
    strategies: Sequence[str] = tuple(sorted(STRATEGIES)),
) -> list[Job]:
    """As many jobs as it takes to send so many signals; places of jobs that failed are kept."""
    rng = random.Random(seed)
    names = dealt(strategies, random.Random(seed))
    data = place / "data"
    data.mkdir(parents=True, exist_ok=True)
    jobs: list[Job] = []
    while sum(len(job.sent) for job in jobs) < signals:
        job = Job(len(jobs), next(names))
        jobs.append(job)
        own = place / f"job-{job.number}"
        own.mkdir()
        began = time.monotonic()
        try:
            Tormentor(job, own, data, random.Random(rng.random())).run()
            shutil.rmtree(own)
        except Exception:
            job.failure = traceback.format_exc()
        job.seconds = round(time.monotonic() - began, 1)
        say(f"job {job.number} {job.strategy}, {job.seconds:.0f} s: {', '.join(job.sent)}")
        if job.failure is not None:
            say(f"FAILED, see {own}:\n{job.failure}")
    return jobs


def main() -> int:
    """Prints each job, and a summary as JSON; 1 where a job failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--signals", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    every = sorted(STRATEGIES)
    parser.add_argument("--strategies", nargs="+", choices=every, default=every, metavar="NAME")
    parser.add_argument("--place", type=Path, help="where jobs are run; default: a new directory")
    arguments = parser.parse_args()
    place = arguments.place or Path(tempfile.mkdtemp(prefix="random-kills-"))
    place.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        print(text, flush=True)

    jobs = torment(arguments.signals, arguments.seed, place, say, arguments.strategies)
    failed = [asdict(job) for job in jobs if job.failure is not None]
    sent = sum(len(job.sent) for job in jobs)
    say(json.dumps({"seed": arguments.seed, "jobs": len(jobs), "signals": sent, "failed": len(failed)}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

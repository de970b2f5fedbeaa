from __future__ import annotations

from pathlib import Path

from orchestrator.launch.oom import OomEvidence, OomWatch, killed_processes, memory_events, read_kernel_log

LOG = (
    "6,1,100,-;usb 1-1: new device\n"
    "3,2,200,-;Memory cgroup out of memory: Killed process 4711 (python) total-vm:9kB\n"
    "6,3,201,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),task=python,pid=4712,uid=0\n"
)


class Machine:
    """The files of a machine, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.vmstat = folder / "vmstat"
        self.own = folder / "cgroup"
        self.groups = folder / "groups"
        self.log = folder / "kmsg"
        self.events = self.groups / "jobs" / "mine" / "memory.events"
        self.events.parent.mkdir(parents=True)
        self.vmstat.write_text("nr_free_pages 5\noom_kill 3\n")
        self.own.write_text("0::/jobs/mine\n")
        self.events.write_text("low 0\noom 1\noom_kill 1\n")
        self.log.write_text("")

    def watch(self) -> OomWatch:
        return OomWatch(self.vmstat, self.own, self.groups, self.log)


def test_nothing_happened(tmp_path: Path) -> None:
    assert Machine(tmp_path).watch().evidence(4711) is OomEvidence.NONE


def test_the_counters_tell_that_it_was_at_work(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    watch = machine.watch()
    machine.vmstat.write_text("oom_kill 4\n")
    assert watch.evidence(4711) is OomEvidence.MEANWHILE
    machine.vmstat.write_text("oom_kill 3\n")
    machine.events.write_text("oom_kill 2\n")
    assert watch.evidence(4711) is OomEvidence.MEANWHILE


def test_the_kernels_log_tells_whom_it_killed(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    watch = machine.watch()
    machine.log.write_text(LOG)
    assert watch.evidence(4711) is OomEvidence.NAMED
    assert watch.evidence(4712) is OomEvidence.NAMED
    assert watch.evidence(4713) is OomEvidence.NONE


def test_what_it_did_before_the_job_does_not_count(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.log.write_text(LOG)
    assert machine.watch().evidence(4711) is OomEvidence.NONE


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert OomWatch(nowhere, nowhere, nowhere, nowhere).evidence(1) is OomEvidence.NONE
    assert memory_events(nowhere, tmp_path) == []
    assert read_kernel_log(nowhere) == ""


def test_the_groups_above_count_too(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    above = machine.groups / "jobs" / "memory.events"
    above.write_text("oom_kill 0\n")
    assert memory_events(machine.own, machine.groups) == [machine.events, above]
    (machine.own).write_text("1:memory:/old\n")
    assert memory_events(machine.own, machine.groups) == []


def test_the_processes_a_log_names() -> None:
    assert killed_processes(LOG) == {4711, 4712}
    assert killed_processes("nothing of interest") == set()

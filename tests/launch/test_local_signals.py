"""Signals and stacks of tasks on this machine."""

from __future__ import annotations

import signal
from pathlib import Path

from orchestrator.cluster.task import TaskId, TaskType
from tests.launch.local_runs import Watch, launcher, local_job, python, write_program

PROGRAM = """
    import os, time
    from orchestrator.cluster.records import TaskEnvironment
    from orchestrator.cluster.stacks import register
    about = TaskEnvironment.read()
    if about.task.index == 0:
        register(about, os.getpid())
    def dawdle():
        print("ready", flush=True)
        time.sleep(1000)
    dawdle()
"""
ASKED, OTHER = TaskId(TaskType.WORKER, 0), TaskId(TaskType.WORKER, 1)


def test_stacks_are_asked_of_those_alone_who_registered(tmp_path: Path) -> None:
    write_program(tmp_path, PROGRAM)
    job = local_job(tmp_path, python("program.py"), worker=2)
    with launcher(job) as made:
        watch = Watch(made)
        assert made.dump_stacks([ASKED, OTHER]) == {}, "they do not run"
        made.submit(made.plan(job, 0))
        for task in (ASKED, OTHER):
            watch.until_output(task, "ready")
        files = made.dump_stacks([ASKED, OTHER])
        assert set(files) == {ASKED}
        watch.until(lambda: "in dawdle" in files[ASKED].path.read_text(), "the stacks")
        again = made.dump_stacks([ASKED])[ASKED]
        assert again.size_before > 0, "what was there before is not told from what is new"
        assert watch.exits(ASKED) == watch.exits(OTHER) == []


def test_a_signal_reaches_the_task_it_is_for(tmp_path: Path) -> None:
    write_program(tmp_path, PROGRAM)
    job = local_job(tmp_path, python("program.py"), worker=2)
    with launcher(job) as made:
        watch = Watch(made)
        made.signal([OTHER], signal.SIGKILL)
        made.submit(made.plan(job, 0))
        for task in (ASKED, OTHER):
            watch.until_output(task, "ready")
        made.signal([OTHER], signal.SIGKILL)
        watch.until_exited([OTHER])
        (end,) = watch.exits(OTHER)
        assert (end.signal, end.requested) == (signal.SIGKILL, False)
        assert watch.exits(ASKED) == []

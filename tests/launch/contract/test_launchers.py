"""What every launcher does alike, whatever is behind it."""

from __future__ import annotations

import json
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster.records import ExitRecord, FailureRecord, ProgressRecord
from orchestrator.cluster.task import TaskId, TaskType
from orchestrator.errors import PortError, StartError
from orchestrator.launch.job import Job, TaskRequest
from orchestrator.launch.launcher import (
    Launcher,
    PreparationExited,
    PreparationOutput,
    StopKind,
    TaskExited,
    TaskOutput,
    TaskStarted,
)
from orchestrator.launch.run_dir import RunDir
from tests.launch.contract.backends import BACKENDS, Backend, launched
from tests.launch.local_runs import CHIEF, WORKER, Watch, alive, python, write_program

SECOND = TaskId(TaskType.WORKER, 1)
EVALUATOR = TaskId(TaskType.EVALUATOR, 0)
SLEEPER = """
    import os, signal, subprocess, sys, time
    if "deaf" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        print("child", child.pid)
    print("up", flush=True)
    time.sleep(1000)
"""


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    made: Backend = request.param
    return made


def program(backend: Backend, folder: Path, text: str, *arguments: str, **replicas: int) -> Job:
    """A job that runs that program with these arguments."""
    write_program(folder / "code", text)
    return backend.job(folder, python("-u", "program.py", *arguments), **replicas)


def test_tasks_run_where_planned_and_their_ends_are_told_and_recorded(
    backend: Backend, tmp_path: Path
) -> None:
    odd = "a b'\"$HOME\\ \n,; *é"
    text = """
        import json, os, sys
        from pathlib import Path
        place = Path(os.environ["ORCHESTRATOR_RUN_DIR"], "tasks")
        print(json.dumps([sys.argv[1:], os.environ["ODD"], os.environ["ORCHESTRATOR_TASK"]]))
        print(json.loads(os.environ["TF_CONFIG"])["cluster"])
        print(Path("program.py").exists())
        print("last word", file=sys.stderr, end="")
        sys.exit(3 if os.environ["ORCHESTRATOR_TASK"] == "worker-1" else 0)
        """
    job = replace(program(backend, tmp_path, text, odd, chief=1, worker=2), env={"ODD": odd})
    with launched(backend, job) as (made, plan):
        assert isinstance(made, Launcher)
        assert made.name == plan.launcher == backend.name
        addresses = [part.address for part in plan.tasks]
        assert len({*addresses}) == 3
        assert [part.address for part in made.plan(job, 1).tasks] == addresses, "another attempt, the same"
        watch = Watch(made)
        made.submit(plan)
        watch.until_exited([CHIEF, WORKER, SECOND])
    for task in (CHIEF, WORKER, SECOND):
        (record,), (start,) = watch.exits(task), watch.starts(task)
        code = 3 if task == SECOND else 0
        assert (record.code, record.signal, record.requested) == (code, None, False)
        assert (record.attempt, record.start, record.pid) == (0, 0, start.pid)
        assert RunDir(job.run_dir).records(task).read(ExitRecord) == record
        words, cluster, code_is_there, last = watch.output(task).splitlines()
        assert json.loads(words) == [[odd], odd, str(task)]
        assert plan.task(task).address in cluster
        assert (code_is_there, last) == ("True", "last word")
        assert plan.task(task).log_path.read_text() == watch.output(task)
        kinds = [type(e) for e in watch.events if getattr(e, "task", None) == task]
        assert (kinds[0], kinds[-1]) == (TaskStarted, TaskExited)
        assert {*kinds[1:-1]} == {TaskOutput}
        assert list(made.logs(task)) == watch.output(task).splitlines()


def test_a_request_ends_the_willing_and_a_kill_the_deaf_with_all_they_started(
    backend: Backend, tmp_path: Path
) -> None:
    job = program(backend, tmp_path, SLEEPER, chief=1, worker=1)
    deaf = TaskRequest(1, command=(*job.command, "deaf"))
    job = replace(job, tasks={**job.tasks, TaskType.WORKER: deaf})
    with launched(backend, job) as (made, plan):
        watch = Watch(made)
        made.submit(plan)
        watch.until_output(CHIEF, "up")
        watch.until_output(WORKER, "up")
        child = int(watch.output(WORKER).split()[1])
        with pytest.raises(StartError, match="chief-0 cannot be started: the process before still runs"):
            made.submit(plan, [CHIEF])
        made.stop([CHIEF, WORKER], StopKind.REQUEST)
        watch.until_exited([CHIEF])
        assert watch.exits(WORKER) == []
        made.stop([WORKER], StopKind.KILL)
        watch.until_exited([WORKER])
        assert not alive(child)
    assert [(r.code, r.signal, r.requested) for r in watch.exits(CHIEF)] == [(143, 15, True)]
    assert [(r.code, r.signal, r.requested) for r in watch.exits(WORKER)] == [(137, 9, True)]


def test_closing_ends_whatever_runs(backend: Backend, tmp_path: Path) -> None:
    job = program(backend, tmp_path, SLEEPER, "deaf")
    with launched(backend, job) as (made, plan):
        watch = Watch(made)
        made.submit(plan)
        watch.until_output(CHIEF, "up")
    assert not alive(watch.starts(CHIEF)[0].pid)
    assert not alive(int(watch.output(CHIEF).split()[1]))


def test_records_come_back_and_a_restart_in_place_forgets_them(backend: Backend, tmp_path: Path) -> None:
    text = """
        import os, sys, time
        from orchestrator.cluster.records import FailureRecord, Phase, ProgressRecord, TaskEnvironment
        about = TaskEnvironment.read()
        print("in", os.environ["TF_CONFIG"])
        if about.task.index == 0 and not os.path.exists(sys.argv[1]):
            open(sys.argv[1], "w").close()
            about.records.write(ProgressRecord(Phase.DONE, time.time(), step=5))
            about.records.write(FailureRecord(time.time(), "ValueError", "first time", "", step=5))
            sys.exit(1)
        about.records.write(ProgressRecord(Phase.STEPPING, time.time(), step=7))
        time.sleep(1000)
        """
    job = program(backend, tmp_path, text, str(tmp_path / "mark"), worker=2)
    records = RunDir(job.run_dir).records(WORKER)

    def step() -> int | None:
        progress = records.read(ProgressRecord)
        return None if progress is None else progress.step

    with launched(backend, job) as (made, plan):
        watch = Watch(made)
        made.submit(plan)
        watch.until_exited([WORKER])
        failure = records.read(FailureRecord)
        assert failure is not None
        assert (failure.message, step()) == ("first time", 5)
        made.submit(plan, [WORKER])
        watch.until(lambda: len(watch.starts(WORKER)) == 2, "second start")
        assert records.read(FailureRecord) is None
        assert records.read(ExitRecord) is None
        watch.until(lambda: step() == 7, "progress of the second start")
        made.signal([WORKER], signal.SIGKILL)
        watch.until_exited([WORKER], times=2)
    ends = [(r.code, r.signal, r.requested, r.start) for r in watch.exits(WORKER)]
    assert ends == [(1, None, False, 0), (137, 9, False, 1)]
    first, second = watch.output(WORKER).splitlines()
    assert first == second, "the same address"
    assert watch.exits(SECOND) == []


def test_an_address_that_was_taken_is_replaced_by_planning_again(backend: Backend, tmp_path: Path) -> None:
    job = program(backend, tmp_path, "import os; print(os.environ['TF_CONFIG'])", chief=1, worker=1)
    with launched(backend, job) as (made, plan), socket.socket() as thief:
        address = plan.task(WORKER).address
        assert address is not None
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        thief.bind(("127.0.0.1", int(address.rsplit(":")[1])))
        thief.listen()
        with pytest.raises(PortError, match=r"port \d+ of worker-0 was taken by another process"):
            made.submit(plan)
        again = made.plan(job, 0)
        assert again.task(WORKER).address != address
        assert again.task(CHIEF).address == plan.task(CHIEF).address
        watch = Watch(made)
        made.submit(again)
        watch.until_exited([CHIEF, WORKER])
        assert [len(watch.exits(task)) for task in (CHIEF, WORKER)] == [1, 1], (
            "nothing is told of the other try"
        )
    assert address not in watch.output(WORKER)


def test_a_task_that_no_other_calls_gets_another_address_while_they_run(
    backend: Backend, tmp_path: Path
) -> None:
    job = program(backend, tmp_path, SLEEPER, chief=1, evaluator=1)
    with launched(backend, job) as (made, plan), socket.socket() as thief:
        watch = Watch(made)
        made.submit(plan, [CHIEF])
        watch.until_output(CHIEF, "up")
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        thief.bind(("127.0.0.1", int((plan.task(EVALUATOR).address or "").rsplit(":")[1])))
        thief.listen()
        with pytest.raises(PortError, match=r"port \d+ of evaluator-0 was taken by another process"):
            made.submit(plan, [EVALUATOR])
        moved = made.move(plan, [EVALUATOR])
        assert moved.task(EVALUATOR).address != plan.task(EVALUATOR).address
        assert moved.task(EVALUATOR).host == plan.task(EVALUATOR).host
        assert moved.task(CHIEF) == plan.task(CHIEF)
        made.submit(moved, [EVALUATOR])
        watch.until_output(EVALUATOR, "up")
        made.stop([CHIEF, EVALUATOR], StopKind.REQUEST)
        watch.until_exited([CHIEF, EVALUATOR])


def test_a_command_that_is_not_there_is_one_failed_task(backend: Backend, tmp_path: Path) -> None:
    job = program(backend, tmp_path, "print('fine')", chief=1, worker=1)
    missing = TaskRequest(1, command=("no-such-program", "at", "all"))
    job = replace(job, tasks={**job.tasks, TaskType.WORKER: missing})
    with launched(backend, job) as (made, plan):
        watch = Watch(made)
        made.submit(plan)
        watch.until_exited([CHIEF, WORKER])
    assert [watch.exits(task)[0].code for task in (CHIEF, WORKER)] == [0, 127]
    assert "no-such-program" in watch.output(WORKER)


def test_data_is_prepared_before_the_tasks_start(backend: Backend, tmp_path: Path) -> None:
    text = """
        import os, sys
        if sys.argv[1:]:
            print("prepares", "ORCHESTRATOR_TASK" in os.environ)
            open(os.environ["ORCHESTRATOR_DATA_DIR"], "w").close()
        else:
            print("finds it", os.path.exists(os.environ["ORCHESTRATOR_DATA_DIR"]))
        """
    job = program(backend, tmp_path, text)
    job = replace(job, prepare_command=(*job.command, "prepare"), data_dir=str(tmp_path / "data"))
    with launched(backend, job) as (made, plan):
        watch = Watch(made)
        made.prepare(job)
        watch.until(lambda: any(isinstance(e, PreparationExited) for e in watch.events), "the preparation")
        made.submit(plan)
        watch.until_exited([CHIEF])
    said = "".join(e.text for e in watch.events if isinstance(e, PreparationOutput))
    assert said == RunDir(job.run_dir).preparation_log.read_text() == "prepares False\n"
    assert [e.record.code for e in watch.events if isinstance(e, PreparationExited)] == [0]
    assert watch.output(CHIEF) == "finds it True\n"


def test_stacks_are_asked_of_those_alone_who_registered_and_use_is_sampled(
    backend: Backend, tmp_path: Path
) -> None:
    text = """
        import os, time
        from orchestrator.cluster.records import TaskEnvironment
        from orchestrator.cluster.stacks import register
        about = TaskEnvironment.read()
        if about.task.index == 0:
            register(about, os.getpid())
        def dawdle():
            print("up")
            time.sleep(1000)
        dawdle()
        """
    job = program(backend, tmp_path, text, worker=2)
    with launched(backend, job) as (made, plan):
        assert made.dump_stacks([WORKER, SECOND]) == {}, "they do not run"
        watch = Watch(made)
        made.submit(plan)
        watch.until_output(WORKER, "up")
        watch.until_output(SECOND, "up")
        files = made.dump_stacks([WORKER, SECOND])
        assert set(files) == {WORKER}
        path = files[WORKER].path
        watch.until(lambda: path.exists() and "in dawdle" in path.read_text(), "the stacks")
        now = iter(range(0, 10**9, 100))

        def sampled() -> bool:
            made.sample(float(next(now)))
            peaks = made.peaks()  # the first may be of a process that has hardly begun
            return all(task in peaks and peaks[task].memory_bytes > 1_000_000 for task in (WORKER, SECOND))

        watch.until(sampled, "samples of both tasks")
    assert '"task": "worker-1"' in RunDir(job.run_dir).resources.read_text()


def test_the_log_of_a_running_task_is_followed_to_its_end(backend: Backend, tmp_path: Path) -> None:
    job = program(backend, tmp_path, "import time\nfor n in range(3):\n    time.sleep(0.1)\n    print(n)")
    with launched(backend, job) as (made, plan):
        made.submit(plan)
        assert list(made.logs(CHIEF, follow=True)) == ["0", "1", "2"]
        watch = Watch(made)
        watch.until_exited([CHIEF])
    assert watch.output(CHIEF) == "0\n1\n2\n", "poll tells what happened meanwhile"

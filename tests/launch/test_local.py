"""The local launcher with small programs and a warm parent that imports next to nothing."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster.records import ExitRecord, FailureRecord, ProgressRecord
from orchestrator.cluster.task import TaskType
from orchestrator.errors import PortError, StartError
from orchestrator.launch.job import Job, StartMethod
from orchestrator.launch.launcher import (
    Launcher,
    PreparationExited,
    PreparationOutput,
    StopKind,
    TaskExited,
    TaskOutput,
    TaskStarted,
)
from orchestrator.launch.local import LocalLauncher
from orchestrator.launch.run_dir import RunDir
from tests.launch.local_runs import (
    CHIEF,
    WORKER,
    Watch,
    alive,
    environment,
    launcher,
    local_job,
    python,
    run_to_end,
    write_program,
)

SLEEPER = """
    import os, signal, sys, time
    if "deaf" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("up", os.getpid())
    time.sleep(1000)
"""


def sleepers(folder: Path, *arguments: str, **replicas: int) -> Job:
    write_program(folder, SLEEPER)
    return local_job(folder, python("program.py", *arguments), **replicas)


def test_it_is_a_launcher(tmp_path: Path) -> None:
    with launcher(local_job(tmp_path, ("true",))) as made:
        assert isinstance(made, Launcher)


def test_tasks_run_and_their_ends_are_told_and_recorded(tmp_path: Path) -> None:
    write_program(
        tmp_path, "import sys, os; print(os.environ['ORCHESTRATOR_TASK']); print('e', file=sys.stderr)"
    )
    job = local_job(tmp_path, python("program.py"), chief=1, worker=2)
    plan, watch = run_to_end(job)
    for task_plan in plan.tasks:
        task = task_plan.task
        (record,), (start,) = watch.exits(task), watch.starts(task)
        assert (record.code, record.signal, record.requested, record.attempt, record.start) == (
            0,
            None,
            False,
            0,
            0,
        )
        assert record.pid == start.pid
        assert start.start_method is StartMethod.FORK
        assert sorted(watch.output(task).splitlines()) == sorted([str(task), "e"])
        assert task_plan.log_path.read_text() == watch.output(task)
        assert RunDir(job.run_dir).records(task).read(ExitRecord) == record


def test_output_comes_before_the_exit(tmp_path: Path) -> None:
    write_program(tmp_path, "print('x\\n' * 300_000 + 'the end', end='')")
    _, watch = run_to_end(local_job(tmp_path, python("program.py")))
    assert isinstance(watch.events[-1], TaskExited)
    assert watch.output(CHIEF).count("\n") == 300_001
    assert watch.output(CHIEF).endswith("the end\n")


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("no-such-command", "x"), 127, "orchestrator: cannot run 'no-such-command': no such command"),
        (("./plain.txt",), 126, "orchestrator: cannot run './plain.txt': Permission denied"),
        (("./broken.sh",), 127, "its interpreter is missing"),
        (("sh", "-c", "exit 9"), 9, ""),
        (("sh", "-c", "kill -9 $$"), 137, ""),
    ],
)
def test_executed_commands(tmp_path: Path, command: tuple[str, ...], code: int, said: str) -> None:
    (tmp_path / "plain.txt").write_text("text")
    (tmp_path / "broken.sh").write_text("#!/no/such/interpreter\n")
    (tmp_path / "broken.sh").chmod(0o755)
    _, watch = run_to_end(local_job(tmp_path, command))
    assert [record.code for record in watch.exits(CHIEF)] == [code]
    assert said in watch.output(CHIEF)
    assert watch.output(CHIEF).count("\n") == bool(said)


def test_arguments_and_environment_arrive_exactly(tmp_path: Path) -> None:
    odd = "a b'\"$HOME,\\ \n*;é"
    write_program(tmp_path, "import sys, os; print(ascii((sys.argv[1:], os.environ['ODD'])))")
    for method in ("fork", "spawn"):
        job = local_job(tmp_path, python("program.py", odd, ""), options={"start_method": method})
        _, watch = run_to_end(job, environ=environment(ODD=odd + "\udcff"))
        assert watch.output(CHIEF) == ascii(([odd, ""], odd + "\udcff")) + "\n"


def test_an_executed_task_has_nothing_of_the_launcher(tmp_path: Path) -> None:
    script = "ls /proc/self/fd | wc -w; cat /proc/self/status | grep -E 'Sig(Blk|Ign)'; ps -o sid=,pid= $$"
    _, watch = run_to_end(local_job(tmp_path, ("sh", "-c", script)))
    count, blocked, ignored, ids = watch.output(CHIEF).splitlines()
    assert int(count) == 5, "0 to 2, the control pipe, and the directory that ls reads"
    assert (blocked.split()[1], ignored.split()[1]) == ("0" * 16, "0" * 16)
    assert len(set(ids.split())) == 1


def test_a_working_directory_that_is_gone_is_one_failed_task(tmp_path: Path) -> None:
    write_program(tmp_path, "pass")
    job = local_job(tmp_path, ("true",))
    with launcher(job) as made:
        plan = made.plan(job, 0)
        watch = Watch(made)
        made.submit(plan)
        watch.until_exited([CHIEF])
        gone = replace(plan, job=replace(job, working_dir=tmp_path / "gone"))
        made.submit(gone)
        watch.until_exited([CHIEF], times=2)
    assert [record.code for record in watch.exits(CHIEF)] == [0, 127]
    assert "chief-0 cannot be started: No such file or directory" in watch.output(CHIEF)


def test_a_request_reaches_the_control_pipe_and_the_process(tmp_path: Path) -> None:
    write_program(
        tmp_path,
        """
        import os, signal
        got = []
        signal.signal(signal.SIGTERM, lambda *_: got.append("TERM"))
        print("up")
        print(os.read(int(os.environ["ORCHESTRATOR_CONTROL_FD"]), 10))
        while not got:
            signal.pause()
        print(got)
        """,
    )
    for method in ("fork", "spawn"):
        job = local_job(tmp_path, python("-u", "program.py"), options={"start_method": method})
        with launcher(job) as made:
            watch = Watch(made)
            made.submit(made.plan(job, 0))
            watch.until_output(CHIEF, "up")
            made.stop([CHIEF], StopKind.REQUEST)
            watch.until_exited([CHIEF])
        assert watch.output(CHIEF) == "up\nb'S'\n['TERM']\n"
        assert [(r.code, r.requested) for r in watch.exits(CHIEF)] == [(0, True)]


def test_a_program_without_a_handler_ends_by_sigterm(tmp_path: Path) -> None:
    job = sleepers(tmp_path)
    with launcher(job) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        watch.until_output(CHIEF, "up")
        made.stop([CHIEF], StopKind.REQUEST)
        watch.until_exited([CHIEF])
    assert [(r.code, r.signal, r.requested) for r in watch.exits(CHIEF)] == [(143, 15, True)]


def test_a_kill_ends_the_deaf_and_nobody_else(tmp_path: Path) -> None:
    job = sleepers(tmp_path, "deaf", chief=1, worker=1)
    with launcher(job) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        watch.until_output(CHIEF, "up")
        watch.until_output(WORKER, "up")
        made.stop([WORKER], StopKind.REQUEST)
        made.stop([WORKER], StopKind.KILL)
        watch.until_exited([WORKER])
        assert alive(watch.starts(CHIEF)[0].pid)
        assert watch.exits(CHIEF) == []
    assert [(r.code, r.signal, r.requested) for r in watch.exits(WORKER)] == [(137, 9, True)]
    assert not alive(watch.starts(CHIEF)[0].pid)


def test_a_stopped_process_can_be_killed(tmp_path: Path) -> None:
    job = sleepers(tmp_path)
    with launcher(job) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        watch.until_output(CHIEF, "up")
        os.kill(watch.starts(CHIEF)[0].pid, signal.SIGSTOP)
        made.stop([CHIEF], StopKind.KILL)
        watch.until_exited([CHIEF])


def test_a_stop_before_the_start_means_no_start(tmp_path: Path) -> None:
    write_program(tmp_path, "import time; time.sleep(1000)", "slow_module.py")
    job = sleepers(tmp_path, chief=1, worker=1)
    env = environment(PYTHONPATH=str(tmp_path))
    with launcher(job, imports=("slow_module",), environ=env) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        made.stop([CHIEF], StopKind.REQUEST)
        made.stop([WORKER], StopKind.KILL)
        watch.until_exited([CHIEF, WORKER])
    assert [(r.code, r.requested, r.pid) for r in watch.exits(CHIEF)] == [(143, True, 0)]
    assert [(r.code, r.requested, r.pid) for r in watch.exits(WORKER)] == [(137, True, 0)]
    assert watch.starts(CHIEF) == []


def test_a_restart_in_place_counts_and_forgets_old_records(tmp_path: Path) -> None:
    write_program(
        tmp_path,
        """
        import os, sys, time
        from orchestrator.cluster.records import ProgressRecord, Phase, TaskEnvironment
        about = TaskEnvironment.read()
        print("address", __import__("json").loads(os.environ["TF_CONFIG"])["cluster"]["worker"])
        if about.task.index == 0 and not os.path.exists("second"):
            open("second", "w").close()
            about.records.write(ProgressRecord(Phase.DONE, time.time(), step=5))
            raise ValueError("first time")
        time.sleep(1000)
        """,
    )
    job = local_job(tmp_path, python("program.py"), worker=2)
    records = RunDir(job.run_dir).records(WORKER)
    with launcher(job) as made:
        plan = made.plan(job, 0)
        watch = Watch(made)
        made.submit(plan)
        watch.until_exited([WORKER])
        failure = records.read(FailureRecord)
        assert failure is not None
        assert failure.step == 5
        made.submit(plan, [WORKER])
        watch.until(lambda: len(watch.starts(WORKER)) == 2, "second start")
        assert records.read(FailureRecord) is None
        assert records.read(ProgressRecord) is None
        assert records.read(ExitRecord) is None
        watch.until(lambda: watch.output(WORKER).count("address") == 2, "second address")
        made.stop([WORKER], StopKind.REQUEST)
        watch.until_exited([WORKER], times=2)
    assert [(r.code, r.start) for r in watch.exits(WORKER)] == [(1, 0), (143, 1)]
    first, second = (line for line in watch.output(WORKER).splitlines() if line.startswith("address"))
    assert first == second
    assert len(watch.notes()) == 2, "one import"


def test_a_task_that_still_runs_cannot_be_started_again(tmp_path: Path) -> None:
    job = sleepers(tmp_path)
    with launcher(job) as made:
        plan = made.plan(job, 0)
        watch = Watch(made)
        made.submit(plan)
        watch.until_output(CHIEF, "up")
        with pytest.raises(StartError, match="chief-0 cannot be started: the process before still runs"):
            made.submit(plan)


def test_a_port_that_was_taken_meanwhile_is_replaced_by_planning_again(tmp_path: Path) -> None:
    write_program(tmp_path, "import os; print(os.environ['TF_CONFIG'])")
    job = local_job(tmp_path, python("program.py"), chief=1, worker=1)
    with launcher(job) as made, socket.socket() as thief:
        plan = made.plan(job, 0)
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
    assert address not in watch.output(WORKER)


def test_an_import_that_fails_is_one_error(tmp_path: Path) -> None:
    write_program(tmp_path, "raise ImportError('libcudart is missing')", "broken_module.py")
    job = sleepers(tmp_path, chief=1, worker=1)
    with launcher(job, imports=("broken_module",), environ=environment(PYTHONPATH=str(tmp_path))) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        with pytest.raises(StartError) as raised:
            watch.until_exited([CHIEF])
        said = str(raised.value)
        assert "cannot import broken_module: ImportError: libcudart is missing" in said
        assert str(RunDir(job.run_dir).warm_parent_log) in said
        assert made.poll(0) == []
    assert "Traceback" in RunDir(job.run_dir).warm_parent_log.read_text()


def test_a_parent_that_dies_while_importing_is_one_error(tmp_path: Path) -> None:
    text = "import os, sys; print('illegal instruction', flush=True); os.kill(os.getpid(), 4)"
    write_program(tmp_path, text, "crashing_module.py")
    job = sleepers(tmp_path)
    with launcher(job, imports=("crashing_module",), environ=environment(PYTHONPATH=str(tmp_path))) as made:
        made.submit(made.plan(job, 0))
        with pytest.raises(StartError, match="was ended by signal 4; its last line: illegal instruction"):
            Watch(made).until_exited([CHIEF])


def test_an_import_without_end_is_given_up(tmp_path: Path) -> None:
    write_program(tmp_path, "import time; time.sleep(1000)", "slow_module.py")
    job = sleepers(tmp_path)
    env = environment(PYTHONPATH=str(tmp_path))
    with launcher(job, imports=("slow_module",), environ=env, import_limit=0.5) as made:
        made.submit(made.plan(job, 0))
        with pytest.raises(StartError, match=r"importing slow_module in process \d+ took more than 0\.5 s"):
            Watch(made).until_exited([CHIEF])


def test_an_interpreter_that_is_gone_is_one_error(tmp_path: Path) -> None:
    job = sleepers(tmp_path)
    with launcher(job, interpreter="/no/such/python") as made:
        plan = made.plan(job, 0)
        with pytest.raises(StartError, match="cannot start /no/such/python"):
            made.submit(plan)


def test_a_parent_that_is_unfit_executes_and_says_why(tmp_path: Path) -> None:
    text = "import threading, time; threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()"
    write_program(tmp_path, text, "threading_module.py")
    write_program(tmp_path, "print('ran')")
    job = local_job(tmp_path, python("program.py"))
    env = environment(PYTHONPATH=str(tmp_path))
    plan, watch = run_to_end(job, imports=("threading_module",), environ=env)
    (start,) = watch.starts(CHIEF)
    assert plan.task(CHIEF).start_method is StartMethod.FORK
    assert (start.start_method, start.why) == (
        StartMethod.EXEC,
        "not forked: it runs 2 Python threads",
    )
    assert "tasks are not forked: it runs 2 Python threads" in watch.notes()
    assert watch.output(CHIEF) == "ran\n"


def test_files_in_the_working_directory_are_not_taken_for_the_parents_modules(tmp_path: Path) -> None:
    write_program(tmp_path, "raise SystemExit('shadowed')", "json.py")
    write_program(tmp_path, "raise SystemExit('shadowed')", "argparse.py")
    write_program(tmp_path, "print('ran')")
    _, watch = run_to_end(local_job(tmp_path, python("program.py")))
    assert watch.output(CHIEF) == "ran\n"


def test_the_preparation_is_run_once_before_the_tasks(tmp_path: Path) -> None:
    write_program(
        tmp_path, "import os; print('prepared', 'ORCHESTRATOR_TASK' in os.environ); open('data', 'w')"
    )
    job = replace(sleepers(tmp_path), prepare_command=python("program.py"))
    write_program(
        tmp_path, "import os; print('prepared', 'ORCHESTRATOR_TASK' in os.environ); open('data', 'w')"
    )
    with launcher(job) as made:
        watch = Watch(made)
        made.prepare(job)
        watch.until(
            lambda: any(isinstance(e, PreparationExited) for e in watch.events), "end of the preparation"
        )
        said = "".join(e.text for e in watch.events if isinstance(e, PreparationOutput))
        assert said == "prepared False\n"
        assert RunDir(job.run_dir).preparation_log.read_text() == said
        assert [e.record.code for e in watch.events if isinstance(e, PreparationExited)] == [0]
        made.submit(made.plan(job, 0))
        watch.until_exited([CHIEF])
    assert len(watch.notes()) == 2, "one import for both"


def test_a_preparation_that_hangs_ends_with_the_launcher(tmp_path: Path) -> None:
    job = replace(sleepers(tmp_path), prepare_command=python("program.py"))
    with launcher(job) as made:
        watch = Watch(made)
        made.prepare(job)
        watch.until(lambda: any(isinstance(e, PreparationOutput) for e in watch.events), "its output")


def test_a_log_on_a_full_disk_is_told_and_training_goes_on(tmp_path: Path) -> None:
    write_program(tmp_path, "import time\nfor n in range(3):\n    print('line', n)\n    time.sleep(0.1)")
    job = local_job(tmp_path, python("program.py"))
    RunDir(job.run_dir).log(CHIEF).symlink_to("/dev/full")
    _, watch = run_to_end(job)
    assert watch.output(CHIEF) == "line 0\nline 1\nline 2\n"
    assert watch.notes()[-2:] == [
        "log of chief-0 cannot be written: No space left on device;"
        " training goes on, output stays on the terminal",
        f"log of chief-0 is incomplete: 21 bytes could not be written to {RunDir(job.run_dir).log(CHIEF)}:"
        " No space left on device",
    ]
    assert [record.code for record in watch.exits(CHIEF)] == [0]


def test_logs_are_read_back_and_followed(tmp_path: Path) -> None:
    write_program(tmp_path, "print('one'); print('two')")
    job = local_job(tmp_path, python("program.py"))
    with launcher(job) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        watch.until_exited([CHIEF])
        assert list(made.logs(CHIEF)) == ["one", "two"]
        assert list(made.logs(CHIEF, follow=True)) == ["one", "two"]
        assert list(made.logs(WORKER)) == []


def test_the_log_of_a_running_task_is_followed_to_its_end(tmp_path: Path) -> None:
    write_program(tmp_path, "import time\nfor n in range(3):\n    time.sleep(0.3)\n    print('line', n)")
    job = local_job(tmp_path, python("program.py"))
    with launcher(job) as made:
        made.submit(made.plan(job, 0))
        assert list(made.logs(CHIEF, follow=True)) == ["line 0", "line 1", "line 2"]
        watch = Watch(made)
        watch.until_exited([CHIEF])
    assert watch.output(CHIEF) == "line 0\nline 1\nline 2\n", "poll tells what happened meanwhile"


def test_the_start_is_told_before_the_output(tmp_path: Path) -> None:
    write_program(tmp_path, "print('at once')")
    _, watch = run_to_end(local_job(tmp_path, python("program.py"), worker=4))
    for task in {e.task for e in watch.events if isinstance(e, TaskStarted)}:
        kinds = [type(e) for e in watch.events if getattr(e, "task", None) == task]
        assert kinds == [TaskStarted, TaskOutput, TaskExited]


def test_a_launcher_serves_one_run(tmp_path: Path) -> None:
    job = local_job(tmp_path, ("true",))
    other = LocalLauncher(tmp_path / "other")
    with pytest.raises(ValueError, match="serves"):
        other.plan(job, 0)
    other.close()


def test_use_is_sampled_and_peaks_are_kept(tmp_path: Path) -> None:
    job = sleepers(tmp_path)
    with launcher(job) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        watch.until_output(CHIEF, "up")
        made.sample(time.monotonic())
        assert made.peaks()[CHIEF].memory_bytes > 1_000_000
    assert RunDir(job.run_dir).resources.read_text().count('"task": "chief-0"') == 1


def test_poll_waits_no_longer_than_it_is_told(tmp_path: Path) -> None:
    with launcher(local_job(tmp_path, ("true",))) as made:
        assert made.poll(0) == []
        assert made.poll(0.05) == []


def test_too_many_tasks_for_the_open_files_are_one_error(tmp_path: Path) -> None:
    write_program(tmp_path, "print('ran')")
    job = local_job(tmp_path, python("program.py"), worker=30)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with launcher(job) as made:
        plan = made.plan(job, 0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_descriptors(os.getpid()) + 40, limits[1]))
        try:
            with pytest.raises(
                StartError, match=r"30 tasks cannot be started: Too many open files.*ulimit -n"
            ):
                made.submit(plan)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        watch = Watch(made)
        made.submit(plan)
        watch.until_exited([p.task for p in plan.tasks])
    assert {r.start for p in plan.tasks for r in watch.exits(p.task)} == {0}


def open_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def open_pipes(pid: int) -> int:
    """Only pipes: servers that earlier tests left in this process open and close sockets as they like."""
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            found += os.readlink(link).startswith("pipe:")
    return found


def test_many_starts_leave_no_descriptors_open(tmp_path: Path) -> None:
    write_program(tmp_path, "print('ran')")
    job = local_job(tmp_path, python("program.py"), {TaskType.PS: {"OMP_NUM_THREADS": "1"}}, worker=3, ps=1)
    with launcher(job) as made:
        plan = made.plan(job, 0)
        watch = Watch(made)
        counts = []
        for n in range(1, 6):
            made.submit(plan)
            watch.until_exited([p.task for p in plan.tasks], times=n)
            assert made.parent_pid is not None
            counts.append((open_pipes(os.getpid()), open_descriptors(made.parent_pid)))
        assert len(set(counts)) == 1, counts

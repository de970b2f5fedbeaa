"""Real processes born and killed: whoever dies, nothing of a run is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.launch.job import Job, StartMethod
from orchestrator.launch.launcher import StopKind
from orchestrator.launch.process_tree import processes_of_run
from orchestrator.launch.start_method import gpu_visible
from tests.launch.local_runs import (
    CHIEF,
    LIMIT,
    WORKER,
    Watch,
    alive,
    environment,
    launcher,
    local_job,
    python,
    run_to_end,
    wait_until,
    write_program,
)

FAMILY = """
    import multiprocessing, os, signal, subprocess, sys, tempfile, time
    tempfile.NamedTemporaryFile(delete=False).write(b"left behind")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pids = [os.getpid()]
    def note(pid):
        with open(f"pids-{os.environ['ORCHESTRATOR_TASK']}", "a") as stream:
            stream.write(f"{pid}\\n")
    note(os.getpid())
    # a child, a child in a session of its own, and one that lost its parent, its session and its environment
    note(subprocess.Popen(["sleep", "1000"]).pid)
    note(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid)
    subprocess.run(["sh", "-c", "setsid sh -c 'echo $$ >> pids-$ORCHESTRATOR_TASK; exec sleep 1000' &"])
    # the same as a fork, which shows the environment of whoever started the task
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            note(os.getpid())
            time.sleep(1000)
        os._exit(0)
    os.wait()
    # a descendant that is killed before it has noted itself would be waited for in vain
    while len(open(f"pids-{os.environ['ORCHESTRATOR_TASK']}").read().split()) < 5:
        time.sleep(0.02)
    print("family of", os.environ["ORCHESTRATOR_TASK"])
    if "leave" in sys.argv:
        sys.exit(3)
    time.sleep(1000)
"""
STRANGER = """
    if os.fork() == 0:
        os.setsid()
        command = ["sh", "-c", "echo $$ >> pids-chief-0; exec sleep 1000"]
        os.execve("/bin/sh", command, {"PATH": os.environ["PATH"]})
"""
LAUNCHER = """
    import sys, time
    from pathlib import Path
    from tests.launch.local_runs import Watch, launcher, local_job, python
    folder = Path(sys.argv[1])
    job = local_job(folder, python("program.py"), options={"start_method": sys.argv[2]}, chief=1, worker=1)
    with launcher(job) as made:
        watch = Watch(made)
        plan = made.plan(job, 0)
        made.submit(plan)
        for task in plan.tasks:
            watch.until_output(task.task, "family of")
        print(made.parent_pid, flush=True)
        time.sleep(1000)
"""


def family(folder: Path, task: str, size: int = 5) -> list[int]:
    """The process ids of a task and its descendants, once all of them are noted."""
    path = folder / f"pids-{task}"

    def noted() -> list[int]:
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    wait_until(lambda: len(noted()) >= size, f"{size} processes of {task}")
    return noted()


def family_job(folder: Path, *arguments: str, method: str = "fork", more: str = "") -> Job:
    head, tail = FAMILY.split("    print(")
    write_program(folder, head + more + "    print(" + tail)
    return local_job(
        folder, python("program.py", *arguments), options={"start_method": method}, chief=1, worker=1
    )


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_launcher_that_is_killed_leaves_nothing(tmp_path: Path, method: str, number: int) -> None:
    family_job(tmp_path)
    script = write_program(tmp_path, LAUNCHER, "launch_it.py")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), method],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(PYTHONPATH=path, TMPDIR=str(temporary)),
    )
    assert process.stdout is not None
    try:
        pids = [int(process.stdout.readline()), *family(tmp_path, "chief-0"), *family(tmp_path, "worker-0")]
        assert all(map(alive, pids))
    finally:
        process.send_signal(number)
        process.wait(LIMIT)
        process.stdout.close()
    wait_until(lambda: not any(map(alive, pids)), "end of every process")
    assert processes_of_run(tmp_path / "run") == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_task_that_ends_takes_its_descendants_with_it_and_nobody_else(tmp_path: Path, method: str) -> None:
    job = family_job(tmp_path, method=method)
    with launcher(job) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        for task in (CHIEF, WORKER):
            watch.until_output(task, "family of")
        chief, worker = family(tmp_path, "chief-0"), family(tmp_path, "worker-0")
        os.kill(watch.starts(WORKER)[0].pid, signal.SIGKILL)
        watch.until_exited([WORKER])
        assert not any(map(alive, worker))
        assert all(map(alive, chief))
        assert watch.exits(CHIEF) == []
    assert [(r.code, r.signal) for r in watch.exits(WORKER)] == [(137, 9)]
    assert not any(map(alive, chief))


def test_a_task_that_leaves_by_itself_leaves_no_descendants(tmp_path: Path) -> None:
    job = family_job(tmp_path, "leave")
    with launcher(job) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        watch.until_exited([CHIEF, WORKER])
        assert not any(map(alive, family(tmp_path, "chief-0") + family(tmp_path, "worker-0")))
    assert [r.code for task in (CHIEF, WORKER) for r in watch.exits(task)] == [3, 3]


def test_a_descendant_without_mark_and_session_ends_with_the_run(tmp_path: Path) -> None:
    stranger = 'if os.environ["ORCHESTRATOR_TASK"] == "chief-0":\n'
    job = family_job(tmp_path, more="    " + stranger + STRANGER.replace("\n    ", "\n        "))
    with launcher(job) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        for task in (CHIEF, WORKER):
            watch.until_output(task, "family of")
        pids = family(tmp_path, "chief-0", size=6)
        assert all(map(alive, pids))
    assert not any(map(alive, pids))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_warm_parent_that_is_killed_ends_its_tasks_and_is_replaced(tmp_path: Path, method: str) -> None:
    job = family_job(tmp_path, method=method)
    with launcher(job) as made:
        plan = made.plan(job, 0)
        watch = Watch(made)
        made.submit(plan)
        for task in (CHIEF, WORKER):
            watch.until_output(task, "family of")
        pids = family(tmp_path, "chief-0") + family(tmp_path, "worker-0")
        assert made.parent_pid is not None
        first = made.parent_pid
        os.kill(first, signal.SIGKILL)
        watch.until_exited([CHIEF, WORKER])
        assert not any(map(alive, pids))
        assert [(r.code, r.requested) for t in (CHIEF, WORKER) for r in watch.exits(t)] == [(137, False)] * 2
        assert "the process that starts the tasks was ended by signal 9" in " ".join(watch.notes())
        made.submit(plan)
        watch.until(lambda: len(watch.starts(CHIEF)) == 2, "another start")
        assert made.parent_pid != first
    assert not any(map(alive, family(tmp_path, "chief-0")))


def test_a_warm_parent_that_is_stopped_is_killed_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.launch.warm_parent_link._LEAVE_SECONDS", 0.2)
    job = family_job(tmp_path)
    with launcher(job) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        watch.until_output(CHIEF, "family of")
        watch.until_output(WORKER, "family of")
        pids = family(tmp_path, "chief-0")
        assert made.parent_pid is not None
        os.kill(made.parent_pid, signal.SIGSTOP)
    assert not any(map(alive, pids))


def test_a_warm_parent_that_died_unnoticed_is_replaced_before_the_next_start(tmp_path: Path) -> None:
    write_program(tmp_path, "print('ran')")
    job = local_job(tmp_path, python("program.py"))
    with launcher(job) as made:
        plan = made.plan(job, 0)
        watch = Watch(made)
        made.submit(plan)
        watch.until_exited([CHIEF])
        parent = made.parent_pid
        assert parent is not None
        os.kill(parent, signal.SIGKILL)
        wait_until(lambda: not alive(parent), "end of the warm parent")
        made.submit(plan)
        watch.until_exited([CHIEF], times=2)
    assert [r.code for r in watch.exits(CHIEF)] == [0, 0]


def test_a_warm_parent_that_does_not_kill_is_killed_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.launch.local_processes._KILL_SECONDS", 0.5)
    job = family_job(tmp_path)
    with launcher(job) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        watch.until_output(CHIEF, "family of")
        watch.until_output(WORKER, "family of")
        pids = family(tmp_path, "chief-0")
        assert made.parent_pid is not None
        os.kill(made.parent_pid, signal.SIGSTOP)
        made.stop([CHIEF, WORKER], StopKind.KILL)
        watch.until_exited([CHIEF, WORKER])
        assert not any(map(alive, pids))
    assert "is stuck: it is killed" in " ".join(watch.notes())
    assert [(r.code, r.requested) for t in (CHIEF, WORKER) for r in watch.exits(t)] == [(137, True)] * 2


def test_output_is_not_waited_for_when_a_stranger_holds_the_pipe(tmp_path: Path) -> None:
    # The task ends only when the stranger is one: until its exec it is a process of the task.
    until_estranged = "import time\nwhile not os.path.exists('pids-chief-0'): time.sleep(0.01)\n"
    stranger = STRANGER.replace("    ", "", 1).replace("\n    ", "\n")
    write_program(tmp_path, "import os\n" + stranger + until_estranged + "print('end')")
    job = local_job(tmp_path, python("program.py"))
    with launcher(job) as made:
        watch = Watch(made)
        made.submit(made.plan(job, 0))
        watch.until_exited([CHIEF])
        (pid,) = family(tmp_path, "chief-0", size=1)
        assert alive(pid), "it cannot be told whose it is before the run ends"
    assert watch.output(CHIEF) == "end\n"
    assert not alive(pid)


TRAINING = """
    import json, os, sys
    import tensorflow as tf
    tf1 = tf.compat.v1
    with tf.Graph().as_default():
        step = tf1.train.get_or_create_global_step()
        weight = tf1.get_variable("w", [50, 50])
        loss = tf.reduce_mean((tf.random.normal([50, 50]) @ weight) ** 2)
        train = tf1.train.GradientDescentOptimizer(0.1).minimize(loss, global_step=step)
        cluster = json.loads(os.environ["TF_CONFIG"])["cluster"]
        own = {"worker": [cluster["worker"][json.loads(os.environ["TF_CONFIG"])["task"]["index"]]]}
        server = tf.distribute.Server(own, job_name="worker", task_index=0)
        with tf1.train.MonitoredTrainingSession(server.target) as session:
            for _ in range(20):
                session.run(train)
            print("trained", session.run(step), "steps on", server.target)
"""


@pytest.mark.timeout(600)
def test_a_forked_tensorflow_program_trains_behind_its_held_port(tmp_path: Path) -> None:
    write_program(tmp_path, TRAINING)
    job = local_job(tmp_path, python("program.py"), worker=2)
    plan, watch = run_to_end(job, imports=("tensorflow",))
    for task_plan in plan.tasks:
        (start,), (record,) = watch.starts(task_plan.task), watch.exits(task_plan.task)
        assert start.start_method is StartMethod.FORK, start.why
        assert record.code == 0, watch.output(task_plan.task)
        assert f"trained 20 steps on grpc://{task_plan.address}\n" in watch.output(task_plan.task)


@pytest.mark.timeout(600)
def test_a_parent_that_has_used_tensorflow_executes_its_tasks(tmp_path: Path) -> None:
    write_program(tmp_path, "import tensorflow as tf; tf.constant(1.0) + 1.0", "careless_module.py")
    write_program(tmp_path, "import tensorflow as tf; print('sum', float(tf.constant(1.0) + 1.0))")
    job = local_job(tmp_path, python("program.py"))
    env = environment(PYTHONPATH=str(tmp_path))
    _, watch = run_to_end(job, imports=("careless_module",), environ=env)
    (start,) = watch.starts(CHIEF)
    assert start.start_method is StartMethod.EXEC
    assert start.why.startswith("not forked: TensorFlow has started threads in it (")
    assert "sum 2.0" in watch.output(CHIEF)
    assert json.loads((job.run_dir / "tasks/chief-0/exit.json").read_text())["code"] == 0


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_visible(os.environ), reason="no GPU is visible")
@pytest.mark.timeout(600)
def test_forked_and_executed_programs_use_the_gpu_alike(tmp_path: Path) -> None:
    write_program(
        tmp_path,
        """
        import tensorflow as tf
        gpu = tf.config.list_physical_devices("GPU")[0]
        tf.config.experimental.set_memory_growth(gpu, True)
        with tf.device("/GPU:0"):
            ones = tf.ones([1000, 1000])
            print("sum", float(tf.reduce_sum(ones @ ones)), ones.device)
        """,
    )
    for method in ("fork", "spawn"):
        job = local_job(tmp_path, python("program.py"), options={"start_method": method}, worker=2)
        plan, watch = run_to_end(job, imports=("tensorflow",))
        for task_plan in plan.tasks:
            assert watch.starts(task_plan.task)[0].start_method.value == method.replace("spawn", "exec")
            assert "sum 1000000000.0" in watch.output(task_plan.task)
            assert "GPU:0" in watch.output(task_plan.task)

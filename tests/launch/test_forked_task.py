"""A forked program cannot be told from one that an interpreter runs: each case is run both ways."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from orchestrator.cluster.records import FailureRecord, Phase, ProgressRecord
from orchestrator.launch.job import StartMethod
from orchestrator.launch.run_dir import RunDir
from tests.launch.local_runs import (
    CHIEF,
    Watch,
    environment,
    launcher,
    local_job,
    python,
    run_to_end,
    write_program,
)

PROGRAMS = {
    "identity": """
        import os, sys
        print(__name__, __file__ == os.path.abspath("program.py"), sys.argv, __spec__, __package__, __doc__)
        print(sys.path[0] == os.path.dirname(os.path.realpath(__file__)), os.getcwd() == sys.path[0])
        print(sys.modules["__main__"].__dict__ is globals(), sorted(set(globals()) - {"__annotations__"}))
        print(sys.orig_argv[1:], sys.stdin.read() == "", os.getsid(0) == os.getpid())
    """,
    "exit code": "import sys; sys.exit(7)",
    "exit code beyond a byte": "import sys; sys.exit(256 + 3)",
    "negative exit code": "import sys; sys.exit(-1)",
    "exit with a message": "import sys; sys.exit('no data')",
    "exit with None": "raise SystemExit",
    "exit with an object": "raise SystemExit([1, 2])",
    "exception": """
        def inner():
            raise ValueError("wrong shape")
        inner()
    """,
    "exception with a cause": """
        try:
            {}["a"]
        except KeyError as error:
            raise RuntimeError("lookup") from error
    """,
    "exception group of its own type": """
        class Odd(Exception):
            def __str__(self):
                return "odd"
        raise Odd
    """,
    "syntax error": "def f(:\n    pass\n",
    "own excepthook": """
        import sys
        sys.excepthook = lambda kind, value, trace: print("hooked", kind.__name__, value, trace is not None)
        raise ValueError("x")
    """,
    "broken excepthook": """
        import sys
        def hook(*_):
            raise TypeError("hook")
        sys.excepthook = hook
        raise ValueError("x")
    """,
    "atexit and threads": """
        import atexit, threading, time
        atexit.register(print, "exit function")
        last_line = threading.Event()
        def late():
            last_line.wait()
            time.sleep(0.3)
            print("thread done")
        threading.Thread(target=late).start()
        threading.Thread(target=lambda: time.sleep(1000), daemon=True).start()
        print("main done")
        last_line.set()
    """,
    "exit function fails": """
        import atexit
        def fail():
            raise ValueError("late")
        atexit.register(fail)
    """,
    "exit in an exit function": """
        import atexit, concurrent.futures
        with concurrent.futures.ThreadPoolExecutor() as pool:
            print(list(pool.map(abs, [-1, -2])))
        atexit.register(lambda: print("last"))
        raise SystemExit(3)
    """,
    "file left open": """
        stream = open("left.txt", "w")
        stream.write("text")
        import os, subprocess, sys
        stream_of_a_class = type("Holder", (), {"file": open("left2.txt", "wb")})
        stream_of_a_class.file.write(b"bytes")
    """,
    "unflushed output": "import sys; sys.stdout.write('no line end')",
    "multiprocessing spawn": """
        import multiprocessing
        def work(x):
            return x + 1
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(work, [1, 2]))
    """,
    "multiprocessing fork": """
        import multiprocessing
        def work(queue):
            queue.put(__name__)
        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            queue = context.Queue()
            process = context.Process(target=work, args=(queue,))
            process.start()
            print(queue.get(), process.join(), process.exitcode)
    """,
    "pickle of main": """
        import pickle
        class Thing:
            pass
        print(type(pickle.loads(pickle.dumps(Thing()))) is Thing)
    """,
    "signals": """
        import signal
        print([signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)])
        print(signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, []))
    """,
    "keyboard interrupt": "raise KeyboardInterrupt",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "import of a neighbour": "import neighbour; print(neighbour.__file__.endswith('neighbour.py'))",
    "annotations": "x: int = 1; print(__annotations__)",
    "environment": """
        import os, subprocess, sys, time, tempfile
        print(os.environ["GREETING"], subprocess.check_output(["printenv", "GREETING"]).decode())
        print(sorted(k for k in os.environ if k.startswith("ORCHESTRATOR")), time.tzname)
        print(tempfile.gettempdir())
    """,
    "encoding": "import sys; print('Grüße', sys.stdout.encoding, sys.stderr.errors, sys.stdout.isatty())",
}


def outcome(job_folder: Path, *command: str | Path, fork: bool) -> tuple[int, str, dict[str, str]]:
    """Exit code, output and files that a command leaves, when it is forked or not."""
    env = environment(GREETING="good day", TZ="UTC-3", TMPDIR=str(job_folder), PYTHONUNBUFFERED="1")
    job = local_job(job_folder, python(*command), options={"start_method": "fork" if fork else "spawn"})
    _, watch = run_to_end(job, environ=env)
    (start,) = watch.starts(CHIEF)
    assert start.start_method is (StartMethod.FORK if fork else StartMethod.EXEC)
    (record,) = watch.exits(CHIEF)
    left = {path.name: path.read_text() for path in job_folder.glob("left*")}
    return record.code, watch.output(CHIEF), left


def plain(text: str, folder: Path) -> str:
    """Without what differs between any two runs: places, addresses, the name of the temporary directory."""
    text = re.sub(r"0x[0-9a-f]+", "0x", text.replace(str(folder), "FOLDER"))
    return re.sub(r"FOLDER/\S+-[0-9a-f]{8}/", "FOLDER/TEMPORARY/", text)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_forked_script_behaves_as_an_executed_one(tmp_path: Path, name: str) -> None:
    results = []
    for fork in (False, True):
        folder = tmp_path / ("fork" if fork else "exec")
        write_program(folder, PROGRAMS[name])
        write_program(folder, "", "neighbour.py")
        code, output, left = outcome(folder, "program.py", "--rate", "0.1", fork=fork)
        results.append((code, plain(output, folder), left))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "module", ["package.module", "package", "package.missing", "missing", "neighbour", "failing"]
)
def test_a_forked_module_behaves_as_an_executed_one(tmp_path: Path, module: str) -> None:
    results = []
    for fork in (False, True):
        folder = tmp_path / ("fork" if fork else "exec")
        text = """
            import sys
            from package import NAME
            print(__name__, __package__, __spec__ and __spec__.name, NAME, sys.argv)
            print(sys.path[0])
        """
        write_program(folder, "NAME = 'package'", "package/__init__.py")
        write_program(folder, text, "package/module.py")
        write_program(folder, text, "package/__main__.py")
        write_program(folder, "import sys; print(sys.argv, __file__); sys.exit(4)", "neighbour.py")
        write_program(folder, "1 / 0", "failing.py")
        code, output, _ = outcome(folder, "-m", module, "--rate", "0.1", fork=fork)
        results.append((code, plain(output, folder)))
    assert results[0] == results[1]


def test_a_missing_script_is_named(tmp_path: Path) -> None:
    results = [outcome(tmp_path, "missing.py", fork=fork)[:2] for fork in (False, True)]
    assert results[0] == results[1]
    assert results[0][0] == 2
    assert "missing.py" in results[0][1]


def test_a_linked_script_finds_its_real_neighbours(tmp_path: Path) -> None:
    write_program(tmp_path / "real", "import neighbour, sys; print(neighbour.X, sys.path[0])")
    write_program(tmp_path / "real", "X = 'found'", "neighbour.py")
    (tmp_path / "link.py").symlink_to("real/program.py")
    results = [outcome(tmp_path, "link.py", fork=fork)[:2] for fork in (False, True)]
    assert results[0] == results[1]
    assert "found" in results[0][1]


def test_two_forks_draw_different_random_numbers(tmp_path: Path) -> None:
    write_program(tmp_path, "import numpy, random; print(numpy.random.rand(), random.random())")
    job = local_job(tmp_path, python("program.py"), chief=1, worker=1)
    plan, watch = run_to_end(job, imports=("numpy",))
    numbers = [number for p in plan.tasks for number in watch.output(p.task).split()]
    assert len(set(numbers)) == 4


def test_an_uncaught_exception_is_recorded_with_the_last_step(tmp_path: Path) -> None:
    write_program(
        tmp_path,
        """
        import time
        from orchestrator.cluster.records import Phase, ProgressRecord, TaskEnvironment
        about = TaskEnvironment.read()
        about.records.write(ProgressRecord(Phase.STEPPING, time.time(), step=41))
        class ShapeError(ValueError):
            pass
        def train():
            raise ShapeError("3 is not 4")
        train()
        """,
    )
    job = local_job(tmp_path, python("program.py"))
    _, watch = run_to_end(job)
    records = RunDir(job.run_dir).records(CHIEF)
    failure = records.read(FailureRecord)
    progress = records.read(ProgressRecord)
    assert failure is not None
    assert progress is not None
    assert (failure.type, failure.message, failure.step) == ("ShapeError", "3 is not 4", 41)
    assert progress.phase is Phase.STEPPING
    *trace, _ = failure.traceback.splitlines()  # how the last line names the class depends on the version
    assert "\n".join(trace) in watch.output(CHIEF)
    assert "forked_task" not in failure.traceback
    assert [record.code for record in watch.exits(CHIEF)] == [1]


def test_leaving_on_purpose_is_no_failure(tmp_path: Path) -> None:
    write_program(tmp_path, "raise SystemExit('enough')")
    job = local_job(tmp_path, python("program.py"))
    run_to_end(job)
    assert RunDir(job.run_dir).records(CHIEF).read(FailureRecord) is None


def test_ps_shows_the_task_and_its_command(tmp_path: Path) -> None:
    write_program(tmp_path, "import time; print('up'); time.sleep(1000)")
    job = local_job(tmp_path, python("program.py", "--rate", "0.1"), chief=1, worker=1)
    with launcher(job) as made:
        plan = made.plan(job, 0)
        made.submit(plan)
        watch = Watch(made)
        for task in plan.tasks:
            watch.until_output(task.task, "up")
            pid = watch.starts(task.task)[0].pid
            shown = subprocess.check_output(["ps", "-o", "comm=,args=", "-p", str(pid)], text=True)
            assert shown.split() == [str(task.task), *python("program.py", "--rate", "0.1")]

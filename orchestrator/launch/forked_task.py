"""What a freshly forked process does to become a task: a Python program run as `__main__`.

Everything that an interpreter started anew would have is put back: session,
signals, descriptors, environment, random state, arguments, module path. The
end is an interpreter's too (non-daemon threads joined, exit functions run,
open files flushed), but for the teardown of modules.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import os
import runpy
import signal
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from typing import NoReturn

from orchestrator.cluster.records import FailureRecord, ProgressRecord, TaskEnvironment
from orchestrator.cluster.secrets import masker_of_task
from orchestrator.launch.process_marks import write_mark, write_title
from orchestrator.launch.process_tree import die_with_parent, set_thread_name
from orchestrator.launch.python_command import PythonCommand

_PARENT_GONE = 137
_CANNOT_START = 127
_OUTPUT_LOST = 120


@dataclass(frozen=True)
class ForkedTask:
    """All that a forked process needs to know."""

    task: str
    command: tuple[str, ...]
    program: PythonCommand
    env: Mapping[str, str]
    """The whole environment."""
    working_dir: str
    output_fd: int
    parent: int
    module_path: tuple[str, ...]
    """`sys.path` as an interpreter has it before it puts the program's own place in front."""


def become(task: ForkedTask, close: Collection[int]) -> NoReturn:
    """Turns this process, just forked, into `task`; never returns. Signals must be blocked by the caller."""
    code = _CANNOT_START
    try:
        _take_leave_of_parent(task, close)
        _take_environment(task)
        code = _run(task)
        code = _finish(code)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stderr.flush()
        os._exit(code)


def _take_leave_of_parent(task: ForkedTask, close: Collection[int]) -> None:
    os.setsid()
    try:
        die_with_parent(task.parent)
    except ProcessLookupError:
        os._exit(_PARENT_GONE)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(task.output_fd, 1)
    os.dup2(task.output_fd, 2)
    for fd in {null, task.output_fd, *close}:
        if fd > 2:
            os.close(fd)
    _reset_signals()


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        # None: set by a library in C (a crash handler, say), as it would be in any interpreter.
        if callable(signal.getsignal(number)) or number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _take_environment(task: ForkedTask) -> None:
    os.environ.clear()
    os.environ.update(task.env)
    time.tzset()
    tempfile.tempdir = None
    os.chdir(task.working_dir)
    write_mark(task.task)
    write_title(task.command)
    with contextlib.suppress(OSError):
        set_thread_name(task.task)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"].ORIGINAL_DIR = task.working_dir  # type: ignore[attr-defined]
    importlib.invalidate_caches()
    unbuffered = task.program.unbuffered or bool(task.env.get("PYTHONUNBUFFERED"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=unbuffered)


def _run(task: ForkedTask) -> int:
    """Runs the program; the exit code that an interpreter would end with."""
    about = TaskEnvironment.read(task.env)
    try:
        _run_main(task)
    except SystemExit as leaving:
        return _code_of(leaving)
    except KeyboardInterrupt:
        _show(*_without_our_frames())
        _finish(0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 128 + signal.SIGINT
    except BaseException as error:
        kind, value, trace = _without_our_frames()
        _show(kind, value, trace)
        if about is not None:
            record_failure(about, error, trace)
        return 1
    return 0


def _run_main(task: ForkedTask) -> None:
    program = task.program
    sys.orig_argv[:] = task.command
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    module.__dict__["__builtins__"] = sys.modules["builtins"]
    front = [] if getattr(sys.flags, "safe_path", False) else [_own_place(task)]
    sys.path[:] = [*front, *task.module_path]
    if program.module is not None:
        sys.argv[:] = ["-m", *program.arguments]
        # What the interpreter itself calls for `-m`; the public functions of runpy put the old __main__ back.
        runpy._run_module_as_main(program.module)  # type: ignore[attr-defined]
        return
    assert program.script is not None
    sys.argv[:] = [program.script, *program.arguments]
    path = os.path.abspath(program.script)
    code = _compile(path)
    vars(module).update(
        __file__=path, __loader__=SourceFileLoader("__main__", path), __spec__=None, __cached__=None
    )
    exec(code, vars(module))


def _own_place(task: ForkedTask) -> str:
    script = task.program.script
    return os.getcwd() if script is None else os.path.dirname(os.path.realpath(script))


def _compile(path: str) -> types.CodeType:
    try:
        with io.open_code(path) as stream:
            source = stream.read()
    except OSError as error:
        print(
            f"{sys.executable}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    return compile(source, path, "exec", dont_inherit=True)


def _code_of(leaving: SystemExit) -> int:
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code & 0xFF
    print(leaving.code, file=sys.stderr)
    return 1


def _without_our_frames() -> tuple[type[BaseException], BaseException, types.TracebackType | None]:
    kind, value, trace = sys.exc_info()
    assert kind is not None
    assert value is not None
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return kind, value.with_traceback(trace), trace


def _show(kind: type[BaseException], value: BaseException, trace: types.TracebackType | None) -> None:
    """Prints an uncaught exception as an interpreter does, through the program's own hook if it has one."""
    try:
        sys.stdout.flush()
        sys.excepthook(kind, value, trace)
    except BaseException as broken:
        broken.__context__ = None
        print("Error in sys.excepthook:", file=sys.stderr)
        traceback.print_exception(type(broken), broken, _without_our_frames()[2])
        print("\nOriginal exception was:", file=sys.stderr)
        traceback.print_exception(kind, value, trace)


def record_failure(about: TaskEnvironment, error: BaseException, trace: types.TracebackType | None) -> None:
    """Leaves the task's FailureRecord, with the last step of its progress record where there is one."""
    progress = about.records.read(ProgressRecord)
    masker = masker_of_task(os.environ)
    record = FailureRecord(
        time=time.time(),
        type=_name_of(type(error)),
        message=masker.text(str(error)),
        traceback=masker.text("".join(traceback.format_exception(type(error), error, trace))),
        step=None if progress is None else progress.step,
    )
    with contextlib.suppress(OSError):
        about.records.write(record)


def _name_of(kind: type[BaseException]) -> str:
    return (
        kind.__qualname__
        if kind.__module__ in ("builtins", "__main__")
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _finish(code: int) -> int:
    """What an interpreter does before it leaves; the exit code, which tells when output was lost."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    _flush_open_files()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return code or _OUTPUT_LOST
    finally:
        ctypes.CDLL(None).fflush(None)  # what C libraries have buffered
    return code


def _flush_open_files() -> None:
    """An interpreter flushes files that nobody closed when it tears its modules down; we do not tear down."""
    for found in gc.get_objects():
        if issubclass(type(found), (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)) and not (
            found is sys.stdout or found is sys.stderr
        ):
            with contextlib.suppress(Exception):
                found.flush()

"""Whether a process may fork a child that goes on to use TensorFlow.

A child has only the thread that forked. When TensorFlow had started its thread
pools before, they are missing in the child, which then hangs for ever. The
names of the threads show it, whoever started them: an eager operation, a
session, a server or a tf.data pipeline.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

_POISON = ("tf_", "grpc", "event_engine", "eventengine", "timer_manager", "resolver-exec")


def thread_names() -> list[str]:
    """Names of this process's threads as the kernel knows them, the main thread's among them."""
    names = []
    for comm in Path("/proc/self/task").glob("*/comm"):
        try:
            names.append(comm.read_text(encoding="utf-8", errors="replace").strip())
        except OSError:
            continue  # ended meanwhile
    return names


def python_threads() -> int:
    """Number of Python threads, the main thread among them."""
    return max(threading.active_count(), len(sys._current_frames()))


def why_unfit(names: Sequence[str], at_start: Sequence[str], python_thread_count: int) -> str | None:
    """Why a process with these threads must not fork; None when it may.

    `at_start` are the threads there were right after the import: the idle
    pools of linear algebra libraries, which know how to survive a fork.
    """
    poison = sorted({name for name in names if name.lower().startswith(_POISON)})
    if poison:
        return f"TensorFlow has started threads in it ({', '.join(poison)})"
    if python_thread_count > 1:
        return f"it runs {python_thread_count} Python threads"
    added = Counter(names) - Counter(at_start)
    if added:
        return f"threads were added to it since the import ({', '.join(sorted(added))})"
    return None

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.launch.fork_fitness import why_unfit
from tests.launch.local_runs import LIMIT

IDLE = ["python", "python", "jemalloc_bg_thd", "python"]
"""What TensorFlow's import leaves on a machine with two cores."""


def test_a_parent_that_only_imported_is_fit() -> None:
    assert why_unfit(IDLE, IDLE, 1) is None
    assert why_unfit(IDLE[:2], IDLE, 1) is None


@pytest.mark.parametrize(
    "name", ["tf_Compute", "tf_data_private", "grpcpp_sync_ser", "event_engine", "grpc_global_tim"]
)
def test_threads_of_tensorflow_poison(name: str) -> None:
    assert name in str(why_unfit([*IDLE, name], IDLE, 1))
    assert name in str(why_unfit([*IDLE, name], [*IDLE, name], 1)), "also when the import itself started them"


def test_python_threads_poison() -> None:
    assert why_unfit(IDLE, IDLE, 3) == "it runs 3 Python threads"


def test_threads_added_since_the_import_poison() -> None:
    assert "python" in str(why_unfit([*IDLE, "python"], IDLE, 1))


ONE_MORE = """
import threading
from orchestrator.launch.fork_fitness import python_threads, thread_names
print(python_threads(), len(thread_names()))
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(python_threads(), len(thread_names()))
"""


def test_the_threads_of_a_process_are_seen() -> None:
    # In a process of its own: the one that runs the tests has threads that come and go.
    said = subprocess.check_output([sys.executable, "-c", ONE_MORE], text=True, timeout=LIMIT)
    assert said == "1 1\n2 2\n"

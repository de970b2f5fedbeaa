"""Loading a checkpoint through a warm start and through `Saver.restore`, side by side in one process.

    python -m benchmarks.warm_start_throughput [--gigabytes 1] [--tensors 16] [--repeats 5]

Prints the times of both, their ratio, and the memory that a warm start needs
beside the variables, as a multiple of the largest tensor.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from orchestrator.warm_start.request import WarmStart
from orchestrator.warm_start.scaffold import loader_for_graph

v1 = tf.compat.v1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--tensors", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-of", metavar="CHECKPOINT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    elements = int(arguments.gigabytes * 2**30 / 4 / arguments.tensors)
    if arguments.memory_of:
        print(extra_memory(arguments.memory_of, arguments.tensors, elements))
        return
    with tempfile.TemporaryDirectory() as place, tf.Graph().as_default() as graph:
        initialize = make_variables(arguments.tensors, elements)
        saver = v1.train.Saver()
        graph.finalize()
        with v1.Session() as session:
            session.run(initialize)
            prefix = saver.save(session, str(Path(place) / "model.ckpt"), write_meta_graph=False)
            load = loader_for_graph(graph, WarmStart.of(prefix))
            compare(lambda: saver.restore(session, prefix), lambda: load(session), arguments.repeats)
        # In a process of its own: this one keeps memory that it has freed, and would need no more.
        command = [sys.executable, "-m", "benchmarks.warm_start_throughput", "--memory-of", prefix]
        command += ["--gigabytes", str(arguments.gigabytes), "--tensors", str(arguments.tensors)]
        extra = int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    print(f"extra memory {extra / 2**20:.0f} MiB, {extra / (elements * 4):.2f} times the largest tensor")


def make_variables(count: int, elements: int) -> tf.Operation:
    """Adds variables of float32 to the default graph; the operation that initialises them."""
    for number in range(count):
        v1.get_variable(f"layer_{number}/kernel", [elements], initializer=v1.random_uniform_initializer())
    return v1.global_variables_initializer()


def compare(restore: Callable[[], object], load: Callable[[], object], repeats: int) -> None:
    """Runs both in turn, once for nothing, and prints medians."""
    times: dict[str, list[float]] = {"restore": [], "warm start": []}
    for _ in range(repeats + 1):
        for name, function in (("restore", restore), ("warm start", load)):
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f"{name:10}  {seconds:.3f} s")
    print(f"throughput of the warm start: {medians['restore'] / medians['warm start']:.2f} of restore's")


def extra_memory(checkpoint: str, count: int, elements: int) -> int:
    """Bytes by which the peak of the first load, sampled, is above what the process had before."""
    with tf.Graph().as_default() as graph, v1.Session() as session:
        session.run(make_variables(count, elements))
        load = loader_for_graph(graph, WarmStart.of(checkpoint))
        before, peak, done = _resident(), 0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.0005):
                peak = max(peak, _resident())

        watcher = threading.Thread(target=watch)
        watcher.start()
        load(session)
        done.set()
        watcher.join()
    return peak - before


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()

"""The time of a training step after a warm start and after a cold one, side by side in one process.

    python -m benchmarks.warm_start_step_time [--steps 20] [--repeats 300]

Two sessions train the same net, whose steps are short, so that any operation
more would show. They take turns; medians of the turns are printed, and how far
the turns of one session lie apart, which is what the machine makes of them.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from orchestrator import warm_start

v1 = tf.compat.v1
WIDTHS = (64, 64, 64, 10)
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="steps in a turn")
    parser.add_argument("--repeats", type=int, default=300, help="turns of each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        donor = train_donor(Path(place) / "donor.ckpt")
        sessions = {
            "cold start": stack.enter_context(Training(None)),
            "warm start": stack.enter_context(Training(donor)),
        }
        times = {name: [] for name in sessions}  # type: dict[str, list[float]]
        for turn in range(arguments.repeats + 1):
            for name, session in sessions.items() if turn % 2 else reversed(sessions.items()):
                seconds = session.seconds(arguments.steps)
                if turn:
                    times[name].append(seconds / arguments.steps * 1e6)
    for name, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(
            f"{name}  {middle:6.1f} us a step (half of the turns: {low:.1f} to {high:.1f}),"
            f" {sessions[name].operations} operations in the graph"
        )
    cold, warm = (statistics.median(values) for values in times.values())
    print(f"a step after a warm start takes {warm / cold:.3f} of one after a cold start")


class Training:
    """A net in a graph and session of its own, as a context."""

    def __init__(self, donor: str | None) -> None:
        self._graph = tf.Graph()
        with self._graph.as_default():
            self._train_op = build_training()
            init_fn = warm_start.scaffold_init_fn(donor) if donor else None
            scaffold = v1.train.Scaffold(init_fn=init_fn)
            self._session = v1.train.MonitoredSession(v1.train.ChiefSessionCreator(scaffold))

    def __enter__(self) -> Training:
        return self

    def __exit__(self, *details: Any) -> None:
        self._session.close()

    @property
    def operations(self) -> int:
        """How many the graph has, now that it trains."""
        return len(self._graph.get_operations())

    def seconds(self, steps: int) -> float:
        """How long so many steps take."""
        start = time.perf_counter()
        for _ in range(steps):
            self._session.run(self._train_op)
        return time.perf_counter() - start


def build_training() -> Any:
    """An MLP on constant data with Adam, in the default graph; its training operation."""
    random = np.random.RandomState(1)
    net = tf.constant(random.rand(BATCH, WIDTHS[0]), tf.float32)
    labels = tf.constant(random.randint(WIDTHS[-1], size=BATCH))
    for number, width in enumerate(WIDTHS):
        with v1.variable_scope(f"layer_{number}"):
            kernel = v1.get_variable("kernel", [net.shape[-1], width])
            net = net @ kernel + v1.get_variable("bias", [width], initializer=v1.zeros_initializer())
        net = tf.nn.relu(net) if number < len(WIDTHS) - 1 else net
    loss = v1.losses.sparse_softmax_cross_entropy(labels, net)
    return v1.train.AdamOptimizer(1e-4).minimize(loss, v1.train.get_or_create_global_step())


def train_donor(prefix: Path) -> str:
    """A checkpoint of the same net."""
    with tf.Graph().as_default(), v1.Session() as session:
        build_training()
        session.run(v1.global_variables_initializer())
        path: str = v1.train.Saver().save(session, str(prefix), write_meta_graph=False)
        return path


if __name__ == "__main__":
    main()

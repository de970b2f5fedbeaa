"""One subject, measured in a process of its own: `python benchmarks/subjects.py NAME [steps]`.

Prints one JSON object. Steps per second are the slope between a short and a
long training of the same process, so that graph construction, sessions and
the first checkpoint cancel out.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent))

import tensorflow as tf
import workload

tf1 = tf.compat.v1
tf1.logging.set_verbosity(tf1.logging.ERROR)
LOOP = 100
SHORT, LONG = 500, 6500


def slope(train: Callable[[int], None]) -> dict[str, float]:
    """Steps per second between SHORT and LONG steps; `train(steps)` starts afresh each time."""
    train(SHORT)
    times = {}
    for steps in (SHORT, LONG):
        started = time.perf_counter()
        train(steps)
        times[steps] = time.perf_counter() - started
    return {"steps_per_second": (LONG - SHORT) / (times[LONG] - times[SHORT])}


def api(name: str) -> object:
    if name == "genuine":
        return tf.estimator
    import orchestrator.estimator

    return orchestrator.estimator


def estimator_steps(name: str, **run_config: object) -> dict[str, float]:
    module = api(name)

    def train(steps: int) -> None:
        with tempfile.TemporaryDirectory() as model_dir:
            config = module.RunConfig(model_dir=model_dir, **run_config)
            estimator = module.Estimator(workload.model_fn_for(module), config=config)
            estimator.train(workload.train_input_fn, max_steps=steps)

    return slope(train)


def train_and_evaluate(name: str) -> dict[str, float]:
    """2,000 steps with an evaluation of 16 batches every 100."""
    module = api(name)
    seconds = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as model_dir:
            config = module.RunConfig(model_dir=model_dir, save_checkpoints_steps=100)
            estimator = module.Estimator(workload.model_fn_for(module), config=config)
            started = time.perf_counter()
            module.train_and_evaluate(
                estimator,
                module.TrainSpec(workload.train_input_fn, max_steps=2000),
                module.EvalSpec(
                    workload.evaluation_input_fn, steps=None, start_delay_secs=0, throttle_secs=0
                ),
            )
            seconds.append(time.perf_counter() - started)
            evaluations = len(tf1.train.get_checkpoint_state(model_dir).all_model_checkpoint_paths)
    return {"seconds": seconds[-1], "kept_checkpoints": evaluations}


class FirstStep(tf1.train.SessionRunHook):
    """Notes when the first step was done."""

    def __init__(self) -> None:
        self.time: float | None = None

    def after_run(self, run_context: object, run_values: object) -> None:
        if self.time is None:
            self.time = time.perf_counter()


def memory_from_here() -> int:
    """Resident KiB now, from which on `peak_memory` counts: an import may have needed more than it keeps."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def peak_memory() -> int:
    """The most resident KiB since `memory_from_here`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def start(name: str) -> dict[str, float]:
    """Seconds from train_and_evaluate to the first step, and memory added at most, after the imports."""
    module = api(name)
    before = memory_from_here()
    hook = FirstStep()
    with tempfile.TemporaryDirectory() as model_dir:
        estimator = module.Estimator(workload.model_fn_for(module), model_dir=model_dir)
        started = time.perf_counter()
        module.train_and_evaluate(
            estimator,
            module.TrainSpec(workload.train_input_fn, max_steps=20, hooks=[hook]),
            module.EvalSpec(workload.evaluation_input_fn, steps=1),
        )
    return {"first_step_seconds": hook.time - started, "added_megabytes": (peak_memory() - before) / 1024}


def bare_callable() -> dict[str, float]:
    def train(steps: int) -> None:
        with tf.Graph().as_default(), tf1.Session() as session:
            features, labels = tf1.data.make_one_shot_iterator(workload.train_input_fn()).get_next()
            loss = workload.loss_of(features, labels)
            train_op = workload.train_op_of(loss)
            session.run(tf1.global_variables_initializer())
            step = session.make_callable([loss, tf1.train.get_global_step(), train_op])
            for _ in range(steps):
                step()

    return slope(train)


def bare_loop() -> dict[str, float]:
    def train(steps: int) -> None:
        tf1.enable_control_flow_v2()
        with tf.Graph().as_default(), tf1.Session() as session:
            iterator = tf1.data.make_initializable_iterator(workload.train_input_fn())
            tf1.train.get_or_create_global_step()

            def body(i: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                loss = workload.loss_of(*iterator.get_next())
                with tf.control_dependencies([workload.train_op_of(loss)]):
                    return i + 1, tf.identity(loss)

            _, last = tf.while_loop(lambda i, _: i < LOOP, body, [0, 0.0], parallel_iterations=1)
            session.run([tf1.global_variables_initializer(), iterator.initializer])
            loop = session.make_callable(last)
            for _ in range(steps // LOOP):
                loop()

    return slope(train)


def keras_fit(steps_per_execution: int) -> dict[str, float]:
    def train(steps: int) -> None:
        layers = [tf.keras.layers.Dense(n, activation="relu") for n in workload.WIDTHS[1:-1]]
        model = tf.keras.Sequential([*layers, tf.keras.layers.Dense(workload.WIDTHS[-1])])
        model.compile(
            optimizer=tf.keras.optimizers.Adam(1e-3),
            loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            steps_per_execution=steps_per_execution,
        )
        model.fit(workload.train_input_fn(), steps_per_epoch=steps, epochs=1, verbose=0)

    return slope(train)


SUBJECTS: dict[str, Callable[[], dict[str, float]]] = {
    "genuine": lambda: estimator_steps("genuine"),
    "ours": lambda: estimator_steps("ours"),
    "ours, loop 100": lambda: estimator_steps("ours", steps_per_loop=LOOP),
    "ours, loop auto": lambda: estimator_steps("ours", steps_per_loop="auto"),
    "bare callable": bare_callable,
    "bare in-graph loop 100": bare_loop,
    "Keras fit": lambda: keras_fit(1),
    "Keras fit, 50 steps an execution": lambda: keras_fit(50),
    "train_and_evaluate genuine": lambda: train_and_evaluate("genuine"),
    "train_and_evaluate ours": lambda: train_and_evaluate("ours"),
    "start genuine": lambda: start("genuine"),
    "start ours": lambda: start("ours"),
}
GENUINE = tuple(name for name in SUBJECTS if "genuine" in name)

if __name__ == "__main__":
    print(json.dumps(SUBJECTS[sys.argv[1]]()))

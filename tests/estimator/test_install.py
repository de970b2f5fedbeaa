"""Programs of TensorFlow 2.15, as they are, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.estimator.__main__ import main

SPELLINGS = """
import sys
import tensorflow as tf
import tensorflow.compat.v1 as tf1
import tensorflow.estimator as by_import
from tensorflow import estimator
from tensorflow.compat.v1 import estimator as estimator_v1
from tensorflow.compat.v1.estimator.inputs import numpy_input_fn
from tensorflow.estimator import Estimator, RunConfig
from tensorflow.estimator.export import ServingInputReceiver
import orchestrator.estimator as ours
assert tf.estimator is ours and tf.compat.v2.estimator is ours and by_import is ours and estimator is ours
assert tf.compat.v1.estimator is estimator_v1 and tf1.estimator is estimator_v1
assert Estimator is ours.Estimator and numpy_input_fn is ours.inputs.numpy_input_fn
assert estimator_v1.RunConfig is ours.RunConfig and sorted(estimator_v1.__all__) == sorted(ours.__all__)
assert issubclass(Estimator, estimator_v1.Estimator) and hasattr(estimator_v1.Estimator, 'export_savedmodel')
assert ServingInputReceiver is tf.estimator.export.ServingInputReceiver
assert callable(tf.keras.estimator.model_to_estimator)
from tensorflow.keras.estimator import model_to_estimator
assert model_to_estimator is tf.keras.estimator.model_to_estimator
for statement, reason in {
    'from tensorflow.estimator import DNNClassifier': 'DNNClassifier is not available: canned models',
    'from tensorflow.compat.v1.estimator import KMeans': 'KMeans is not available: canned models',
    'from tensorflow.compat.v1.estimator.experimental import KMeans': 'KMeans is not available: canned',
    'from tensorflow.compat.v1.estimator import Head': 'Head is not available: heads',
    'from tensorflow.compat.v1.estimator.tpu import TPUEstimator': 'tpu.TPUEstimator is not available: TPUs',
}.items():
    try:
        exec(statement)
    except ImportError as error:
        assert reason in str(error), error
    else:
        assert False, statement
"""

PROGRAM = """
import argparse
import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1
parser = argparse.ArgumentParser()
parser.add_argument('--model_dir')

def model_fn(features, labels, mode, params):
    hidden = tf1.layers.dense(features['x'], params['units'], activation=tf.nn.relu)
    outputs = tf1.layers.dense(hidden, 1)
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={'y': outputs})
    loss = tf1.losses.mean_squared_error(labels, outputs)
    train_op = tf1.train.AdamOptimizer(0.05).minimize(loss, tf1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

if __name__ == '__main__':
    x = np.random.RandomState(0).rand(64, 2).astype(np.float32)
    y = x.sum(axis=1, keepdims=True)
    inputs = tf1.estimator.inputs.numpy_input_fn
    config = tf.estimator.RunConfig(model_dir=parser.parse_args().model_dir, tf_random_seed=1)
    estimator = tf1.estimator.Estimator(model_fn, config=config, params={'units': 8})
    train_spec = tf.estimator.TrainSpec(inputs({'x': x}, y, num_epochs=None, shuffle=True), max_steps=60)
    eval_spec = tf.estimator.EvalSpec(inputs({'x': x}, y, shuffle=False), steps=None)
    metrics, _ = tf.estimator.train_and_evaluate(estimator, train_spec, eval_spec)
    receiver = tf1.estimator.export.build_raw_serving_input_receiver_fn({'x': tf.zeros([1, 2])})
    assert estimator.export_savedmodel(config.model_dir + '/exported', receiver, strip_default_attrs=True)
    print('RESULT', metrics['global_step'], metrics['loss'] < 0.1)
"""


def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize("legacy_keras", ["0", "1"])
def test_install_answers_to_every_spelling(legacy_keras: str) -> None:
    code = f"import orchestrator.estimator as e\nassert e.install() and e.install()\n{SPELLINGS}"
    done = run(["-c", code], TF_USE_LEGACY_KERAS=legacy_keras)
    assert done.returncode == 0, done.stderr


def test_an_old_program_runs_as_it_is(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = run(["-m", "orchestrator.estimator", str(program), "--model_dir", str(tmp_path / "model")])
    assert "RESULT 60 True" in done.stdout, done.stderr
    assert (tmp_path / "model" / "checkpoint").exists()


def test_a_program_without_the_behavior_of_tensorflow_2(tmp_path: Path) -> None:
    pytest.importorskip("tf_keras", reason="tf.compat.v1.layers needs tf-keras")
    program = Path(__file__).with_name("old_behavior_program.py")
    done = run(["-m", "orchestrator.estimator", str(program), str(tmp_path)])
    assert done.stdout.splitlines() == [
        "TRAINED 6 1.0",
        "PREDICTED 12",
        "EXPORTED True",
        "AUTO True",
        "BESIDE True",
        "POSITIONS True",
        "RESUMED True",
        "REPLICAS 6 1.0",
        "WARM True",
        "EVALUATED 9 1.0 1.0",
    ], done.stderr[-4000:]


def test_a_module_and_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "old_module.py").write_text(
        "import sys, tensorflow.estimator\n"
        "print(__name__, sys.argv[1:], tensorflow.estimator.__name__)\n"
        "sys.exit(7)\n"
    )
    done = run(["-m", "orchestrator.estimator", "-m", "old_module", "a", "b"], PYTHONPATH=str(tmp_path))
    assert done.stdout.strip() == "__main__ ['a', 'b'] orchestrator.estimator"
    assert done.returncode == 7


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "usage: python -m orchestrator.estimator"),
        (["/absent/program.py"], "there is no file /absent/program.py"),
        (["-m"], "-m needs the name of a module"),
        (["-m", "absent_module"], "there is no module absent_module"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "usage" in capsys.readouterr().out

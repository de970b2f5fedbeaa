"""Rewrites `model_dir_of_2_15`, with TensorFlow 2.15: `PYTHON tests/estimator/write_model_dir.py`.

The directory holds what resumable_program.py leaves behind after 10 steps, and
in `continued` the last checkpoint of the same training after 20. The graph is
left out (`graph.pbtxt`, `.meta`, in the event file): it takes 1 MB, and
training starts from none of them.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tensorflow as tf

HERE = Path(__file__).parent
TARGET = HERE / "model_dir_of_2_15"


def train(model_dir, max_steps):
    program = [sys.executable, str(HERE / "resumable_program.py")]
    subprocess.run([*program, "--model_dir", str(model_dir), "--max_steps", str(max_steps)], check=True)


def copy_events(source, target):
    """Copies an event file without the graphs in it."""
    with tf.io.TFRecordWriter(str(target)) as writer:
        for record in tf.compat.v1.io.tf_record_iterator(str(source)):
            if tf.compat.v1.Event.FromString(record).WhichOneof("what") not in (
                "graph_def",
                "meta_graph_def",
            ):
                writer.write(record)


def main():
    shutil.rmtree(TARGET, ignore_errors=True)
    (TARGET / "continued").mkdir(parents=True)
    with tempfile.TemporaryDirectory() as directory:
        model_dir = Path(directory)
        train(model_dir, 10)
        for path in model_dir.iterdir():
            if path.name.startswith("events."):
                copy_events(path, TARGET / path.name)
            elif path.suffix not in (".meta", ".pbtxt"):
                shutil.copy(path, TARGET)
        train(model_dir, 20)
        for path in model_dir.glob("model.ckpt-20.*"):
            if path.suffix != ".meta":
                shutil.copy(path, TARGET / "continued")


if __name__ == "__main__":
    main()

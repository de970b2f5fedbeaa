"""One task of a cluster, as the tests of clusters start it: MODEL_DIR STRATEGY SETTINGS.

STRATEGY is `ours:NAME` (made by `make_strategy`) or `theirs:NAME`, made by the
program itself, at its top level and outside of any graph. SETTINGS is JSON:
arguments of RunConfig.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import tensorflow as tf

from orchestrator.estimator import strategies
from orchestrator.estimator.estimator import Estimator
from orchestrator.estimator.run_config import RunConfig
from orchestrator.estimator.specs import EvalSpec, TrainSpec
from orchestrator.estimator.training_and_evaluation import train_and_evaluate
from tests.estimator import linear_model

MODEL_DIR, MAKER = sys.argv[1], sys.argv[2]
THEIRS = {
    "theirs:multi_worker_mirrored": tf.distribute.MultiWorkerMirroredStrategy,
    "theirs:parameter_server": tf.compat.v1.distribute.experimental.ParameterServerStrategy,
}
STRATEGY = THEIRS[MAKER]() if MAKER in THEIRS else None

STEPS = 24


def share_of_each_batch(input_context: Any = None) -> tf.data.Dataset:
    """This pipeline's rows of each batch of 8, so that all pipelines together have the whole batch."""
    batches = linear_model.training_input(batch_size=8)
    if input_context is None:
        return batches
    size = 8 // input_context.num_input_pipelines
    first = size * input_context.input_pipeline_id
    return batches.map(lambda x, y: (x[first : first + size], y[first : first + size]))


def main() -> None:
    strategy = STRATEGY or strategies.make_strategy(MAKER.partition(":")[2])
    config = RunConfig(
        model_dir=MODEL_DIR,
        train_distribute=strategy,
        save_checkpoints_steps=10,
        log_step_count_steps=10,
        tf_random_seed=1,
        experimental_max_worker_delay_secs=0,
        **json.loads(sys.argv[3]),
    )
    estimator = Estimator(linear_model.model_fn, config=config, params={})
    evaluation = EvalSpec(linear_model.evaluation_input, steps=None, start_delay_secs=0, throttle_secs=0)
    train_and_evaluate(estimator, TrainSpec(share_of_each_batch, max_steps=STEPS), evaluation)


if __name__ == "__main__":
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.INFO)
    main()

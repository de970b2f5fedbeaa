"""`train_and_evaluate`: the same program in every task of a job."""

from __future__ import annotations

from typing import Any

from orchestrator.errors import InvalidArgument, InvalidType
from orchestrator.estimator import roles
from orchestrator.estimator.estimator import EstimatorV1
from orchestrator.estimator.specs import EvalSpec, TrainSpec


def train_and_evaluate(estimator: EstimatorV1, train_spec: TrainSpec, eval_spec: EvalSpec) -> Any:
    """Trains, evaluates and exports as the task of this process is meant to.

    A lone process trains and evaluates each checkpoint in between, and returns
    the last metrics and what the exporters returned. In a cluster (TF_CONFIG)
    chief and workers train, ps serves, and the evaluator evaluates until the
    last checkpoint of training is evaluated; they return None.

    Raises InvalidType (a TypeError) for arguments of the wrong type and
    InvalidArgument (a ValueError) where RunConfig names no usable task.
    """
    if not isinstance(estimator, EstimatorV1):
        raise InvalidType(f"`estimator` must have type `tf.estimator.Estimator`. Got: {type(estimator)}")
    if not isinstance(train_spec, TrainSpec):
        raise InvalidType(f"`train_spec` must have type `tf.estimator.TrainSpec`. Got: {type(train_spec)}")
    if not isinstance(eval_spec, EvalSpec):
        raise InvalidType(f"`eval_spec` must have type `tf.estimator.EvalSpec`. Got: {type(eval_spec)}")
    assignment = roles.Assignment.of(estimator, train_spec, eval_spec)
    if assignment.config.task_type == "evaluator" and assignment.config.task_id > 0:
        raise InvalidArgument(
            "For distributed training, there can only be one `evaluator` task (with task id 0)."
            f" Given task id {assignment.config.task_id}."
        )
    return roles.run(assignment)

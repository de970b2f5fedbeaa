"""RunConfig: where and how an Estimator runs, and the one place that reads the environment for it."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from orchestrator.cluster import tf_config as tf_config_format
from orchestrator.cluster.records import TaskEnvironment
from orchestrator.cluster.tf_config import TFConfig
from orchestrator.errors import ConfigError, InvalidArgument, InvalidType, near_miss
from orchestrator.estimator import cluster_view
from orchestrator.estimator import run_config_checks as checks
from orchestrator.estimator.distribute_config import DistributeConfig

_DEFAULT = object()
GOOGLE_ENVIRONMENT = "google"
"""In TF_CONFIG: the platform runs the servers of training tasks."""
_PERIODS = ("save_checkpoints_steps", "save_checkpoints_secs")


class _Argument:
    """A read-only attribute that shows an argument of RunConfig."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, config: RunConfig | None, owner: type | None = None) -> Any:
        return self if config is None else config._values[self._name]

    def __set__(self, config: RunConfig, value: Any) -> None:
        raise AttributeError(f"RunConfig is immutable; write config.replace({self._name}=...) instead.")


class RunConfig:
    """Where an Estimator writes, how often, on which devices and in which cluster.

    Immutable; `replace` makes a changed copy. Cluster, task and (where set) the
    model directory come from TF_CONFIG, read once, at construction.

    Args:
      model_dir: directory of checkpoints and summaries (string or path); None
        lets TF_CONFIG or the Estimator decide.
      tf_random_seed: graph-level seed.
      save_summary_steps: steps between summaries; None or 0 writes none.
      save_checkpoints_steps, save_checkpoints_secs: period of checkpoints, in
        steps or in seconds, not both. Neither given: 600 seconds. Both None: no
        checkpoints.
      session_config: `tf.compat.v1.ConfigProto`. None in a cluster without
        strategy: soft placement and the device filters of the task.
      keep_checkpoint_max: newest checkpoints kept; None or 0 keeps all.
      keep_checkpoint_every_n_hours: hours between checkpoints kept for good.
      log_step_count_steps: steps between progress lines; None logs none.
      train_distribute, eval_distribute: `tf.distribute.Strategy`.
      device_fn: called with an operation (parameter `op`), returns its device.
      protocol: of the servers; None means grpc.
      experimental_distribute: a `DistributeConfig`.
      experimental_max_worker_delay_secs: upper bound of the staggered start of
        workers, whole seconds; None means 60.
      session_creation_timeout_secs: how long a worker waits for its session.
      checkpoint_save_graph_def: whether `graph.pbtxt` and `.meta` are written.
      steps_per_loop: training steps in one session call; "auto" takes the
        longest loop that keeps the period of every hook, checkpoint and summary.
        Under MultiWorkerMirroredStrategy all tasks take loops of the same length.
        Beside parameter servers each worker loops for itself, and the last step
        may be passed by a loop; "auto" takes single steps there and says why.
      save_checkpoints_async: write checkpoints beside training, from a copy of the
        variables in memory; one at a time. Beside parameter servers training waits.
      save_input_state: save the input pipeline's position with each checkpoint and
        go on from there; not beside asynchronous parameter servers.
      mixed_precision: True, "float16" or "bfloat16": TensorFlow rewrites the graph
        to compute in half precision; True takes the type that suits the device.
      xla: compile clusters of operations with XLA.
      memory_growth: allocate GPU memory as needed instead of all at once.

    Raises:
      InvalidArgument (a ValueError), InvalidType (a TypeError): for a wrong
        argument, by its name.
      TFConfigError (a ValueError): for a wrong TF_CONFIG.
    """

    model_dir = _Argument()
    tf_random_seed = _Argument()
    save_summary_steps = _Argument()
    save_checkpoints_steps = _Argument()
    save_checkpoints_secs = _Argument()
    session_config = _Argument()
    keep_checkpoint_max = _Argument()
    keep_checkpoint_every_n_hours = _Argument()
    log_step_count_steps = _Argument()
    train_distribute = _Argument()
    device_fn = _Argument()
    protocol = _Argument()
    eval_distribute = _Argument()
    experimental_distribute = _Argument()
    experimental_max_worker_delay_secs = _Argument()
    session_creation_timeout_secs = _Argument()
    checkpoint_save_graph_def = _Argument()
    steps_per_loop = _Argument()
    save_checkpoints_async = _Argument()
    save_input_state = _Argument()
    mixed_precision = _Argument()
    xla = _Argument()
    memory_growth = _Argument()

    def __init__(  # noqa: PLR0917 - the order of the public API
        self,
        model_dir: str | os.PathLike[str] | None = None,
        tf_random_seed: int | None = None,
        save_summary_steps: int | None = 100,
        save_checkpoints_steps: Any = _DEFAULT,
        save_checkpoints_secs: Any = _DEFAULT,
        session_config: Any = None,
        keep_checkpoint_max: int | None = 5,
        keep_checkpoint_every_n_hours: float | None = 10000,
        log_step_count_steps: int | None = 100,
        train_distribute: Any = None,
        device_fn: Callable[[Any], str] | None = None,
        protocol: str | None = None,
        eval_distribute: Any = None,
        experimental_distribute: DistributeConfig | None = None,
        experimental_max_worker_delay_secs: int | None = None,
        session_creation_timeout_secs: int | None = 7200,
        checkpoint_save_graph_def: bool = True,
        steps_per_loop: int | str = 1,
        save_checkpoints_async: bool = False,
        save_input_state: bool = False,
        mixed_precision: bool | str = False,
        xla: bool = False,
        memory_growth: bool = False,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name in checks.NAMES}
        tf_config = _read_tf_config()
        arguments["model_dir"] = _agreed_model_dir(model_dir, tf_config)
        arguments.update(_default_period(save_checkpoints_steps, save_checkpoints_secs))
        self._values: dict[str, Any] = {}
        self._task_environment = TaskEnvironment.read()
        self._set(arguments)
        self._resolve_distribution()
        self._service = _checked_service(tf_config)
        self._environment = tf_config.environment
        _refuse_remote_cluster(self.experimental_distribute)
        self._view = cluster_view.view_of(tf_config, worker_may_lead=self.train_distribute is not None)
        self._cluster_spec = tf.train.ClusterSpec({k: list(v) for k, v in self._view.addresses.items()})
        if self.session_config is None and self._trains_between_graphs():
            self._values["session_config"] = cluster_session_config(self.task_type, self.task_id)

    @classmethod
    def from_environment(
        cls,
        model_dir: str | os.PathLike[str] | None = None,
        strategy: Any = None,
        **run_config: Any,
    ) -> RunConfig:
        """The RunConfig of this process, as the launcher (or the user's TF_CONFIG) describes it.

        `strategy` becomes `train_distribute`; `run_config` holds further
        arguments of RunConfig. Under the launcher the model directory is the
        launcher's where none is given, and workers start without delay. Raises
        ConfigError for an unknown argument.
        """
        _refuse_unknown(run_config)
        environment = TaskEnvironment.read()
        if environment is not None:
            model_dir = model_dir or environment.model_dir
            run_config.setdefault("experimental_max_worker_delay_secs", 0)
        if strategy is not None:
            run_config["train_distribute"] = strategy
        return cls(model_dir=model_dir, **run_config)

    def replace(self, **kwargs: Any) -> RunConfig:
        """A copy with other values; setting one checkpoint period unsets the other.

        Raises InvalidArgument (a ValueError) for a name that cannot be replaced
        and for a wrong value.
        """
        for name in kwargs:
            if name not in checks.NAMES:
                raise InvalidArgument(
                    f"RunConfig.replace: Replacing {name} is not supported.{near_miss(name, checks.NAMES)}"
                    f" These can be replaced: {', '.join(checks.NAMES)}."
                )
        if "model_dir" in kwargs:
            kwargs["model_dir"] = _as_path(kwargs["model_dir"])
        copied = copy.copy(self)
        copied._values = dict(self._values)
        copied._set(kwargs)
        return copied

    def _set(self, values: Mapping[str, Any]) -> None:
        given = [name for name in _PERIODS if values.get(name) is not None]
        if len(given) == 2:
            raise InvalidArgument(f"RunConfig: {checks.BOTH_PERIODS}")
        for name, value in values.items():
            checks.check(name, value)
            self._values[name] = value
        if given:
            self._values[_PERIODS[1 - _PERIODS.index(given[0])]] = None

    def _resolve_distribution(self) -> None:
        """Takes the strategies from `experimental_distribute`; raises where both places name one."""
        nested = self.experimental_distribute
        for name in ("train_distribute", "eval_distribute"):
            strategy = getattr(nested, name, None)
            if strategy is None:
                continue
            if self._values[name] is not None:
                raise InvalidArgument(
                    f"RunConfig: Either `{name}` or `experimental_distribute.{name}` can be set, not both."
                )
            checks.check(name, strategy)
            self._values[name] = strategy

    def _trains_between_graphs(self) -> bool:
        """Whether each task builds its own graph around parameter servers."""
        return bool(self._view.addresses) and (
            self.train_distribute is None or cluster_view.MASTER in self._view.addresses
        )

    def __repr__(self) -> str:
        given = {k: v for k, v in self._values.items() if v is not None}
        shown = ", ".join(f"{key}={value!r}" for key, value in given.items())
        return f"RunConfig({shown}, task='{self.task_type}-{self.task_id}')"

    @property
    def cluster_spec(self) -> tf.train.ClusterSpec:
        """Addresses of the training cluster; empty for a lone process and for the evaluator."""
        return self._cluster_spec

    @property
    def task_type(self) -> str:
        return self._view.task_type

    @property
    def task_id(self) -> int:
        """Index of the task within its type."""
        return self._view.task_id

    @property
    def is_chief(self) -> bool:
        return self._view.is_chief

    @property
    def master(self) -> str:
        """Target of training sessions; empty means this process."""
        return self._view.master

    @property
    def evaluation_master(self) -> str:
        """Target of evaluation sessions; empty means this process."""
        return self._view.evaluation_master

    @property
    def num_ps_replicas(self) -> int:
        return self._view.num_ps_replicas

    @property
    def num_worker_replicas(self) -> int:
        """Tasks that take training steps, the chief included."""
        return self._view.num_worker_replicas

    @property
    def global_id_in_cluster(self) -> int | None:
        """Number of the task among all: chief 0, then other types by name, ps last."""
        return self._view.global_id_in_cluster

    @property
    def service(self) -> dict[str, Any] | None:
        """The platform's own entry in TF_CONFIG."""
        return self._service

    @property
    def starts_server(self) -> bool:
        """Whether a trainer starts its own server; not where TF_CONFIG says `environment: google`."""
        return self._environment != GOOGLE_ENVIRONMENT

    @property
    def task_environment(self) -> TaskEnvironment | None:
        """What the launcher told this process; None where it was started otherwise."""
        return self._task_environment


def _read_tf_config() -> TFConfig:
    text = os.environ.get(tf_config_format.VARIABLE)
    return tf_config_format.decode(text, foreign_types=True) if text else TFConfig()


def _agreed_model_dir(argument: Any, tf_config: TFConfig) -> str | None:
    """The argument or TF_CONFIG's; raises where both are given and differ."""
    path = _as_path(argument)
    checks.check("model_dir", path)
    if tf_config.model_dir == "":
        raise InvalidArgument("RunConfig: model_dir in TF_CONFIG should be non-empty.")
    if path and tf_config.model_dir and path != tf_config.model_dir:
        raise InvalidArgument(
            "RunConfig: `model_dir` provided in RunConfig construct, if set, must have the same value as the"
            f" model_dir in TF_CONFIG. Given: {path!r}, in TF_CONFIG: {tf_config.model_dir!r}."
        )
    return path or tf_config.model_dir


def _as_path(value: Any) -> Any:
    return os.fsdecode(value) if isinstance(value, os.PathLike) else value


def _default_period(steps: Any, secs: Any) -> dict[str, Any]:
    """600 seconds where neither period is given; the other one None where one is."""
    if steps is _DEFAULT and secs is _DEFAULT:
        secs = 600
    return dict(zip(_PERIODS, (None if value is _DEFAULT else value for value in (steps, secs)), strict=True))


def _checked_service(tf_config: TFConfig) -> Any:
    if tf_config.service is not None and not isinstance(tf_config.service, dict):
        raise InvalidType(
            f'If "service" is set in TF_CONFIG, it must be a dict. Given: {tf_config.service!r}.'
        )
    return tf_config.service


def _refuse_remote_cluster(nested: DistributeConfig | None) -> None:
    if getattr(nested, "remote_cluster", None):
        raise InvalidArgument(
            "RunConfig: `experimental_distribute.remote_cluster` (one client that drives running servers) is"
            " not supported. Run the program in every task, each with its TF_CONFIG."
        )


def _refuse_unknown(run_config: Mapping[str, Any]) -> None:
    for name in run_config:
        if name not in checks.NAMES:
            raise ConfigError(
                f"run_config: '{name}' is not an argument of RunConfig.{near_miss(name, checks.NAMES)}"
                f" The known ones are {', '.join(checks.NAMES)}."
            )


def default_session_config() -> tf.compat.v1.ConfigProto:
    """Soft placement and one pass of graph rewriting: what a session gets where nothing is given."""
    one_pass = rewriter_config_pb2.RewriterConfig(
        meta_optimizer_iterations=rewriter_config_pb2.RewriterConfig.ONE
    )
    return tf.compat.v1.ConfigProto(
        allow_soft_placement=True, graph_options=tf.compat.v1.GraphOptions(rewrite_options=one_pass)
    )


def cluster_session_config(task_type: str, task_id: int) -> tf.compat.v1.ConfigProto | None:
    """The default, with filters so that a task sees only itself and the parameter servers.

    None for task types that take no part in parameter-server training.
    """
    filters = {
        cluster_view.CHIEF: ["/job:ps", "/job:chief"],
        cluster_view.MASTER: ["/job:ps", "/job:master"],
        cluster_view.WORKER: ["/job:ps", f"/job:worker/task:{task_id}"],
        cluster_view.PS: ["/job:ps", "/job:worker", "/job:chief", "/job:master"],
    }.get(task_type)
    if filters is None:
        return None
    config = default_session_config()
    config.device_filters.extend(filters)
    return config

"""ClusterConfig: what a cluster file declares, key by key.

The models here say which keys there are and what each may hold by itself;
`orchestrator.cluster.topology` says which values go together, and
`orchestrator.cluster.config_file` reads files and words the mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from orchestrator.cluster.launcher_sections import LocalSection, SshSection
from orchestrator.cluster.run_config_section import RunConfigSection
from orchestrator.cluster.run_policy_section import RunPolicySection
from orchestrator.cluster.section import Environment, NullIsEmpty, Section, Size
from orchestrator.cluster.task import TaskType
from orchestrator.cluster.tensorboard_section import OptionalTensorboard
from orchestrator.cluster.warm_start_section import WarmStartSection

DEFAULT_EXPERIMENT = "orchestrator.experiments.digits:experiment"


class StrategyName(str, Enum):
    """How training is distributed; the names that `strategy` takes."""

    NONE = "none"
    ONE_DEVICE = "one_device"
    MIRRORED = "mirrored"
    CENTRAL_STORAGE = "central_storage"
    MULTI_WORKER_MIRRORED = "multi_worker_mirrored"
    PARAMETER_SERVER = "parameter_server"

    def __str__(self) -> str:
        return self.value

    @property
    def is_single(self) -> bool:
        """Whether it trains within one process."""
        return self not in (StrategyName.MULTI_WORKER_MIRRORED, StrategyName.PARAMETER_SERVER)


class ParameterServerStyle(str, Enum):
    """How the tasks of a parameter-server cluster work together."""

    BETWEEN_GRAPH = "between_graph"
    """Every worker steps on its own: the Estimator and TensorFlow 1 programs."""
    COORDINATOR = "coordinator"
    """The chief drives workers and ps: `tf.distribute.ParameterServerStrategy`."""

    def __str__(self) -> str:
        return self.value


def _parameters(value: Any) -> Any:
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str) or not name.isidentifier():
                raise ValueError(f"has {name!r}, which is no name of a Python argument")
            _require_json(item, f"'{name}'")
    return value


def _require_json(value: Any, where: str) -> None:
    if value is None or isinstance(value, str | int | float):
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"has {where} with the key {key!r}. Put it in quotes: keys are text")
            _require_json(item, f"'{key}' within {where}")
    elif isinstance(value, list | tuple):
        for item in value:
            _require_json(item, where)
    else:
        kind = type(value).__name__
        raise ValueError(f"has {where} of type {kind}, which JSON cannot hold. Put it in quotes to pass text")


class Resources(Section):
    """What one task needs."""

    cpus: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="Processor cores that each task needs; `check` compares with the machine."
    )
    memory: Size | None = Field(
        default=None, description="Memory that each task needs, for example 2GiB; `check` compares."
    )
    gpus: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="GPUs that each task needs; `check` compares."
    )


class TaskSection(Section):
    """The tasks of one type."""

    replicas: Annotated[int, Field(ge=0)] = Field(
        default=1, description="How many tasks; 0 is as if left out."
    )
    resources: Annotated[Resources, NullIsEmpty] = Field(
        default_factory=Resources, description="What each task needs."
    )
    env: Environment = Field(
        default_factory=dict, description="Environment variables of these tasks, over those of the file."
    )
    hosts: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Where the tasks run, one entry a task by index: HOST or HOST:PORT. Default: this"
        " machine; with the ssh launcher, spread over `ssh.hosts`.",
    )


class Tasks(Section):
    """The tasks by type."""

    chief: TaskSection | None = Field(
        default=None, description="Trains and writes the checkpoints; at most one."
    )
    worker: TaskSection | None = Field(default=None, description="Train beside the chief.")
    ps: TaskSection | None = Field(default=None, description="Parameter servers: hold variables.")
    evaluator: TaskSection | None = Field(
        default=None, description="Evaluates each new checkpoint; at most one."
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_null(cls, value: Any) -> Any:
        for name in cls.model_fields:
            if isinstance(value, Mapping) and name in value and value[name] is None:
                raise ValueError(
                    f"has '{name}' without a value. Write '{name}: {{replicas: 1}}' or remove it"
                )
        return value


class StrategySection(Section):
    """The distribution strategy: its name, or a mapping with options."""

    name: StrategyName = Field(strict=False, description="How training is distributed.")
    logical_devices: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="mirrored and central_storage: number of logical CPU devices where there is no GPU."
        " Default: 1.",
    )
    style: ParameterServerStyle | None = Field(
        default=None,
        strict=False,
        description="parameter_server: between_graph (experiments; their default) or coordinator (the"
        " default of"
        " a command: tf.distribute.ParameterServerStrategy). Decides what is restarted.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        mapping = handler(schema)
        return {"anyOf": [{"enum": [name.value for name in StrategyName]}, mapping]}


class LogSection(Section):
    """The logs of tasks."""

    max_size: Size | None = Field(
        default="100MiB",
        validate_default=True,
        description="Size at which a log is put aside for a new one; null: never.",
    )
    keep: Annotated[int, Field(ge=0)] = Field(default=3, description="How many older logs of a task stay.")


class ClusterConfig(Section):
    """A cluster file."""

    model_config = ConfigDict(title="Cluster file of orchestrator")

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="Name of the job; stands in the default run and model directories.",
    )
    launcher: str = Field(default="local", description="Where tasks run: local or ssh.")
    tasks: Tasks = Field(description="How many tasks of each type, where, and with what.")
    strategy: StrategySection | None = Field(
        default=None,
        description="How training is distributed. Default: none for a lone process; a command need not"
        " declare it.",
    )
    experiment: str = Field(
        default=DEFAULT_EXPERIMENT,
        pattern=r"^[^:\s]+:[^:\s]+$",
        description="MODULE:FUNCTION of the experiment; a command does without.",
    )
    params: Annotated[dict[str, Any], BeforeValidator(_parameters), NullIsEmpty] = Field(
        default_factory=dict, description="Keyword arguments of the experiment function."
    )
    run_config: Annotated[RunConfigSection, NullIsEmpty] = Field(
        default_factory=RunConfigSection, description="Arguments of RunConfig."
    )
    warm_start: WarmStartSection | None = Field(
        default=None, description="Another model's weights, loaded once before step 0."
    )
    run_policy: Annotated[RunPolicySection, NullIsEmpty] = Field(
        default_factory=RunPolicySection, description="When to restart, and how long to wait."
    )
    env: Environment = Field(default_factory=dict, description="Environment variables of every task.")
    secret_env: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Names of variables whose values are never shown, beside those named like TOKEN, SECRET,"
        " PASSWORD, KEY or CREDENTIAL.",
    )
    security: Literal["open", "isolated"] = Field(
        default="open",
        description="open: the ports of a cluster are open to anybody who reaches this machine. isolated: all"
        " tasks are in a private network that nothing outside can reach (launcher local).",
    )
    logs: Annotated[LogSection, NullIsEmpty] = Field(
        default_factory=LogSection, description="The logs of tasks."
    )
    tensorboard: OptionalTensorboard = Field(
        default=None, description="TensorBoard beside the job, on the machine of the launcher."
    )
    promote_worker_to_chief: bool = Field(
        default=False, description="Worker 0 becomes the chief, for a file that declares workers alone."
    )
    local: Annotated[LocalSection, NullIsEmpty] = Field(
        default_factory=LocalSection, description="Options of the local launcher."
    )
    ssh: Annotated[SshSection, NullIsEmpty] = Field(
        default_factory=SshSection, description="Options of the ssh launcher."
    )

    def effective_tasks(self) -> dict[TaskType, TaskSection]:
        """The tasks that will be started: types with replicas, after the promotion of worker 0."""
        declared = {TaskType(name): getattr(self.tasks, name) for name in Tasks.model_fields}
        sections: dict[TaskType, TaskSection] = {k: v for k, v in declared.items() if v and v.replicas}
        worker = sections.get(TaskType.WORKER)
        if self.promote_worker_to_chief and worker and TaskType.CHIEF not in sections:
            chief = worker.model_copy(update={"replicas": 1, "hosts": worker.hosts[:1]})
            rest = worker.model_copy(update={"replicas": worker.replicas - 1, "hosts": worker.hosts[1:]})
            sections = {TaskType.CHIEF: chief, **sections, TaskType.WORKER: rest}
        return {task_type: section for task_type, section in sections.items() if section.replicas}

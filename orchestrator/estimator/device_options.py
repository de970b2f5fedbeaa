"""RunConfig's options of the devices, mixed precision, XLA and memory growth, as session options.

TensorFlow has a graph rewriter for each precision: float16 for GPUs of compute
capability 7.0 and newer (and CPUs that calculate in float16), bfloat16 for
CPUs through oneDNN. Neither does anything on the other's devices.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from orchestrator.estimator.logger import say_once

v1 = tf.compat.v1
FLOAT16, BFLOAT16 = "float16", "bfloat16"
_ON = 1  # RewriterConfig.ON
_REWRITERS = {FLOAT16: "auto_mixed_precision", BFLOAT16: "auto_mixed_precision_onednn_bfloat16"}


@dataclass(frozen=True)
class Gpu:
    """A visible GPU, as `tf.config` was told to use it."""

    index: int
    """Among all of the machine that this process sees."""
    parts: tuple[int | None, ...] = ()
    """Memory limits in MB of the logical GPUs that it is split into; empty where it is not split."""
    memory_growth: bool = False


@dataclass(frozen=True)
class DeviceOptions:
    """What a RunConfig asks of the devices, with `mixed_precision=True` decided."""

    precision: str | None = None
    """"float16", "bfloat16" or None."""
    xla: bool = False
    memory_growth: bool = False

    @staticmethod
    def of(config: Any, gpus: Sequence[Gpu]) -> DeviceOptions:
        """The options of a RunConfig; True becomes float16 where there is a GPU and bfloat16 where not."""
        setting = config.mixed_precision
        precision = setting if setting in _REWRITERS else None
        if setting is True:
            precision = FLOAT16 if gpus else BFLOAT16
        return DeviceOptions(precision, config.xla is True, config.memory_growth is True)


def visible_gpus() -> tuple[Gpu, ...]:
    """The GPUs of this process, asked without initialising them."""
    physical = tf.config.list_physical_devices("GPU")
    if not physical:
        return ()
    shown = tf.config.get_visible_devices("GPU")
    return tuple(_described(physical.index(gpu), gpu) for gpu in physical if gpu in shown)


def _described(index: int, gpu: Any) -> Gpu:
    parts = tf.config.get_logical_device_configuration(gpu) or ()
    growth = bool(tf.config.experimental.get_memory_growth(gpu))
    return Gpu(index, tuple(part.memory_limit for part in parts), growth)


def logical_gpu_count(gpus: Sequence[Gpu]) -> int:
    """How many GPU devices TensorFlow makes of them."""
    return sum(max(1, len(gpu.parts)) for gpu in gpus)


def add_to(proto: v1.ConfigProto, config: Any) -> None:
    """Completes a session's configuration with a RunConfig's options; says which of them are idle."""
    gpus = prepare_gpus(proto.gpu_options, config)
    options = DeviceOptions.of(config, gpus)
    add_graph_options(proto, options)
    for sentence in idle_options(options, gpus, proto):
        say_once(sentence)


def prepare_gpus(gpu_options: Any, config: Any) -> tuple[Gpu, ...]:
    """Completes the GPU options of a session or a server; returns the visible GPUs."""
    gpus = visible_gpus()
    growth = config.memory_growth is True
    add_gpus(gpu_options, gpus, growth)
    if growth:
        _grow_outside_of_sessions(gpus)
    return gpus


def add_gpus(gpu_options: Any, gpus: Sequence[Gpu], memory_growth: bool) -> None:
    """Adds to `ConfigProto.gpu_options` what `tf.config` was told; sessions do not look there themselves.

    What the user's own session configuration says about GPUs stays as it is.
    """
    if memory_growth or any(gpu.memory_growth for gpu in gpus):
        gpu_options.allow_growth = True
    if not any(gpu.parts for gpu in gpus):
        return
    if not gpu_options.visible_device_list and not gpu_options.experimental.virtual_devices:
        gpu_options.visible_device_list = ",".join(str(gpu.index) for gpu in gpus)
        for gpu in gpus:
            limits = [limit for limit in gpu.parts if limit is not None]
            gpu_options.experimental.virtual_devices.add(memory_limit_mb=limits)
        gpu_options.allow_growth = False  # TensorFlow refuses both for one GPU


def add_graph_options(proto: v1.ConfigProto, options: DeviceOptions) -> None:
    """Switches on the rewriter of the precision and XLA's auto-clustering, on GPUs and on the CPU."""
    if options.precision is not None:
        setattr(proto.graph_options.rewrite_options, _REWRITERS[options.precision], _ON)
    if options.xla:
        optimizer = proto.graph_options.optimizer_options
        optimizer.global_jit_level = v1.OptimizerOptions.ON_1
        optimizer.cpu_global_jit = True


def _grow_outside_of_sessions(gpus: Sequence[Gpu]) -> None:
    """Eager operations share the GPUs with the sessions and must be told by themselves."""
    if all(gpu.memory_growth or gpu.parts for gpu in gpus):
        return
    try:
        for gpu in tf.config.get_visible_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    except (RuntimeError, ValueError) as error:
        say_once(
            "RunConfig(memory_growth=True) comes too late for eager operations, which use the GPU already"
            f" ({error}); call tf.config.experimental.set_memory_growth at the top of the program."
        )


def idle_options(options: DeviceOptions, gpus: Sequence[Gpu], proto: v1.ConfigProto) -> list[str]:
    """A sentence for each option that has no effect on the devices of this process."""
    idle = []
    if options.memory_growth and not gpus:
        idle.append("RunConfig(memory_growth=True) has no effect here: no GPU is visible.")
    elif options.memory_growth and any(gpu.parts for gpu in gpus):
        idle.append(
            "RunConfig(memory_growth=True) has no effect here: a GPU that is split into logical GPUs has"
            " fixed shares."
        )
    if options.xla and not tf.test.is_built_with_xla():
        idle.append("RunConfig(xla=True) has no effect here: this TensorFlow is built without XLA.")
    if options.precision is not None and not rewrites_to(options.precision, _rewriting_alone(proto)):
        idle.append(_idle_precision(options.precision, bool(gpus)))
    return idle


def _idle_precision(precision: str, has_gpu: bool) -> str:
    devices = "the GPUs here" if has_gpu else "this CPU"
    other = BFLOAT16 if precision == FLOAT16 else FLOAT16
    if has_gpu == (precision == FLOAT16):
        return f"mixed_precision: TensorFlow rewrites no graphs to {precision} for {devices}: no effect."
    return (
        f"mixed_precision='{precision}' has no effect here: TensorFlow rewrites graphs to {other} for"
        f" {devices}, if at all. mixed_precision=True takes the type that suits the device."
    )


def _rewriting_alone(proto: v1.ConfigProto) -> bytes:
    """The configuration without what a small trial session must not take part in."""
    alone = v1.ConfigProto(gpu_options=proto.gpu_options, allow_soft_placement=True)
    alone.graph_options.rewrite_options.CopyFrom(proto.graph_options.rewrite_options)
    return bytes(alone.SerializeToString(deterministic=True))


@functools.lru_cache(maxsize=8)
def rewrites_to(precision: str, session_config: bytes) -> bool:
    """Whether a session with that (serialised) configuration computes a product in `precision`.

    Asked of TensorFlow by a trial: it depends on GPU generation, processor, oneDNN and the build.
    """
    with tf.Graph().as_default():
        left, right = v1.placeholder(tf.float32, [64, 64]), v1.placeholder(tf.float32, [64, 64])
        product = tf.matmul(tf.nn.relu(tf.matmul(left, right)), right)
        options, metadata = v1.RunOptions(output_partition_graphs=True), v1.RunMetadata()
        with v1.Session(config=v1.ConfigProto.FromString(session_config)) as session:
            ones = [[1.0] * 64] * 64
            session.run(product, {left: ones, right: ones}, options=options, run_metadata=metadata)
    wanted = tf.as_dtype(precision).as_datatype_enum
    return any(
        "T" in node.attr and node.attr["T"].type == wanted
        for partition in metadata.partition_graphs
        for node in partition.node
    )

"""Steps so small that sharing the work of one operation among threads takes longer than the work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import tensorflow as tf

from orchestrator.estimator import own_threads
from orchestrator.estimator.graph_walk import ancestors, nodes_in_functions
from orchestrator.estimator.input_source import InputSource, IteratorInitializerHook, leaves
from orchestrator.estimator.placement import is_on_own_cpus

v1 = tf.compat.v1

TINY_OPERATION = 4_000_000
TINY_STEP = 40_000_000
"""Additions and multiplications. On two cores one thread is the faster up to four times as much; with more
cores the work takes less time, and waking them more."""

_MATRIX_PRODUCTS = ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
_MUCH_ON_LITTLE = (
    *("Conv", "Depthwise", "Einsum", "LSTM", "BlockLSTM", "GRU", "CudnnRNN", "FFT", "RFFT", "IFFT", "IRFFT"),
    *("Matrix", "Cholesky", "Svd", "Qr", "SelfAdjointEig", "Lu", "SparseMatMul", "SparseTensorDense"),
    *("Quantized", "Xla", "_"),
)
_FUNCTIONS = (
    *("While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase", "PartitionedCall"),
    *("StatefulPartitionedCall", "SymbolicGradient", "PyFunc", "EagerPyFunc"),
)
"""Beginnings of the names of operations that may do much work on little data."""
_THREAD_OF_CALLER = -1
_BATCHING = {"BatchDataset", "BatchDatasetV2", "PaddedBatchDataset", "PaddedBatchDatasetV2"}
_BATCH_SIZE_INPUT = 1
_PARALLEL = ("Parallel", "LegacyParallel", "MapAndBatch", "Experimental", "DataService")


def compute_in_one_thread_if_tiny(
    config: v1.ConfigProto,
    source: InputSource,
    results: Iterable[tf.Operation],
    master: str = "",
    in_loop: bool = False,
) -> None:
    """Gives the session one thread for the work within operations where no operation has work for two.

    `results` is what a step runs on a batch of `source`. In a loop in the
    graph, whose operations are handed from thread to thread as well, the thread
    of the caller then runs them all, unless the input needs the others.
    Numbers of threads that the user has chosen stay.
    """
    if config.intra_op_parallelism_threads or not own_threads.were_asked_for():
        return
    if not is_on_own_cpus(master):
        return
    pipeline = _pipeline(source)
    if not _is_tiny(ancestors(results), _unknown_size(source, pipeline)) or _prepares_much(pipeline):
        return
    config.intra_op_parallelism_threads = 1
    if in_loop and not config.inter_op_parallelism_threads and not _prepares_in_parallel(pipeline):
        config.inter_op_parallelism_threads = _THREAD_OF_CALLER


def _is_tiny(operations: Iterable[tf.Operation], unknown: int | None) -> bool:
    step = 0
    for operation in operations:
        work = work_of(operation, unknown)
        if work is None or work > TINY_OPERATION:
            return False
        step += work
    return step <= TINY_STEP


def work_of(operation: tf.Operation, unknown: int | None) -> int | None:
    """About how many additions and multiplications; None where nobody can tell.

    `unknown` is taken for each dimension of unknown size (None: there must be none).
    """
    tensors = [*operation.inputs, *operation.outputs]
    sizes = [_elements(t, unknown) for t in tensors if t.dtype not in (tf.resource, tf.variant)]
    if operation.type in _MATRIX_PRODUCTS:
        columns = _dimension(operation.outputs[0], -1, unknown)
        return None if columns is None or None in sizes else 2 * (sizes[0] or 0) * columns
    if operation.type.startswith((*_MUCH_ON_LITTLE, *_FUNCTIONS)) or None in sizes:
        return None
    return sum(size or 0 for size in sizes)


def _elements(tensor: tf.Tensor, unknown: int | None) -> int | None:
    rank = tensor.shape.rank
    if rank is None:
        return None
    sizes = [_dimension(tensor, index, unknown) for index in range(rank)]
    return None if None in sizes else math.prod(size or 0 for size in sizes)


def _dimension(tensor: tf.Tensor, index: int, unknown: int | None) -> int | None:
    size = tensor.shape.as_list()[index] if tensor.shape.rank else None
    return unknown if size is None else int(size)


def _unknown_size(source: InputSource, pipeline: Sequence[tf.Operation]) -> int | None:
    """What a dimension of unknown size is at most, where only the batch is unknown; None where more is.

    Reshaping may have put the batch and all but the last of the other dimensions into one.
    """
    batch = _batch_size(pipeline)
    parts = tf.nest.flatten((leaves(source.features), source.labels))
    if batch is None or not all(isinstance(p, tf.Tensor) and p.shape.rank for p in parts if p is not None):
        return None
    shapes = [part.shape.as_list()[1:] for part in parts if part is not None]
    if any(None in shape for shape in shapes):
        return None
    return int(batch * max((math.prod(shape[:-1]) for shape in shapes), default=1))


def _batch_size(pipeline: Sequence[tf.Operation]) -> int | None:
    """Of the last batching in the pipeline, where it is a constant."""
    for operation in pipeline:
        if operation.type in _BATCHING:
            size = tf.get_static_value(operation.inputs[_BATCH_SIZE_INPUT])
            return None if size is None else int(size)
    return None


def _prepares_much(pipeline: Sequence[tf.Operation]) -> bool:
    """Whether the functions of the pipeline, which the same threads run, multiply matrices or the like."""
    inside = nodes_in_functions(pipeline)
    return any(node.op.startswith((*_MATRIX_PRODUCTS, *_MUCH_ON_LITTLE)) for _, node in inside)


def _prepares_in_parallel(pipeline: Sequence[tf.Operation]) -> bool:
    return any(operation.type.startswith(_PARALLEL) for operation in pipeline)


def _pipeline(source: InputSource) -> list[tf.Operation]:
    """The operations that make the input, from the iterator back to the data."""
    starts = [hook.initializer for hook in source.hooks if isinstance(hook, IteratorInitializerHook)]
    return list(ancestors(starts))

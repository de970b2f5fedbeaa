"""pandas_input_fn: batches from a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from orchestrator.errors import InvalidArgument, InvalidType
from orchestrator.estimator.inputs.array_batches import ArrayBatches, ArrayInput, check_batching, feedable

_CALLER = "pandas_input_fn"


def pandas_input_fn(  # noqa: PLR0917 - the order of the public API
    x: Any,
    y: Any = None,
    batch_size: int = 128,
    num_epochs: int | None = 1,
    shuffle: bool | None = None,
    queue_capacity: int | None = 1000,
    num_threads: int = 1,
    target_column: str = "target",
) -> Callable[[], Any]:
    """An input_fn over the columns of a DataFrame.

    Args:
      x: `DataFrame` of features.
      y: labels with the index of `x`: a `Series`, a `DataFrame` (labels become a
        dict by column), or None.
      batch_size: rows a batch; the last one may be smaller.
      num_epochs: passes over the rows; None never ends.
      shuffle: whether the rows come in random order; must be given.
      queue_capacity, num_threads: accepted for old programs, without effect.
      target_column: name of a `Series` of labels; `x` must not have it.

    Returns a function without arguments that returns a dict of tensors by
    column, or (that dict, labels). Raises InvalidArgument (a ValueError) or
    InvalidType (a TypeError) for wrong arguments.
    """
    del queue_capacity, num_threads
    pandas = _pandas()
    check_batching(_CALLER, batch_size, num_epochs, shuffle)
    if not isinstance(target_column, str):
        raise InvalidType(f"{_CALLER}: target_column must be a string type; got {target_column!r}.")
    if not isinstance(x, pandas.DataFrame):
        raise InvalidType(f"{_CALLER}: x must be a pandas DataFrame; got {type(x).__name__}.")
    if len(x) == 0 or len(x.columns) == 0:
        raise InvalidArgument(f"{_CALLER}: x is empty; its shape is {x.shape}.")
    columns = {("x", name): _values(x[name], f"column {name!r} of x") for name in x.columns}
    if y is not None:
        columns.update(_labels(pandas, x, y, target_column))
    batches = ArrayBatches(columns, batch_size, num_epochs, bool(shuffle))

    def arrange(batch: dict[Any, Any]) -> Any:
        features = {name: tensor for (side, name), tensor in batch.items() if side == "x"}
        labels = {name: tensor for (side, name), tensor in batch.items() if side == "y"}
        if y is None:
            return features
        return features, (labels if isinstance(y, pandas.DataFrame) else labels[target_column])

    return ArrayInput(batches, arrange)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise InvalidType(f"{_CALLER} should not be called without pandas installed: {error}") from error
    return pandas


def _labels(pandas: Any, x: Any, y: Any, target_column: str) -> dict[tuple[str, Any], np.ndarray]:
    if not isinstance(y, (pandas.Series, pandas.DataFrame)):
        raise InvalidType(f"{_CALLER}: y must be a pandas Series or DataFrame; got {type(y).__name__}.")
    if target_column in x:
        raise InvalidArgument(
            f"{_CALLER}: Cannot use name {target_column!r} for target column: x already has a column of that"
            f" name ({list(x.columns)}). Choose another target_column."
        )
    if not np.array_equal(x.index, y.index):
        raise InvalidArgument(f"{_CALLER}: Index for x and y are mismatched: {x.index} and {y.index}.")
    if isinstance(y, pandas.DataFrame):
        return {("y", name): _values(y[name], f"column {name!r} of y") for name in y.columns}
    return {("y", target_column): _values(y, "y")}


def _values(series: Any, what: str) -> np.ndarray:
    """The column as an array; columns of text and of categories hold Python objects."""
    plain = series.astype(object) if not isinstance(series.dtype, np.dtype) else series
    values = plain.to_numpy()
    if values.dtype.kind == "O" and series.dtype.kind in "iufb":  # nullable numbers
        if series.isna().any():
            raise InvalidArgument(f"{_CALLER}: {what} has missing values; fill or drop them first.")
        values = values.astype(series.dtype.numpy_dtype)
    return feedable(_CALLER, what, values)

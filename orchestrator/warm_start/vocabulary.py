"""Variables whose rows follow a vocabulary that has changed: which old row goes where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.errors import WarmStartError


@dataclass(frozen=True)
class Remapping:
    """From the rows (or columns) of an old vocabulary to those of a new one."""

    axis: int
    size: int
    """Rows of the new variable, those for words that no vocabulary knows at the end."""
    pairs: tuple[tuple[int, int], ...]
    """(new row, old row) of every word that both have."""
    initializer: Any = None
    """Fills the other rows, called with shape and dtype; None: zeros."""

    def __str__(self) -> str:
        return f"vocabulary: {len(self.pairs)} of {self.size} rows are known"


def remap(old: Sequence[str], new: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """(new index, old index) of every word in both; the first place of a word counts."""
    places: dict[str, int] = {}
    for index, word in enumerate(old):
        places.setdefault(word, index)
    return tuple((index, places[word]) for index, word in enumerate(new) if word in places)


def remapping_of(info: Any, name: str, new_shape: tuple[int, ...], old_shape: tuple[int, ...]) -> Remapping:
    """What a `tf.train.VocabInfo` asks for variable `name`.

    Raises WarmStartError for unreadable vocabularies and for shapes that do not go with them.
    """
    axis = info.axis or 0
    old_count = info.old_vocab_size if (info.old_vocab_size or -1) > 0 else None
    old = _words(info.old_vocab or info.new_vocab, old_count, f"old vocabulary of {name}")
    new = _words(info.new_vocab, info.new_vocab_size, f"new vocabulary of {name}")
    size = info.new_vocab_size + info.num_oov_buckets
    fits = len(new_shape) == len(old_shape) > axis and new_shape[axis] == size
    rest = [(a, b) for i, (a, b) in enumerate(zip(new_shape, old_shape, strict=False)) if i != axis]
    if not fits or any(a != b for a, b in rest) or len(old) > old_shape[axis]:
        raise WarmStartError(
            f"vocabulary of '{name}': shapes {new_shape} and, in the checkpoint, {old_shape} do not go with"
            f" {size} new and {len(old)} old words along axis {axis}."
        )
    return Remapping(axis, size, remap(old, new), info.backup_initializer)


def _words(path: Any, count: int | None, what: str) -> list[str]:
    try:
        words = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError, TypeError) as error:
        raise WarmStartError(f"{what}: {path}: cannot be read: {error}.") from None
    if count is not None and len(words) < count:
        raise WarmStartError(f"{what}: {path} has {len(words)} words, not {count}.")
    return words if count is None else words[:count]


def apply(remapping: Remapping, value: np.ndarray) -> np.ndarray:
    """The value with its rows where the new vocabulary has them."""
    shape = list(value.shape)
    shape[remapping.axis] = remapping.size
    result = _fresh(remapping.initializer, tuple(shape), value.dtype)
    if remapping.pairs:
        new, old = (list(side) for side in zip(*remapping.pairs, strict=True))
        np.moveaxis(result, remapping.axis, 0)[new] = np.moveaxis(value, remapping.axis, 0)[old]
    return result


def _fresh(initializer: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if initializer is None:
        return np.zeros(shape, dtype)
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        return np.array(session.run(initializer(list(shape), dtype=tf.as_dtype(dtype))))

"""The numbers in the names of unnamed Keras 3 layers (`dense`, `dense_1`), counted anew for each model_fn.

Keras 3 counts on for as long as the process lives, so that the same model_fn
would name its variables differently in the next graph, and no checkpoint would
fit. Keras 2 counts for each graph.
"""

from __future__ import annotations

import collections
import contextlib
import sys
from collections.abc import Iterator

_STATE = "keras.src.backend.common.global_state"
_COUNTERS = "object_name_uids"


@contextlib.contextmanager
def counted_anew() -> Iterator[None]:
    """Within this block layers are numbered from the start; afterwards as if nothing had been made in it.

    Does nothing where Keras 3 is not loaded yet: its counters are new then.
    """
    state = sys.modules.get(_STATE)
    if state is None:
        yield
        return
    outside = state.get_global_attribute(_COUNTERS)
    state.set_global_attribute(_COUNTERS, collections.defaultdict(int))
    try:
        yield
    finally:
        state.set_global_attribute(_COUNTERS, outside)

"""A session run with as little around it as TensorFlow allows.

`Session.make_callable` looks up every name and takes two locks at each call;
a callable made from options has all that done once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

v1 = tf.compat.v1


def lean_callable(
    session: v1.Session, fetches: Sequence[Any], feeds: Sequence[tf.Tensor] = ()
) -> Callable[..., list[Any]]:
    """Runs `fetches` with values for `feeds`; the list it returns has None for operations.

    The graph must be final. Sessions on a server are run as ever.
    """
    if session.sess_str:
        return session.make_callable(list(fetches), feed_list=list(feeds) or None)
    elements = [session.graph.as_graph_element(fetch) for fetch in fetches]
    tensors = list(dict.fromkeys(e.name for e in elements if isinstance(e, tf.Tensor)))
    operations = [element.name for element in elements if isinstance(element, tf.Operation)]
    options = config_pb2.CallableOptions(feed=[feed.name for feed in feeds], fetch=tensors, target=operations)
    run = session._make_callable_from_options(options)  # the one way there is to this
    places = [tensors.index(e.name) if isinstance(e, tf.Tensor) else None for e in elements]
    types = [feed.dtype.as_numpy_dtype for feed in feeds]

    def run_all(*values: Any) -> list[Any]:
        results = run(*map(np.asarray, values, types))
        return [None if place is None else results[place] for place in places]

    return run_all

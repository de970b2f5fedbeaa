"""Hypothesis strategies for what clusters are made of."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from orchestrator.cluster.spec import ClusterSpec
from orchestrator.cluster.task import TaskId, TaskType

hosts = st.from_regex(r"\A[a-z][a-z0-9-]{0,10}(\.[a-z0-9]{1,5})?:[1-9][0-9]{0,3}\Z")
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def cluster_specs(draw: st.DrawFn, with_evaluator: bool = True) -> ClusterSpec:
    """Clusters as TensorFlow allows them: at most one chief and one evaluator, no address twice."""
    counts = {
        TaskType.CHIEF: draw(st.integers(0, 1)),
        TaskType.WORKER: draw(st.integers(0, 4)),
        TaskType.PS: draw(st.integers(0, 3)),
        TaskType.EVALUATOR: draw(st.integers(0, 1)) if with_evaluator else 0,
    }
    if not counts[TaskType.CHIEF] and not counts[TaskType.WORKER]:
        counts[TaskType.WORKER] = 1
    total = sum(counts.values())
    addresses = iter(draw(st.lists(hosts, min_size=total, max_size=total, unique=True)))
    return ClusterSpec.of(
        {kind: [next(addresses) for _ in range(number)] for kind, number in counts.items() if number}
    )


@st.composite
def clusters_and_tasks(draw: st.DrawFn) -> tuple[ClusterSpec, TaskId]:
    """A cluster, and one of its tasks."""
    cluster = draw(cluster_specs())
    return cluster, draw(st.sampled_from(list(cluster.tasks())))

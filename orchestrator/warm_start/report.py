"""A plan, or what a checkpoint holds, as a table for people and as JSON for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from orchestrator.warm_start.checkpoint_reader import OpenCheckpoint
from orchestrator.warm_start.tensors import Role, SourceTensor, shown_shape, shown_size
from orchestrator.warm_start.variable_map import Plan, Skip, Unused

_EXPECTED_SHOWN = 3


def plan_lines(plan: Plan) -> list[str]:
    """The plan as text, line by line; problems last."""
    lines = [f"warm start from {plan.checkpoint} ({plan.kind})" if plan.checkpoint else "warm start", ""]
    if plan.loads:
        loaded = [
            (
                load.target.name,
                shown_shape(load.target.shape),
                _from(load.source),
                ", ".join((*load.how, *_changes(load))) or "same name",
            )
            for load in plan.loads
        ]
        lines += ["loaded", *_table(("variable", "shape", "from", "how"), loaded), ""]
    missing = [skip for skip in plan.skips if not skip.expected]
    if missing:
        rows = [(skip.target.name, shown_shape(skip.target.shape), skip.why) for skip in missing]
        lines += ["not loaded", *_table(("variable", "shape", "why"), rows), ""]
    lines += _grouped("left out", [s for s in plan.skips if s.expected])
    lines += _grouped("unused in the checkpoint", plan.unused)
    lines.append(summary(plan))
    lines += [f"problem: {problem}" for problem in plan.problems]
    return lines


def _from(source: SourceTensor) -> str:
    return source.name


def _changes(load: Any) -> Iterator[str]:
    if load.cast:
        yield f"cast {load.source.dtype} to {load.target.dtype}"
    if load.vocabulary:
        yield load.vocabulary


def _grouped(title: str, items: Sequence[Skip | Unused]) -> list[str]:
    """Names by reason; reasons that concern many show a few of the names."""
    if not items:
        return []
    by_reason: dict[str, list[str]] = {}
    for item in items:
        name = item.target.name if isinstance(item, Skip) else item.source.name
        by_reason.setdefault(item.why, []).append(name)
    lines = [title]
    for why, names in by_reason.items():
        routine = why.startswith(("optimizer slot", "no weight", "moving average"))
        shown = names[:_EXPECTED_SHOWN] if routine else names
        more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
        lines += [f"  {why} ({len(names)}):", *(f"    {name}" for name in shown)]
        if more:
            lines.append(f"   {more}")
    return [*lines, ""]


def summary(plan: Plan) -> str:
    """One line: how many variables are loaded, how many are not, and the bytes."""
    missing = sum(not skip.expected for skip in plan.skips)
    return (
        f"{len(plan.loads)} variables loaded ({shown_size(plan.size)}), {missing} not loaded,"
        f" {len(plan.skips) - missing} left out by rule, {len(plan.unused)} tensors unused"
    )


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain values."""
    return {
        "checkpoint": plan.checkpoint,
        "kind": plan.kind,
        "ok": plan.ok,
        "problems": list(plan.problems),
        "bytes": plan.size,
        "loaded": [
            {
                "variable": load.target.name,
                "shape": list(load.target.shape),
                "dtype": load.target.dtype,
                "source": load.source.name,
                "source_key": load.source.place,
                "source_dtype": load.source.dtype,
                "bytes": load.source.size,
                "how": [*load.how, *_changes(load)],
            }
            for load in plan.loads
        ],
        "skipped": [
            {
                "variable": skip.target.name,
                "shape": list(skip.target.shape),
                "why": skip.why,
                "by_rule": skip.expected,
            }
            for skip in plan.skips
        ],
        "unused": [
            {"source": item.source.name, "shape": list(item.source.shape), "why": item.why}
            for item in plan.unused
        ],
    }


def checkpoint_lines(checkpoint: OpenCheckpoint) -> list[str]:
    """What a checkpoint holds, line by line."""
    tensors = checkpoint.tensors()
    step = checkpoint.global_step()
    note = f" ({checkpoint.location.note})" if checkpoint.location.note else ""
    rows = [
        (
            tensor.name,
            shown_shape(tensor.shape),
            tensor.dtype,
            shown_size(tensor.size),
            str(tensor.role),
            _also(tensor),
        )
        for tensor in tensors
    ]
    counts = Counter(tensor.role for tensor in tensors)
    listed = ", ".join(f"{counts[role]} {role}" for role in Role if counts[role])
    total = sum(tensor.size for tensor in tensors)
    return [
        f"{checkpoint.path}{note}",
        f"{checkpoint.kind}, step {'unknown' if step is None else step}",
        "",
        *_table(("name", "shape", "type", "size", "role", "also"), rows),
        "",
        f"{len(tensors)} tensors, {shown_size(total)}: {listed or 'none'}",
    ]


def _also(tensor: SourceTensor) -> str:
    notes = [f"{tensor.rule} {tensor.place}"] if tensor.rule else []
    notes += [f"saved from {alias}" for alias in tensor.aliases if alias not in (tensor.place, "")][:1]
    return ", ".join(notes)


def checkpoint_as_json(checkpoint: OpenCheckpoint) -> dict[str, Any]:
    """What a checkpoint holds, as plain values."""
    tensors = checkpoint.tensors()
    return {
        "path": checkpoint.path,
        "kind": checkpoint.kind,
        "global_step": checkpoint.global_step(),
        "bytes": sum(tensor.size for tensor in tensors),
        "tensors": [
            {
                "name": tensor.name,
                "key": tensor.place,
                "shape": list(tensor.shape),
                "dtype": tensor.dtype,
                "bytes": tensor.size,
                "role": tensor.role.value,
                "aliases": list(tensor.aliases),
                "rule": tensor.rule or None,
            }
            for tensor in tensors
        ],
    }


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    rows = [list(heads), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return [
        "  " + "  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]

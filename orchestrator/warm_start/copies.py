"""Several copies of one net in a checkpoint, and scopes that differ: what to ask and never guess."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from orchestrator.warm_start.tensors import Role, SourceTensor

_SUFFIX = re.compile(r"_?[A-Za-z0-9]*")
_MAX_SUGGESTIONS = 3


def questions(matched: Sequence[SourceTensor], spare: Sequence[SourceTensor]) -> list[str]:
    """One question for each net that is matched by name while a whole second copy of it lies beside.

    Args:
      matched: tensors that variables take under their own names.
      spare: tensors that no variable takes.

    A copy has a tensor of the same shape and type for each of the scope's, under
    names in which one component has the same suffix more, or less. A net is all
    that is matched, or an outer scope that holds several layers; layers of equal
    shape in a row are no copies of each other.
    """
    spare = [source for source in spare if source.role is Role.WEIGHT]
    everything = [source for source in matched if source.role is Role.WEIGHT]
    groups: dict[str, list[SourceTensor]] = defaultdict(list)
    for source in everything:
        groups[_top(source.name)].append(source)
    if len(groups) > 1:
        groups[""] = everything
    asked: list[str] = []
    for scope, members in groups.items():
        if len(members) not in (len(everything), len(spare)) and not _is_net(members):
            continue
        twins = _twins(members, spare)
        for suffix in sorted(suffix for suffix, names in twins.items() if len(names) == len(members)):
            first = sorted(members, key=lambda s: s.name)[0]
            other = twins[suffix][first.name]
            if any(f"'{other}'" in question for question in asked):
                continue
            asked.append(_question(scope, members, first.name, other))
    return asked


def _is_net(members: Sequence[SourceTensor]) -> bool:
    """Whether a scope holds layers, and not just the weights of one."""
    return len({source.name.split("/")[1] for source in members if source.name.count("/") > 1}) > 1


def _question(scope: str, members: Sequence[SourceTensor], name: str, other: str) -> str:
    count = len(members)
    what = f"{count} tensors" if count > 1 else "one tensor"
    old, new = _differing_scopes(other, name)
    return (
        f"the checkpoint holds two copies of {f'{scope!r}' if scope else 'the net'}, equal in shapes"
        f" ({what}): '{name}' and '{other}'. One may be untrained. Say which: rename '{new}={new}' for the"
        f" first, '{old}={new}' for the second, or exclude one."
    )


def _differing_scopes(other: str, name: str) -> tuple[str, str]:
    """Both names up to the component in which they differ."""
    left, right = other.split("/"), name.split("/")
    at = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), 0)
    return "/".join(left[: at + 1]), "/".join(right[: at + 1])


def _top(name: str) -> str:
    return name.partition("/")[0] if "/" in name else ""


def _twins(
    members: Sequence[SourceTensor], spare: Sequence[SourceTensor]
) -> dict[tuple[str, str], dict[str, str]]:
    """By (suffix, direction): the names of members with the names of their twins."""
    candidates: dict[tuple[tuple[int, ...], str, int], list[SourceTensor]] = defaultdict(list)
    for source in spare:
        candidates[source.shape, source.dtype, source.name.count("/")].append(source)
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for member in members:
        for other in candidates[member.shape, member.dtype, member.name.count("/")]:
            suffix = _suffix_between(member.name, other.name)
            if suffix is not None:
                found[suffix].setdefault(member.name, other.name)
    return found


def _suffix_between(name: str, other: str) -> tuple[str, str] | None:
    """The suffix by which exactly one component differs: (`_1`, `more`) or (`_1`, `less`)."""
    both = zip(name.split("/"), other.split("/"), strict=True)
    pairs = [(mine, theirs) for mine, theirs in both if mine != theirs]
    if len(pairs) != 1:
        return None
    mine, theirs = pairs[0]
    for short, long, direction in ((mine, theirs, "more"), (theirs, mine, "less")):
        rest = long.removeprefix(short)
        if long.startswith(short) and _SUFFIX.fullmatch(rest) and (rest[0] == "_" or rest.isdigit()):
            return rest, direction
    # net_1 and net_2 differ in the number alone.
    stem, number = _numbered(mine)
    other_stem, other_number = _numbered(theirs)
    if stem and stem == other_stem and number and other_number:
        return f"{number} {other_number}", "number"
    return None


def _numbered(component: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.*?_?)(\d+)", component)
    return (match[1], match[2]) if match else ("", "")


def renames_that_would_match(names: Sequence[str], wanted: Sequence[str]) -> str:
    """' Rename ... would match 12.' for the changes of an outer scope that make most names equal."""
    by_tail: dict[str, list[str]] = defaultdict(list)
    for name in names:
        parts = name.split("/")
        for cut in range(len(parts)):
            by_tail["/".join(parts[cut:])].append("/".join(parts[:cut]))
    scores: Counter[tuple[str, str]] = Counter()
    for target in wanted:
        parts = target.split("/")
        for cut in range(len(parts)):
            found = by_tail.get("/".join(parts[cut:]), [])
            for old in found:
                scores[old, "/".join(parts[:cut])] += 1
            if found:
                break
    ranked = [(pair, count) for pair, count in scores.most_common() if any(pair)]
    best = [(pair, count) for pair, count in ranked[:_MAX_SUGGESTIONS] if 2 * count >= ranked[0][1]]
    if not best:
        return ""
    listed = ", ".join(f"'{old}={new}' ({count} of {len(wanted)})" for (old, new), count in best)
    return f" A rename would match: {listed}."

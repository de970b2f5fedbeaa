"""Which tensor goes into which variable: a pure function of both sides' names, shapes and types."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from orchestrator.errors import WarmStartError, near_miss
from orchestrator.warm_start import copies, layouts
from orchestrator.warm_start.patterns import Pattern, Rename
from orchestrator.warm_start.request import Rules
from orchestrator.warm_start.tensors import Role, SourceTensor, TargetVariable, shown_shape

_SHOWN = 4


@dataclass(frozen=True)
class Load:
    """A variable that takes a tensor."""

    target: TargetVariable
    source: SourceTensor
    how: tuple[str, ...] = ()
    """The rules that led here, for people; empty for the same name."""
    layout: str = ""
    cast: bool = False
    vocabulary: str = ""
    """What becomes of its rows, for a variable with a vocabulary."""


@dataclass(frozen=True)
class Skip:
    """A variable that keeps its own initial value."""

    target: TargetVariable
    why: str
    expected: bool = False
    """It was left out by a rule, and not for want of a tensor."""


@dataclass(frozen=True)
class Unused:
    """A tensor that stays in the checkpoint."""

    source: SourceTensor
    why: str


@dataclass(frozen=True)
class Plan:
    """What a warm start will do. Where there are `problems` it must not be applied."""

    loads: tuple[Load, ...]
    skips: tuple[Skip, ...]
    unused: tuple[Unused, ...]
    problems: tuple[str, ...] = ()
    checkpoint: str = ""
    kind: str = ""

    @property
    def ok(self) -> bool:
        """Whether the plan can be applied."""
        return not self.problems

    @property
    def size(self) -> int:
        """Bytes that will be read."""
        return sum(load.source.size for load in self.loads)

    def require(self) -> Plan:
        """The plan itself; raises WarmStartError, with every problem, where it cannot be applied."""
        if self.problems:
            where = f"warm start from {self.checkpoint}: " if self.checkpoint else "warm start: "
            if len(self.problems) == 1:
                raise WarmStartError(where + self.problems[0])
            raise WarmStartError(where + "".join(f"\n  - {problem}" for problem in self.problems))
        return self


@dataclass(frozen=True)
class Offer:
    """A tensor under a name at which variables look for it."""

    source: SourceTensor
    how: tuple[str, ...]
    rank: int
    """Offers of the lowest rank win: a rename before an average before a name."""
    layout: str = ""


def plan(
    sources: Sequence[SourceTensor],
    targets: Sequence[TargetVariable],
    rules: Rules | None = None,
    vocabularies: Iterable[str] = (),
) -> Plan:
    """Plans a warm start; reads and changes nothing.

    Args:
      sources: what the checkpoint holds.
      targets: the variables of the graph.
      rules: None for the defaults.
      vocabularies: names of variables whose rows follow a vocabulary, so that one axis may differ.
    """
    return _Planner(sources, targets, rules or Rules(), frozenset(vocabularies)).plan()


class _Planner:
    def __init__(
        self,
        sources: Sequence[SourceTensor],
        targets: Sequence[TargetVariable],
        rules: Rules,
        vocabularies: frozenset[str],
    ) -> None:
        self._sources = sources
        self._targets = targets
        self._rules = rules
        self._vocabularies = vocabularies
        self._problems: list[str] = []
        self._left_out: dict[str, str] = {}
        """Why a tensor is not offered, by its place."""
        self._used_rules: set[int] = set()
        self._offers = self._all_offers()

    def plan(self) -> Plan:
        loads: list[Load] = []
        skips: list[Skip] = []
        for target in self._targets:
            result = self._for(target)
            if isinstance(result, Load):
                loads.append(result)
            else:
                skips.append(result)
        self._check_vocabularies()
        self._check_patterns()
        self._check_copies(loads)
        self._check_result(loads, skips)
        return Plan(tuple(loads), tuple(skips), tuple(self._unused(loads)), tuple(self._problems))

    def _all_offers(self) -> dict[str, list[Offer]]:
        offers: dict[str, list[Offer]] = defaultdict(list)
        for source in self._sources:
            reason = self._reason_against(source)
            if reason:
                self._left_out[source.place] = reason
                continue
            for name, offer in self._names_of(source):
                if all(other.source.place != offer.source.place for other in offers[name]):
                    offers[name].append(offer)
        return offers

    def _reason_against(self, source: SourceTensor) -> str:
        rules = self._rules
        if source.role is Role.OTHER:
            return "no weight"
        if source.role is Role.SLOT and not rules.optimizer:
            return "optimizer slot, not asked for"
        if source.role is Role.STEP and not rules.global_step:
            return "global step, not asked for"
        if source.role is Role.AVERAGE and not rules.averages:
            return "moving average, not asked for"
        for pattern in rules.exclude:
            if any(pattern.matches(name) for name in (source.name, *source.aliases)):
                self._used_rules.add(id(pattern))
                return f"excluded by '{pattern.text}'"
        return ""

    def _names_of(self, source: SourceTensor) -> Iterator[tuple[str, Offer]]:
        """The names under which a tensor can be found: renamed, or else as it is, and its aliases."""
        average = source.role is Role.AVERAGE
        own = source.average_of if average else source.name
        how = ("moving average",) if average else ((source.rule,) if source.rule else ())
        renamed = False
        for alias in dict.fromkeys((own, *source.aliases)):
            rename, new = self._renamed(alias)
            if rename is not None:
                renamed = True
                yield new, Offer(source, (*how, f"rename {rename}"), 0 if average else 1, rename.layout)
        if renamed:
            return
        yield own, Offer(source, how, 2 if average else 3)
        for alias in source.aliases:
            yield alias, Offer(source, (*how, f"saved from {alias}"), 3)

    def _renamed(self, name: str) -> tuple[Rename | None, str]:
        for rename in self._rules.rename:
            new = rename.apply(name)
            if new is not None:
                self._used_rules.add(id(rename))
                return rename, new
        return None, ""

    def _for(self, target: TargetVariable) -> Load | Skip:
        assignment = self._rules.assign.get(target.name)
        if assignment is not None:
            found = [s for s in self._sources if assignment.source in (s.name, s.place, *s.aliases)]
            if len(found) != 1:
                hint = "several tensors have this name" if found else "is not in the checkpoint"
                close = near_miss(assignment.source, [s.name for s in self._sources]) if not found else ""
                self._problems.append(f"map: '{assignment.source}', for {target.name}: {hint}.{close}")
                return Skip(target, "its map entry is wrong")
            self._left_out.pop(found[0].place, None)
            return self._fitted(target, Offer(found[0], ("map",), 0, assignment.layout))
        reason = self._reason_against_target(target)
        if reason:
            return Skip(target, reason, expected=True)
        offers = self._offers.get(target.name, [])
        best = [offer for offer in offers if offer.rank == min(o.rank for o in offers)]
        if not best:
            return self._missing(target)
        if len(best) > 1:
            names = " and ".join(f"'{offer.source.name}'" for offer in best)
            self._problems.append(
                f"{target.name}: {names} would both go there. Choose: exclude all but one, or name it in a"
                " map."
            )
            return Skip(target, f"{names} are equally good")
        return self._fitted(target, best[0])

    def _reason_against_target(self, target: TargetVariable) -> str:
        rules = self._rules
        chosen = [pattern for pattern in rules.include if pattern.matches(target.name)]
        self._used_rules.update(id(pattern) for pattern in chosen)
        if target.role is Role.SLOT and not rules.optimizer:
            return "optimizer slot, not asked for"
        if target.role is Role.STEP and not rules.global_step:
            return "global step, not asked for"
        excluding = [pattern for pattern in rules.exclude if pattern.matches(target.name)]
        self._used_rules.update(id(pattern) for pattern in excluding)
        if excluding:
            return f"excluded by '{excluding[0].text}'"
        if target.role is Role.AVERAGE and not chosen:
            return "moving average, begins anew"
        return "not included" if rules.include and not chosen else ""

    def _missing(self, target: TargetVariable) -> Skip:
        left_out = next(
            (
                (source.name, self._left_out[source.place])
                for source in self._sources
                if source.place in self._left_out and target.name in (source.name, *source.aliases)
            ),
            None,
        )
        if left_out is not None:
            return Skip(target, left_out[1], expected=True)
        names = [s.name for s in self._sources if s.role is target.role]
        why = f"not in the checkpoint.{near_miss(target.name, [*names, *self._offers])}"
        if self._rules.on_missing == "error":
            self._problems.append(f"{target.name}: {why}")
        return Skip(target, why)

    def _fitted(self, target: TargetVariable, offer: Offer) -> Load | Skip:
        source, how = offer.source, offer.how
        shape: tuple[int, ...] | None = source.shape
        if offer.layout:
            shape = layouts.LAYOUTS[offer.layout].shape_of(source.shape)
            how = (*how, f"layout {offer.layout}")
            if shape is None:
                return self._mismatch(
                    target, source, f"layout {offer.layout} does not apply to {source.shape}"
                )
        if shape != target.shape and target.name not in self._vocabularies:
            text = f"shape {shown_shape(target.shape)}, in the checkpoint {shown_shape(shape or ())}"
            fitting = [] if offer.layout else layouts.fitting(source.shape, target.shape)
            hint = f" (layout {' or '.join(fitting)} in a map would fit)" if fitting else ""
            return self._mismatch(target, source, text + hint)
        cast = source.dtype != target.dtype
        if cast and not (self._rules.allow_cast and _castable(source.dtype) and _castable(target.dtype)):
            hint = "" if self._rules.allow_cast else " (allow_cast converts numbers)"
            text = f"type {target.dtype}, in the checkpoint {source.dtype}{hint}"
            return self._mismatch(target, source, text)
        return Load(target, source, how, offer.layout, cast)

    def _mismatch(self, target: TargetVariable, source: SourceTensor, text: str) -> Skip:
        if self._rules.on_mismatch == "error":
            self._problems.append(
                f"{target.name}: {text} ('{source.name}'). Exclude it, or let mismatches be skipped."
            )
        return Skip(target, text)

    def _check_vocabularies(self) -> None:
        names = [target.name for target in self._targets]
        for name in sorted(self._vocabularies.difference(names)):
            self._problems.append(f"vocabulary of '{name}': no such variable.{near_miss(name, names)}")

    def _check_patterns(self) -> None:
        rules, names = self._rules, [target.name for target in self._targets]
        choices = [*(("include", p) for p in rules.include), *(("exclude", p) for p in rules.exclude)]
        for kind, pattern in choices:
            if id(pattern) not in self._used_rules and not self._matches_any(kind, pattern):
                hint = near_miss(pattern.text, _scopes(names))
                self._problems.append(f"{kind} '{pattern.text}' matches nothing.{hint}")
        for rename in rules.rename:
            if id(rename) not in self._used_rules and not self._renames_any(rename):
                hint = near_miss(rename.old, _scopes([s.name for s in self._sources]))
                self._problems.append(f"rename '{rename}' fits no name in the checkpoint.{hint}")
        for name in rules.assign:
            if name not in names:
                self._problems.append(f"map: there is no variable '{name}'.{near_miss(name, names)}")
        if rules.averages and not any(s.role is Role.AVERAGE for s in self._sources):
            self._problems.append("averages: the checkpoint holds no moving averages.")
        if rules.global_step and not any(s.role is Role.STEP for s in self._sources):
            self._problems.append("global_step: the checkpoint holds no global step.")

    def _matches_any(self, kind: str, pattern: Pattern) -> bool:
        names = [target.name for target in self._targets]
        if kind == "exclude":
            names += [name for s in self._sources for name in (s.name, *s.aliases)]
        return any(pattern.matches(name) for name in names)

    def _renames_any(self, rename: Rename) -> bool:
        return any(rename.apply(n) is not None for s in self._sources for n in (s.name, *s.aliases))

    def _check_copies(self, loads: list[Load]) -> None:
        free = [load for load in loads if not any(h.startswith(("rename", "map")) for h in load.how)]
        used = {load.source.place for load in loads}
        spare = [s for s in self._sources if s.place not in used and s.place not in self._left_out]
        self._problems += copies.questions([load.source for load in free], spare)

    def _check_result(self, loads: list[Load], skips: list[Skip]) -> None:
        if loads or any("equally good" in skip.why for skip in skips):
            return
        wanted = [skip.target.name for skip in skips if not skip.expected]
        if not wanted and not self._problems:
            self._problems.append("nothing is left to load: the rules leave out every variable.")
        elif not any("in the checkpoint" in p for p in self._problems):
            names = [s.name for s in self._sources if s.role is Role.WEIGHT]
            self._problems.append(
                f"nothing matches. The model has for example {_some(wanted)}, the checkpoint {_some(names)}."
                + copies.renames_that_would_match(names, wanted)
            )

    def _unused(self, loads: list[Load]) -> Iterator[Unused]:
        used = {load.source.place for load in loads}
        for source in self._sources:
            if source.place not in used:
                yield Unused(source, self._left_out.get(source.place, "no variable takes it"))


def _castable(dtype: str) -> bool:
    return dtype not in ("string", "resource", "variant") and not dtype.startswith("complex")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in list(names)[:_SHOWN])
    return shown or "nothing"


def _scopes(names: Iterable[str]) -> list[str]:
    """All names and the scopes that they lie in."""
    found: dict[str, None] = {}
    for name in names:
        parts = name.split("/")
        found.update({"/".join(parts[:count]): None for count in range(1, len(parts) + 1)})
        found.update(dict.fromkeys(parts))
    return list(found)


def named(result: Plan, checkpoint: str, kind: str) -> Plan:
    """The plan with the name of the checkpoint it is about."""
    return replace(result, checkpoint=checkpoint, kind=kind)

"""Says when memory runs out soon: pure decisions over a history of use, and where the limits are read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cluster.quantity import format_size
from orchestrator.cluster.task import TaskId

FULL = 0.9
"""Share of a limit at which its use is told in any case."""
WORTH_A_LOOK = 0.5
"""Share of a limit below which growth is no matter."""
WINDOW_SECONDS = 120.0
"""Growth is judged over so long."""
SOON_SECONDS = 900.0
"""Growth that reaches the limit within that time is told."""
OURS = 0.1
"""Share of a common limit that tasks must use themselves."""
_FEWEST = 9
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class _GroupFiles:
    """Where a control group has its numbers."""

    limit: str
    used: str
    cached: str
    """The name in `memory.stat` of the pages of files that can go."""


_VERSION_1 = _GroupFiles("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = _GroupFiles("memory.max", "memory.current", "inactive_file")


@dataclass(frozen=True)
class MemoryUse:
    """Bytes in use of a limit at one moment; `time` is monotonic seconds."""

    time: float
    used: int
    limit: int


def warning(history: Sequence[MemoryUse]) -> str | None:
    """What the newest of `history` (oldest first) gives reason to say, else None.

    Steady growth means that the least use in the last third of the window is
    above the most in its first third; a peak that has passed is none.
    """
    if not history:
        return None
    now = history[-1]
    of_limit = f"{format_size(now.used)} of {format_size(now.limit)}"
    if now.used >= FULL * now.limit:
        return f"uses {of_limit}"
    recent = [use for use in history if use.time >= now.time - WINDOW_SECONDS]
    covers = now.time - recent[0].time
    if len(recent) < _FEWEST or covers < WINDOW_SECONDS / 2 or now.used < WORTH_A_LOOK * now.limit:
        return None
    third = len(recent) // 3
    if min(use.used for use in recent[-third:]) <= max(use.used for use in recent[:third]):
        return None
    rate = (now.used - recent[0].used) / covers
    left = (now.limit - now.used) / rate if rate > 0 else float("inf")
    if left > SOON_SECONDS:
        return None
    return (
        f"uses {of_limit} and grows by {format_size(round(60 * rate))} a minute: full in {left / 60:.0f} min"
    )


class MemoryWatch:
    """Tells once of each limit that is about to be reached: a task's own, and that of everything here.

    `room` gives what is used and what there is, in bytes, of the machine or of
    the control group that this process is in, whichever has less left.
    """

    def __init__(self, room: Callable[[], tuple[str, int, int]] | None = None) -> None:
        self._room = least_room if room is None else room
        self._histories: dict[str, deque[MemoryUse]] = {}
        self._told: set[str] = set()

    def look(self, now: float, used: Mapping[TaskId, int], declared: Mapping[TaskId, int]) -> list[str]:
        """What is to be said at this sample; `used` and `declared` are bytes by task."""
        if not used:
            return []
        limits = {str(task): (used[task], declared[task]) for task in used if task in declared}
        name, taken, there = self._room()
        if there and sum(used.values()) >= OURS * there:  # else it is not the tasks that fill it
            limits[name] = (taken, there)
        found = []
        for owner, (amount, limit) in limits.items():
            history = self._histories.setdefault(owner, deque(maxlen=240))
            history.append(MemoryUse(now, amount, limit))
            text = warning(history)
            if text is not None and owner not in self._told:
                self._told.add(owner)
                declares = "" if owner == name else ", its resources.memory"
                found.append(f"memory: {owner} {text}{declares}")
        return found


def least_room(
    meminfo: Path = Path("/proc/meminfo"), groups: Path = _CGROUPS, own: Path = _OWN_CGROUP
) -> tuple[str, int, int]:
    """(who, bytes used, bytes there are): the machine, or a control group that has less left."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if ":" in line}
        total, available = values["MemTotal"], values["MemAvailable"]
    except (OSError, KeyError, ValueError, IndexError):
        return "this machine", 0, 0
    found = [("this machine", total - available, total)]
    found += [("this control group", used, limit) for used, limit in _group_use(groups, own)]
    return min(found, key=lambda item: item[2] - item[1])


def _group_use(groups: Path, own: Path) -> list[tuple[int, int]]:
    """(used, limit) of each group of this process with a limit; pages of files that can go do not count."""
    try:
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            found += _use_of(groups, path, _VERSION_2)
        elif "memory" in controllers.split(","):
            found += _use_of(groups / "memory", path, _VERSION_1)
    return found


def _use_of(root: Path, path: str, files: _GroupFiles) -> list[tuple[int, int]]:
    """That of one group, and of those above it."""
    place, found = root / path.lstrip("/"), []
    while place == root or root in place.parents:
        try:
            limit = int((place / files.limit).read_text(encoding="ascii"))
            stat = (place / "memory.stat").read_text(encoding="ascii").split()
            cached = int(stat[stat.index(files.cached) + 1])
            found.append((int((place / files.used).read_text(encoding="ascii")) - cached, limit))
        except (OSError, ValueError):
            pass  # no such file, or no limit ("max")
        place = place.parent
    return found

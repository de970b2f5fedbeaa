"""How many steps tasks that step together take in their next session call.

All must take the same number, or some wait for ever for the others. So before
each call all tasks exchange how many steps each can take until one of its
hooks wants to see one, and take the fewest of all; where that is none, all take
one step with their hooks. The exchange is a session call of its own, so that
every task knows the length before it begins a loop. It also carries the votes
to stop and to save.

A hook that looks at each step, in any task, leaves single steps to all of them
for the whole session; then the votes are part of each step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.agreement import MOST_STEPS, Ballot
from orchestrator.estimator.guards import AgreedStop
from orchestrator.estimator.logger import log
from orchestrator.estimator.position import Position
from orchestrator.estimator.session import HookedSession

_NO_LOOP, _SINGLE_STEPS, _LOOPS = range(3)


class Pace:
    """What the tasks take next, agreed on in `session` calls that all of them make alike."""

    def __init__(self, agreed: AgreedStop, position: Position) -> None:
        self._agreed = agreed
        self._position = position

    def settle(self, session: HookedSession, has_loop: bool, watched: bool) -> bool:
        """Whether all tasks take loops in this session; all must ask once, before the first step.

        `watched`: a hook of this task looks at each step. Raises InvalidArgument,
        in all tasks, where only some have a loop in their graph.
        """
        mine = _NO_LOOP if not has_loop else _SINGLE_STEPS if watched else _LOOPS
        all_of_them = self._agreed.agreement.steps_of_tasks(self._exchange(session, Ballot(steps=mine)))
        without = [task for task, said in enumerate(all_of_them) if said == _NO_LOOP]
        if without and len(without) < len(all_of_them):
            raise InvalidArgument(
                "RunConfig(steps_per_loop): tasks that step together must all loop, or none. Of"
                f" {len(all_of_them)} tasks (the chief first, then the workers) number"
                f" {', '.join(map(str, without))} has no loop, the others have one. Give all tasks the same"
                " steps_per_loop and the same model_fn, or leave steps_per_loop at 1."
            )
        looping = min(all_of_them) == _LOOPS
        if has_loop and not looping and not watched:
            log.info("Every step is run by itself: a hook of another task looks at each.")
        if looping:
            log.info("All %d tasks take their steps in loops of the same length.", len(all_of_them))
        self._agreed.votes_in_step = not looping
        return looping

    def next(self, session: HookedSession, can_take: int) -> int:
        """Steps that all tasks take next; 0: one, with hooks. `can_take`: this task's, 0 likewise."""
        mine = self._agreed.mine()
        steps = 0 if mine.stop or mine.save else min(can_take, MOST_STEPS)
        counts = self._exchange(session, Ballot(mine.stop, mine.save, steps))
        self._position.ballot = self._agreed.agreement.all_want(counts)
        return self._position.ballot.steps

    def _exchange(self, session: HookedSession, mine: Ballot) -> np.ndarray:
        agreement = self._agreed.agreement
        run: Any = session.bare([agreement.counts], [agreement.ballot])
        return np.asarray(run(agreement.array_of(mine))[0])

"""Who decides which height: delegate sets that change within and between epochs, drawn from the seed.

A stand-in for elections and recounts. It keeps what consensus relies on: the number of seats is fixed, a recount
replaces at most f seats an epoch and puts the new delegate last, an epoch starts with a ranking of its own, and
C(h + 1) is known before h is decided (PROTOCOL 7.2).
"""

import random
from collections.abc import Sequence

from consensus.delegates import Delegate, DelegateSet
from network.simulation.doors import Term

RECOUNT_BP = 1_000
"""Chance, in each height, that a seat changes hands."""


class Timetable:
    """Terms of all heights from 1 on, grown on demand and the same for every node of a run."""

    def __init__(
        self, members: Sequence[Delegate], seats: int, epoch_heights: int | None, rng: random.Random
    ) -> None:
        self._members = list(members)
        self._seats = seats
        self._epoch_heights = epoch_heights
        self._rng = rng
        self._terms: list[Term] = []
        self._replaced = 0

    def term(self, height: int) -> Term:
        """The term of ``height``, at least 1."""
        while len(self._terms) < height:
            self._terms.append(self._next(len(self._terms) + 1))
        return self._terms[height - 1]

    def _next(self, height: int) -> Term:
        before = self._terms[-1] if self._terms else None
        epoch = 0 if self._epoch_heights is None else (height - 1) // self._epoch_heights
        # C(1) = C(2), PROTOCOL 9.1.
        if before is None or (epoch != before.epoch and height > 2):
            self._replaced = 0
            return Term(epoch, self._elected(), True)
        return Term(epoch, self._recounted(before.delegates, height), epoch != before.epoch)

    def _elected(self) -> DelegateSet:
        return DelegateSet(tuple(self._rng.sample(self._members, self._seats)))

    def _recounted(self, current: DelegateSet, height: int) -> DelegateSet:
        waiting = [member for member in self._members if current.position(member.address) is None]
        may_change = self._epoch_heights is not None and height > 2 and self._replaced < current.faults
        if not (may_change and waiting and self._rng.randrange(10_000) < RECOUNT_BP):
            return current
        self._replaced += 1
        leaving = self._rng.choice(current.ranking)
        kept = tuple(delegate for delegate in current.ranking if delegate != leaving)
        return DelegateSet((*kept, self._rng.choice(waiting)))

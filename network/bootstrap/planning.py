"""A better plan than the built-in one where that misses a limit: seeded annealing over pair swaps (PROTOCOL 4.5, 8.1c).

Members of different groups trade places, so sizes never change and every state is a partition. The walk looks at the
excesses of PROTOCOL 4.2 and, where both are nil, stops: a plan within both limits cannot be bettered. It is pure but
for the clock, which only says when to stop, and so can run in a process of its own beside the service.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Final

from consensus.grouping import (
    GroupingMember,
    Score,
    check_plan,
    eligible,
    group_count,
    groups_of,
    limits,
    score,
    seed_of,
)
from consensus.parameters import Parameters
from consensus.planner import plan as built_in_plan
from consensus.types import Digest, Value

CHECK_EVERY: Final = 256
"""Swaps between two looks at the clock: about a millisecond."""
START_HEAT: Final = 0.3
"""Part of the built-in plan's cost: a swap that worsens it by so much is taken every third time at first."""
END_HEAT: Final = 0.000_3
AIMED: Final = 0.7
"""Share of swaps tried between the richest and the poorest group of the measure that is missed."""


class SearchTask(Value, frozen=True):
    """All that a search needs; can be sent to another process."""

    epoch: int
    """Whose groups are planned."""
    members: tuple[GroupingMember, ...]
    """Eligible members at the snapshot, in address order."""
    group_total: int
    seed: Digest
    parameters: Parameters


class FoundPlan(Value, frozen=True):
    """A plan strictly better than the built-in one."""

    epoch: int
    assignment: tuple[int, ...]
    score: Score
    built_in: Score


def search_task(
    epoch: int,
    present: Sequence[tuple[GroupingMember, int]],
    snapshot_hash: Digest,
    parameters: Parameters,
) -> SearchTask:
    """The task for the snapshot taken in ``epoch`` - 1, of ``present`` members in address order with their last
    active epoch (PROTOCOL 4.6).
    """
    oldest = max(epoch - 1, 0) - parameters.dormant_epochs
    flags = eligible([active >= oldest for _, active in present], parameters.groups)
    members = tuple(member for (member, _), flag in zip(present, flags, strict=True) if flag)
    total = group_count(len(members), parameters.groups)
    return SearchTask(epoch, members, total, seed_of(snapshot_hash), parameters)


def search(task: SearchTask, now_ms: Callable[[], int], deadline_ms: int) -> FoundPlan | None:
    """The best plan found by ``deadline_ms`` on the clock ``now_ms``; None if the built-in one stays unbeaten."""
    assignment = built_in_plan(task.members, task.group_total, task.seed, task.parameters)
    built_in = score(task.members, assignment, task.group_total, task.parameters)
    if built_in == Score(0, 0) or task.group_total < 2 or task.group_total == len(task.members):
        return None
    walk = _Walk(task, assignment, random.Random(task.seed))
    start_ms = now_ms()
    length_ms = max(1, deadline_ms - start_ms)
    while not walk.balanced:
        elapsed_ms = now_ms() - start_ms
        if elapsed_ms >= length_ms:
            break
        walk.cool(elapsed_ms / length_ms)
        for _ in range(CHECK_EVERY):
            walk.step()
    check_plan(walk.best, len(task.members), task.group_total)
    found = score(task.members, walk.best, task.group_total, task.parameters)
    return FoundPlan(task.epoch, walk.best, found, built_in) if found < built_in else None


class _Walk:
    """An assignment under random swaps, with the best one seen."""

    def __init__(self, task: SearchTask, assignment: Sequence[int], randomness: random.Random) -> None:
        self._random = randomness.random
        self._energy_of = [member.energy_wh for member in task.members]
        self._credit_of = [member.credit for member in task.members]
        self._group_of = list(assignment)
        self._members = [list(group) for group in groups_of(assignment, task.group_total)]
        self._place = [0] * len(assignment)
        for group in self._members:
            for place, index in enumerate(group):
                self._place[index] = place
        self._energy = [sum(self._energy_of[index] for index in group) for group in self._members]
        self._credit = [sum(self._credit_of[index] for index in group) for group in self._members]
        self._limits = limits(task.members, task.group_total, task.parameters)
        self._energy_unit = max(1, sum(self._energy) // task.group_total)
        self._credit_unit = max(1, sum(self._credit) // task.group_total)
        self._score = self._scored()
        self._cost = self._start_cost = self._cost_of(self._score)
        self._heat = self._start_cost * START_HEAT
        self.best: tuple[int, ...] = tuple(assignment)
        self._best_score = self._score

    @property
    def balanced(self) -> bool:
        """Nothing is left to win."""
        return self._best_score == (0, 0)

    def cool(self, progress: float) -> None:
        """Set the heat for ``progress`` in 0..1."""
        self._heat = self._start_cost * START_HEAT * (END_HEAT / START_HEAT) ** progress

    def step(self) -> None:
        """Try one swap of two members of different groups."""
        one, other = self._pair()
        if self._group_of[one] == self._group_of[other]:
            return
        self._swap(one, other)
        reached = self._scored()
        cost = self._cost_of(reached)
        worse = cost - self._cost
        if worse > 0 and self._random() >= math.exp(-worse / self._heat):
            self._swap(one, other)
            return
        self._score, self._cost = reached, cost
        if reached < self._best_score:
            self._best_score = reached
            self.best = tuple(self._group_of)

    def _pair(self) -> tuple[int, int]:
        """Mostly from the two groups that make the spread; sometimes from anywhere, so that others can help."""
        if self._random() >= AIMED:
            return self._any(range(len(self._group_of))), self._any(range(len(self._group_of)))
        sums = self._energy if self._score[0] else self._credit
        richest, poorest = sums.index(max(sums)), sums.index(min(sums))
        return self._any(self._members[richest]), self._any(self._members[poorest])

    def _any(self, choices: Sequence[int]) -> int:
        return choices[int(self._random() * len(choices))]

    def _swap(self, one: int, other: int) -> None:
        first, second = self._group_of[one], self._group_of[other]
        for sums, values in ((self._energy, self._energy_of), (self._credit, self._credit_of)):
            moved = values[one] - values[other]
            sums[first] -= moved
            sums[second] += moved
        self._group_of[one], self._group_of[other] = second, first
        one_place, other_place = self._place[one], self._place[other]
        self._members[first][one_place], self._members[second][other_place] = other, one
        self._place[one], self._place[other] = other_place, one_place

    def _scored(self) -> tuple[int, int]:
        energy = max(self._energy) - min(self._energy) - self._limits.energy_wh
        credit = max(self._credit) - min(self._credit) - self._limits.credit
        return max(0, energy), max(0, credit)

    def _cost_of(self, excesses: tuple[int, int]) -> float:
        """Energy goes before credit (PROTOCOL 4.2), so it weighs ten times as much."""
        return 10 * excesses[0] / self._energy_unit + excesses[1] / self._credit_unit

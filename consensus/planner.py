"""The built-in planner (PROTOCOL 4.3): deterministic, integers only, 10 000 members in well under a second.

docs/annex/planner.md states the same steps with test vectors; they are part of the protocol, so a change here that
moves a single member is a change of the protocol. "Number" is a group's working number, "index" a member's place in
address order. Every comparison that can tie names what decides it.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace
from itertools import pairwise
from typing import Final

from consensus.errors import invariant
from consensus.grouping import GroupingMember, Limits, energy_tolerance, limits, member_hash
from consensus.parameters import Parameters

CREDIT_STEP: Final = 10_000
"""The tail is placed in order of whole tens of credits, so that within one step the seed decides."""
POOREST: Final = 3
"""Groups that the richest one tries to swap with."""
SCANNED: Final = 32
"""Members of the richest group that are tried as the one to give, evenly spread over its sorted list."""
GOOD_ENOUGH: Final = 16
"""A swap that leaves at most 1/16 of the gap is taken without looking further."""
SWAPS_PER_GROUP: Final = 16
SWAPS_BASE: Final = 64
MAX_SWAPS: Final = 1_000
"""At most min(16 k + 64, 1 000) swaps for each of energy and credit: half a second for any input."""
PAIR_SEARCH_MEMBERS: Final = 128
"""Up to here all pairs are tried: about 8 000 pairs a step."""
PAIR_SEARCH_STEPS: Final = 30

Entry = tuple[int, int, int]
"""(value to balance, the other value, member index): what the groups' sorted lists hold."""


def plan(
    members: Sequence[GroupingMember], group_total: int, seed: bytes, parameters: Parameters
) -> tuple[int, ...]:
    """A group number in 0..group_total - 1 for each of ``members``, which stand in address order.

    The result passes `consensus.grouping.check_plan`; ``group_total`` is `consensus.grouping.group_count`.
    """
    count = len(members)
    invariant(0 < group_total <= count, "there are at least as many members as groups")
    addresses = [member.address for member in members]
    invariant(all(a < b for a, b in pairwise(addresses)), "members in address order")
    if group_total == count:
        return tuple(range(count))
    draft = _Draft(members, group_total)
    order = _heavy_first(members, seed)
    head = _head_length(members, order, energy_tolerance(members, group_total, parameters))
    draft.place_head([index for _, _, index in order[:head]])
    draft.give_larger_sizes()
    draft.place_tail(
        [
            index
            for _, _, index in sorted(
                (-(members[index].credit // CREDIT_STEP), drawn, index) for _, drawn, index in order[head:]
            )
        ]
    )
    allowed = limits(members, group_total, parameters)
    draft.balance_energy(allowed)
    draft.balance_credit(allowed)
    if count <= PAIR_SEARCH_MEMBERS:
        draft.search_pairs(allowed)
    return draft.numbered()


def _heavy_first(members: Sequence[GroupingMember], seed: bytes) -> list[tuple[int, bytes, int]]:
    """(-bit length of N, H(seed, address), index), ascending: never N itself, which wash trades could nudge (4.3)."""
    return sorted(
        (-member.energy_wh.bit_length(), member_hash(seed, member.address), index)
        for index, member in enumerate(members)
    )


def _head_length(
    members: Sequence[GroupingMember], order: Sequence[tuple[int, bytes, int]], tolerance_wh: int
) -> int:
    """Length of the shortest prefix after which the N left over is at most half the energy tolerance."""
    left = sum(member.energy_wh for member in members)
    for length, (_, _, index) in enumerate(order):
        if 2 * left <= tolerance_wh:
            return length
        left -= members[index].energy_wh
    return len(order)


class _Draft:
    """A plan being made: sums and members of each group."""

    def __init__(self, members: Sequence[GroupingMember], group_total: int) -> None:
        self._energy_of = [member.energy_wh for member in members]
        self._credit_of = [member.credit for member in members]
        self._total = group_total
        self._floor, self._larger_left = divmod(len(members), group_total)
        self._capacity = [self._floor] * group_total
        self._groups: list[list[int]] = [[] for _ in range(group_total)]
        self._energy = [0] * group_total
        self._credit = [0] * group_total

    def place_head(self, indices: Sequence[int]) -> None:
        """Each to the group with least (E, C, number) that has a seat; ceiling sizes go to whom needs them first."""
        heap = [(0, 0, number) for number in range(self._total)]
        for index in indices:
            while not self._has_seat(heap[0][2]):
                heappop(heap)
            number = heap[0][2]
            self._add(number, index)
            heapreplace(heap, (self._energy[number], self._credit[number], number))

    def _has_seat(self, number: int) -> bool:
        if len(self._groups[number]) < self._capacity[number]:
            return True
        if self._capacity[number] == self._floor and self._larger_left:
            self._capacity[number] += 1
            self._larger_left -= 1
            return True
        return False

    def give_larger_sizes(self) -> None:
        """The ceiling sizes not taken by the head go to the groups with least (C, E, number)."""
        waiting = sorted(
            (self._credit[number], self._energy[number], number)
            for number in range(self._total)
            if self._capacity[number] == self._floor
        )
        for _, _, number in waiting[: self._larger_left]:
            self._capacity[number] += 1
        self._larger_left = 0

    def place_tail(self, indices: Sequence[int]) -> None:
        """Each to the group with most missing credit per open seat, then least E, then least number."""
        all_credit = sum(self._credit_of)

        def key(number: int) -> tuple[int, int, int]:
            open_seats = self._capacity[number] - len(self._groups[number])
            missing = (all_credit - self._total * self._credit[number]) // open_seats
            return -missing, self._energy[number], number

        heap = [
            key(number) for number in range(self._total) if len(self._groups[number]) < self._capacity[number]
        ]
        heapify(heap)
        for index in indices:
            number = heap[0][2]
            self._add(number, index)
            if len(self._groups[number]) < self._capacity[number]:
                heapreplace(heap, key(number))
            else:
                heappop(heap)

    def _add(self, number: int, index: int) -> None:
        self._groups[number].append(index)
        self._energy[number] += self._energy_of[index]
        self._credit[number] += self._credit_of[index]

    def balance_energy(self, allowed: Limits) -> None:
        """Swap between the richest and one of the poorest groups while the energy spread misses its limit."""
        entries = self._entries(self._energy_of, self._credit_of)
        for _ in range(min(SWAPS_PER_GROUP * self._total + SWAPS_BASE, MAX_SWAPS)):
            if _spread(self._energy) <= allowed.energy_wh:
                break
            found = _best_swap(entries, self._energy, None, 0)
            if found is None:
                break
            self._swap(found)
            _exchange(entries, found)
        self._regroup(entries)

    def balance_credit(self, allowed: Limits) -> None:
        """The same on credit, where a swap must keep the energy spread within its limit or at least not raise it."""
        entries = self._entries(self._credit_of, self._energy_of)
        for _ in range(min(SWAPS_PER_GROUP * self._total + SWAPS_BASE, MAX_SWAPS)):
            if _spread(self._credit) <= allowed.credit:
                break
            ceiling = max(allowed.energy_wh, _spread(self._energy))
            found = _best_swap(entries, self._credit, self._energy, ceiling)
            if found is None:
                break
            self._swap(found)
            _exchange(entries, found)
        self._regroup(entries)

    def search_pairs(self, allowed: Limits) -> None:
        """For few members: the best of all swaps, as long as the score falls, at most `PAIR_SEARCH_STEPS` times."""
        self._groups = [sorted(group) for group in self._groups]
        for _ in range(PAIR_SEARCH_STEPS):
            best = (
                max(0, _spread(self._energy) - allowed.energy_wh),
                max(0, _spread(self._credit) - allowed.credit),
            )
            found: _Swap | None = None
            for rich in range(self._total):
                for poor in range(rich + 1, self._total):
                    better = self._best_between(rich, poor, best, allowed)
                    if better is not None:
                        best, found = better
            if found is None:
                return
            self._swap(found)
            self._groups[found.rich][self._groups[found.rich].index(found.given)] = found.taken
            self._groups[found.poor][self._groups[found.poor].index(found.taken)] = found.given
            self._groups[found.rich].sort()
            self._groups[found.poor].sort()

    def _best_between(
        self, rich: int, poor: int, best: tuple[int, int], allowed: Limits
    ) -> "tuple[tuple[int, int], _Swap] | None":
        """The first swap of least score between two groups, if that is below ``best``."""
        energy, credit = self._energy, self._credit
        low_energy, high_energy = _extremes_without(energy, rich, poor)
        low_credit, high_credit = _extremes_without(credit, rich, poor)
        untouched = (
            max(0, high_energy - low_energy - allowed.energy_wh),
            max(0, high_credit - low_credit - allowed.credit),
        )
        if untouched >= best:  # The other groups alone miss by as much: no swap between these two helps.
            return None
        result = None
        for given in self._groups[rich]:
            for taken in self._groups[poor]:
                moved = self._energy_of[given] - self._energy_of[taken]
                one, other = energy[rich] - moved, energy[poor] + moved
                energy_excess = max(high_energy, one, other) - min(low_energy, one, other) - allowed.energy_wh
                if energy_excess > best[0] and energy_excess > 0:
                    continue
                moved = self._credit_of[given] - self._credit_of[taken]
                one, other = credit[rich] - moved, credit[poor] + moved
                credit_excess = max(high_credit, one, other) - min(low_credit, one, other) - allowed.credit
                reached = (max(0, energy_excess), max(0, credit_excess))
                if reached < best:
                    best = reached
                    result = (reached, _Swap(rich, poor, given, taken))
        return result

    def numbered(self) -> tuple[int, ...]:
        """Final numbers: the groups of floor size first, then those of ceiling size, each in working order (4.1)."""
        order = sorted(range(self._total), key=lambda number: (len(self._groups[number]), number))
        assignment = [0] * len(self._energy_of)
        for final, number in enumerate(order):
            for index in self._groups[number]:
                assignment[index] = final
        return tuple(assignment)

    def _entries(self, value_of: Sequence[int], other_of: Sequence[int]) -> list[list[Entry]]:
        return [
            sorted((value_of[index], other_of[index], index) for index in group) for group in self._groups
        ]

    def _regroup(self, entries: Sequence[Sequence[Entry]]) -> None:
        self._groups = [[index for _, _, index in group] for group in entries]

    def _swap(self, swap: "_Swap") -> None:
        for sums, of in ((self._energy, self._energy_of), (self._credit, self._credit_of)):
            moved = of[swap.given] - of[swap.taken]
            sums[swap.rich] -= moved
            sums[swap.poor] += moved


class _Swap:
    """``given`` leaves group ``rich`` for ``poor``, ``taken`` the other way; both are member indices."""

    __slots__ = ("given", "poor", "rich", "taken")

    def __init__(self, rich: int, poor: int, given: int, taken: int) -> None:
        self.rich = rich
        self.poor = poor
        self.given = given
        self.taken = taken


def _spread(sums: Sequence[int]) -> int:
    return max(sums) - min(sums)


def _best_swap(
    entries: Sequence[Sequence[Entry]], sums: Sequence[int], guarded: Sequence[int] | None, ceiling: int
) -> _Swap | None:
    """The swap whose difference is nearest half the gap between the richest group and one of the three poorest.

    Only swaps that narrow the gap count; with ``guarded`` sums only those that keep their spread within ``ceiling``.
    The first found in the order poor group, given member ascending, value above before below, wins.
    """
    rich = max(range(len(sums)), key=lambda number: (sums[number], -number))
    poorest = sorted((sums[number], number) for number in range(len(sums)) if number != rich)[:POOREST]
    best: _Swap | None = None
    best_error = 0
    for poor_sum, poor in poorest:
        gap = sums[rich] - poor_sum
        guard = None if guarded is None else _Guard(guarded, rich, poor, ceiling)
        if best is None:
            best_error = gap
        candidates = entries[poor]
        for value, other, given in entries[rich][:: -(-len(entries[rich]) // SCANNED)]:
            split = bisect_left(candidates, (value - gap // 2,))
            for place in (split, split - 1):
                if not 0 <= place < len(candidates):
                    continue
                wanted = candidates[place][0]
                error = abs(2 * (value - wanted) - gap)
                if error >= min(best_error, gap):
                    continue
                _, taken_other, taken = _nearest_other(candidates, wanted, other)
                if guard is None or guard.allows(other - taken_other):
                    best = _Swap(rich, poor, given, taken)
                    best_error = error
                    if error * GOOD_ENOUGH <= gap:
                        return best
    return best


def _nearest_other(candidates: Sequence[Entry], value: int, other: int) -> Entry:
    """Among the entries with ``value`` the one whose other value is nearest ``other``, the lower one on a tie."""
    place = bisect_left(candidates, (value, other))
    has_below = place > 0 and candidates[place - 1][0] == value
    has_above = place < len(candidates) and candidates[place][0] == value
    if has_below and (not has_above or other - candidates[place - 1][1] <= candidates[place][1] - other):
        return candidates[place - 1]
    return candidates[place]


class _Guard:
    """Whether moving an amount from one group to another keeps the spread of all groups within a ceiling."""

    def __init__(self, sums: Sequence[int], rich: int, poor: int, ceiling: int) -> None:
        self._rich = sums[rich]
        self._poor = sums[poor]
        self._low, self._high = _extremes_without(sums, rich, poor)
        self._ceiling = ceiling

    def allows(self, moved: int) -> bool:
        """Whether the spread stays within the ceiling when ``moved`` goes from rich to poor."""
        rich, poor = self._rich - moved, self._poor + moved
        return max(self._high, rich, poor) - min(self._low, rich, poor) <= self._ceiling


def _extremes_without(sums: Sequence[int], first: int, second: int) -> tuple[int, int]:
    """Least and greatest sum of the other groups; of the two themselves, averaged, if there is no other.

    With two groups their mean is between any two sums they can have, so it decides nothing.
    """
    rest = [value for number, value in enumerate(sums) if number not in (first, second)]
    if not rest:
        mean = (sums[first] + sums[second]) // 2
        return mean, mean
    return min(rest), max(rest)


def _exchange(entries: Sequence[list[Entry]], swap: _Swap) -> None:
    """Carry a swap out in the sorted lists."""
    given = next(entry for entry in entries[swap.rich] if entry[2] == swap.given)
    taken = next(entry for entry in entries[swap.poor] if entry[2] == swap.taken)
    entries[swap.rich].remove(given)
    entries[swap.poor].remove(taken)
    insort(entries[swap.rich], taken)
    insort(entries[swap.poor], given)

"""Grouping and the built-in planner, step by step as in the annex on grouping (PROTOCOL 4.1-4.7)."""

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from typing import NamedTuple

from node.auditor.encoding import tagged

PAIR_SEARCH_MEMBERS, PAIR_SEARCH_ROUNDS = 128, 30
POOR_GROUPS, GIVEN_SAMPLES = 3, 32

Entry = tuple[int, int, int]
"""(value, other value, index) of a member in a group's list."""


class Rules(NamedTuple):
    """Input of the planner: what is the same for all members."""

    groups: int
    seed: bytes
    energy_tolerance_bp: int
    credit_tolerance_bp: int


class Limits(NamedTuple):
    """Annex on grouping, 3."""

    tolerance_energy: int
    energy: int
    credit: int


def is_partition(assignment: Sequence[int], groups: int) -> bool:
    """Whether the sizes are those of section 2: floor sizes first."""
    size, larger = divmod(len(assignment), groups)
    counts = [0] * groups
    for number in assignment:
        if number >= groups:
            return False
        counts[number] += 1
    return counts == [size] * (groups - larger) + [size + 1] * larger


def least_spread(ascending: Sequence[int], groups: int) -> int:
    """LB: the energy spread that no plan can avoid (PROTOCOL 4.2)."""
    if groups == 1:
        return 0
    m, size, total = len(ascending), len(ascending) // groups, sum(ascending)
    below = [0]
    for value in ascending:
        below.append(below[-1] + value)
    best: int | None = None
    for j in range(1, groups):
        s = total - below[m - j] + below[j * (size - 1)]
        bound = max(ascending[m - 1] + below[size - 1], -(-s // j)) - (total - s) // (groups - j)
        best = bound if best is None else max(best, bound)
    return best or 0


def limits_of(energy: Sequence[int], credit: Sequence[int], rules: Rules) -> Limits:
    """How large the spreads may be (section 3)."""
    k, m, ascending = rules.groups, len(energy), sorted(energy)
    tolerance = rules.energy_tolerance_bp * sum(energy) // (10_000 * k)
    energy_limit = max(least_spread(ascending, k), 0) + tolerance
    credit_limit = rules.credit_tolerance_bp * sum(credit) // (10_000 * k)
    if m % k:
        energy_limit += ascending[(m - 1) // 2]
        credit_limit += max(credit)
    return Limits(tolerance, energy_limit, credit_limit)


def score_of(
    assignment: Sequence[int], energy: Sequence[int], credit: Sequence[int], rules: Rules
) -> tuple[int, int]:
    """(energy excess, credit excess) of a plan; lower wins."""
    sums_e, sums_c = [0] * rules.groups, [0] * rules.groups
    for number, n, t in zip(assignment, energy, credit, strict=True):
        sums_e[number] += n
        sums_c[number] += t
    limits = limits_of(energy, credit, rules)
    return _score(_spread(sums_e), _spread(sums_c), limits)


def built_in_plan(
    addresses: Sequence[bytes], energy: Sequence[int], credit: Sequence[int], rules: Rules
) -> tuple[int, ...]:
    """The group number of each member, in address order."""
    if rules.groups == len(addresses):
        return tuple(range(len(addresses)))
    hashes = [tagged("seed.member", rules.seed + address) for address in addresses]
    return _Planner(energy, credit, hashes, rules).run()


def _spread(sums: Sequence[int]) -> int:
    return max(sums) - min(sums)


def _score(energy_spread: int, credit_spread: int, limits: Limits) -> tuple[int, int]:
    return max(0, energy_spread - limits.energy), max(0, credit_spread - limits.credit)


class _Planner:
    def __init__(
        self, energy: Sequence[int], credit: Sequence[int], hashes: Sequence[bytes], rules: Rules
    ) -> None:
        self.n, self.t, self.hashes = energy, credit, hashes
        self.k, self.m = rules.groups, len(energy)
        self.floor, self.larger = divmod(self.m, self.k)
        self.limits = limits_of(energy, credit, rules)
        self.sum_n, self.sum_t, self.total_t = [0] * self.k, [0] * self.k, sum(credit)
        self.caps = [self.floor] * self.k
        self.members: list[list[int]] = [[] for _ in range(self.k)]

    def run(self) -> tuple[int, ...]:
        head, tail = self._head_and_tail()
        for index in head:
            self._place_head(index)
        self._give_larger_sizes()
        for index in sorted(tail, key=lambda i: (-(self.t[i] // 10_000), self.hashes[i])):
            self._place_tail(index)
        self._energy_swaps()
        self._credit_swaps()
        if self.m <= PAIR_SEARCH_MEMBERS:
            self._pair_search()
        return self._numbered()

    # 4.1
    def _head_and_tail(self) -> tuple[list[int], list[int]]:
        order = sorted(range(self.m), key=lambda i: (-self.n[i].bit_length(), self.hashes[i]))
        left, length = sum(self.n), 0
        while length < self.m and 2 * left > self.limits.tolerance_energy:
            left -= self.n[order[length]]
            length += 1
        return order[:length], order[length:]

    def _put(self, index: int, group: int) -> None:
        self.members[group].append(index)
        self.sum_n[group] += self.n[index]
        self.sum_t[group] += self.t[index]

    # 4.2
    def _place_head(self, index: int) -> None:
        def has_seat(x: int) -> bool:
            return len(self.members[x]) < self.caps[x] or (self.caps[x] == self.floor and self.larger > 0)

        chosen = min(
            (x for x in range(self.k) if has_seat(x)), key=lambda x: (self.sum_n[x], self.sum_t[x], x)
        )
        if len(self.members[chosen]) == self.caps[chosen]:
            self.caps[chosen] += 1
            self.larger -= 1
        self._put(index, chosen)

    # 4.3
    def _give_larger_sizes(self) -> None:
        plain = [x for x in range(self.k) if self.caps[x] == self.floor]
        plain.sort(key=lambda x: (self.sum_t[x], self.sum_n[x], x))
        for x in plain[: self.larger]:
            self.caps[x] += 1

    # 4.4
    def _place_tail(self, index: int) -> None:
        def key(x: int) -> tuple[int, int, int]:
            missing = (self.total_t - self.k * self.sum_t[x]) // (self.caps[x] - len(self.members[x]))
            return -missing, self.sum_n[x], x

        self._put(index, min((x for x in range(self.k) if len(self.members[x]) < self.caps[x]), key=key))

    def _rounds(self) -> int:
        return min(16 * self.k + 64, 1_000)

    # 4.5
    def _energy_swaps(self) -> None:
        search = _SwapSearch(self.members, self.n, self.t)
        for _ in range(self._rounds()):
            if _spread(self.sum_n) <= self.limits.energy:
                return
            swap = search.find(self.sum_n, None)
            if swap is None:
                return
            self._carry_out(search, *swap)

    # 4.6
    def _credit_swaps(self) -> None:
        search = _SwapSearch(self.members, self.t, self.n)

        def guard(rich: int, poor: int, given: int, taken: int) -> bool:
            allowed = max(self.limits.energy, _spread(self.sum_n))
            sums = list(self.sum_n)
            moved = self.n[given] - self.n[taken]
            sums[rich] -= moved
            sums[poor] += moved
            return _spread(sums) <= allowed

        for _ in range(self._rounds()):
            if _spread(self.sum_t) <= self.limits.credit:
                return
            swap = search.find(self.sum_t, guard)
            if swap is None:
                return
            self._carry_out(search, *swap)

    def _carry_out(self, search: "_SwapSearch", rich: int, poor: int, given: int, taken: int) -> None:
        self._exchange(rich, poor, given, taken)
        search.exchange(rich, poor, given, taken)

    def _exchange(self, x: int, y: int, of_x: int, of_y: int) -> None:
        for group, out, into in ((x, of_x, of_y), (y, of_y, of_x)):
            self.members[group].remove(out)
            self.members[group].append(into)
            self.sum_n[group] += self.n[into] - self.n[out]
            self.sum_t[group] += self.t[into] - self.t[out]

    # 4.8
    def _pair_search(self) -> None:
        for _ in range(PAIR_SEARCH_ROUNDS):
            now = _score(_spread(self.sum_n), _spread(self.sum_t), self.limits)
            if now == (0, 0):
                return
            best = self._best_pair()
            if best is None or best[0] >= now:
                return
            self._exchange(*best[1])

    def _best_pair(self) -> tuple[tuple[int, int], tuple[int, int, int, int]] | None:
        best: tuple[tuple[int, int], tuple[int, int, int, int]] | None = None
        for x in range(self.k):
            for y in range(x + 1, self.k):
                rest_n = [s for g, s in enumerate(self.sum_n) if g not in (x, y)]
                rest_t = [s for g, s in enumerate(self.sum_t) if g not in (x, y)]
                for i in sorted(self.members[x]):
                    for j in sorted(self.members[y]):
                        dn, dt = self.n[j] - self.n[i], self.t[j] - self.t[i]
                        spread_n = _spread([*rest_n, self.sum_n[x] + dn, self.sum_n[y] - dn])
                        spread_t = _spread([*rest_t, self.sum_t[x] + dt, self.sum_t[y] - dt])
                        found = _score(spread_n, spread_t, self.limits)
                        if best is None or found < best[0]:
                            best = found, (x, y, i, j)
        return best

    # 4.9
    def _numbered(self) -> tuple[int, ...]:
        assignment = [0] * self.m
        order = sorted(range(self.k), key=lambda x: (len(self.members[x]), x))
        for number, x in enumerate(order):
            for index in self.members[x]:
                assignment[index] = number
        return tuple(assignment)


Guard = Callable[[int, int, int, int], bool]


class _SwapSearch:
    """Section 4.7: which member of the richest group should change places with which of a poor one."""

    def __init__(self, members: Sequence[Sequence[int]], value: Sequence[int], other: Sequence[int]) -> None:
        self._value, self._other = value, other
        self._lists = [sorted(self._entry(i) for i in group) for group in members]

    def _entry(self, index: int) -> Entry:
        return self._value[index], self._other[index], index

    def exchange(self, x: int, y: int, of_x: int, of_y: int) -> None:
        for group, out, into in ((x, of_x, of_y), (y, of_y, of_x)):
            self._lists[group].remove(self._entry(out))
            insort(self._lists[group], self._entry(into))

    def find(self, sums: Sequence[int], guard: Guard | None) -> tuple[int, int, int, int] | None:
        """(rich, poor, given, taken), or None."""
        rich = min(range(len(sums)), key=lambda x: (-sums[x], x))
        others = sorted((x for x in range(len(sums)) if x != rich), key=lambda x: (sums[x], x))
        entries = self._lists[rich]
        step = -(-len(entries) // GIVEN_SAMPLES)
        best: tuple[int, int, int, int] | None = None
        best_error: int | None = None
        for poor in others[:POOR_GROUPS]:
            gap = sums[rich] - sums[poor]
            for given in entries[::step]:
                for value in self._candidates(poor, given[0] - gap // 2):
                    error = abs(2 * (given[0] - value) - gap)
                    if error >= gap or (best_error is not None and error >= best_error):
                        continue
                    taken = self._nearest(poor, value, given[1])
                    if guard is not None and not guard(rich, poor, given[2], taken):
                        continue
                    best, best_error = (rich, poor, given[2], taken), error
                    if 16 * error <= gap:
                        return best
        return best

    def _candidates(self, poor: int, target: int) -> list[int]:
        entries = self._lists[poor]
        place = bisect_left(entries, (target,))
        return [entries[i][0] for i in (place, place - 1) if 0 <= i < len(entries)]

    def _nearest(self, poor: int, value: int, other: int) -> int:
        entries = self._lists[poor]
        place = bisect_left(entries, (value, other))
        above = entries[place] if place < len(entries) and entries[place][0] == value else None
        below = entries[place - 1] if place > 0 and entries[place - 1][0] == value else None
        if below is not None and (above is None or other - below[1] <= above[1] - other):
            return below[2]
        if above is None:
            raise AssertionError("a value that was found has an entry")
        return above[2]

"""Disjoint groups of about equal traded energy and credit (PROTOCOL 4.1-4.3, 4.6): rules, score, seed, plan checks.

The built-in planner is in `consensus.planner`. A plan is a group number per eligible member in address order.
"""

from collections.abc import Sequence
from typing import Final

from consensus.errors import MalformedInput, invariant
from consensus.hashing import tagged_hash
from consensus.parameters import Parameters
from consensus.types import Address, Digest, Unsigned, Value, Wire

MIN_ELIGIBLE: Final = 4
"""Below this many eligible members (or below k) everybody is eligible (PROTOCOL 4.6)."""
FULL_BP: Final = 10_000
"""The whole, in basis points."""


class GroupingMember(Value, frozen=True):
    """An eligible member at the snapshot, as the grouping sees it."""

    address: Address
    energy_wh: int
    """N: the sum of the energy it has traded."""
    credit: int
    """T, milli-credits."""


class Limits(Value, frozen=True):
    """The spreads (greatest less least group sum) up to which a plan counts as balanced (PROTOCOL 4.2)."""

    energy_wh: int
    credit: int


class Score(Wire, frozen=True, order=True):
    """How far a plan misses the limits; (0, 0) is balanced, lower wins, energy first (PROTOCOL 4.2)."""

    energy_excess: Unsigned
    credit_excess: Unsigned


def seed_of(snapshot_hash: Digest) -> Digest:
    """The epoch's seed: H(snapshot block hash), PROTOCOL 4.3. Epoch 0 takes the genesis hash itself (4.7)."""
    return tagged_hash("seed", snapshot_hash)


def member_hash(seed: bytes, address: Address) -> Digest:
    """H(seed, address): the last tie-break everywhere, the smaller first (PROTOCOL 4.3, 5.3)."""
    return tagged_hash("seed.member", seed + address)


def group_count(member_count: int, groups: int) -> int:
    """How many groups ``member_count`` eligible members form for parameter k = ``groups`` (PROTOCOL 4.6).

    k = 0, or fewer than k members: each member is its own group.
    """
    return min(groups, member_count) if groups else member_count


def eligible(active: Sequence[bool], groups: int) -> tuple[bool, ...]:
    """Who is eligible, given who of the present members was active (PROTOCOL 4.6): all, if too few are."""
    if sum(active) < max(MIN_ELIGIBLE, groups):
        return (True,) * len(active)
    return tuple(active)


def group_sizes(member_count: int, group_total: int) -> tuple[int, ...]:
    """Sizes in group order: the groups of floor size first, then those of ceiling size (PROTOCOL 4.1)."""
    floor, larger = divmod(member_count, group_total)
    return (floor,) * (group_total - larger) + (floor + 1,) * larger


def check_plan(assignment: Sequence[int], member_count: int, group_total: int) -> None:
    """Raise `MalformedInput` unless ``assignment`` is a partition into `group_sizes` (PROTOCOL 4.1, 4.5)."""
    if len(assignment) != member_count:
        raise MalformedInput(f"the plan assigns {len(assignment)} members, {member_count} are eligible")
    counts = [0] * group_total
    for index, group in enumerate(assignment):
        if type(group) is not int or not 0 <= group < group_total:
            raise MalformedInput(f"member {index}: {group!r} is not a group number in 0..{group_total - 1}")
        counts[group] += 1
    expected = group_sizes(member_count, group_total)
    for group, (count, size) in enumerate(zip(counts, expected, strict=True)):
        if count != size:
            raise MalformedInput(f"group {group} has {count} members, it must have {size}")


def unavoidable_energy_spread(members: Sequence[GroupingMember], group_total: int) -> int:
    """LB of PROTOCOL 4.2: an energy spread that no plan goes below; may be negative.

    Largest over j in 1..k-1 of max(N_1 + the g-1 smallest, ceil(S_j / j)) - (total - S_j) // (k - j), where S_j is
    the j largest plus the j(g-1) smallest and g = members // k. 0 for a single group.
    """
    energies = sorted(member.energy_wh for member in members)
    count = len(energies)
    others = count // group_total - 1
    total = sum(energies)
    if group_total == 1:
        return 0
    richest = energies[-1] + sum(energies[:others])
    largest = smallest = 0
    bounds = []
    for j in range(1, group_total):
        largest += energies[count - j]
        smallest += sum(energies[(j - 1) * others : j * others])
        reserved = largest + smallest
        bounds.append(max(richest, -(-reserved // j)) - (total - reserved) // (group_total - j))
    return max(bounds)


def energy_tolerance(members: Sequence[GroupingMember], group_total: int, parameters: Parameters) -> int:
    """tolerance * total // (10 000 k) of PROTOCOL 4.2, in Wh."""
    total = sum(member.energy_wh for member in members)
    return parameters.energy_tolerance_bp * total // (FULL_BP * group_total)


def limits(members: Sequence[GroupingMember], group_total: int, parameters: Parameters) -> Limits:
    """The energy and credit spreads allowed by PROTOCOL 4.2."""
    energy = max(unavoidable_energy_spread(members, group_total), 0)
    energy += energy_tolerance(members, group_total, parameters)
    total = sum(member.credit for member in members)
    credit = parameters.credit_tolerance_bp * total // (FULL_BP * group_total)
    if len(members) % group_total:
        energy += sorted(member.energy_wh for member in members)[(len(members) - 1) // 2]
        credit += max(member.credit for member in members)
    return Limits(energy, credit)


def score(
    members: Sequence[GroupingMember], assignment: Sequence[int], group_total: int, parameters: Parameters
) -> Score:
    """(max(0, energy spread - limit), max(0, credit spread - limit)) of a checked plan (PROTOCOL 4.2)."""
    invariant(len(members) == len(assignment), "a plan is checked before it is scored")
    energy = [0] * group_total
    credit = [0] * group_total
    for member, group in zip(members, assignment, strict=True):
        energy[group] += member.energy_wh
        credit[group] += member.credit
    allowed = limits(members, group_total, parameters)
    return Score(
        max(0, max(energy) - min(energy) - allowed.energy_wh),
        max(0, max(credit) - min(credit) - allowed.credit),
    )


def groups_of(assignment: Sequence[int], group_total: int) -> tuple[tuple[int, ...], ...]:
    """Member indices of each group, ascending: a plan turned round."""
    groups: list[list[int]] = [[] for _ in range(group_total)]
    for index, group in enumerate(assignment):
        groups[group].append(index)
    return tuple(tuple(group) for group in groups)

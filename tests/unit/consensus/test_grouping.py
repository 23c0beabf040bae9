"""Grouping rules: sizes, plan checks, bounds, limits and score, against brute force where it is possible."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.errors import InvariantViolation, MalformedInput
from consensus.grouping import (
    GroupingMember,
    Limits,
    Score,
    check_plan,
    eligible,
    energy_tolerance,
    group_count,
    group_sizes,
    groups_of,
    limits,
    member_hash,
    score,
    seed_of,
    unavoidable_energy_spread,
)
from consensus.hashing import tagged_hash
from consensus.parameters import Parameters

PARAMETERS = Parameters()


def members_with(energies: list[int], credits_: list[int] | None = None) -> list[GroupingMember]:
    scores = credits_ or [50_000] * len(energies)
    return [
        GroupingMember(index.to_bytes(20, "big"), energy, credit)
        for index, (energy, credit) in enumerate(zip(energies, scores, strict=True))
    ]


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ((0, 1), "assigns 2 members, 4 are eligible"),
        ((0, 0, 1, 2), "not a group number in 0..1"),
        ((0, 0, 1, -1), "not a group number in 0..1"),
        ((0, 0, 1, True), "not a group number"),
        ((0, 0, 0, 1), "group 0 has 3 members, it must have 2"),
    ],
)
def test_check_plan_says_what_is_wrong(assignment: tuple[int, ...], reason: str) -> None:
    with pytest.raises(MalformedInput, match=reason):
        check_plan(assignment, 4, 2)


def test_check_plan_takes_floor_sizes_first() -> None:
    check_plan((0, 0, 1, 1, 1), 5, 2)
    with pytest.raises(MalformedInput, match="group 0 has 3"):
        check_plan((0, 0, 0, 1, 1), 5, 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=4, max_size=7), st.integers(2, 3))
def test_no_plan_goes_below_the_unavoidable_spread(energies: list[int], groups: int) -> None:
    members = members_with(energies)
    base = [group for group, size in enumerate(group_sizes(len(members), groups)) for _ in range(size)]
    least = min(
        max(sums) - min(sums)
        for assignment in set(permutations(base))
        for sums in [
            [sum(e for e, a in zip(energies, assignment, strict=True) if a == g) for g in range(groups)]
        ]
    )
    assert unavoidable_energy_spread(members, groups) <= least


def test_unavoidable_spread_by_hand() -> None:
    """m = 8, K = 4, g = 2. j = 1: max(100 + 1, ceil(101 / 1)) - 27 // 3 = 92; j = 2, 3 are smaller."""
    assert unavoidable_energy_spread(members_with([100, 1, 2, 3, 4, 5, 6, 7]), 4) == 101 - 27 // 3
    assert unavoidable_energy_spread(members_with([5, 5]), 1) == 0


def test_limits_by_hand() -> None:
    even = members_with([100, 100, 100, 100], [10, 20, 30, 40])
    assert limits(even, 2, PARAMETERS) == Limits(1000 * 400 // 20_000, 1000 * 100 // 20_000)
    odd = members_with([100, 200, 300, 400, 500], [10, 20, 30, 40, 50])
    bound = max(unavoidable_energy_spread(odd, 2), 0)
    assert limits(odd, 2, PARAMETERS) == Limits(
        bound + 1000 * 1500 // 20_000 + 300, 1000 * 150 // 20_000 + 50
    )


def test_the_median_that_is_added_is_the_lower_one() -> None:
    six = members_with([1, 2, 3, 40, 50, 60])
    without = max(unavoidable_energy_spread(six, 4), 0) + energy_tolerance(six, 4, PARAMETERS)
    assert limits(six, 4, PARAMETERS).energy_wh == without + 3


def test_score_by_hand() -> None:
    members = members_with([100, 0, 0, 0], [100, 0, 0, 0])
    # energy: LB = 100 - 0, tolerance = 1000 * 100 // 20 000 = 5; spread 100. credit: limit 5, spread 100.
    assert score(members, (0, 0, 1, 1), 2, PARAMETERS) == Score(0, 95)


def test_scores_compare_energy_first() -> None:
    assert Score(0, 9) < Score(1, 0) < Score(1, 1)


def test_a_score_needs_a_checked_plan() -> None:
    with pytest.raises(InvariantViolation):
        score(members_with([1, 2]), (0,), 1, PARAMETERS)


@pytest.mark.parametrize(("members", "k", "count"), [(8, 4, 4), (3, 4, 3), (4, 4, 4), (7, 0, 7), (1, 1, 1)])
def test_group_count(members: int, k: int, count: int) -> None:
    assert group_count(members, k) == count


@pytest.mark.parametrize(
    ("active", "k", "expected"),
    [
        ((True, True, True, True, False), 4, (True, True, True, True, False)),
        ((True, True, True, False, False), 2, (True,) * 5),
        ((True, True, True, True, False), 5, (True,) * 5),
        ((True, True, True, True, False), 0, (True, True, True, True, False)),
    ],
)
def test_eligible(active: tuple[bool, ...], k: int, expected: tuple[bool, ...]) -> None:
    assert eligible(active, k) == expected


def test_groups_of_turns_a_plan_round() -> None:
    assert groups_of((1, 0, 1, 2), 3) == ((1,), (0, 2), (3,))


def test_seed_and_member_hash_are_tagged() -> None:
    block_hash, address = bytes(range(32)), bytes(20)
    assert seed_of(block_hash) == tagged_hash("seed", block_hash)
    assert member_hash(block_hash, address) == tagged_hash("seed.member", block_hash + address)

"""PROTOCOL 4.1-4.3, 4.5-4.7: the sentences that are pure functions of the snapshot."""

import random

import pytest

from consensus.election import Candidate, first_seats
from consensus.errors import MalformedInput
from consensus.grouping import (
    GroupingMember,
    Score,
    check_plan,
    eligible,
    group_count,
    group_sizes,
    member_hash,
    score,
    seed_of,
    unavoidable_energy_spread,
)
from consensus.parameters import Parameters
from consensus.planner import plan

PARAMETERS = Parameters()
SEED = bytes([3]) * 32


def population(count: int, seed: int = 1) -> list[GroupingMember]:
    rng = random.Random(seed)
    return [
        GroupingMember(
            n.to_bytes(20, "big"), int(10**5 * rng.lognormvariate(0, 1)), rng.randint(30_000, 90_000)
        )
        for n in range(count)
    ]


def spreads(members: list[GroupingMember], assignment: tuple[int, ...], groups: int) -> tuple[int, int]:
    energy, credit = [0] * groups, [0] * groups
    for member, group in zip(members, assignment, strict=True):
        energy[group] += member.energy_wh
        credit[group] += member.credit
    return max(energy) - min(energy), max(credit) - min(credit)


def test_4_1_groups_are_disjoint_and_cover_everybody() -> None:
    members = population(41)
    assignment = plan(members, 4, SEED, PARAMETERS)
    assert len(assignment) == 41
    assert sorted(set(assignment)) == [0, 1, 2, 3]


def test_4_1_sums_are_about_equal() -> None:
    members = population(100)
    energy, credit = spreads(members, plan(members, 4, SEED, PARAMETERS), 4)
    assert energy <= sum(m.energy_wh for m in members) // 40
    assert credit <= sum(m.credit for m in members) // 40


def test_4_1_energy_comes_before_credit() -> None:
    """Rule 2 holds *while* rule 1 holds: where both cannot be had, the planner keeps the energy limit."""
    values = [
        (800, 90_000),
        (800, 90_000),
        (0, 10_000),
        (0, 10_000),
        (400, 0),
        (400, 0),
        (400, 50_000),
        (400, 90_000),
    ]
    members = [GroupingMember(n.to_bytes(20, "big"), e, c) for n, (e, c) in enumerate(values)]
    assert score(members, plan(members, 4, SEED, PARAMETERS), 4, PARAMETERS).energy_excess == 0


def test_4_1_tolerances_are_set_to_fit_the_system() -> None:
    members = population(12)
    tight = Parameters(energy_tolerance_bp=0, credit_tolerance_bp=0)
    wide = Parameters(energy_tolerance_bp=10_000, credit_tolerance_bp=10_000)
    assignment = tuple(index % 4 for index in range(12))
    assert score(members, assignment, 4, wide) < score(members, assignment, 4, tight)


def test_4_1_sizes_differ_by_at_most_one_floor_first() -> None:
    assert group_sizes(10, 4) == (2, 2, 3, 3)
    members = population(10)
    assignment = plan(members, 4, SEED, PARAMETERS)
    assert tuple(assignment.count(group) for group in range(4)) == (2, 2, 3, 3)


def test_4_2_lower_score_wins_energy_before_credit() -> None:
    assert Score(0, 10**9) < Score(1, 0)


def test_4_2_a_giant_does_not_make_every_plan_miss() -> None:
    """LB takes out what no plan can avoid: with one giant the built-in plan still scores 0 on energy."""
    members = [GroupingMember(n.to_bytes(20, "big"), 10**9 if n == 0 else 10, 50_000) for n in range(8)]
    assert unavoidable_energy_spread(members, 4) == 10**9 + 10 - 20
    assert score(members, plan(members, 4, SEED, PARAMETERS), 4, PARAMETERS).energy_excess == 0


def test_4_2_uneven_sizes_widen_the_limits() -> None:
    """Nine members of equal N and T: the spread is one member's, and the limits allow exactly that."""
    members = [GroupingMember(n.to_bytes(20, "big"), 100, 50_000) for n in range(9)]
    assignment = plan(members, 4, SEED, PARAMETERS)
    assert spreads(members, assignment, 4) == (100, 50_000)
    assert score(members, assignment, 4, PARAMETERS) == Score(0, 0)


def test_4_3_seed_is_the_hash_of_the_snapshot_hash() -> None:
    assert seed_of(bytes(32)) != bytes(32)
    assert seed_of(bytes(32)) != seed_of(bytes([1]) * 32)


def test_4_3_the_planner_is_deterministic() -> None:
    members = population(200)
    assert plan(members, 7, SEED, PARAMETERS) == plan(list(members), 7, SEED, PARAMETERS)


def test_4_3_small_wash_trades_do_not_steer_placement() -> None:
    """A quarter more N that keeps the bit length leaves the order of placement, so nobody moves by it.

    The population meets both limits without swaps, which is the case in which placement alone decides.
    """
    wide = Parameters(energy_tolerance_bp=10_000, credit_tolerance_bp=10_000)
    members = [GroupingMember(n.to_bytes(20, "big"), 80_000, 50_000) for n in range(40)]
    washed = [
        GroupingMember(m.address, 100_000 if n < 12 else m.energy_wh, m.credit) for n, m in enumerate(members)
    ]
    assert (80_000).bit_length() == (100_000).bit_length()
    ordered = sorted(members, key=lambda m: member_hash(SEED, m.address))
    first_round = [m.address for m in ordered[:4]]
    before, after = plan(members, 4, SEED, wide), plan(washed, 4, SEED, wide)
    by_address = {m.address: index for index, m in enumerate(members)}
    for address in first_round:
        assert before[by_address[address]] == after[by_address[address]]


@pytest.mark.parametrize(
    "assignment",
    [(0, 1, 2), (0, 1, 2, 3, 0), (0, 0, 1, 2), (0, 1, 2, 4), (-1, 1, 2, 3)],
    ids=["too short", "too long", "sizes", "no such group", "negative"],
)
def test_4_5_a_plan_that_is_no_partition_is_refused(assignment: tuple[int, ...]) -> None:
    with pytest.raises(MalformedInput):
        check_plan(assignment, 4, 4)


def test_4_6_all_members_if_fewer_than_four_or_k_are_active() -> None:
    assert eligible((True, True, True, False), 2) == (True,) * 4
    assert eligible((True,) * 5 + (False,), 6) == (True,) * 6
    assert eligible((True,) * 4 + (False,), 4) == (True,) * 4 + (False,)


def test_4_6_with_fewer_than_k_members_each_is_its_own_group() -> None:
    members = population(3)
    assert group_count(3, 4) == 3
    assert plan(members, group_count(3, 4), SEED, PARAMETERS) == (0, 1, 2)


def test_4_6_k_0_makes_every_member_a_delegate() -> None:
    members = population(9)
    assert plan(members, group_count(9, 0), SEED, PARAMETERS) == tuple(range(9))


def test_4_7_first_delegates_as_for_groups_without_a_ballot_ranked_by_credit_energy_hash() -> None:
    def member(number: int, energy: int, credit: int) -> Candidate:
        return Candidate(number.to_bytes(20, "big"), energy, credit)

    groups = [[member(1, 9, 50_000), member(2, 0, 50_001)], [member(3, 5, 50_001)], [member(4, 9, 50_000)]]
    seats = first_seats(groups, SEED, 0)
    assert [int.from_bytes(seat.holder, "big") for seat in seats] == [3, 2, 4]

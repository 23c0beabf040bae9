"""PROTOCOL 5.1-5.5 and the pure sentences of 3.4 and 7.2: votes, ranking, recounts."""

import pytest

from consensus.election import Candidate, CountedBallot, Seat, default_ballot, replace_excluded, tally
from consensus.grouping import member_hash

SEED = bytes([5]) * 32
FLOOR = 30_000


def a(number: int) -> bytes:
    return number.to_bytes(20, "big")


def member(number: int, energy: int = 0, credit: int = 50_000, **flags: bool) -> Candidate:
    return Candidate(a(number), energy, credit, **flags)


def ballot(voter: int, *choices: int) -> CountedBallot:
    return CountedBallot(a(voter), tuple(a(choice) for choice in choices))


def holders(seats: tuple[Seat, ...]) -> list[int]:
    return [int.from_bytes(seat.holder, "big") for seat in seats]


def test_5_1_each_group_elects_its_delegate() -> None:
    groups = [[member(1), member(2)], [member(3), member(4)], [member(5)]]
    seats = tally(groups, [], SEED, FLOOR)
    assert sorted(seat.group for seat in seats) == [0, 1, 2]


def test_5_2_the_whole_weight_goes_to_the_first_electable_choice() -> None:
    group = [member(1), member(2, credit=FLOOR - 1), member(3), member(4, credit=70_000)]
    seat = tally([group], [ballot(4, 2, 3, 1)], SEED, FLOOR)[0]
    assert (seat.holder, seat.votes) == (a(3), 70_000)


def test_5_2_weight_is_capped_at_twice_the_lower_median() -> None:
    group = [
        member(1, credit=100_000),
        member(2, credit=31_000),
        member(3, credit=32_000),
        member(4, credit=99_000),
    ]
    assert tally([group], [ballot(1, 1)], SEED, FLOOR)[0].votes == 64_000


def test_5_2_the_cap_is_at_least_fifty_credits() -> None:
    group = [member(1, credit=100_000), member(2, credit=1_000), member(3, credit=1_000)]
    assert tally([group], [ballot(1, 1)], SEED, FLOOR)[0].votes == 50_000


def test_5_3_rule_1_the_member_with_the_most_votes_is_the_delegate() -> None:
    group = [member(1, energy=10**9), member(2), member(3), member(4)]
    assert holders(tally([group], [ballot(1, 1), ballot(2, 2), ballot(3, 2)], SEED, FLOOR)) == [2]


def test_5_3_rule_2_the_delegate_with_the_most_votes_is_the_system_primary() -> None:
    groups = [[member(1, energy=10**9), member(2)], [member(3), member(4)]]
    seats = tally(groups, [ballot(1, 1), ballot(3, 3), ballot(4, 3)], SEED, FLOOR)
    assert holders(seats)[0] == 3


def test_5_3_rule_3_equal_votes_are_decided_by_energy() -> None:
    group = [member(1, energy=5), member(2, energy=6)]
    assert holders(tally([group], [ballot(1, 1), ballot(2, 2)], SEED, FLOOR)) == [2]
    groups = [[member(1, energy=5)], [member(2, energy=6)]]
    assert holders(tally(groups, [ballot(1, 1), ballot(2, 2)], SEED, FLOOR)) == [2, 1]


def test_5_3_then_credit_then_the_drawn_hash() -> None:
    groups = [[member(1, credit=60_000)], [member(2, credit=70_000)]]
    assert holders(tally(groups, [], SEED, FLOOR)) == [2, 1]
    drawn = sorted((1, 2), key=lambda n: member_hash(SEED, a(n)))
    assert holders(tally([[member(1)], [member(2)]], [], SEED, FLOOR)) == drawn


def test_5_3_a_group_without_a_ballot_looks_at_credit_then_energy_then_hash() -> None:
    assert holders(tally([[member(1, 10**9, 50_000), member(2, 0, 50_001)]], [], SEED, FLOOR)) == [2]
    assert holders(tally([[member(1, 1), member(2, 2)]], [], SEED, FLOOR)) == [2]
    drawn = min((1, 2), key=lambda n: member_hash(SEED, a(n)))
    assert holders(tally([[member(1), member(2)]], [], SEED, FLOOR)) == [drawn]


def test_5_4_backup_primaries_follow_in_the_same_order() -> None:
    groups = [[member(n, credit=50_000 + n)] for n in range(1, 6)]
    ballots = [ballot(n, n) for n in range(1, 6)]
    assert holders(tally(groups, ballots, SEED, FLOOR)) == [5, 4, 3, 2, 1]


def test_5_5_default_vote_fewest_faults_then_credit_then_hash() -> None:
    group = [member(1, credit=90_000), member(2, credit=60_000), member(3, credit=70_000)]
    assert default_ballot(group, {a(1): 1}, SEED) == (a(3), a(2), a(1))


def test_5_5_honest_nodes_then_agree() -> None:
    group = [member(n) for n in range(1, 8)]
    assert default_ballot(group, {}, SEED) == default_ballot(group[::-1], {}, SEED)


def test_3_4_below_the_floor_not_electable_unless_the_group_would_have_nobody() -> None:
    group = [member(1, credit=FLOOR - 1), member(2, credit=FLOOR)]
    assert holders(tally([group], [ballot(1, 1)], SEED, FLOOR)) == [2]
    assert holders(tally([group[:1]], [ballot(1, 1)], SEED, FLOOR)) == [1]


@pytest.mark.parametrize("flag", ["left", "proven", "down"])
def test_7_2_excluded_from_the_seats(flag: str) -> None:
    group = [member(1, credit=90_000, **{flag: True}), member(2)]
    assert holders(tally([group], [ballot(2, 1)], SEED, FLOOR)) == [2]


def seven(**flags: bool) -> list[list[Candidate]]:
    return [
        [member(10 * n, 100 - n, 60_000, **flags if n <= 3 else {}), member(10 * n + 1)] for n in range(1, 8)
    ]


def test_7_2_the_new_delegate_goes_last_and_the_others_keep_their_order() -> None:
    current = tally(seven(), [], SEED, FLOOR)
    groups = seven()
    groups[2][0] = member(30, 97, 60_000, down=True)
    assert holders(replace_excluded(current, groups, [], SEED, FLOOR, 2).ranking) == [
        10,
        20,
        40,
        50,
        60,
        70,
        31,
    ]


def test_7_2_at_most_f_per_epoch_in_ranking_order() -> None:
    current = tally(seven(), [], SEED, FLOOR)
    result = replace_excluded(current, seven(down=True), [], SEED, FLOOR, 2)
    assert holders(result.ranking) == [30, 40, 50, 60, 70, 11, 21]


def test_7_2_with_nobody_else_the_holder_keeps_the_seat_and_does_not_count() -> None:
    current = tally(seven(), [], SEED, FLOOR)
    groups = seven(down=True)
    groups[0] = groups[0][:1]
    result = replace_excluded(current, groups, [], SEED, FLOOR, 2)
    assert holders(result.ranking) == [10, 40, 50, 60, 70, 21, 31]
    assert len(result.replacements) == 2


def test_7_2_in_a_tally_floor_c_b_and_left_are_waived_in_that_order() -> None:
    low, down = member(1, credit=1), member(2, down=True)
    proven, left = member(3, proven=True), member(4, left=True)
    assert holders(tally([[low, down, proven, left]], [], SEED, FLOOR)) == [1]
    assert holders(tally([[down, proven, left]], [], SEED, FLOOR)) == [2]
    assert holders(tally([[proven, left]], [], SEED, FLOOR)) == [3]
    assert holders(tally([[left]], [], SEED, FLOOR)) == [4]


def test_s12_a_recount_without_exclusions_equals_the_tally() -> None:
    groups = seven()
    ballots = [ballot(10 * n + 1, 10 * n + 1) for n in range(1, 8)]
    counted = tally(groups, ballots, SEED, FLOOR)
    assert counted == tally([list(reversed(group)) for group in groups], ballots[::-1], SEED, FLOOR)

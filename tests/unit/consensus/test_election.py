"""Counting, ranking and recounts on small groups, and against a plain second count."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.election import (
    Candidate,
    CountedBallot,
    Seat,
    ballot_weight,
    default_ballot,
    first_seats,
    lower_median,
    replace_excluded,
    tally,
)
from consensus.errors import InvariantViolation
from consensus.grouping import member_hash

SEED = bytes([9]) * 32
FLOOR = 30_000


def address(number: int) -> bytes:
    return number.to_bytes(20, "big")


def candidate(number: int, energy: int = 0, score: int = 50_000, **flags: bool) -> Candidate:
    return Candidate(address(number), energy, score, **flags)


def ballot(voter: int, *choices: int) -> CountedBallot:
    return CountedBallot(address(voter), tuple(address(choice) for choice in choices))


def test_most_votes_win_and_rank_first() -> None:
    groups = [[candidate(1), candidate(2), candidate(3)], [candidate(4), candidate(5)]]
    seats = tally(groups, [ballot(1, 2), ballot(2, 2), ballot(3, 1), ballot(4, 4)], SEED, FLOOR)
    assert [(seat.holder, seat.votes, seat.group) for seat in seats] == [
        (address(2), 100_000, 0),
        (address(4), 50_000, 1),
    ]
    assert seats[0].supporters == (address(1), address(2))


def test_equal_votes_go_to_energy_then_credit_then_hash() -> None:
    def winner(*members: Candidate) -> bytes:
        ballots = [CountedBallot(member.address, (member.address,)) for member in members]
        return tally([members], ballots, SEED, FLOOR)[0].holder

    # Weights are capped at 2 x 60 000, so equal credits give equal votes.
    assert winner(candidate(1, 5, 60_000), candidate(2, 6, 60_000)) == address(2)
    by_hash = min((address(1), address(2)), key=lambda a: member_hash(SEED, a))
    assert winner(candidate(1, 5, 60_000), candidate(2, 5, 60_000)) == by_hash


def test_equal_votes_and_energy_go_to_credit() -> None:
    """90 000 and 80 000 weigh the same: both are capped at 60 000, twice the median."""
    members = [
        candidate(1, 5, 90_000),
        candidate(2, 5, 80_000),
        *(candidate(n, 0, 30_000) for n in range(3, 8)),
    ]
    seats = tally([members], [ballot(1, 1), ballot(2, 2)], SEED, FLOOR)
    assert seats[0].votes == 60_000
    assert seats[0].holder == address(1)


def test_a_group_without_a_ballot_looks_at_credit_before_energy() -> None:
    members = [candidate(1, 10**9, 50_000), candidate(2, 0, 50_001)]
    assert tally([members], [], SEED, FLOOR)[0].holder == address(2)
    assert tally([members], [ballot(1, 1), ballot(2, 1)], SEED, FLOOR)[0].holder == address(1)


def test_a_ballot_of_another_group_is_no_ballot_of_this_one() -> None:
    members = [candidate(1, 10**9, 50_000), candidate(2, 0, 50_001)]
    assert tally([members, [candidate(3)]], [ballot(3, 1)], SEED, FLOOR)[0].votes == 0


def test_the_weight_goes_whole_to_the_first_electable_choice() -> None:
    members = [candidate(1, score=20_000), candidate(2, down=True), candidate(3), candidate(4)]
    seat = tally([members], [ballot(4, 1, 2, 3)], SEED, FLOOR)[0]
    assert (seat.holder, seat.votes, seat.supporters) == (address(3), 50_000, (address(4),))


def test_excluded_members_still_vote() -> None:
    members = [candidate(1, down=True), candidate(2), candidate(3)]
    assert tally([members], [ballot(1, 1, 3)], SEED, FLOOR)[0].holder == address(3)


@pytest.mark.parametrize(
    ("members", "winner"),
    [
        ([candidate(1, score=29_999), candidate(2, score=90_000, down=True)], 1),  # the floor first
        ([candidate(1, down=True), candidate(2, score=90_000, proven=True)], 1),  # then (c)
        ([candidate(1, proven=True), candidate(2, score=90_000, left=True)], 1),  # then (b)
        ([candidate(1, left=True), candidate(2, score=90_000, left=True)], 2),  # then left
        ([candidate(1, down=True, proven=True), candidate(2, proven=True, left=True)], 1),
    ],
)
def test_waivers_of_a_tally_in_order(members: list[Candidate], winner: int) -> None:
    assert tally([members], [], SEED, FLOOR)[0].holder == address(winner)


def test_first_seats_rank_by_credit_before_energy() -> None:
    groups = [[candidate(1, 900, 50_000)], [candidate(2, 0, 60_000)], [candidate(3, 901, 50_000)]]
    assert [seat.holder for seat in first_seats(groups, SEED, FLOOR)] == [address(2), address(3), address(1)]


def seats_of(groups: list[list[Candidate]]) -> tuple[Seat, ...]:
    return tally(groups, [], SEED, FLOOR)


def five_groups(**flags_of_first: bool) -> list[list[Candidate]]:
    groups = [[candidate(10 * g + 1, 100 - g, 60_000), candidate(10 * g + 2, 0, 50_000)] for g in range(1, 6)]
    groups[0][0] = candidate(11, 99, 60_000, **flags_of_first)
    return groups


@pytest.mark.parametrize("reason", ["left", "proven", "down"])
def test_a_recount_replaces_the_excluded_holder_and_ranks_the_new_one_last(reason: str) -> None:
    current = seats_of(five_groups())
    assert current[0].holder == address(11)
    result = replace_excluded(current, five_groups(**{reason: True}), [], SEED, FLOOR, 1)
    assert [seat.holder for seat in result.ranking] == [address(n) for n in (21, 31, 41, 51, 12)]
    assert [(r.old.holder, r.new.holder) for r in result.replacements] == [(address(11), address(12))]


def test_a_recount_counts_the_newest_ballots() -> None:
    groups = five_groups(down=True)
    groups[0].append(candidate(13, 0, 40_000))
    current = seats_of(five_groups())
    result = replace_excluded(current, groups, [ballot(12, 11, 13)], SEED, FLOOR, 1)
    new = result.ranking[-1]
    assert (new.holder, new.votes, new.supporters) == (address(13), 50_000, (address(12),))


def test_a_recount_waives_the_floor_but_no_exclusion() -> None:
    current = seats_of(five_groups())
    low = five_groups(down=True)
    low[0][1] = candidate(12, 0, 1)
    assert replace_excluded(current, low, [], SEED, FLOOR, 1).ranking[-1].holder == address(12)
    nobody = five_groups(down=True)
    nobody[0][1] = candidate(12, 0, 50_000, left=True)
    kept = replace_excluded(current, nobody, [], SEED, FLOOR, 1)
    assert kept.ranking == current
    assert kept.replacements == ()


def test_replacements_stop_at_the_allowance_and_kept_seats_do_not_count() -> None:
    current = seats_of(five_groups())
    groups = five_groups(down=True)
    groups[0][1] = candidate(12, 0, 50_000, down=True)
    groups[1][0] = candidate(21, 98, 60_000, down=True)
    groups[2][0] = candidate(31, 97, 60_000, down=True)
    result = replace_excluded(current, groups, [], SEED, FLOOR, 1)
    assert [seat.holder for seat in result.ranking] == [address(n) for n in (11, 31, 41, 51, 22)]
    assert replace_excluded(current, groups, [], SEED, FLOOR, 0).ranking == current


def test_nobody_excluded_changes_nothing() -> None:
    current = seats_of(five_groups())
    assert replace_excluded(current, five_groups(), [ballot(12, 12)], SEED, FLOOR, 1).ranking == current


def test_default_ballot_prefers_few_faults_then_credit_then_hash() -> None:
    members = [
        candidate(1, score=90_000),
        candidate(2, score=40_000),
        candidate(3, score=60_000),
        candidate(4, score=50_000),
    ]
    assert default_ballot(members, {address(1): 2}, SEED) == (address(3), address(4), address(2))
    twins = [candidate(1), candidate(2)]
    by_hash = sorted((address(1), address(2)), key=lambda a: member_hash(SEED, a))
    assert default_ballot(twins, {}, SEED) == tuple(by_hash)


def test_lower_median() -> None:
    assert lower_median([5]) == 5
    assert lower_median([4, 1, 3, 2]) == 2
    with pytest.raises(InvariantViolation):
        lower_median([])


@pytest.mark.parametrize(
    ("score", "median", "weight"), [(10, 50_000, 10), (90_000, 10_000, 50_000), (90_000, 30_000, 60_000)]
)
def test_ballot_weight(score: int, median: int, weight: int) -> None:
    assert ballot_weight(score, median) == weight


def test_two_ballots_of_one_voter_are_a_bug_of_the_caller() -> None:
    with pytest.raises(InvariantViolation, match="one ballot"):
        tally([[candidate(1)]], [ballot(1, 1), ballot(1, 1)], SEED, FLOOR)


populations = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 100_000), st.booleans(), st.booleans(), st.booleans()),
    min_size=1,
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(populations, st.data())
def test_a_plain_second_count_agrees(
    population: list[tuple[int, int, bool, bool, bool]], data: st.DataObject
) -> None:
    members = [
        Candidate(address(n), energy, score, left=left, proven=proven, down=down)
        for n, (energy, score, left, proven, down) in enumerate(population)
    ]
    choices = st.lists(st.sampled_from(range(len(members))), min_size=1, max_size=3, unique=True)
    ballots = [ballot(n, *data.draw(choices)) for n in range(len(members)) if data.draw(st.booleans())]
    seat = tally([members], ballots, SEED, FLOOR)[0]

    severity = [
        (4 if m.left else 3 if m.proven else 2 if m.down else 1 if m.credit < FLOOR else 0) for m in members
    ]
    allowed = next(level for level in range(5) if any(s <= level for s in severity))
    electable = [m for m, s in zip(members, severity, strict=True) if s <= allowed]
    cap = max(2 * sorted(m.credit for m in members)[(len(members) - 1) // 2], 50_000)
    votes = {m.address: 0 for m in electable}
    for cast in ballots:
        weight = min(next(m.credit for m in members if m.address == cast.voter), cap)
        for choice in cast.choices:
            if choice in votes:
                votes[choice] += weight
                break
    best = max(votes.values())
    assert seat.votes == votes[seat.holder]
    if ballots:
        assert seat.votes == best
        ties = [m for m in electable if votes[m.address] == best]
        assert seat.energy_wh == max(m.energy_wh for m in ties)
    else:
        assert seat.credit == max(m.credit for m in electable)

"""The built-in planner: pinned vectors, validity for any input, balance, determinism, time."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.errors import InvariantViolation
from consensus.grouping import GroupingMember, Score, check_plan, group_sizes, score
from consensus.parameters import Parameters
from consensus.planner import plan
from node.auditor import planner as auditor
from tests.unit.consensus.planner_vectors import SEED, members_of, rows, shown

PARAMETERS = Parameters()


@pytest.mark.parametrize(("count", "groups", "start", "expected", "expected_score"), rows())
def test_vectors_of_the_annex(
    count: int, groups: int, start: int, expected: str, expected_score: str
) -> None:
    members = members_of(count, start)
    assignment = plan(members, groups, SEED, PARAMETERS)
    assert shown(assignment) == expected
    reached = score(members, assignment, groups, PARAMETERS)
    assert f"({reached.energy_excess}, {reached.credit_excess})" == expected_score


def test_the_annex_has_vectors_for_every_stage() -> None:
    """No group of two, uneven sizes, pair search on both sides of its limit, many groups, many members."""
    shapes = {(m, k) for m, k, *_ in rows()}
    assert {(4, 4), (8, 4), (9, 4), (128, 16), (129, 16), (1000, 100), (10000, 4)} <= shapes


member_lists = st.lists(
    st.tuples(st.one_of(st.just(0), st.integers(0, 2**40)), st.integers(0, 100_000)), min_size=1, max_size=60
)


def _members(attributes: list[tuple[int, int]]) -> list[GroupingMember]:
    return [
        GroupingMember(index.to_bytes(20, "big"), energy, credit)
        for index, (energy, credit) in enumerate(attributes)
    ]


@settings(max_examples=150, deadline=None)
@given(member_lists, st.integers(1, 60), st.binary(min_size=32, max_size=32))
def test_any_input_gives_an_allowed_plan(attributes: list[tuple[int, int]], groups: int, seed: bytes) -> None:
    members = _members(attributes)
    groups = min(groups, len(members))
    assignment = plan(members, groups, seed, PARAMETERS)
    check_plan(assignment, len(members), groups)
    assert assignment == plan(members, groups, seed, PARAMETERS)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 100_000)), min_size=6, max_size=8))
def test_pair_search_leaves_no_better_single_swap(attributes: list[tuple[int, int]]) -> None:
    """Where the score is not (0, 0), no swap of two members improves it (the 30 steps suffice at this size)."""
    members = _members(attributes)
    assignment = plan(members, 3, SEED, PARAMETERS)
    reached = score(members, assignment, 3, PARAMETERS)
    for one in range(len(members)):
        for other in range(one):
            swapped = list(assignment)
            swapped[one], swapped[other] = swapped[other], swapped[one]
            assert score(members, swapped, 3, PARAMETERS) >= reached


@pytest.mark.parametrize(("count", "groups"), [(40, 4), (100, 10), (1000, 16)])
def test_ordinary_populations_meet_both_limits(count: int, groups: int) -> None:
    for start in range(5):
        members = members_of(count, 100 + start)
        assignment = plan(members, groups, SEED, PARAMETERS)
        assert score(members, assignment, groups, PARAMETERS) == Score(0, 0)


def test_the_seed_moves_members() -> None:
    members = members_of(40, 1)
    assert plan(members, 4, SEED, PARAMETERS) != plan(members, 4, bytes(32), PARAMETERS)


def test_ten_thousand_members_take_less_than_a_second() -> None:
    """PROTOCOL 4.3; process time, so that a busy machine does not decide."""
    for groups in (4, 100):
        members = members_of(10_000, 77)
        begin = time.process_time()
        plan(members, groups, SEED, PARAMETERS)
        assert time.process_time() - begin < 1.0


def test_refuses_members_out_of_order() -> None:
    members = members_of(8, 1)
    with pytest.raises(InvariantViolation, match="address order"):
        plan(members[::-1], 4, SEED, PARAMETERS)


def test_refuses_more_groups_than_members() -> None:
    with pytest.raises(InvariantViolation, match="as many members as groups"):
        plan(members_of(3, 1), 4, SEED, PARAMETERS)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50))
def test_group_sizes_add_up(members: int, groups: int) -> None:
    sizes = group_sizes(members, groups)
    assert sum(sizes) == members
    assert max(sizes) - min(sizes) <= 1
    assert list(sizes) == sorted(sizes)


@settings(max_examples=100, deadline=None)
@given(
    member_lists, st.integers(1, 20), st.binary(min_size=32, max_size=32), st.sampled_from([0, 100, 1_000])
)
def test_a_second_implementation_from_the_annex_agrees(
    attributes: list[tuple[int, int]], groups: int, seed: bytes, tolerance_bp: int
) -> None:
    """The auditor's planner was written from docs/annex/planner.md and shares no code with ours."""
    members = _members(attributes)
    groups = min(groups, len(members))
    parameters = Parameters(energy_tolerance_bp=tolerance_bp, credit_tolerance_bp=tolerance_bp)
    again = auditor.built_in_plan(
        [member.address for member in members],
        [member.energy_wh for member in members],
        [member.credit for member in members],
        auditor.Rules(groups, seed, tolerance_bp, tolerance_bp),
    )
    assert again == plan(members, groups, seed, parameters)

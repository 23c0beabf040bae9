"""node.auditor.planner against the page's vectors and against the node's own planner (PROTOCOL 4.1-4.7)."""

import random

import pytest

from consensus.grouping import GroupingMember, score
from consensus.parameters import Parameters
from consensus.planner import plan
from node.auditor.planner import Rules, built_in_plan, is_partition, score_of
from tests.unit.consensus.planner_vectors import SEED, members_of, rows, shown


def auditors(members: list[GroupingMember], rules: Rules) -> tuple[tuple[int, ...], tuple[int, int]]:
    """The auditor's plan and its score."""
    energy, credit = [m.energy_wh for m in members], [m.credit for m in members]
    found = built_in_plan([m.address for m in members], energy, credit, rules)
    return found, score_of(found, energy, credit, rules)


@pytest.mark.parametrize(("count", "groups", "start", "expected", "expected_score"), rows())
def test_the_vectors_of_the_page(
    count: int, groups: int, start: int, expected: str, expected_score: str
) -> None:
    found, scored = auditors(members_of(count, start), Rules(groups, SEED, 1_000, 1_000))
    assert (shown(found), str(scored)) == (expected, expected_score)


def random_members(draw: random.Random, count: int) -> list[GroupingMember]:
    """Members with many ties, or with heavy tails, or with nothing."""
    kind = draw.randrange(4)
    energies = (
        lambda: 0,
        lambda: draw.choice((0, 1_000, 1_000, 5_000)),
        lambda: int(draw.paretovariate(0.8) * 1_000) % 10**12,
        lambda: draw.randrange(10**6),
    )
    return sorted(
        (
            GroupingMember(
                draw.randbytes(20), energies[kind](), draw.choice((50_000, draw.randrange(100_001)))
            )
            for _ in range(count)
        ),
        key=lambda member: member.address,
    )


@pytest.mark.parametrize("seed", range(80))
def test_both_planners_give_the_same_plan_and_score(seed: int) -> None:
    draw = random.Random(seed)
    count = draw.choice((4, 5, 7, 9, 12, 20, 33, 60, 130))
    groups = draw.randint(1, min(count, draw.choice((2, 4, 7, 40))))
    tolerances = draw.choice((0, 50, 1_000)), draw.choice((0, 50, 1_000))
    members, rules = random_members(draw, count), Rules(groups, draw.randbytes(32), *tolerances)
    parameters = Parameters(energy_tolerance_bp=tolerances[0], credit_tolerance_bp=tolerances[1])
    found, scored = auditors(members, rules)
    expected = plan(members, groups, rules.seed, parameters)
    assert found == expected
    node_score = score(members, found, groups, parameters)
    assert scored == (node_score.energy_excess, node_score.credit_excess)


def test_only_floor_sizes_first_are_a_partition() -> None:
    assert is_partition((0, 1, 1, 0, 1), 2)
    assert not is_partition((0, 1, 0, 0, 1), 2)
    assert not is_partition((0, 1, 2, 1, 0), 2)

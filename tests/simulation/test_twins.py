"""Twins (RELIABILITY G3): every split of every view, shared beginnings, and planted bugs that the enumeration finds."""

from collections.abc import Callable

import pytest

from consensus import failover
from consensus.delegates import DelegateSet
from consensus.messages import ViewChange
from network.simulation.checkers import Finding
from network.simulation.lockstep import Lockstep, Table
from network.simulation.twins import (
    TwinsCase,
    case_of,
    draw_case,
    links_of,
    merged,
    parts,
    play_case,
    run_part,
    run_twins,
    sample_twins,
    splits_of,
    told_case,
    transactions,
)

Patch = pytest.MonkeyPatch


def lost_prepared_certificate(patch: Patch) -> None:
    """A view-change does not carry the prepared certificate (raijin 8)."""

    def forgetful(**fields: object) -> ViewChange:
        fields["prepared"] = None
        return ViewChange(**fields)  # type: ignore[arg-type]

    patch.setattr(failover, "ViewChange", forgetful)


def small_quorum(patch: Patch) -> None:
    """q - 1 instead of q."""
    for name in ("judge", "certificate", "own_votes", "core", "tally", "failover", "three_phases", "height"):
        patch.setattr(f"consensus.{name}.invariant", lambda _condition, _message: None)
    patch.setattr(DelegateSet, "quorum", property(lambda self: len(self) - self.faults - 1))


def test_four_views_of_five_nodes_are_65_536_cases() -> None:
    assert splits_of(5) ** 4 == 65_536
    assert case_of(0x12F3, 4, (0,), 4).splits == ((1,), (2,), (15,), (3,))


@pytest.mark.parametrize("cut", [0, 2])
def test_nothing_is_found(cut: int) -> None:
    """A stretch of the enumeration; the whole of it is run by command."""
    result = run_twins(views=4, twins=(0,), cut=cut, first=30_000, limit=64)
    assert result.cases == 64
    assert result.findings == ()
    assert 0 < result.slowest_views <= 8


def test_sharing_beginnings_changes_nothing() -> None:
    """The enumeration comes to what its cases come to when each is played from the start."""
    result = run_twins(views=3, twins=(1,), cut=2, first=700, limit=24)
    alone = [play_case(case_of(number, 4, (1,), 3, 2)) for number in range(700, 724)]
    assert result.cases == 24
    assert result.decided == sum(decided for _views, decided in alone)
    assert result.slowest_views == max(views for views, _decided in alone)


def test_progress_counts_every_case_once() -> None:
    seen: list[tuple[int, int]] = []
    run_twins(views=1, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (16, 16)
    assert seen == sorted(seen)


def test_parts_add_up_to_the_whole() -> None:
    assert parts(4)[1] == range(4_096, 8_192)
    assert [item for part in parts(2, 40) for item in part] == list(range(40))
    whole = run_twins(views=2, limit=20)
    apart = merged([run_part(part, views=2) for part in parts(2, 20)])
    assert (apart.cases, apart.decided, apart.findings) == (whole.cases, whole.decided, whole.findings)


@pytest.mark.parametrize("per_phase", [False, True])
def test_samples_of_seven_seats_with_two_pairs(per_phase: bool) -> None:
    result = sample_twins(6, 100, per_phase=per_phase)
    assert result.findings == ()
    assert result.decided > 0


def test_a_seed_is_a_case() -> None:
    assert draw_case(5, 7, 2, 5, per_phase=True) == draw_case(5, 7, 2, 5, per_phase=True)
    assert draw_case(5, 7, 2, 5, per_phase=True) != draw_case(6, 7, 2, 5, per_phase=True)
    assert told_case(case_of(0b0100, 4, (0,), 1)) == "twins 0 and 4; view 0: 0 1 2 4 | 3"


def test_twins_do_equivocate() -> None:
    """Joined twins propose two blocks in view 0, and the others report it: the cases are not idle."""
    table = Table(4, (0,))
    run = Lockstep(table)
    run.begin_view(0, transactions(table))
    run.talk(links_of(0))
    assert any(run.nodes[index].reports for index in table.honest)


PLANTED: list[tuple[Callable[[Patch], None], int, int, tuple[str, ...]]] = [
    (lost_prepared_certificate, 2, 48, ("S5", "S1")),
    (small_quorum, 0, 0, ("S3",)),
]
"""Bug, cut, first of 16 cases, properties. Of all 256 cases of two views 96 and 256 find them."""


@pytest.mark.parametrize(
    ("plant", "cut", "first", "expected"), PLANTED, ids=[item[0].__name__ for item in PLANTED]
)
def test_a_planted_bug_is_found(
    monkeypatch: Patch, plant: Callable[[Patch], None], cut: int, first: int, expected: tuple[str, ...]
) -> None:
    """Positive control: two views suffice, and the case named breaks again when it is played alone."""
    plant(monkeypatch)
    result = run_twins(views=2, twins=(0,), cut=cut, first=first, limit=16)
    assert result.cases == 16
    assert 0 < result.finding_cases <= 16
    assert all(finding.text.startswith(expected) for finding in result.findings)
    with pytest.raises(Finding) as again:
        play_case(result.findings[0].case)
    assert str(again.value).startswith(expected)


def test_too_many_twins_fork() -> None:
    """With f + 1 pairs there are cases that fork: the check itself sees what it is for."""
    with pytest.raises(Finding, match="S1"):
        play_case(TwinsCase(4, (0, 1), ((0b11100,),)))

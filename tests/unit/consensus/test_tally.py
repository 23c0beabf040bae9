"""Counting votes: first counts, conflicts are kept apart, memory is bounded."""

import pytest

from consensus.errors import InvariantViolation
from consensus.messages import Prepare
from consensus.tally import VIEWS_KEPT, Tally
from tests.unit.consensus.support import KeyedSigner, prepare

ONE, TWO = bytes([1]) * 32, bytes([2]) * 32
SIGNERS = [KeyedSigner(index) for index in range(4)]


def vote(rank: int, view: int = 0, digest: bytes = ONE) -> Prepare:
    return prepare(SIGNERS[rank], 1, view, digest)


def filled(*votes: Prepare, threshold: int = 2) -> Tally[Prepare]:
    tally: Tally[Prepare] = Tally(threshold)
    for item in votes:
        tally.add(item)
    return tally


def test_a_quorum_is_of_one_view_and_one_digest() -> None:
    tally = filled(vote(0), vote(1, digest=TWO), vote(2, view=1))
    assert list(tally.quorums) == []
    assert not tally.has_quorum(0, ONE)
    tally.add(vote(3))
    assert list(tally.quorums) == [(0, ONE)]
    assert set(tally.votes(0, ONE)) == {SIGNERS[0].public_key, SIGNERS[3].public_key}


def test_a_second_vote_of_a_key_is_not_counted() -> None:
    tally = filled(vote(0))
    with pytest.raises(InvariantViolation):
        tally.add(vote(0, digest=TWO))
    assert tally.conflicts(vote(0, digest=TWO)) == vote(0)
    assert tally.conflicts(vote(0)) is None
    assert tally.conflicts(vote(1, digest=TWO)) is None


def test_a_conflict_is_reported_once() -> None:
    tally = filled(vote(0))
    tally.mark_reported(vote(0, digest=TWO))
    assert tally.conflicts(vote(0, digest=TWO)) is None
    with pytest.raises(InvariantViolation):
        tally.mark_reported(vote(1))


def test_the_highest_views_of_a_sender_are_kept() -> None:
    tally = filled(*(vote(0, view) for view in range(VIEWS_KEPT + 3)))
    assert [view for view in range(VIEWS_KEPT + 3) if tally.first(SIGNERS[0].public_key, view)] == list(
        range(3, VIEWS_KEPT + 3)
    )
    assert not tally.keeps(SIGNERS[0].public_key, 2)
    tally.add(vote(0, 1))
    assert tally.first(SIGNERS[0].public_key, 1) is None
    assert list(tally.digests(0)) == []


def test_a_quorum_that_loses_a_vote_is_none() -> None:
    tally = filled(vote(0), vote(1))
    assert tally.has_quorum(0, ONE)
    for view in range(1, VIEWS_KEPT + 1):
        tally.add(vote(0, view))
    assert not tally.has_quorum(0, ONE)
    assert (0, ONE) not in tally.quorums
    assert tally.first(SIGNERS[1].public_key, 0) == vote(1)


def test_one_sender_cannot_push_out_anothers_votes() -> None:
    tally = filled(vote(1))
    for view in range(1_000):
        tally.add(vote(0, view))
    assert tally.first(SIGNERS[1].public_key, 0) == vote(1)


def test_a_report_is_forgotten_with_its_vote() -> None:
    tally = filled(vote(0))
    tally.mark_reported(vote(0, digest=TWO))
    for view in range(1, 100):
        tally.add(vote(0, view))
        tally.mark_reported(vote(0, view, TWO))
    assert len(tally._reported) == VIEWS_KEPT


def test_a_threshold_of_zero_stands_from_the_start() -> None:
    """n = 1: q - 1 = 0 prepares."""
    assert filled(threshold=0).has_quorum(0, ONE)
    with pytest.raises(InvariantViolation):
        Tally(-1)

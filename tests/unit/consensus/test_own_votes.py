"""S4: what a key signed at one height; every breach stops the node."""

import pytest

from consensus.errors import InvariantViolation
from consensus.messages import Accepted, Proposal
from consensus.own_votes import OwnVotes, Signed
from consensus.tally import VIEWS_KEPT
from consensus.view_change import MAX_ACCEPTED
from tests.unit.consensus.support import (
    KeyedSigner,
    commit,
    delegate_set,
    first_context,
    make_proposal,
    new_view,
    prepare,
    transaction,
    view_change,
)

SIGNERS = [KeyedSigner(index) for index in range(4)]
KEY = SIGNERS[1]
ONE, TWO = bytes([1]) * 32, bytes([2]) * 32
CONTEXT = first_context(delegate_set(SIGNERS))


def proposal(number: int, view: int = 1) -> Proposal:
    return make_proposal(CONTEXT, KEY, transaction(number), view=view).proposal


def recorded(*messages: Signed) -> OwnVotes:
    votes = OwnVotes(1)
    for message in messages:
        votes.record(message)
    return votes


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (prepare(KEY, 1, 0, ONE), prepare(KEY, 1, 0, TWO)),
        (commit(KEY, 1, 0, ONE), commit(KEY, 1, 0, TWO)),
        (proposal(1), proposal(2)),
        (proposal(1), prepare(KEY, 1, 1, ONE)),
        (prepare(KEY, 1, 1, ONE), proposal(1)),
        (view_change(KEY, 1, 1), prepare(KEY, 1, 0, ONE)),
        (view_change(KEY, 1, 1), commit(KEY, 1, 0, ONE)),
        (view_change(KEY, 1, 2), proposal(1)),
        (prepare(KEY, 1, 2, ONE), commit(KEY, 1, 1, ONE)),
        (commit(KEY, 1, 2, ONE), prepare(KEY, 1, 1, ONE)),
        (view_change(KEY, 1, 2), view_change(KEY, 1, 2)),
        (view_change(KEY, 1, 2), view_change(KEY, 1, 1)),
        (prepare(KEY, 1, 2, ONE), view_change(KEY, 1, 2)),
        (view_change(KEY, 1, 6), new_view(KEY, 1, 5, ())),
    ],
)
def test_a_message_that_breaks_an_earlier_one_stops_the_node(first: Signed, second: Signed) -> None:
    votes = recorded(first)
    with pytest.raises(InvariantViolation):
        votes.record(second)


def test_a_new_view_needs_the_own_view_change_and_is_signed_once() -> None:
    with pytest.raises(InvariantViolation):
        recorded(new_view(KEY, 1, 1, ()))
    votes = recorded(view_change(KEY, 1, 1), new_view(KEY, 1, 1, ()))
    with pytest.raises(InvariantViolation):
        votes.record(new_view(KEY, 1, 1, [view_change(KEY, 1, 1)]))


def test_a_vote_of_another_height_stops_the_node() -> None:
    with pytest.raises(InvariantViolation):
        recorded(prepare(KEY, 2, 0, ONE))


def test_the_commit_of_a_decided_block_may_be_of_a_lower_view_and_lifts_no_floor() -> None:
    votes = recorded(view_change(KEY, 1, 5))
    votes.record_decided(commit(KEY, 1, 2, ONE))
    assert votes.commits[2].digest == ONE
    assert votes.floor == 5
    with pytest.raises(InvariantViolation):
        votes.record_decided(commit(KEY, 1, 2, TWO))


def test_the_phases_of_one_view_and_higher_views_are_free() -> None:
    votes = recorded(prepare(KEY, 1, 0, ONE), commit(KEY, 1, 0, ONE), view_change(KEY, 1, 1))
    votes.record(new_view(KEY, 1, 1, ()))
    votes.record(proposal(1))
    votes.record(commit(KEY, 1, 1, ONE))
    assert votes.floor == 1


def test_restoring_gives_the_same_state_and_keeps_the_highest_view_change() -> None:
    messages: list[Signed] = [prepare(KEY, 1, 0, ONE), commit(KEY, 1, 0, ONE), view_change(KEY, 1, 3)]
    original, restored = recorded(*messages), OwnVotes(1)
    for message in (view_change(KEY, 1, 1), *messages, view_change(KEY, 1, 2)):
        restored.restore(message)
    assert restored.floor == original.floor == 3
    assert restored.view_change == original.view_change
    assert restored.to_resend() == original.to_resend()
    with pytest.raises(InvariantViolation):
        restored.record(prepare(KEY, 1, 2, TWO))


def test_accepted_names_each_view_once_ascending_below_and_not_too_many() -> None:
    votes = recorded(prepare(KEY, 1, 0, ONE), proposal(1), prepare(KEY, 1, 2, TWO))
    digest = proposal(1).vote.digest
    assert votes.accepted(2) == (Accepted(0, ONE), Accepted(1, digest))
    many = recorded(*(prepare(KEY, 1, view, ONE) for view in range(MAX_ACCEPTED + 5)))
    assert [item.view for item in many.accepted(10**9)] == list(range(5, MAX_ACCEPTED + 5))


def test_what_is_resent_is_bounded_and_of_the_current_view() -> None:
    votes = recorded(*(prepare(KEY, 1, view, ONE) for view in range(50)))
    assert [item.view for item in votes.to_resend() if not isinstance(item, Proposal)] == list(
        range(50 - VIEWS_KEPT, 50)
    )
    leader = recorded(proposal(1), view_change(KEY, 1, 5))
    assert leader.to_resend() == (view_change(KEY, 1, 5),)
    assert leader.signed_anything
    assert not OwnVotes(1).signed_anything

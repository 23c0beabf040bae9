"""The pure judgement of view-changes: choice, joining, limits."""

import itertools

import pytest

from consensus.errors import InvalidMessage
from consensus.judge import Judge
from consensus.messages import Accepted, PreparedCertificate
from consensus.view_change import (
    MAX_ACCEPTED,
    check_accepted,
    check_new_view,
    check_view_change,
    choose,
    view_to_join,
)
from tests.unit.consensus.support import (
    CHAIN,
    KeyedSigner,
    KeyedVerifier,
    delegate_set,
    first_context,
    new_view,
    prepared,
    view_change,
)

SIGNERS = [KeyedSigner(index) for index in range(4)]
ONE, TWO = bytes([1]) * 32, bytes([2]) * 32


def judge() -> Judge:
    return Judge(CHAIN, first_context(delegate_set(SIGNERS)), KeyedVerifier())


def at_view(view: int, digest: bytes = ONE) -> PreparedCertificate:
    ranks = [view % 4, *(rank for rank in range(4) if rank != view % 4)][:3]
    return prepared([SIGNERS[rank] for rank in ranks], 1, view, digest)


def test_the_highest_certificate_wins_in_any_order() -> None:
    messages = [
        view_change(SIGNERS[0], 1, 9, at_view(0, ONE)),
        view_change(SIGNERS[1], 1, 9, at_view(4, TWO)),
        view_change(SIGNERS[2], 1, 9),
    ]
    for order in itertools.permutations(messages):
        chosen = choose(order)
        assert chosen is not None
        assert (chosen.pre_prepare.view, chosen.pre_prepare.digest) == (4, TWO)
    assert choose(messages[2:]) is None
    assert choose([]) is None


def test_beyond_f_liars_the_choice_is_at_least_the_same_everywhere() -> None:
    messages = [view_change(SIGNERS[0], 1, 9, at_view(4, digest)) for digest in (ONE, TWO)]
    assert choose(messages) == choose(messages[::-1])


@pytest.mark.parametrize(
    ("views", "above", "faults", "joined"),
    [
        ([], 0, 0, None),
        ([1], 0, 0, 1),
        ([3], 3, 0, None),
        ([5, 7], 0, 1, 5),
        ([5, 5], 0, 1, 5),
        ([5], 0, 1, None),
        ([5, 6, 7], 0, 1, 6),
        ([5, 5, 7, 7], 0, 1, 7),
        ([1, 2, 9], 3, 1, None),
        ([2**62, 4, 4, 4], 3, 2, 4),
        ([9, 8, 7, 6], 0, 3, 6),
    ],
)
def test_view_to_join(views: list[int], above: int, faults: int, joined: int | None) -> None:
    assert view_to_join(views, above, faults) == joined


def test_joining_in_one_step_ends_where_joining_one_by_one_does() -> None:
    """6.6: the smallest of f + 1 above the own view, again and again."""
    for faults in (0, 1, 2):
        for views in itertools.product(range(5), repeat=4):
            own = 0
            while len(higher := [view for view in views if view > own]) > faults:
                own = min(higher)
            assert view_to_join(views, 0, faults) == (own or None)


@pytest.mark.parametrize(
    ("views", "below", "fine"),
    [
        ([], 1, True),
        ([0, 3, 4], 5, True),
        ([0, 0], 5, False),
        ([3, 1], 5, False),
        ([5], 5, False),
        (list(range(MAX_ACCEPTED)), 99, True),
        (list(range(MAX_ACCEPTED + 1)), 99, False),
    ],
)
def test_accepted_views_ascend_below_the_view_and_are_not_too_many(
    views: list[int], below: int, fine: bool
) -> None:
    accepted = tuple(Accepted(view, ONE) for view in views)
    if fine:
        check_accepted(accepted, below)
    else:
        with pytest.raises(InvalidMessage):
            check_accepted(accepted, below)


def test_a_certificate_of_the_view_itself_or_above_is_refused() -> None:
    for view, fine in ((3, False), (4, False), (5, True)):
        message = view_change(SIGNERS[0], 1, view, at_view(4))
        if fine:
            check_view_change(message, judge())
        else:
            with pytest.raises(InvalidMessage):
                check_view_change(message, judge())


def test_view_changes_held_already_are_not_verified_again() -> None:
    messages = [view_change(signer, 1, 1, at_view(0)) for signer in SIGNERS[:3]]
    message = new_view(SIGNERS[1], 1, 1, messages)
    verifier = KeyedVerifier()
    bench = Judge(CHAIN, first_context(delegate_set(SIGNERS)), verifier)
    held = {item.signer: item for item in messages}
    assert check_new_view(message, bench, held) == tuple(messages)
    assert verifier.calls == 1
    assert check_new_view(message, bench, {}) == tuple(messages)
    assert verifier.calls == 1 + 1 + 3 * 4

"""Certificates: every form of forgery is refused whole."""

from typing import Any

import msgspec
import pytest

from consensus.block import Certificate, CommitSignature
from consensus.certificate import (
    Decision,
    check_certificate,
    check_prepared,
    make_certificate,
    make_prepared,
    signatures_of,
)
from consensus.errors import InvalidMessage, InvariantViolation
from consensus.judge import MAX_VIEW, Judge
from consensus.messages import Commit
from consensus.parent_commits import ParentCommits
from tests.unit.consensus.support import (
    CHAIN,
    KeyedSigner,
    KeyedVerifier,
    commit,
    delegate_set,
    first_context,
    pre_prepare,
    prepare,
    prepared,
)

SIGNERS = [KeyedSigner(index) for index in range(7)]
DELEGATES = delegate_set(SIGNERS)
DIGEST = bytes([5]) * 32
DECISION = Decision(0, 1, DIGEST, DELEGATES)
STRANGER = KeyedSigner(99)


def made(ranks: tuple[int, ...] = (0, 2, 3, 5, 6), view: int = 4) -> Certificate:
    return make_certificate(
        DECISION, view, {SIGNERS[r].public_key: commit(SIGNERS[r], 1, view, DIGEST).signature for r in ranks}
    )


def item(signer: KeyedSigner, **changes: Any) -> CommitSignature:
    vote = msgspec.structs.replace(commit(signer, 1, 4, DIGEST), **changes)
    return CommitSignature(vote.signer, vote.signature)


def check(certificate: Certificate, **changes: Any) -> int:
    """Judge a certificate; the number of signature checks."""
    verifier = KeyedVerifier()
    check_certificate(certificate, msgspec.structs.replace(DECISION, **changes), CHAIN, verifier)
    return verifier.calls


def test_q_to_n_commits_in_ranking_order_hold() -> None:
    assert check(made()) == 5
    assert check(made((0, 1, 2, 3, 4, 5, 6))) == 7


def _forged() -> list[Certificate]:
    good = made()
    s = good.signatures
    replace = msgspec.structs.replace
    return [
        replace(good, signatures=s[:4]),
        replace(good, signatures=(*s[:4], s[3])),
        replace(good, signatures=(s[0], *s[:4])),
        replace(good, signatures=s[::-1]),
        replace(good, signatures=(*s[:4], item(STRANGER))),
        replace(good, signatures=(*s, item(STRANGER))),
        replace(good, signatures=(*s[:4], item(SIGNERS[6], signature=bytes(64)))),
        replace(
            good, signatures=(*s[:4], item(SIGNERS[6], signature=commit(SIGNERS[6], 1, 3, DIGEST).signature))
        ),
        replace(
            good, signatures=(*s[:4], item(SIGNERS[6], signature=prepare(SIGNERS[6], 1, 4, DIGEST).signature))
        ),
        replace(good, view=5),
        replace(good, epoch=1),
        replace(good, height=2),
        replace(good, digest=bytes(32)),
    ]


@pytest.mark.parametrize("which", range(13))
def test_a_forged_or_padded_certificate_is_refused(which: int) -> None:
    with pytest.raises(InvalidMessage):
        check(_forged()[which])


def test_a_certificate_proves_its_own_decision_only() -> None:
    for changes in (
        {"epoch": 1},
        {"height": 2},
        {"digest": bytes(32)},
        {"delegates": delegate_set(SIGNERS[1:])},
    ):
        with pytest.raises(InvalidMessage):
            check(made(), **changes)


def test_known_signatures_are_not_checked_again_but_must_be_the_same_bytes() -> None:
    good = made()
    verifier = KeyedVerifier()
    check_certificate(good, DECISION, CHAIN, verifier, signatures_of(good))
    assert verifier.calls == 0
    forged = msgspec.structs.replace(
        good, signatures=(item(SIGNERS[0], signature=bytes(64)), *good.signatures[1:])
    )
    with pytest.raises(InvalidMessage):
        check_certificate(forged, DECISION, CHAIN, verifier, signatures_of(good))


def test_making_one_of_too_few_or_of_strangers_is_our_bug() -> None:
    with pytest.raises(InvariantViolation):
        made((0, 1, 2, 3))
    with pytest.raises(InvariantViolation):
        make_certificate(DECISION, 0, {STRANGER.public_key: bytes(64)})


def test_a_prepared_certificate_is_made_of_q_minus_1_prepares_in_ranking_order() -> None:
    judge = Judge(CHAIN, first_context(DELEGATES), KeyedVerifier())
    votes = {SIGNERS[r].public_key: prepare(SIGNERS[r], 1, 0, DIGEST) for r in (6, 4, 1, 3, 2)}
    certificate = make_prepared(pre_prepare(SIGNERS[0], 1, 0, DIGEST), votes, judge)
    assert [judge.rank(vote.signer) for vote in certificate.prepares] == [1, 2, 3, 4]
    check_prepared(certificate, judge)
    with pytest.raises(InvariantViolation):
        make_prepared(pre_prepare(SIGNERS[0], 1, 0, bytes(32)), votes, judge)
    with pytest.raises(InvariantViolation):
        make_prepared(pre_prepare(SIGNERS[1], 1, 0, DIGEST), votes, judge)


def test_a_prepared_certificate_may_hold_more_than_q_minus_1() -> None:
    judge = Judge(CHAIN, first_context(DELEGATES), KeyedVerifier())
    check_prepared(prepared(SIGNERS, 1, 0, DIGEST), judge)


def test_judge_refuses_views_out_of_range_and_foreign_places() -> None:
    judge = Judge(CHAIN, first_context(DELEGATES), KeyedVerifier())
    judge.check_vote(commit(SIGNERS[0], 1, MAX_VIEW, DIGEST))
    for vote in (
        commit(SIGNERS[0], 1, MAX_VIEW + 1, DIGEST),
        commit(SIGNERS[0], 2, 0, DIGEST),
        commit(SIGNERS[0], 1, 0, DIGEST, epoch=1),
        commit(STRANGER, 1, 0, DIGEST),
    ):
        with pytest.raises(InvalidMessage):
            judge.check_vote(vote)


def test_known_votes_are_not_verified_again() -> None:
    verifier = KeyedVerifier()
    judge = Judge(CHAIN, first_context(DELEGATES), verifier)
    vote = commit(SIGNERS[0], 1, 0, DIGEST)
    judge.known = lambda other: other == vote
    judge.check_vote(vote)
    assert verifier.calls == 0
    judge.check_vote(commit(SIGNERS[1], 1, 0, DIGEST))
    assert verifier.calls == 1


# ---------------------------------------------------------------------- late commits


def late(**changes: Any) -> Commit:
    return msgspec.structs.replace(commit(SIGNERS[1], 1, 4, DIGEST), **changes)


def test_late_commits_fill_the_last_commit_in_ranking_order() -> None:
    parent = ParentCommits(made(), DECISION)
    parent.offer(late())
    certificate = parent.assemble(CHAIN, KeyedVerifier())
    assert [member.signer for member in certificate.signatures] == [
        SIGNERS[r].public_key for r in (0, 1, 2, 3, 5, 6)
    ]
    check(certificate)


def test_late_commits_that_do_not_belong_are_left_out() -> None:
    parent = ParentCommits(made(), DECISION)
    for vote in (
        late(view=3),
        late(digest=bytes(32)),
        late(epoch=1),
        late(height=2),
        late(signature=bytes(64)),
        commit(STRANGER, 1, 4, DIGEST),
        late(signer=SIGNERS[0].public_key, signature=bytes(64)),
    ):
        parent.offer(vote)
    assert parent.assemble(CHAIN, KeyedVerifier()) == made()
    assert parent.known_in(3) == {}
    assert len(parent.known_in(4)) == 5


def test_parent_commits_of_another_block_are_our_bug() -> None:
    with pytest.raises(InvariantViolation):
        ParentCommits(made(), msgspec.structs.replace(DECISION, digest=bytes(32)))

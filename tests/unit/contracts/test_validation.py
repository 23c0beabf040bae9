"""What is in no valid block: signers, nested signatures, windows, lists (PROTOCOL 6.8, 3.2b)."""

from typing import Any

import msgspec
import pytest

from consensus.block import Discard
from consensus.encoding import encode
from consensus.errors import MalformedInput
from consensus.messages import Commit, Prepare, PrePrepareVote, sign_vote
from contracts.genesis import Admission
from contracts.signatures import signature_checks
from contracts.transaction import (
    MAX_OPERATORS,
    ChangeMeter,
    ConflictingVotes,
    Evidence,
    Heartbeat,
    InvalidHeaderProposed,
    Issue,
    Join,
    Leave,
    Meter,
    Payload,
    Readings,
    Redeem,
    Signature,
    Transaction,
    Transfer,
    decode_transaction,
    encode_body,
    join_signatures,
)
from contracts.validation import InvalidReason, InvalidTransaction, check_transaction, transaction_fault
from tests.support.chain import VERIFIER, Chain, Key


class Counting:
    """A verifier that counts; it accepts what the real one accepts."""

    def __init__(self) -> None:
        self.counts: list[bytes] = []

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        self.counts.append(public_key)
        return VERIFIER.verify(public_key, message, signature)


def reason(chain: Chain, transaction: Transaction) -> InvalidReason | None:
    try:
        check_transaction(
            transaction, chain_id=chain.chain_id, parameters=chain.parameters, verifier=VERIFIER
        )
    except InvalidTransaction as refusal:
        return refusal.reason
    return None


def invited() -> Chain:
    return Chain(operators=2, threshold=2, admission=Admission.INVITED)


def vote(chain: Chain, kind: Any, key: Key, digest: int) -> Any:
    return sign_vote(kind, chain.chain_id, 0, 1, 0, bytes([digest]) * 32, key)


# ---------------------------------------------------------------- who signs


def test_the_first_key_hashes_to_the_sender() -> None:
    chain = Chain()
    a, b = chain.members[:2]
    stolen = chain.transaction(a, Transfer(b.address, 1), claimed_sender=b.address)
    assert reason(chain, stolen) is InvalidReason.SIGNER_WRONG


def test_a_wrong_signature_of_any_signer_is_found() -> None:
    chain = Chain(operators=2)
    one, two = chain.operators
    good = chain.transaction(one, Issue(one.address, 1), two)
    assert reason(chain, good) is None
    body = good.signed_bytes[len(b"cgpbft/transaction/1") :]
    for place in range(2):
        signatures = list(good.signatures)
        signatures[place] = Signature(signatures[place].public_key, bytes(64))
        broken = decode_transaction(join_signatures(body, tuple(signatures)))
        assert reason(chain, broken) is InvalidReason.SIGNATURE_WRONG


def test_only_operators_transactions_and_openings_carry_more_than_one_signature() -> None:
    chain = Chain(operators=2)
    a, b = chain.members[:2]
    one, two = chain.operators
    assert reason(chain, chain.transaction(a, Redeem(1), one, two)) is None
    for payload in (Leave(), Transfer(b.address, 1)):
        assert reason(chain, chain.transaction(a, payload, b)) is InvalidReason.SIGNER_WRONG


def test_a_key_signs_once() -> None:
    chain = Chain(operators=2)
    one, two = chain.operators
    twice = chain.transaction(one, Issue(one.address, 1), two, one)
    assert reason(chain, twice) is InvalidReason.SIGNER_WRONG


def test_a_transaction_carries_1_to_18_signatures() -> None:
    chain = Chain()
    key = Key(1)
    body = encode_body(chain.chain_id, key.address, 0, 0, 0, Leave())
    for count in (0, 19):
        signatures = tuple(Signature(Key(i + 1).public_key, bytes(64)) for i in range(count))
        with pytest.raises(MalformedInput):
            decode_transaction(join_signatures(body, signatures))


def test_approvals_are_bounded_and_of_distinct_keys() -> None:
    chain = invited()
    member = chain.members[0]
    many = tuple(Key(100 + i) for i in range(MAX_OPERATORS + 1))
    with pytest.raises(MalformedInput):
        chain.transaction(member, ChangeMeter(chain.meter(member, Key(60), approvers=many)))
    one = chain.operators[0]
    twice = ChangeMeter(chain.meter(member, Key(60), approvers=(one, one)))
    assert reason(chain, chain.transaction(member, twice)) is InvalidReason.SIGNER_WRONG
    key = Key(1)
    meter = chain.meter(key, key, approvers=chain.operators)
    join = Join(key.public_key, meter, chain.invite(key, chain.time_ms, (one, one)))
    assert reason(chain, chain.transaction(key, join)) is InvalidReason.SIGNER_WRONG
    join = Join(key.public_key, chain.meter(key, key, approvers=(one, one)), None)
    assert reason(chain, chain.transaction(key, join)) is InvalidReason.SIGNER_WRONG


def test_every_nested_signature_is_verified() -> None:
    """Readings, ballots, meters, invites, heartbeats, evidence: one bad one anywhere makes the whole invalid."""
    chain = invited()
    a, b = chain.members[:2]
    key, operators = Key(1), chain.operators
    good_meter = chain.meter(key, key, approvers=operators)
    good_invite = chain.invite(key, chain.time_ms + 1, operators)
    forged = Signature(operators[0].public_key, bytes(64))
    bad_meter = msgspec.structs.replace(good_meter, approvals=(forged, good_meter.approvals[1]))
    forged_last = Signature(operators[1].public_key, bytes(64))
    bad_invite = msgspec.structs.replace(good_invite, approvals=(good_invite.approvals[0], forged_last))
    reading = chain.reading(a, 1, counter=1)
    ballot = chain.ballot(a, 0, 1, b)
    commit = vote(chain, Commit, a, 1)
    one, two = vote(chain, Prepare, a, 1), vote(chain, Prepare, a, 2)
    pre_prepare, header = vote(chain, PrePrepareVote, a, 1), chain.make_block().header

    def broken(value: Any) -> Any:
        return msgspec.structs.replace(value, signature=bytes(64))

    pairs: list[tuple[Key, Payload, Payload]] = [
        (key, Join(key.public_key, good_meter, good_invite), Join(key.public_key, bad_meter, good_invite)),
        (key, Join(key.public_key, good_meter, good_invite), Join(key.public_key, good_meter, bad_invite)),
        (key, ChangeMeter(good_meter), ChangeMeter(bad_meter)),
        (b, Readings((reading, reading)), Readings((reading, broken(reading)))),
        (a, Heartbeat(0, commit), Heartbeat(0, broken(commit))),
        (b, Evidence(ConflictingVotes(one, two)), Evidence(ConflictingVotes(one, broken(two)))),
        (b, Evidence(ConflictingVotes(one, two)), Evidence(ConflictingVotes(broken(one), two))),
        (
            b,
            Evidence(InvalidHeaderProposed(pre_prepare, header)),
            Evidence(InvalidHeaderProposed(broken(pre_prepare), header)),
        ),
    ]
    for sender, good, bad in pairs:
        assert reason(chain, chain.transaction(sender, good)) is None
        assert reason(chain, chain.transaction(sender, bad)) is InvalidReason.SIGNATURE_WRONG, bad
    assert reason(chain, chain.ballots(ballot, ballot)) is None
    assert reason(chain, chain.ballots(ballot, broken(ballot))) is InvalidReason.SIGNATURE_WRONG


def test_nested_signatures_name_the_chain() -> None:
    chain, other = Chain(), Chain(members=5)
    a = chain.members[0]
    other.meters[a.address] = chain.meters[a.address]
    foreign_reading = other.reading(a, 1, counter=1)
    foreign_ballot = other.ballot(a, 0, 1, a)
    assert reason(chain, chain.readings(foreign_reading)) is InvalidReason.SIGNATURE_WRONG
    assert reason(chain, chain.ballots(foreign_ballot)) is InvalidReason.SIGNATURE_WRONG


def test_a_ballots_key_hashes_to_its_voter() -> None:
    chain = Chain()
    a, b = chain.members[:2]
    forged = msgspec.structs.replace(chain.ballot(a, 0, 1, a), voter=b.address)
    assert reason(chain, chain.ballots(forged)) is InvalidReason.SIGNER_WRONG


def test_a_heartbeats_commit_is_the_senders_own() -> None:
    chain = Chain()
    a, b = chain.members[:2]
    foreign = Heartbeat(0, vote(chain, Commit, b, 1))
    assert reason(chain, chain.transaction(a, foreign)) is InvalidReason.SIGNER_WRONG
    assert reason(chain, chain.transaction(a, Heartbeat(0, None))) is None


def test_each_signature_is_verified_once() -> None:
    """One check of each signature that a transaction carries, no more and no less (ARCHITECTURE)."""
    chain = invited()
    key = Key(1)
    join = Join(
        key.public_key,
        chain.meter(key, Key(2), approvers=chain.operators),
        chain.invite(key, chain.time_ms, chain.operators[:1]),
    )
    transaction = chain.transaction(key, join)
    one, two = (operator.public_key for operator in chain.operators)
    counting = Counting()
    check_transaction(transaction, chain_id=chain.chain_id, parameters=chain.parameters, verifier=counting)
    assert counting.counts == [key.public_key, one, two, one]
    assert len(list(signature_checks(transaction, chain.chain_id))) == 4


def test_cheap_checks_come_before_signatures() -> None:
    chain = Chain()
    a, b = chain.members[:2]
    counting = Counting()
    for transaction in (
        chain.transaction(a, Transfer(b.address, 1), chain_id=bytes(32)),
        chain.transaction(a, Transfer(b.address, 1), valid_until_ms=0),
        chain.transaction(a, Transfer(b.address, 1), claimed_sender=b.address),
    ):
        with pytest.raises(InvalidTransaction):
            check_transaction(
                transaction, chain_id=chain.chain_id, parameters=chain.parameters, verifier=counting
            )
    assert counting.counts == []


# ---------------------------------------------------------------- blocks


def test_a_block_holds_a_limited_count_of_transactions() -> None:
    chain = Chain(max_block_transactions=2)
    a, b = chain.members[:2]
    transactions = [chain.transaction(a, Transfer(b.address, 1)) for _ in range(3)]
    chain.validate(transactions[:2], (), chain.time_ms)
    with pytest.raises(InvalidTransaction) as caught:
        chain.validate(transactions, (), chain.time_ms)
    assert caught.value.reason is InvalidReason.BLOCK_TOO_LARGE


def test_a_block_holds_a_limited_count_of_bytes_removals_included() -> None:
    chain = Chain(max_block_bytes=65_536)
    member = chain.members[0]
    reading = chain.reading(member, 2**40, 10**11, 10**11, counter=2**62)
    large = [chain.readings(*[reading] * 256) for _ in range(2)]
    size = len(large[0].raw)
    assert size < 65_536 < 2 * size
    removal = Discard(large[1].id, large[1].raw, ())
    chain.validate(large[:1], (), chain.time_ms)
    for transactions, discarded in ((large, ()), (large[:1], (removal,))):
        with pytest.raises(InvalidTransaction) as caught:
            chain.validate(transactions, discarded, chain.time_ms)
        assert caught.value.reason is InvalidReason.BLOCK_TOO_LARGE
    room = msgspec.structs.replace(chain.parameters, max_block_bytes=size + len(encode(removal)))
    chain.parameters = room
    chain.validate(large[:1], (removal,), chain.time_ms)
    chain.parameters = msgspec.structs.replace(room, max_block_bytes=room.max_block_bytes - 1)
    with pytest.raises(InvalidTransaction):
        chain.validate(large[:1], (removal,), chain.time_ms)


def test_a_removal_names_the_transaction_that_it_carries() -> None:
    chain = Chain()
    a, b = chain.members[:2]
    one = chain.transaction(a, Transfer(b.address, 1))
    other = chain.transaction(a, Transfer(b.address, 1))
    for discard in (Discard(one.id, other.raw, ()), Discard(one.id, b"\xc1", ())):
        with pytest.raises(InvalidTransaction) as caught:
            chain.validate((), (discard,), chain.time_ms)
        assert caught.value.reason is InvalidReason.MALFORMED


def test_a_removals_window_is_not_asked_about() -> None:
    """6.10: a transaction may have expired since it was proposed; removing it is harmless."""
    chain = Chain()
    a, b = chain.members[:2]
    expired = chain.transaction(a, Transfer(b.address, 1), valid_until_ms=chain.time_ms)
    chain.block(discarded=(Discard(expired.id, expired.raw, ()),), after_ms=500)
    assert expired.id in chain.state.known_ids


# ---------------------------------------------------------------- evidence


def test_a_transactions_fault_is_one_that_no_state_can_cure() -> None:
    """3.2b: malformed, badly signed or out of its window is a fault; a rejected one is none."""
    chain = Chain()
    a, b = chain.members[:2]
    now = chain.time_ms

    def fault(transaction: Transaction | bytes, time_ms: int = now) -> str | None:
        raw = transaction if isinstance(transaction, bytes) else transaction.raw
        return transaction_fault(raw, chain.chain_id, time_ms, chain.parameters, VERIFIER)

    good = chain.transaction(a, Transfer(b.address, 10**17))
    assert fault(good) is None
    assert fault(good.raw[:-1]) is not None
    assert fault(good.raw[:-1] + bytes([good.raw[-1] ^ 1])) is not None
    assert fault(good, good.valid_until_ms + 1) is not None
    assert fault(good, good.valid_from_ms - 1) is not None
    assert fault(chain.transaction(a, Transfer(b.address, 1), chain_id=bytes(32))) is not None
    assert fault(chain.transaction(a, Transfer(b.address, 1), claimed_sender=b.address)) is not None


def test_a_meter_may_name_any_key_of_32_bytes() -> None:
    """Whether the key is acceptable is judged at execution; its length by decoding."""
    chain = Chain()
    a = chain.members[0]
    assert reason(chain, chain.transaction(a, ChangeMeter(Meter(bytes(32), 1, ())))) is None
    with pytest.raises(MalformedInput):
        chain.transaction(a, ChangeMeter(Meter(bytes(31), 1, ())))

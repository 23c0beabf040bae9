"""Every signature that a transaction carries: who must have made it, and over which bytes (PROTOCOL 6.8).

Nothing here needs the state: keys travel with their signatures and must hash to the sender or match the payload.
"""

from collections.abc import Iterator
from typing import Final, TypeAlias, assert_never

from consensus.encoding import encode
from consensus.hashing import address_of
from consensus.messages import Vote, vote_bytes
from consensus.signing import BALLOT_DOMAIN, INVITE_DOMAIN, METER_DOMAIN, READING_DOMAIN
from consensus.types import Address, Digest, PublicKey
from contracts.transaction import (
    Ballot,
    Ballots,
    ChangeMeter,
    ConflictingVotes,
    Evidence,
    Excuse,
    Heartbeat,
    InvalidHeaderProposed,
    InvalidTransactionProposed,
    Invite,
    Issue,
    Join,
    Meter,
    Proof,
    Reading,
    Readings,
    Redeem,
    TradeOpen,
    Transaction,
)

SignatureCheck: TypeAlias = tuple[bytes, bytes, bytes]
"""(public key, message, signature)."""
_OF_SEVERAL_SIGNERS: Final = (TradeOpen, Issue, Redeem, Excuse)
"""Payloads that more than the sender sign."""


def reading_bytes(reading: Reading, chain_id: Digest) -> bytes:
    """What the meter signs: READING_DOMAIN || chain id || encode([member, slot, counter, exported, imported])."""
    r = reading
    return READING_DOMAIN + chain_id + encode((r.member, r.slot, r.counter, r.exported_wh, r.imported_wh))


def ballot_bytes(ballot: Ballot, chain_id: Digest) -> bytes:
    """What the voter signs: BALLOT_DOMAIN || chain id || encode([voter, epoch, sequence, choices])."""
    b = ballot
    return BALLOT_DOMAIN + chain_id + encode((b.voter, b.epoch, b.sequence, b.choices))


def meter_bytes(public_key: PublicKey, max_power_w: int, member: Address, chain_id: Digest) -> bytes:
    """What operators sign for a meter: METER_DOMAIN || encode([chain id, member, key, max_power_w]) (PROTOCOL 1.4)."""
    return METER_DOMAIN + encode((chain_id, member, public_key, max_power_w))


def invite_bytes(public_key: PublicKey, last_time_ms: int, chain_id: Digest) -> bytes:
    """What operators sign for an invite: INVITE_DOMAIN || encode([chain id, key, last time]) (PROTOCOL 1.5)."""
    return INVITE_DOMAIN + encode((chain_id, public_key, last_time_ms))


def signature_checks(transaction: Transaction, chain_id: Digest) -> Iterator[SignatureCheck]:
    """Every signature that ``transaction`` carries: its own in order, then those inside its payload in order."""
    for signature in transaction.signatures:
        yield signature.public_key, transaction.signed_bytes, signature.signature
    match transaction.payload:
        case Join() as join:
            yield from _meter_checks(join.meter, transaction.sender, chain_id)
            if join.invite is not None:
                yield from _invite_checks(join.invite, chain_id)
        case ChangeMeter() as change:
            yield from _meter_checks(change.meter, transaction.sender, chain_id)
        case Readings() as batch:
            for reading in batch.readings:
                yield reading.public_key, reading_bytes(reading, chain_id), reading.signature
        case Ballots() as batch:
            for ballot in batch.ballots:
                yield ballot.public_key, ballot_bytes(ballot, chain_id), ballot.signature
        case Heartbeat() as heartbeat if heartbeat.commit is not None:
            yield _vote_check(heartbeat.commit, chain_id)
        case Evidence() as evidence:
            yield from _proof_checks(evidence.proof, chain_id)
        case _:
            return


def signer_fault(transaction: Transaction) -> str | None:
    """Why the signatures are not those of the right keys, as far as the transaction alone tells; None if they are."""
    keys = [signature.public_key for signature in transaction.signatures]
    if address_of(keys[0]) != transaction.sender:
        return "the first signature's key does not hash to the sender"
    if len(keys) > 1:
        if len(dict.fromkeys(keys)) != len(keys):
            return "a key signed twice"
        if not isinstance(transaction.payload, _OF_SEVERAL_SIGNERS):
            return f"{len(keys)} signatures where one is asked for"
    return _payload_fault(transaction, keys)


def _payload_fault(transaction: Transaction, keys: list[PublicKey]) -> str | None:
    match transaction.payload:
        case TradeOpen() as opened:
            parties = sorted((opened.terms.seller, opened.terms.buyer))
            if sorted([address_of(key) for key in keys]) != parties:
                return "a trade_open carries exactly the signatures of its two parties"
        case Join() as join:
            if keys[0] != join.public_key:
                return "a join is signed by the key that it registers"
            return _approval_fault(join.meter) or (
                None if join.invite is None else _approval_fault(join.invite)
            )
        case ChangeMeter() as change:
            return _approval_fault(change.meter)
        case Ballots() as batch:
            if any(address_of(ballot.public_key) != ballot.voter for ballot in batch.ballots):
                return "a ballot's key does not hash to its voter"
        case Heartbeat() as heartbeat:
            if heartbeat.commit is not None and heartbeat.commit.signer != keys[0]:
                return "a heartbeat carries a commit of another key"
        case _:
            pass
    return None


def _approval_fault(approved: Meter | Invite) -> str | None:
    keys = [approval.public_key for approval in approved.approvals]
    if len(dict.fromkeys(keys)) == len(keys):
        return None
    return f"a key approved the {type(approved).__name__.lower()} twice"


def _meter_checks(meter: Meter, member: Address, chain_id: Digest) -> Iterator[SignatureCheck]:
    message = meter_bytes(meter.public_key, meter.max_power_w, member, chain_id)
    for approval in meter.approvals:
        yield approval.public_key, message, approval.signature


def _invite_checks(invite: Invite, chain_id: Digest) -> Iterator[SignatureCheck]:
    message = invite_bytes(invite.public_key, invite.last_time_ms, chain_id)
    for approval in invite.approvals:
        yield approval.public_key, message, approval.signature


def _proof_checks(proof: Proof, chain_id: Digest) -> Iterator[SignatureCheck]:
    match proof:
        case ConflictingVotes():
            yield _vote_check(proof.first, chain_id)
            yield _vote_check(proof.second, chain_id)
        case InvalidTransactionProposed() | InvalidHeaderProposed():
            yield _vote_check(proof.pre_prepare, chain_id)
        case _:
            assert_never(proof)


def _vote_check(vote: Vote, chain_id: Digest) -> SignatureCheck:
    return vote.signer, vote_bytes(vote, chain_id), vote.signature

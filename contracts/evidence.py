"""Evidence of (b), a wrong block or equivocation: self-proving, admissible for two epochs, once (PROTOCOL 3.2b)."""

from typing import assert_never

from consensus.block import PROTOCOL_VERSION, Header, full_hash
from consensus.hashing import address_of
from consensus.merkle import leaf_hash, verify_path
from consensus.messages import PrePrepareVote, Vote
from consensus.types import Address
from contracts.context import OK, BlockContext, Fault, Result, payload_of
from contracts.epoch_records import ProvenFault
from contracts.epoch_state import seat_set_at
from contracts.receipts import FaultKind, ReasonCode
from contracts.seats import delegate_set_at
from contracts.state import State, number_key
from contracts.transaction import (
    ConflictingVotes,
    Evidence,
    InvalidHeaderProposed,
    InvalidTransactionProposed,
    Proof,
    Transaction,
)
from contracts.validation import transaction_fault


def handle_evidence(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """Accuse the key that the proof convicts; the credit is charged at the end of the block (PROTOCOL 6.11).

    The signatures of the votes were checked at the door (PROTOCOL 6.8): what stands here was truly signed.
    """
    proof = payload_of(transaction, Evidence).proof
    vote = accused_vote(proof)
    if vote.height > context.height:
        return Result(ReasonCode.EVIDENCE_TOO_EARLY)
    if vote.height < first_admissible_height(state):
        return Result(ReasonCode.EVIDENCE_OLD)
    accused = address_of(vote.signer)
    if delegate_set_at(state, vote.height).position(accused) is None:
        return Result(ReasonCode.EVIDENCE_NOT_A_DELEGATE)
    key = proven_key(vote.height, accused)
    if key in state.epoch.proven:
        return Result(ReasonCode.EVIDENCE_KNOWN)
    if not _proves(state, context, proof):
        return Result(ReasonCode.EVIDENCE_PROVES_NOTHING)
    state.epoch.proven.put(key, ProvenFault(context.height))
    context.accuse(Fault(accused, FaultKind.WRONG_BLOCK, vote.height))
    return OK


def accused_vote(proof: Proof) -> Vote:
    """The vote whose signer and height the proof is about."""
    match proof:
        case ConflictingVotes():
            return proof.first
        case InvalidTransactionProposed() | InvalidHeaderProposed():
            return proof.pre_prepare
        case _:
            assert_never(proof)


def first_admissible_height(state: State) -> int:
    """First height of the previous epoch, or of the current one while there is no other (PROTOCOL 3.2)."""
    return min(seats.from_height for _, seats in state.epoch.seat_sets.items())


def proven_key(height: int, address: Address) -> bytes:
    """Raw key under which evidence is known: one wrong block or equivocation per delegate and height."""
    return number_key(height) + address


def forget_evidence(state: State) -> None:
    """At the end of an epoch, after the sets: drop what first_admissible_height has passed."""
    first = first_admissible_height(state)
    for key, _ in tuple(state.epoch.proven.items()):
        if int.from_bytes(key[:8], "big") >= first:
            break
        state.epoch.proven.delete(key)


def _proves(state: State, context: BlockContext, proof: Proof) -> bool:
    match proof:
        case ConflictingVotes():
            return _votes_conflict(proof.first, proof.second)
        case InvalidTransactionProposed():
            return _is_fresh(proof.pre_prepare, proof.header) and _is_invalid_transaction(context, proof)
        case InvalidHeaderProposed():
            return _is_fresh(proof.pre_prepare, proof.header) and _is_wrong_header(
                state, context, proof.header
            )
        case _:
            assert_never(proof)


def _votes_conflict(first: Vote, second: Vote) -> bool:
    """Two of one kind and key for one (epoch, height, view) with different digests."""
    return (
        type(first) is type(second)
        and (first.signer, first.epoch, first.height, first.view)
        == (second.signer, second.epoch, second.height, second.view)
        and first.digest != second.digest
    )


def _is_fresh(vote: PrePrepareVote, header: Header) -> bool:
    """A pre-prepare of the view in which its header was made, by the proposer that the header names (PROTOCOL 6.6).

    A re-proposal, whose signer only obeys a new-view, is none.
    """
    return (
        header.digest() == vote.digest
        and (header.height, header.view) == (vote.height, vote.view)
        and header.proposer == address_of(vote.signer)
    )


def _is_invalid_transaction(context: BlockContext, proof: InvalidTransactionProposed) -> bool:
    """In the block, and malformed, badly signed or out of its window at the header's time."""
    leaf = leaf_hash(full_hash(proof.transaction))
    if not verify_path(proof.header.transactions_root, leaf, proof.path):
        return False
    fault = transaction_fault(
        proof.transaction, context.chain_id, proof.header.time_ms, context.parameters, context.verifier
    )
    return fault is not None


def _is_wrong_header(state: State, context: BlockContext, header: Header) -> bool:
    """Wrong chain, version, or epoch of its height."""
    return (
        header.chain_id != context.chain_id
        or header.version != PROTOCOL_VERSION
        or header.epoch != seat_set_at(state, header.height).epoch
    )

"""Ballots: who may vote for which seats, when, and how often (PROTOCOL 5.2, 7.2)."""

from typing import Final

import msgspec

from consensus.election import CountedBallot
from consensus.errors import invariant
from consensus.hashing import address_of
from consensus.signing import Signer
from consensus.types import Address, Digest
from contracts.context import BlockContext, Result, payload_of
from contracts.epoch_records import BallotRecord
from contracts.epoch_state import ballot_key
from contracts.groups import Grouping
from contracts.receipts import BallotAccepted, EpochPhase, ReasonCode, Rejection
from contracts.signatures import ballot_bytes
from contracts.state import State, number_key
from contracts.transaction import Ballot, Ballots, Transaction

MAX_BALLOTS: Final = 4
"""Accepted per voter and epoch of the seats (PROTOCOL 5.2)."""


def sign_ballot(
    chain_id: Digest, signer: Signer, epoch: int, sequence: int, choices: tuple[Address, ...]
) -> Ballot:
    """The signer's ballot for the seat of its group in ``epoch``."""
    key = signer.public_key
    voter = address_of(key)
    unsigned = Ballot(voter, epoch, sequence, choices, key, bytes(64))
    return msgspec.structs.replace(unsigned, signature=signer.sign(ballot_bytes(unsigned, chain_id)))


def handle_ballots(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """Take each ballot by itself; the batch is rejected only if none of it counts."""
    payload = payload_of(transaction, Ballots)
    rejections: list[Rejection] = []
    for index, ballot in enumerate(payload.ballots):
        code = _refusal(state, context, ballot)
        if code is ReasonCode.OK:
            _accept(state, context, ballot)
        else:
            rejections.append(Rejection(index, code))
    all_refused = len(rejections) == len(payload.ballots)
    return Result(rejections[0].code if all_refused else ReasonCode.OK, tuple(rejections))


def accepts_epoch(context_epoch: int, phase: EpochPhase, ballot_epoch: int) -> bool:
    """Whether a block takes ballots for ``ballot_epoch``: its own epoch, in voting blocks also the next (5.2)."""
    return ballot_epoch == context_epoch or (phase is EpochPhase.VOTING and ballot_epoch == context_epoch + 1)


def _refusal(state: State, context: BlockContext, ballot: Ballot) -> ReasonCode:
    """Why ``ballot`` does not count, or OK. Its signature was checked at the door (PROTOCOL 6.8)."""
    if not accepts_epoch(context.epoch, context.phase, ballot.epoch):
        return ReasonCode.BALLOT_EPOCH_WRONG
    grouping = state.epoch.grouping(ballot.epoch)
    if ballot.voter not in grouping.group_of:
        return ReasonCode.BALLOT_VOTER_UNKNOWN
    if state.accounts.require(ballot.voter).left_height is not None:
        return ReasonCode.MEMBER_HAS_LEFT
    distinct = dict.fromkeys(ballot.choices)
    together = all(grouping.are_grouped_together(ballot.voter, choice) for choice in ballot.choices)
    if not together or len(distinct) != len(ballot.choices):
        return ReasonCode.BALLOT_CHOICE_OUTSIDE_GROUP
    earlier = state.epoch.ballots.get(ballot_key(ballot.epoch, ballot.voter))
    if earlier is not None and ballot.sequence <= earlier.sequence:
        return ReasonCode.BALLOT_SEQUENCE_OLD
    if earlier is not None and earlier.accepted >= MAX_BALLOTS:
        return ReasonCode.BALLOT_TOO_MANY
    return ReasonCode.OK


def _accept(state: State, context: BlockContext, ballot: Ballot) -> None:
    key = ballot_key(ballot.epoch, ballot.voter)
    earlier = state.epoch.ballots.get(key)
    accepted = 1 if earlier is None else earlier.accepted + 1
    invariant(earlier is None or earlier.sequence < ballot.sequence, "a newer ballot replaces an older (5.2)")
    invariant(accepted <= MAX_BALLOTS, "a voter's ballots of an epoch are bounded (5.2)")
    state.epoch.ballots.put(key, BallotRecord(ballot.sequence, ballot.choices, accepted))
    account = state.accounts.require(ballot.voter)
    if account.active_epoch != context.epoch:
        state.accounts.put(ballot.voter, msgspec.structs.replace(account, active_epoch=context.epoch))
    context.emit(BallotAccepted(ballot.voter, ballot.epoch, ballot.sequence, ballot.choices))


def counted_ballots(state: State, grouping: Grouping, group: int) -> tuple[CountedBallot, ...]:
    """The newest ballots of the members of ``group`` for the seats of the grouping's epoch, in address order."""
    found = []
    for member in grouping.groups[group]:
        record = state.epoch.ballots.get(ballot_key(grouping.epoch, member.address))
        if record is not None:
            found.append(CountedBallot(member.address, record.choices))
    return tuple(found)


def forget_ballots(state: State, epoch: int) -> None:
    """Remove the ballots for an epoch that is over."""
    prefix = number_key(epoch)
    for key, _ in tuple(state.epoch.ballots.items()):
        if key.startswith(prefix):
            state.epoch.ballots.delete(key)

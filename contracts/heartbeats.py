"""Heartbeats: signs of life of delegates that were missed and of members going dormant (PROTOCOL 3.2c, 4.6)."""

import msgspec

from consensus.hashing import address_of
from consensus.messages import Commit
from consensus.types import Address
from contracts.context import OK, BlockContext, Result, payload_of
from contracts.epoch_records import MissedCommit
from contracts.missed_commits import counter_of, restart_counter
from contracts.receipts import HeartbeatSeen, ReasonCode
from contracts.seats import delegate_set_at
from contracts.state import State
from contracts.transaction import Heartbeat, Transaction


def handle_heartbeat(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """A delegate's names one of the heights it was missed at, by its own commit; another member's carries none."""
    payload = payload_of(transaction, Heartbeat)
    sender = transaction.sender
    if payload.epoch != context.epoch:
        return Result(ReasonCode.HEARTBEAT_WRONG)
    account = state.accounts.get(sender)
    if account is None:
        return Result(ReasonCode.NOT_A_MEMBER)
    counter = counter_of(state, sender)
    if counter is not None:
        if payload.commit is None or not _is_own_commit(context, sender, payload.commit, counter):
            return Result(ReasonCode.HEARTBEAT_WRONG)
        restart_counter(state, sender)
    elif payload.commit is not None or delegate_set_at(state, context.height).position(sender) is not None:
        return Result(ReasonCode.HEARTBEAT_WRONG)
    elif account.left_height is not None:
        return Result(ReasonCode.MEMBER_HAS_LEFT)
    state.accounts.put(sender, msgspec.structs.replace(account, active_epoch=context.epoch))
    context.emit(HeartbeatSeen(sender))
    return OK


def _is_own_commit(context: BlockContext, sender: Address, commit: Commit, counter: MissedCommit) -> bool:
    """Whether ``commit`` is the sender's for one of the heights that its counter holds.

    Its signature was checked at the door (PROTOCOL 6.8). Its digest is not compared: a delegate that committed in a
    view that failed was as alive as any other.
    """
    return (
        commit.epoch == context.epoch
        and counter.since_height <= commit.height < counter.since_height + counter.heights
        and address_of(commit.signer) == sender
    )

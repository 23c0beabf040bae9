"""The closing block's books: rewards by address, then decay by address (PROTOCOL 3.1, 3.3, 6.11 step 6)."""

from consensus.credit import booked_gain, decay_loss
from consensus.errors import invariant
from consensus.types import Address
from contracts.context import BlockContext
from contracts.credit_ledger import book_credit
from contracts.epoch_records import SnapshotMember
from contracts.epoch_state import ballot_key, seat_set_at
from contracts.faults import has_paid_as_voter, is_clean, lower_streak
from contracts.receipts import CreditReason
from contracts.seats import served_in
from contracts.state import State, number_key


def book_rewards(state: State, context: BlockContext) -> None:
    """alpha for each delegate seated now without a fault in the epoch, delta for those whose ballots seated it."""
    alpha, delta = context.parameters.alpha, context.parameters.delta
    clean = [
        seat
        for seat in seat_set_at(state, context.height).ranking
        if is_clean(state, seat.holder, context.epoch)
    ]
    gains: dict[Address, tuple[CreditReason, int]] = {}
    """At most one each: a member votes in its own group only, and a holder's own ballot earns nothing."""
    for seat in clean:
        gains[seat.holder] = (CreditReason.DELEGATE_REWARD, alpha)
        for voter in seat.supporters:
            if voter != seat.holder and not has_paid_as_voter(state, voter, context.epoch):
                gains[voter] = (CreditReason.VOTER_REWARD, delta)
    for address in sorted(gains):
        reason, gain = gains[address]
        booked = booked_gain(state.accounts.require(address).credit, gain)
        invariant(0 <= booked <= gain, "a reward books its gain or less (3.1)")
        book_credit(state, context, address, reason, booked)
    for seat in clean:
        lower_streak(state, seat.holder)


def book_decay(state: State, context: BlockContext) -> None:
    """Each member of the snapshot that neither voted in this election nor served loses its share (PROTOCOL 3.3)."""
    snapshot = state.epoch.snapshots.require(number_key(context.epoch + 1))
    served = served_in(state, context.epoch)
    for member in snapshot.members:
        account = state.accounts.require(member.address)
        idle = (
            account.left_height is None
            and member.address not in served
            and not _has_voted(state, context.epoch + 1, member.address)
            and not _is_alone(state, context.epoch + 1, member)
        )
        if idle:
            loss = decay_loss(account.credit, context.parameters.decay_bp)
            invariant(0 <= loss <= account.credit, "decay takes a share of what is there (3.3)")
            book_credit(state, context, member.address, CreditReason.DECAY, -loss)


def _has_voted(state: State, epoch: int, address: Address) -> bool:
    return ballot_key(epoch, address) in state.epoch.ballots


def _is_alone(state: State, epoch: int, member: SnapshotMember) -> bool:
    """Whether the member has a group to itself; one that is not grouped is not alone."""
    grouping = state.epoch.grouping(epoch)
    group = grouping.group_of.get(member.address)
    return group is not None and len(grouping.groups[group]) == 1

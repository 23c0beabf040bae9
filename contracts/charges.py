"""What a fault costs: beta for the delegate, gamma for the voters that seated it (PROTOCOL 3.1, 3.2)."""

from consensus.credit import fault_penalty
from contracts.context import BlockContext, Fault
from contracts.credit_ledger import book_credit
from contracts.epoch_state import seat_set_at
from contracts.faults import conduct_of, has_paid_as_voter, note_paid_as_voter, record_fault
from contracts.receipts import CreditReason, FaultKind, FaultRecorded
from contracts.state import State


def charge_faults(state: State, context: BlockContext) -> None:
    """Record all faults of this block and charge them, in the order found (PROTOCOL 6.11 step 5)."""
    for fault in context.take_faults():
        charged = record_fault(state, fault.address, fault.kind, context.epoch)
        context.emit(FaultRecorded(fault.address, fault.kind, fault.height, charged))
        if charged:
            _charge_delegate(state, context, fault)
            _charge_voters(state, context, fault)


def _charge_delegate(state: State, context: BlockContext, fault: Fault) -> None:
    """The s-th fault costs beta * 2^min(s - 1, 3); s counts this one already."""
    streak = conduct_of(state, fault.address).streak
    loss = fault_penalty(context.parameters.beta, streak)
    book_credit(state, context, fault.address, credit_reason(fault.kind), -loss)


def _charge_voters(state: State, context: BlockContext, fault: Fault) -> None:
    """Each whose ballot held the seat at the fault's height pays gamma, at most once an epoch.

    The holder's own ballot is aside, as it is for delta: the holder pays beta.
    """
    for seat in seat_set_at(state, fault.height).ranking:
        if seat.holder != fault.address:
            continue
        for voter in seat.supporters:
            if voter != fault.address and not has_paid_as_voter(state, voter, context.epoch):
                note_paid_as_voter(state, voter, context.epoch)
                book_credit(state, context, voter, CreditReason.VOTER_PENALTY, -context.parameters.gamma)


def credit_reason(kind: FaultKind) -> CreditReason:
    """The reason under which a fault's cost stands in the ledger (PROTOCOL 3.5)."""
    match kind:
        case FaultKind.NO_BLOCK:
            return CreditReason.NO_BLOCK
        case FaultKind.WRONG_BLOCK:
            return CreditReason.WRONG_BLOCK
        case FaultKind.DOWN:
            return CreditReason.DOWN

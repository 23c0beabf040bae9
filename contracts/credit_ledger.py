"""The one place where credit changes: clamp, account and ledger entry together (PROTOCOL 3.5)."""

import msgspec

from consensus.credit import change
from consensus.errors import invariant
from consensus.types import MAX_CREDIT, Address
from contracts.context import BlockContext
from contracts.receipts import CreditChanged, CreditReason
from contracts.state import State


def book_credit(
    state: State, context: BlockContext, address: Address, reason: CreditReason, amount: int
) -> int:
    """Apply ``amount`` milli-credits to the account; the amount as applied after the clamp, which the entry shows.

    An amount of which the clamp leaves nothing is no change and makes no entry.
    """
    account = state.accounts.require(address)
    changed = change(account.credit, amount)
    invariant(0 <= changed.credit <= MAX_CREDIT, "credit stays within 0 and 100 credits (1.2)")
    invariant(changed.credit - account.credit == changed.applied, "credit moves by what is booked (3.5, S7)")
    if changed.applied:
        state.accounts.put(address, msgspec.structs.replace(account, credit=changed.credit))
        context.emit(CreditChanged(address, reason, changed.applied, changed.credit))
    return changed.applied

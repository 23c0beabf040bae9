"""Money of members: transfer, issue, redeem (PROTOCOL 1.6)."""

from consensus.errors import fail, invariant
from consensus.types import MAX_TOTAL, Address
from contracts.context import OK, BlockContext, Result, has_operator_approval, payload_of
from contracts.receipts import BalanceChanged, MoneyIssued, MoneyRedeemed, ReasonCode
from contracts.state import SINGLETON, Account, State, Totals
from contracts.transaction import Issue, Redeem, Transaction, Transfer


def refusal_of_member(account: Account | None) -> ReasonCode | None:
    """Why the holder of ``account`` cannot act as a member, or None (PROTOCOL 1.5, 1.7)."""
    if account is None:
        return ReasonCode.NOT_A_MEMBER
    return None if account.left_height is None else ReasonCode.MEMBER_HAS_LEFT


def transfer(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """Move money to a registered member; who has left may still send its own away (PROTOCOL 1.6)."""
    payload = payload_of(transaction, Transfer)
    sender = state.accounts.get(transaction.sender)
    if sender is None:
        return Result(ReasonCode.NOT_A_MEMBER)
    recipient = state.accounts.get(payload.recipient)
    if recipient is None or recipient.left_height is not None:
        return Result(ReasonCode.RECIPIENT_UNKNOWN)
    if sender.balance < payload.amount:
        return Result(ReasonCode.BALANCE_TOO_LOW)
    change_balance(state, context, transaction.sender, -payload.amount)
    change_balance(state, context, payload.recipient, payload.amount)
    return OK


def issue(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """Operators create money for a registered member (PROTOCOL 1.6)."""
    payload = payload_of(transaction, Issue)
    if not has_operator_approval(context.genesis, transaction):
        return Result(ReasonCode.OPERATOR_APPROVAL_MISSING)
    recipient = state.accounts.get(payload.recipient)
    if recipient is None or recipient.left_height is not None:
        return Result(ReasonCode.RECIPIENT_UNKNOWN)
    totals = state.totals.require(SINGLETON)
    held = totals.balances + totals.escrow
    if max(held, totals.issued) + payload.amount > MAX_TOTAL:
        return Result(ReasonCode.TOTAL_TOO_LARGE)
    change_totals(state, balances=payload.amount, issued=payload.amount)
    change_balance(state, context, payload.recipient, payload.amount)
    context.emit(MoneyIssued(payload.recipient, payload.amount))
    return OK


def redeem(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """The sender and the operators destroy money of the sender, who may have left (PROTOCOL 1.6)."""
    payload = payload_of(transaction, Redeem)
    if not has_operator_approval(context.genesis, transaction):
        return Result(ReasonCode.OPERATOR_APPROVAL_MISSING)
    account = state.accounts.get(transaction.sender)
    if account is None:
        return Result(ReasonCode.NOT_A_MEMBER)
    if account.balance < payload.amount:
        return Result(ReasonCode.BALANCE_TOO_LOW)
    if state.totals.require(SINGLETON).redeemed + payload.amount > MAX_TOTAL:
        return Result(ReasonCode.TOTAL_TOO_LARGE)
    change_totals(state, balances=-payload.amount, redeemed=payload.amount)
    change_balance(state, context, transaction.sender, -payload.amount)
    context.emit(MoneyRedeemed(transaction.sender, payload.amount))
    return OK


def change_balance(state: State, context: BlockContext, address: Address, delta: int) -> None:
    """Add ``delta`` nano-units to a balance that the caller has checked, and say so unless it is 0."""
    if delta == 0:
        return
    a = state.accounts.require(address)
    balance = a.balance + delta
    if balance < 0:
        fail(f"the balance of {address.hex()} would fall below 0")
    state.accounts.put(
        address,
        Account(
            a.public_key,
            balance,
            a.credit,
            a.energy_wh,
            a.open_contracts,
            a.open_offers,
            a.active_epoch,
            a.left_height,
        ),
    )
    context.emit(BalanceChanged(address, delta, balance))


def change_totals(
    state: State,
    *,
    balances: int = 0,
    escrow: int = 0,
    genesis: int = 0,
    issued: int = 0,
    redeemed: int = 0,
    members: int = 0,
    energy_wh: int = 0,
) -> None:
    """Add to the sums that `contracts.conservation` compares with the accounts."""
    t = state.totals.require(SINGLETON)
    moved = Totals(
        t.balances + balances,
        t.escrow + escrow,
        t.genesis + genesis,
        t.issued + issued,
        t.redeemed + redeemed,
        t.members + members,
        t.energy_wh + energy_wh,
    )
    invariant(min(moved.balances, moved.escrow) >= 0, "money and escrow never fall below 0 (S7)")
    invariant(min(moved.members, moved.energy_wh) >= 0, "members and energy never fall below 0 (S7)")
    invariant(min(genesis, issued, redeemed) >= 0, "what was ever created or destroyed only grows (1.6)")
    state.totals.put(SINGLETON, moved)

"""Members: join, leave, change of meter (PROTOCOL 1.3, 1.4, 1.5, 1.7)."""

from typing import Final

from consensus.ed25519 import is_acceptable_key
from consensus.types import ENTRY_CREDIT, MAX_TOTAL, Address
from contracts.accounts import change_totals, refusal_of_member
from contracts.context import OK, BlockContext, Result, operators_among, payload_of
from contracts.genesis import Admission
from contracts.receipts import (
    BalanceChanged,
    CreditChanged,
    CreditReason,
    MemberJoined,
    MemberLeft,
    MeterChanged,
    ReasonCode,
)
from contracts.state import SINGLETON, Account, MeterOwner, State
from contracts.trade_records import InviteUse, MeterRecord, MeterTerm
from contracts.transaction import ChangeMeter, Join, Meter, Signature, Transaction

MAX_MEMBERS: Final = 16_384
"""A plan that groups them all still fits a transaction: 3 bytes a member, 48 of 64 KiB (PROTOCOL 4.5)."""
MIN_MEMBERS: Final = 4
"""Fewer survive no fault (PROTOCOL 1.7, 6.2)."""


def join(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """Register the sender, or bring back one who left with its old T and N (PROTOCOL 1.5)."""
    payload, address = payload_of(transaction, Join), transaction.sender
    account = state.accounts.get(address)
    if account is not None and account.left_height is None:
        return Result(ReasonCode.ALREADY_A_MEMBER)
    if not is_acceptable_key(payload.public_key):
        return Result(ReasonCode.UNACCEPTABLE_KEY)
    refusal = (
        _refusal_of_meter(state, context, address, payload.meter)
        or _refusal_of_invite(state, context, address, payload)
        or _refusal_of_entry(state, context, account)
    )
    if refusal is not None:
        return Result(refusal)
    if context.genesis.admission is Admission.INVITED and payload.invite is not None:
        state.invites.put(address, InviteUse(payload.invite.last_time_ms))
    _enter(state, context, address, account, payload.public_key)
    _install_meter(state, context, address, payload.meter)
    return OK


def leave(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """End a membership without open contracts; the account stays, with T and N (PROTOCOL 1.7)."""
    address = transaction.sender
    refusal = refusal_of_member(state.accounts.get(address))
    if refusal is not None:
        return Result(refusal)
    account = state.accounts.require(address)
    if account.open_contracts:
        return Result(ReasonCode.OPEN_CONTRACTS)
    members = state.totals.require(SINGLETON).members
    if members == 1 or (members <= MIN_MEMBERS and not context.parameters.allow_non_bft):
        return Result(ReasonCode.TOO_FEW_MEMBERS)
    state.accounts.put(address, _with_membership(account, account.active_epoch, context.height))
    meter = state.meters.require(address)
    for key in dict.fromkeys(term.public_key for term in meter.terms):
        _release_key(state, address, key)
    state.meters.put(address, MeterRecord((), meter.next_slot, meter.last_counter))
    change_totals(state, members=-1)
    context.emit(MemberLeft(address))
    return OK


def change_meter(state: State, context: BlockContext, transaction: Transaction) -> Result:
    """Another meter, or another power, from the next slot on (PROTOCOL 1.4)."""
    meter, address = payload_of(transaction, ChangeMeter).meter, transaction.sender
    refusal = refusal_of_member(state.accounts.get(address)) or _refusal_of_meter(
        state, context, address, meter
    )
    if refusal is not None:
        return Result(refusal)
    _install_meter(state, context, address, meter)
    return OK


def first_slot_after(time_ms: int, slot_ms: int) -> int:
    """The first slot that starts after ``time_ms`` (PROTOCOL 1.4)."""
    return time_ms // slot_ms + 1


def founding_meter(public_key: bytes, max_power_w: int, time_ms: int, slot_ms: int) -> MeterRecord:
    """The meter of a founding member, from the first slot after genesis."""
    first_slot = first_slot_after(time_ms, slot_ms)
    return MeterRecord((MeterTerm(public_key, max_power_w, first_slot),), first_slot, None)


def _refusal_of_meter(
    state: State, context: BlockContext, address: Address, meter: Meter
) -> ReasonCode | None:
    if not is_acceptable_key(meter.public_key):
        return ReasonCode.UNACCEPTABLE_KEY
    owner = state.meter_owners.get(meter.public_key)
    if owner is not None and owner.address != address:
        return ReasonCode.METER_IN_USE
    if meter.max_power_w > context.parameters.max_power_w:
        return ReasonCode.POWER_TOO_LARGE
    if context.genesis.admission is Admission.INVITED and not _approved(context, meter.approvals):
        return ReasonCode.OPERATOR_APPROVAL_MISSING
    return None


def _refusal_of_invite(
    state: State, context: BlockContext, address: Address, payload: Join
) -> ReasonCode | None:
    """In `invited` chains a joining key needs an invite of its own, in time and not spent (PROTOCOL 1.5)."""
    if context.genesis.admission is Admission.OPEN:
        return None
    invite = payload.invite
    if invite is None:
        return ReasonCode.INVITE_MISSING
    if invite.public_key != payload.public_key or not _approved(context, invite.approvals):
        return ReasonCode.INVITE_WRONG
    if context.time_ms > invite.last_time_ms:
        return ReasonCode.INVITE_EXPIRED
    used = state.invites.get(address)
    if used is not None and invite.last_time_ms <= used.last_time_ms:
        return ReasonCode.INVITE_USED
    return None


def _refusal_of_entry(state: State, context: BlockContext, account: Account | None) -> ReasonCode | None:
    totals = state.totals.require(SINGLETON)
    if totals.members >= MAX_MEMBERS:
        return ReasonCode.TOO_MANY_MEMBERS
    grant = context.genesis.entry_balance if account is None else 0
    if max(totals.balances + totals.escrow, totals.genesis) + grant > MAX_TOTAL:
        return ReasonCode.TOTAL_TOO_LARGE
    return None


def _approved(context: BlockContext, approvals: tuple[Signature, ...]) -> bool:
    """Whether enough operators stand among signatures that validation has verified (PROTOCOL 1.5)."""
    keys = tuple(approval.public_key for approval in approvals)
    return operators_among(context.genesis, keys) >= context.genesis.operator_threshold


def _enter(
    state: State, context: BlockContext, address: Address, account: Account | None, public_key: bytes
) -> None:
    if account is not None:
        state.accounts.put(address, _with_membership(account, context.epoch, None))
        change_totals(state, members=1)
        context.emit(MemberJoined(address, public_key))
        return
    grant = context.genesis.entry_balance
    state.accounts.put(address, Account(public_key, grant, ENTRY_CREDIT, 0, 0, 0, context.epoch, None))
    change_totals(state, members=1, balances=grant, genesis=grant)
    context.emit(MemberJoined(address, public_key))
    context.emit(CreditChanged(address, CreditReason.ENTRY, ENTRY_CREDIT, ENTRY_CREDIT))
    if grant:
        context.emit(BalanceChanged(address, grant, grant))


def _with_membership(a: Account, active_epoch: int, left_height: int | None) -> Account:
    return Account(
        a.public_key,
        a.balance,
        a.credit,
        a.energy_wh,
        a.open_contracts,
        a.open_offers,
        active_epoch,
        left_height,
    )


def _install_meter(state: State, context: BlockContext, address: Address, meter: Meter) -> None:
    """Begin a term with the next slot; drop terms that no open slot needs, and free the replaced key."""
    first_slot = first_slot_after(context.time_ms, context.parameters.slot_ms)
    record = state.meters.get(address)
    old_terms = () if record is None else record.terms
    kept = _needed_terms(old_terms, state.metering.require(SINGLETON).open_slot, first_slot)
    terms = (*kept, MeterTerm(meter.public_key, meter.max_power_w, first_slot))
    for key in dict.fromkeys(term.public_key for term in old_terms):
        if key != meter.public_key:
            _release_key(state, address, key)
    state.meter_owners.put(meter.public_key, MeterOwner(address))
    if record is None:
        state.meters.put(address, MeterRecord(terms, first_slot, None))
    else:
        state.meters.put(address, MeterRecord(terms, record.next_slot, record.last_counter))
    context.emit(MeterChanged(address, meter.public_key, first_slot))


def _needed_terms(terms: tuple[MeterTerm, ...], open_slot: int, first_slot: int) -> tuple[MeterTerm, ...]:
    """Terms that begin before ``first_slot`` and last beyond ``open_slot``."""
    earlier = [term for term in terms if term.first_slot < first_slot]
    ends = [term.first_slot for term in earlier[1:]] + [first_slot]
    return tuple(term for term, end in zip(earlier, ends, strict=False) if end > open_slot)


def _release_key(state: State, address: Address, key: bytes) -> None:
    owner = state.meter_owners.get(key)
    if owner is not None and owner.address == address:
        state.meter_owners.delete(key)

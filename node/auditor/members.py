"""Money and membership: transfer, issue, redeem, join, leave, meters (annex on transactions, 5)."""

from node.auditor.encoding import key_is_acceptable
from node.auditor.ledger import ENTRY_CREDIT, Code, Event, Ledger, Reason, demand
from node.auditor.shapes import INVITED, Invite, Meter, Transaction
from node.auditor.state import Account, MeterRecord

MAX_MEMBERS = 16_384


def transfer(ledger: Ledger, transaction: Transaction) -> None:
    """PROTOCOL 1.6."""
    sender, (recipient, amount) = transaction.body.sender, transaction.body.payload
    account = ledger.state.accounts.get(sender)
    demand(account is not None, Code.NOT_A_MEMBER)
    demand(ledger.is_member(recipient), Code.RECIPIENT_UNKNOWN)
    demand(ledger.state.accounts[sender].balance >= amount, Code.BALANCE_TOO_LOW)
    ledger.change_balance(sender, -amount)
    ledger.change_balance(recipient, amount)


def issue(ledger: Ledger, transaction: Transaction) -> None:
    """PROTOCOL 1.6."""
    recipient, amount = transaction.body.payload
    ledger.demand_operators([key for key, _ in transaction.signatures])
    demand(ledger.is_member(recipient), Code.RECIPIENT_UNKNOWN)
    totals = ledger.state.totals.value
    ledger.demand_room(max(totals.balances + totals.escrow, totals.issued), amount)
    ledger.add_totals(balances=amount, issued=amount)
    ledger.change_balance(recipient, amount)
    ledger.emit(Event.MONEY_ISSUED, recipient, amount)


def redeem(ledger: Ledger, transaction: Transaction) -> None:
    """PROTOCOL 1.6."""
    sender, (amount,) = transaction.body.sender, transaction.body.payload
    ledger.demand_operators([key for key, _ in transaction.signatures])
    demand(sender in ledger.state.accounts, Code.NOT_A_MEMBER)
    demand(ledger.state.accounts[sender].balance >= amount, Code.BALANCE_TOO_LOW)
    ledger.demand_room(ledger.state.totals.value.redeemed, amount)
    ledger.add_totals(balances=-amount, redeemed=amount)
    ledger.change_balance(sender, -amount)
    ledger.emit(Event.MONEY_REDEEMED, sender, amount)


def join(ledger: Ledger, transaction: Transaction) -> None:
    """PROTOCOL 1.5."""
    sender, (public_key, meter, invite) = transaction.body.sender, transaction.body.payload
    demand(not ledger.is_member(sender), Code.ALREADY_A_MEMBER)
    demand(key_is_acceptable(public_key), Code.UNACCEPTABLE_KEY)
    _check_meter(ledger, sender, meter)
    invited = ledger.genesis.admission == INVITED
    if invited:
        _check_invite(ledger, sender, public_key, invite)
    totals = ledger.state.totals.value
    demand(totals.members < MAX_MEMBERS, Code.TOO_MANY_MEMBERS)
    new = sender not in ledger.state.accounts
    grant = ledger.genesis.entry_balance if new else 0
    ledger.demand_room(max(totals.balances + totals.escrow, totals.genesis), grant)
    if invited:
        ledger.state.invite_uses.put(sender, (invite.last_time_ms,))
    ledger.add_totals(members=1, balances=grant, genesis=grant)
    if new:
        account = Account(public_key, grant, ENTRY_CREDIT, 0, 0, 0, ledger.epoch, None)
        ledger.state.accounts.put(sender, account)
    else:
        ledger.update(sender, active_epoch=ledger.epoch, left_height=None)
    ledger.emit(Event.MEMBER_JOINED, sender, public_key)
    if new:
        ledger.emit(Event.CREDIT_CHANGED, sender, Reason.ENTRY, ENTRY_CREDIT, ENTRY_CREDIT)
        if grant:
            ledger.emit(Event.BALANCE_CHANGED, sender, grant, grant)
    _install(ledger, sender, meter)


def _check_invite(ledger: Ledger, sender: bytes, public_key: bytes, invite: Invite | None) -> None:
    if invite is None:
        demand(False, Code.INVITE_MISSING)
        return
    operators = {key for key, _ in invite.approvals} & set(ledger.genesis.operators)
    demand(invite.public_key == public_key, Code.INVITE_WRONG)
    demand(len(operators) >= max(1, ledger.genesis.operator_threshold), Code.INVITE_WRONG)
    demand(ledger.time_ms <= invite.last_time_ms, Code.INVITE_EXPIRED)
    used = ledger.state.invite_uses.get(sender)
    demand(used is None or invite.last_time_ms > used[0], Code.INVITE_USED)


def leave(ledger: Ledger, transaction: Transaction) -> None:
    """PROTOCOL 1.7."""
    sender = transaction.body.sender
    account = ledger.member(sender)
    demand(account.open_contracts == 0, Code.OPEN_CONTRACTS)
    members = ledger.state.totals.value.members
    enough = members > 4 or (ledger.parameters.allow_non_bft and members > 1)
    demand(enough, Code.TOO_FEW_MEMBERS)
    ledger.update(sender, left_height=ledger.height)
    ledger.add_totals(members=-1)
    record = ledger.state.meters[sender]
    _disown(ledger, sender, record, None)
    ledger.state.meters.put(sender, record._replace(terms=()))
    ledger.emit(Event.MEMBER_LEFT, sender)


def change_meter(ledger: Ledger, transaction: Transaction) -> None:
    """PROTOCOL 1.4."""
    sender, (meter,) = transaction.body.sender, transaction.body.payload
    ledger.member(sender)
    _check_meter(ledger, sender, meter)
    _install(ledger, sender, meter)


def _check_meter(ledger: Ledger, member: bytes, meter: Meter) -> None:
    demand(key_is_acceptable(meter.public_key), Code.UNACCEPTABLE_KEY)
    owner = ledger.state.meter_owners.get(meter.public_key)
    demand(owner is None or owner[0] == member, Code.METER_IN_USE)
    demand(meter.max_power_w <= ledger.parameters.max_power_w, Code.POWER_TOO_LARGE)
    if ledger.genesis.admission == INVITED:
        ledger.demand_operators([key for key, _ in meter.approvals])


def _disown(ledger: Ledger, member: bytes, record: MeterRecord, kept: bytes | None) -> None:
    owners = ledger.state.meter_owners
    for key in {term[0] for term in record.terms} - {kept}:
        if owners.get(key) == (member,):
            owners.delete(key)


def _install(ledger: Ledger, member: bytes, meter: Meter) -> None:
    first = ledger.time_ms // ledger.parameters.slot_ms + 1
    open_slot = ledger.state.metering.value.open_slot
    record = ledger.state.meters.get(member) or MeterRecord((), first, None)
    _disown(ledger, member, record, meter.public_key)
    earlier = [term for term in record.terms if term[2] < first]
    ends = [term[2] for term in earlier[1:]] + [first]
    kept = [term for term, end in zip(earlier, ends, strict=True) if end > open_slot] if earlier else []
    terms = (*kept, (meter.public_key, meter.max_power_w, first))
    ledger.state.meters.put(member, record._replace(terms=terms))
    ledger.state.meter_owners.put(meter.public_key, (member,))
    ledger.emit(Event.METER_CHANGED, member, meter.public_key, first)

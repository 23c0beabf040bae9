"""From a ledger's bytes to the chain's rows, by the independent auditor: a second implementation of the rules.

What a block's transactions did is taken from the auditor's own receipts, not from what a node said.
"""

from collections.abc import Callable
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from node.auditor import shapes
from node.auditor.encoding import Malformed, address_of, u64
from node.auditor.ledger import Event as Number
from node.auditor.ledger import Reason, Trade
from node.auditor.replay import Audit, Prepared, failed_checks
from node.auditor.source import Source, Unreadable
from node.auditor.validity import Decoded
from scripts.history import chain as rows
from scripts.history.chain import (
    Block,
    Chain,
    Event,
    Finding,
    GroupsFormed,
    Item,
    Member,
    Rules,
    Terms,
    Transfer,
)

PHASES: Final = ("", "running", "planning", "voting", "closing")
FAULTS: Final = ("", "no_block", "wrong_block", "down")


def read_chain(source: Source, genesis_hash: bytes | None = None) -> Chain:
    """Audit everything in ``source`` and keep what it found, up to the first block that cannot be judged."""
    audit = Audit(source.genesis())
    if genesis_hash is not None:
        audit.compare("9.1 genesis hash", genesis_hash, audit.chain_id, stop=True)
    if audit.is_stopped():
        return Chain(
            audit.chain_id.hex(), (), (), GroupsFormed(0, (), ()), Rules(), (), _findings(audit), True
        )
    members, delegates, groups, rules = _beginning(audit)
    blocks: list[Block] = []
    before: Prepared | None = None
    for height in range(1, source.height() + 1):
        try:
            before = _read(source, height, audit, before)
        except (Unreadable, Malformed) as error:
            audit.missing(height, str(error))
            break
        audit.add(before, failed_checks(before.checks))
        if audit.is_stopped():
            break
        blocks.append(_block(before, audit.receipts))
    if not audit.is_stopped():
        audit.check_sums()
    chain_id, found = audit.chain_id.hex(), _findings(audit)
    return Chain(chain_id, members, delegates, groups, rules, tuple(blocks), found, True)


def _read(source: Source, height: int, audit: Audit, before: Prepared | None) -> Prepared:
    data = source.block(height)
    if data is None:
        raise Unreadable("no such block")
    return Prepared(height, data, audit.chain_id, before)


def _findings(audit: Audit) -> tuple[Finding, ...]:
    return tuple(Finding(*finding) for finding in audit.findings)


def _beginning(audit: Audit) -> tuple[tuple[Member, ...], tuple[str, ...], GroupsFormed, Rules]:
    state, parameters = audit.ledger.state, audit.ledger.parameters
    members = tuple(
        Member(address.hex(), account.balance, account.credit)
        for address, account in sorted(state.accounts.rows.items())
    )
    groups, snapshot = state.groups[u64(0)], state.snapshots[u64(0)]
    formed = GroupsFormed(0, tuple(one[0].hex() for one in snapshot.members if one[3]), groups.assignment)
    delegates = tuple(holder.hex() for holder in audit.execution.epoch.seats(1).holders)
    names = (name for name in Rules.__struct_fields__ if name != "entry_balance")
    figures = {name: getattr(parameters, name) for name in names}
    return members, delegates, formed, Rules(**figures, entry_balance=audit.genesis.entry_balance)


# ---- blocks


def _block(prepared: Prepared, encoded: list[bytes]) -> Block:
    header = prepared.block.header
    receipts = [msgpack.unpackb(receipt, use_list=False) for receipt in encoded]
    items = zip(prepared.included, receipts[:-1], strict=True)
    return Block(
        height=header.height,
        hash=prepared.digest.hex(),
        parent=header.parent_hash.hex(),
        epoch=header.epoch,
        view=header.view,
        time_ms=header.time_ms,
        proposer=header.proposer.hex(),
        signers=tuple(address_of(key).hex() for key, _ in prepared.certificate.signatures),
        items=tuple(_item(decoded, receipt) for decoded, receipt in items),
        discarded=tuple(decoded.id.hex() for decoded in prepared.removed),
        events=tuple(_event(*event) for event in receipts[-1][3]),
    )


def _item(decoded: Decoded, receipt: tuple[Any, ...]) -> Item:
    body = decoded.transaction.body
    kind, payload = body.type, body.payload
    terms = transfer = None
    trade = ""
    if kind in (shapes.TRADE_OPEN, shapes.TRADE_OFFER):
        terms = _terms(payload[0])
    elif kind == shapes.TRANSFER:
        transfer = Transfer(payload[0].hex(), payload[1])
    elif kind == shapes.TRADE_ACCEPT:
        trade = payload[0].hex()
    events = tuple(_event(*event) for event in receipt[3])
    name = shapes.TYPE_NAMES[kind]
    return Item(decoded.id.hex(), name, body.sender.hex(), receipt[1], events, terms, transfer, trade)


def _terms(terms: shapes.Terms) -> Terms:
    take_or_pay = terms.buyer_rule == shapes.TAKE_OR_PAY
    seller, buyer = terms.seller.hex(), terms.buyer.hex()
    return Terms(seller, buyer, terms.quantity_wh, terms.price, terms.penalty_bp, take_or_pay)


# ---- events


def _hex(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return tuple([_hex(item) for item in value]) if isinstance(value, tuple) else value


def _credit(address: str, reason: int, delta: int, credit: int) -> Event:
    return rows.CreditChanged(address, Reason(reason).name.lower(), delta, credit)


def _trade(contract: str, state: int, seller: str, buyer: str) -> Event:
    return rows.TradeChanged(contract, Trade(state).name.lower(), seller, buyer)


def _groups(epoch: int, members: tuple[str, ...], assignment: tuple[int, ...], *_: object) -> Event:
    return GroupsFormed(epoch, members, assignment)


def _fault(address: str, kind: int, height: int, charged: bool) -> Event:
    return rows.FaultRecorded(address, FAULTS[kind], height, charged)


def _joined(address: str, _: str) -> Event:
    return rows.MemberJoined(address)


def _phase(epoch: int, phase: int) -> Event:
    return rows.PhaseChanged(epoch, PHASES[phase])


MAKERS: Final[dict[int, Callable[..., Event]]] = {
    Number.BALANCE_CHANGED: rows.BalanceChanged,
    Number.CREDIT_CHANGED: _credit,
    Number.MEMBER_JOINED: _joined,
    Number.MEMBER_LEFT: rows.MemberLeft,
    Number.TRADE_CHANGED: _trade,
    Number.TRADE_SETTLED: rows.TradeSettled,
    Number.READING_ACCEPTED: rows.ReadingAccepted,
    Number.SLOT_ALLOCATED: rows.SlotAllocated,
    Number.BALLOT_ACCEPTED: rows.BallotAccepted,
    Number.PHASE_CHANGED: _phase,
    Number.GROUPS_FORMED: _groups,
    Number.GROUP_TALLIED: rows.GroupTallied,
    Number.DELEGATES_CHANGED: rows.DelegatesChanged,
    Number.FAULT_RECORDED: _fault,
    Number.MONEY_ISSUED: rows.MoneyIssued,
    Number.MONEY_REDEEMED: rows.MoneyRedeemed,
    Number.TRADE_EXCUSED: rows.TradeExcused,
}


def _event(number: int, *fields: Any) -> Event:
    make = MAKERS.get(number)
    return rows.Other(Number(number).name.lower()) if make is None else make(*_hex(fields))

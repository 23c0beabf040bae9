"""Check 7: money and energy add up, receipt by receipt: escrow in is escrow out, no kWh is sold twice (S7)."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from scripts.history.case import Case
from scripts.history.chain import (
    BalanceChanged,
    Event,
    Item,
    MemberJoined,
    MoneyIssued,
    MoneyRedeemed,
    ReadingAccepted,
    SlotAllocated,
    Terms,
    TradeChanged,
    TradeSettled,
)
from scripts.history.verdict import Report, Witness

NAME: Final = "7 trades"
NEXT: Final[dict[str, frozenset[str]]] = {
    "": frozenset({"offered", "active"}),
    "offered": frozenset({"active", "withdrawn", "declined", "expired"}),
    "active": frozenset({"metering", "cancelled"}),
    "metering": frozenset({"settled", "excused"}),
}
"""PROTOCOL 2.3; every other state is an end."""


class Books:
    """What the events so far leave in balances, escrow and registers."""

    def __init__(self, case: Case) -> None:
        self.rules = case.chain.rules
        self.balances = {one.address: one.balance for one in case.chain.members}
        self.terms: dict[str, Terms] = {}
        self.states: dict[str, str] = {}
        self.escrow: dict[str, int] = {}
        self.settled: dict[str, TradeSettled] = {}
        self.readings: dict[tuple[str, int], ReadingAccepted] = {}
        self.allocated: dict[tuple[str, str], int] = defaultdict(int)
        """By contract and member."""
        self.sold: dict[tuple[str, int, bool], int] = defaultdict(int)
        """By member, slot and whether as seller: never more than its register."""
        self.faults: list[str] = []
        self._expected: dict[str, int] = defaultdict(int)
        self._booked: dict[str, int] = defaultdict(int)

    def receipt(self, item: Item | None, events: Sequence[Event]) -> None:
        """Book one receipt; ``item``: the transaction, None for the block's own."""
        self._expected.clear()
        self._booked.clear()
        if item is not None and item.code == 0:
            if item.terms is not None:
                self.terms[item.id] = item.terms
            if item.transfer is not None:
                self._expected[item.sender] -= item.transfer.amount
                self._expected[item.transfer.recipient] += item.transfer.amount
        for event in events:
            self._book(event)
        for address in self._expected.keys() | self._booked.keys():
            due, was = self._expected.get(address, 0), self._booked.get(address, 0)
            if due != was:
                name = "the block" if item is None else f"transaction {item.id}"
                self.faults.append(f"{name} moved {was} at {address}, where {due} is due")

    def _book(self, event: Event) -> None:
        match event:
            case BalanceChanged(address, delta, balance):
                self._booked[address] += delta
                before = self.balances.get(address, 0)
                if balance != before + delta or balance < 0:
                    self.faults.append(f"balance of {address}: {before} and {delta} gives {balance}")
                self.balances[address] = balance
            case MoneyIssued(address, amount):
                self._expected[address] += amount
            case MoneyRedeemed(address, amount):
                self._expected[address] -= amount
            case MemberJoined(address):
                if address not in self.balances:
                    self.balances[address] = 0
                    self._expected[address] += self.rules.entry_balance
            case ReadingAccepted(member, slot):
                if (member, slot) in self.readings:
                    self.faults.append(f"slot {slot} of {member} was read twice")
                self.readings[member, slot] = event
            case SlotAllocated():
                self._allocate(event)
            case TradeSettled():
                self._settle(event)
            case TradeChanged():
                self._change(event)
            case _:
                pass

    def _allocate(self, event: SlotAllocated) -> None:
        terms, reading = self.terms.get(event.contract), self.readings.get((event.member, event.slot))
        if terms is None or event.member not in (terms.seller, terms.buyer):
            self.faults.append(f"energy of {event.member} went to {event.contract}, where it is no party")
            return
        selling = event.member == terms.seller
        register = 0 if reading is None else reading.exported_wh if selling else reading.imported_wh
        used = self.sold[event.member, event.slot, selling] + event.allocated_wh
        self.sold[event.member, event.slot, selling] = used
        if used > register:
            self.faults.append(f"slot {event.slot} of {event.member}: {used} Wh given, {register} Wh metered")
        self.allocated[event.contract, event.member] += event.allocated_wh

    def _settle(self, event: TradeSettled) -> None:
        terms, held = self.terms.get(event.contract), self.escrow.get(event.contract, 0)
        if terms is None or held != terms.escrow:
            self.faults.append(f"{event.contract} was settled without its payment in escrow")
            return
        self.settled[event.contract] = event
        given = tuple(self.allocated[event.contract, party] for party in (terms.seller, terms.buyer))
        if given != (event.seller_wh, event.buyer_wh):
            told = (event.seller_wh, event.buyer_wh)
            self.faults.append(f"{event.contract} was settled over {told} Wh, and its meters gave {given}")
        if event.delivered_wh != min(given) or event.paid_wh > terms.quantity_wh:
            self.faults.append(
                f"{event.contract}: {event.delivered_wh} Wh delivered, {event.paid_wh} Wh paid"
            )
        to_seller = event.paid + terms.deposit - event.seller_penalty + event.buyer_penalty
        to_buyer = held - to_seller
        if event.paid != event.paid_wh * terms.price or to_seller < 0 or to_buyer < 0:
            self.faults.append(
                f"{event.contract}: escrow {held} would end negative, {to_seller} and {to_buyer}"
            )
        self._expected[terms.seller] += to_seller
        self._expected[terms.buyer] += to_buyer
        self.escrow.pop(event.contract, None)

    def _change(self, event: TradeChanged) -> None:
        before, terms = self.states.get(event.contract, ""), self.terms.get(event.contract)
        if event.state not in NEXT.get(before, ()):
            self.faults.append(f"{event.contract} went from {before or 'nothing'} to {event.state}")
        self.states[event.contract] = event.state
        if terms is None or (event.seller, event.buyer) != (terms.seller, terms.buyer):
            self.faults.append(
                f"{event.contract} is between {event.seller} and {event.buyer}: nobody signed that"
            )
            return
        value = terms.escrow - 2 * terms.deposit
        stakes = ((terms.seller, terms.deposit), (terms.buyer, terms.deposit + value))
        if event.state == "active":
            self.escrow[event.contract] = terms.escrow
            for party, stake in stakes:
                self._expected[party] -= stake
        elif event.state == "cancelled":
            self.escrow.pop(event.contract, None)
            for party, stake in stakes:
                self._expected[party] += stake
        elif event.state in ("settled", "excused") and event.contract not in self.settled:
            self.faults.append(f"{event.contract} ended as {event.state} without a settlement")


def check(case: Case) -> Report:
    """Every receipt of the chain, in order."""
    books = Books(case)
    witnesses: list[Witness] = []
    for block in case.chain.blocks:
        for item in block.items:
            books.receipt(item, item.events)
        books.receipt(None, block.events)
        witnesses += [Witness(NAME, fault, (), (block.height,)) for fault in books.faults]
        books.faults.clear()
    ended = len(books.settled)
    note = (
        f"{ended} trades settled, {len(books.escrow)} with {sum(books.escrow.values())} in escrow at the end"
    )
    return Report(NAME, tuple(witnesses), (), (note,))

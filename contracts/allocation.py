"""Allocation of meters' registers to contracts, so that one kWh never fulfils two (PROTOCOL 2.4).

A meter's slots are served in ascending order, each once it is read or closed; a slot that no contract of the member
covers needs neither, since none can cover it any more. A slot that closes unread takes effect when its meter is next
touched, by a reading or by a contract's deadline: it gives nothing to anyone, so no figure depends on the moment. The
work of a slot is bounded by what it fills: every contract but the last one served is full.
"""

from bisect import bisect_left, insort
from typing import Final

from consensus.errors import invariant
from consensus.types import Address
from contracts.context import BlockContext
from contracts.receipts import SlotAllocated
from contracts.state import SINGLETON, State, reading_key
from contracts.trade_index import MeterBook, Place
from contracts.trade_records import Contract, MeterRecord

_NO_SLOTS: Final[list[int]] = []


def advance_meter(state: State, context: BlockContext, member: Address) -> None:
    """Allocate every slot of ``member`` whose turn has come, and queue the contracts that this completes."""
    meter = state.meters.require(member)
    open_slot = state.metering.require(SINGLETON).open_slot
    read, book = state.trades.read_slots.get(member, _NO_SLOTS), state.trades.book(member)
    slot = meter.next_slot
    position = bisect_left(read, slot)
    while True:
        next_read = read[position] if position < len(read) else None
        if slot < open_slot and (next_read is None or next_read > slot):
            slot = open_slot if next_read is None else min(open_slot, next_read)
        elif next_read is None:
            break
        elif next_read == slot:
            _allocate(state, context, member, slot, book)
            slot += 1
            position += 1
        else:
            passed = _pass_uncovered(book, slot, next_read)
            if passed == slot:
                break
            slot = passed
    invariant(slot >= meter.next_slot, "a meter's slots are allocated in order, each once (2.4)")
    if slot != meter.next_slot:
        state.meters.put(member, MeterRecord(meter.terms, slot, meter.last_counter))
        _complete(state, member, book, slot)


def _begin(book: MeterBook, slot: int) -> None:
    """Let windows that begin at or before ``slot`` take part."""
    for place, sells in book.waiting.take_below(slot + 1):
        insort(book.sales if sells else book.purchases, place)
        book.covered_to = max(book.covered_to, -place[0])


def _pass_uncovered(book: MeterBook, slot: int, next_read: int) -> int:
    """The first slot from the open, unread ``slot`` on that a window covers, or ``next_read`` if none before it is."""
    while slot < next_read:
        _begin(book, slot)
        if book.covered_to > slot:
            return slot
        start = book.waiting.first()
        slot = next_read if start is None else min(start, next_read)
    return slot


def _allocate(state: State, context: BlockContext, member: Address, slot: int, book: MeterBook) -> None:
    """Give the registers of a read slot: exports to sales, imports to purchases."""
    _begin(book, slot)
    reading = state.readings.require(reading_key(slot, member))
    _serve(state, context, member, slot, book.sales, reading.exported_wh, True)
    _serve(state, context, member, slot, book.purchases, reading.imported_wh, False)


def _serve(
    state: State,
    context: BlockContext,
    member: Address,
    slot: int,
    live: list[Place],
    energy_wh: int,
    sold: bool,
) -> None:
    """The window that ends first is served first, then activation order; never beyond the open quantity."""
    while live and -live[-1][0] <= slot:
        live.pop()
    while energy_wh and live:
        contract_id = live[-1][3]
        contract = state.contracts.require(contract_id)
        open_wh = contract.terms.quantity_wh - (contract.seller_wh if sold else contract.buyer_wh)
        invariant(open_wh >= 0, "no more than the agreed quantity is allocated (2.4)")
        if open_wh == 0:
            live.pop()
            continue
        given = min(open_wh, energy_wh)
        energy_wh -= given
        state.contracts.put(contract_id, _with_allocation(state, contract, slot, given, sold))
        context.emit(SlotAllocated(contract_id, member, slot, given))


def _with_allocation(state: State, c: Contract, slot: int, given: int, sold: bool) -> Contract:
    """``c`` with ``given`` Wh of ``slot`` on its seller's or buyer's side."""
    place = slot - state.trades.start_slot(c)
    slots = c.seller_slots if sold else c.buyer_slots
    invariant(0 <= place < len(slots), "energy is allocated within the trade's own window (2.1)")
    invariant(slots[place] == 0, "a slot gives to one side of a trade once (2.4)")
    filled = (*slots[:place], given, *slots[place + 1 :])
    return Contract(
        c.terms,
        c.height,
        c.index,
        c.state,
        c.cancelled_by,
        c.excused,
        c.seller_wh + given if sold else c.seller_wh,
        c.buyer_wh if sold else c.buyer_wh + given,
        filled if sold else c.seller_slots,
        c.buyer_slots if sold else filled,
    )


def _complete(state: State, member: Address, book: MeterBook, next_slot: int) -> None:
    """Queue for settlement what ends by ``next_slot`` here and on the other party's meter too (PROTOCOL 2.5)."""
    for contract_id in book.ending.take_below(next_slot + 1):
        contract = state.contracts.require(contract_id)
        terms = contract.terms
        other = terms.buyer if member == terms.seller else terms.seller
        if state.meters.require(other).next_slot >= state.trades.end_slot(contract):
            state.trades.settle_when_due(contract_id, contract)

"""Answers about trades for the API: what a contract binds, where each of its slots stands, what terms would risk.

Pure reads. Contracts leave the state when they end; for those `slot_table` takes what the ledger's events
(`SlotAllocated`, `ReadingAccepted`) say instead of what the state holds, with the same result (PROTOCOL 2.5).
"""

from collections.abc import Iterable, Sequence

from consensus.credit import trade_penalty
from consensus.parameters import Parameters
from consensus.types import Address, Digest, Value
from contracts.receipts import Event, ReadingAccepted, SlotAllocated, TradeState
from contracts.state import State, reading_key
from contracts.trade_records import Contract
from contracts.trade_terms import deposit_of, escrow_of, value_of
from contracts.transaction import BuyerRule, Terms


class SlotRow(Value, frozen=True):
    """One slot of a trade's window, in Wh; None where it is not known yet, or was never read."""

    slot: int
    start_ms: int
    contracted_wh: int
    """q * (j + 1) // m - q * j // m."""
    exported_wh: int | None
    """The seller's register, for all its contracts together; None without a reading."""
    imported_wh: int | None
    """The buyer's register."""
    seller_allocated_wh: int | None
    """None: the slot is not allocated yet. 0 with no register: it closed unread."""
    buyer_allocated_wh: int | None
    paid_wh: int | None
    """Growth of what is paid for; None until both sides of this and every earlier slot are allocated."""


class TradeView(Value, frozen=True):
    """A trade that has not ended."""

    id: Digest
    state: TradeState
    terms: Terms
    height: int
    index: int
    """Block and position of the offer, or of the activation."""
    offerer: Address | None
    """Set while the trade is only offered."""
    cancelled_by: Address | None
    excused: bool
    escrow: int
    """Nano-units held; 0 while offered."""
    seller_wh: int
    buyer_wh: int
    slots: tuple[SlotRow, ...]


class TradeQuote(Value, frozen=True):
    """What terms would bind and risk."""

    value: int
    buyer_escrow: int
    """Payment and deposit, nano-units."""
    seller_escrow: int
    """Deposit, nano-units."""
    seller_worst_credit: int
    buyer_worst_credit: int
    """Milli-credits lost if nothing at all is delivered, or taken."""


def trade_view(state: State, parameters: Parameters, trade_id: Digest) -> TradeView | None:
    """The offer or contract ``trade_id``; None if it has ended or never was."""
    contract = state.contracts.get(trade_id)
    if contract is not None:
        return _contract_view(state, parameters, trade_id, contract)
    offer = state.offers.get(trade_id)
    if offer is None:
        return None
    nothing: tuple[None, ...] = (None,) * offer.terms.slots
    table = slot_table(offer.terms, parameters.slot_ms, (nothing, nothing), (nothing, nothing))
    return TradeView(
        id=trade_id,
        state=TradeState.OFFERED,
        terms=offer.terms,
        height=offer.height,
        index=offer.index,
        offerer=offer.offerer,
        cancelled_by=None,
        excused=False,
        escrow=0,
        seller_wh=0,
        buyer_wh=0,
        slots=table,
    )


def quote(terms: Terms, parameters: Parameters) -> TradeQuote:
    """Escrow and worst-case credit loss of ``terms``; whether a block would take them is another question."""
    q, deposit = terms.quantity_wh, deposit_of(terms)
    worst = trade_penalty(parameters.trade_penalty, q, q, parameters.trade_reference_wh)
    value = value_of(terms)
    return TradeQuote(
        value=value,
        buyer_escrow=value + deposit,
        seller_escrow=deposit,
        seller_worst_credit=worst,
        buyer_worst_credit=worst,
    )


def slot_table(
    terms: Terms,
    slot_ms: int,
    allocated: tuple[Sequence[int | None], Sequence[int | None]],
    registers: tuple[Sequence[int | None], Sequence[int | None]],
) -> tuple[SlotRow, ...]:
    """The statement of a trade, slot by slot (PROTOCOL 2.5).

    ``allocated`` and ``registers`` are (seller's, buyer's) Wh for each slot of the window: None where a slot is not
    allocated yet, or has no reading.
    """
    first, q, m = terms.start_ms // slot_ms, terms.quantity_wh, terms.slots
    sold = bought = paid_before = 0
    known = True
    rows = []
    for j in range(m):
        seller_wh, buyer_wh = allocated[0][j], allocated[1][j]
        paid_wh: int | None = None
        known = known and seller_wh is not None and buyer_wh is not None
        if known and seller_wh is not None and buyer_wh is not None:
            sold += seller_wh
            bought += buyer_wh if registers[1][j] is not None else seller_wh
            paid = sold if terms.buyer_rule is BuyerRule.TAKE_OR_PAY else min(sold, bought, q)
            paid_wh, paid_before = paid - paid_before, paid
        rows.append(
            SlotRow(
                slot=first + j,
                start_ms=(first + j) * slot_ms,
                contracted_wh=q * (j + 1) // m - q * j // m,
                exported_wh=registers[0][j],
                imported_wh=registers[1][j],
                seller_allocated_wh=seller_wh,
                buyer_allocated_wh=buyer_wh,
                paid_wh=paid_wh,
            )
        )
    return tuple(rows)


def slot_table_of_ended(
    trade_id: Digest, terms: Terms, slot_ms: int, events: Iterable[Event]
) -> tuple[SlotRow, ...]:
    """The statement of a settled trade from the ledger's events, of which it takes what concerns the trade."""
    first, m = terms.start_ms // slot_ms, terms.slots
    sold: list[int | None] = [0] * m
    bought: list[int | None] = [0] * m
    exported: list[int | None] = [None] * m
    imported: list[int | None] = [None] * m
    for event in events:
        if isinstance(event, SlotAllocated) and event.contract_id == trade_id:
            (sold if event.member == terms.seller else bought)[event.slot - first] = event.allocated_wh
        elif isinstance(event, ReadingAccepted) and first <= event.slot < first + m:
            if event.member == terms.seller:
                exported[event.slot - first] = event.exported_wh
            elif event.member == terms.buyer:
                imported[event.slot - first] = event.imported_wh
    return slot_table(terms, slot_ms, (sold, bought), (exported, imported))


def _contract_view(state: State, parameters: Parameters, trade_id: Digest, contract: Contract) -> TradeView:
    terms = contract.terms
    sold, exported = _side(state, contract, terms.seller, contract.seller_slots)
    bought, imported = _side(state, contract, terms.buyer, contract.buyer_slots)
    registers = (
        [None if reading is None else reading[0] for reading in exported],
        [None if reading is None else reading[1] for reading in imported],
    )
    return TradeView(
        id=trade_id,
        state=contract.state,
        terms=terms,
        height=contract.height,
        index=contract.index,
        offerer=None,
        cancelled_by=contract.cancelled_by,
        excused=contract.excused,
        escrow=escrow_of(terms),
        seller_wh=contract.seller_wh,
        buyer_wh=contract.buyer_wh,
        slots=slot_table(terms, parameters.slot_ms, (sold, bought), registers),
    )


def _side(
    state: State, contract: Contract, member: Address, slots: tuple[int, ...]
) -> tuple[list[int | None], list[tuple[int, int] | None]]:
    """Of one party: allocations so far (None: not yet), and its (exported, imported) registers (None: unread)."""
    next_slot, first = state.meters.require(member).next_slot, state.trades.start_slot(contract)
    allocated: list[int | None] = []
    registers: list[tuple[int, int] | None] = []
    for place, given in enumerate(slots):
        allocated.append(given if first + place < next_slot else None)
        reading = state.readings.get(reading_key(first + place, member))
        registers.append(None if reading is None else (reading.exported_wh, reading.imported_wh))
    return allocated, registers

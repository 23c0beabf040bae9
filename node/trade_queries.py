"""Trades, read from the ledger: lists by party and state, histories, slot tables, also after their end.

A page looks at no more than `MAX_LOOKED_AT` rows; where a filter keeps few of them the page is short and has a next
cursor.
"""

from collections.abc import Iterator
from typing import Final

from consensus.types import Address, Digest
from contracts.queries import quote, slot_table, trade_view
from contracts.receipts import TradeState
from contracts.transaction import Terms
from node.ledger import Ledger
from node.ledger_rows import (
    EVERYBODY,
    Location,
    Prefix,
    TransitionRow,
    allocations_codec,
    number,
    place_of,
    reading_codec,
    trades_codec,
    transition_codec,
)
from node.paging import check_limit, cursor_bytes
from node.service import (
    DEFAULT_PAGE_ITEMS,
    LedgerPosition,
    Page,
    Quote,
    TradeAnswer,
    TradeSlot,
    TradeSummary,
    TradeTransition,
    UnknownResource,
)

MAX_LOOKED_AT: Final = 1_000
"""Rows behind one page of a filtered list: about 5 ms of the loop's time."""
_Slots = list[int | None]


class TradeQueries:
    """The part of `node.service.NodeService` that is about trades."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def position(self) -> LedgerPosition:
        """The last decided block."""
        ledger = self._ledger
        return LedgerPosition(ledger.height, ledger.block_hash, ledger.time_ms)

    def _time_ms(self, height: int) -> int:
        return self._ledger.header_row(height).header.time_ms

    def trades(
        self,
        party: Address | None = None,
        state: TradeState | None = None,
        cursor: str | None = None,
        limit: int = DEFAULT_PAGE_ITEMS,
    ) -> Page[TradeSummary]:
        """Trades, newest first, of one party or of all, in one state or in any."""
        check_limit(limit)
        prefix = Prefix.PARTY + (EVERYBODY if party is None else party)
        before = None if cursor is None else place_of(cursor_bytes(cursor, 12))
        start = None if before is None else prefix + number(before[0])
        found: list[TradeSummary] = []
        looked_at, last = 0, (0, 0)
        for key, value in self._ledger.store.scan(prefix, start, reverse=True):
            height = int.from_bytes(key[-8:], "big")
            for index, trade_id in reversed(trades_codec.decode(value)):
                if before is not None and (height, index) >= before:
                    continue
                if len(found) == limit or looked_at == MAX_LOOKED_AT:
                    return Page(
                        self.position(), tuple(found), (number(last[0]) + last[1].to_bytes(4, "big")).hex()
                    )
                looked_at += 1
                last = (height, index)
                summary = self._trade_summary(trade_id)
                if state is None or summary.state is state:
                    found.append(summary)
        return Page(self.position(), tuple(found), None)

    def _trade_summary(self, trade_id: Digest) -> TradeSummary:
        location, terms = self._trade_location(trade_id)
        return TradeSummary(trade_id, self._trade_state(trade_id, location), terms, location.height)

    def _trade_location(self, trade_id: Digest) -> tuple[Location, Terms]:
        location = self._ledger.locate(trade_id)
        if location is None or location.opened is None or location.terms is None:
            raise UnknownResource(f"no trade has the id {trade_id.hex()}")
        return location, location.terms

    def _trade_state(self, trade_id: Digest, location: Location) -> TradeState:
        state = self._ledger.state
        contract = state.contracts.get(trade_id)
        if contract is not None:
            return contract.state
        if trade_id in state.offers:
            return TradeState.OFFERED
        for _, value in self._ledger.store.scan(Prefix.TRANSITION + trade_id, reverse=True):
            return transition_codec.decode(value).state
        return location.opened or TradeState.OFFERED

    def trade(self, contract_id: Digest) -> TradeAnswer:
        """One trade with history, slot table and settlement."""
        location, terms = self._trade_location(contract_id)
        view = trade_view(self._ledger.state, self._ledger.genesis.parameters, contract_id)
        transitions = list(self._transitions(contract_id))
        opened_ms = self._time_ms(location.height)
        history = [TradeTransition(location.height, opened_ms, location.opened or TradeState.OFFERED)]
        history += [TradeTransition(height, self._time_ms(height), row.state) for height, row in transitions]
        last = transitions[-1][1] if transitions else None
        return TradeAnswer(
            at=self.position(),
            id=contract_id,
            state=history[-1].state,
            terms=terms,
            escrow=0 if view is None else view.escrow,
            history=tuple(history),
            slots=self._slots(contract_id, terms, history[-1].state),
            settlement=None if last is None else last.settlement,
            seller_credit_delta=0 if last is None else last.seller_credit_delta,
            buyer_credit_delta=0 if last is None else last.buyer_credit_delta,
        )

    def _transitions(self, contract_id: Digest) -> Iterator[tuple[int, TransitionRow]]:
        for key, value in self._ledger.store.scan(Prefix.TRANSITION + contract_id):
            yield place_of(key[-12:])[0], transition_codec.decode(value)

    def _slots(self, contract_id: Digest, terms: Terms, state: TradeState) -> tuple[TradeSlot, ...]:
        slot_ms = self._ledger.genesis.parameters.slot_ms
        first = terms.start_ms // slot_ms
        registers = (
            self._registers(terms.seller, first, terms.slots, exported=True),
            self._registers(terms.buyer, first, terms.slots, exported=False),
        )
        ended = state in (TradeState.SETTLED, TradeState.EXCUSED)
        allocated = (
            self._allocated_below(terms.seller, first, terms.slots, state, ended),
            self._allocated_below(terms.buyer, first, terms.slots, state, ended),
        )
        for _, value in self._ledger.store.scan(Prefix.ALLOCATION + contract_id):
            for allocation in allocations_codec.decode(value):
                side, place = allocated[not allocation.seller], allocation.slot - first
                side[place] = (side[place] or 0) + allocation.wh
        rows = slot_table(terms, slot_ms, allocated, registers)
        return tuple(
            TradeSlot(
                slot=row.slot,
                start_ms=row.start_ms,
                contracted_wh=row.contracted_wh,
                seller_allocated_wh=row.seller_allocated_wh,
                seller_read=None if row.seller_allocated_wh is None else row.exported_wh is not None,
                buyer_allocated_wh=row.buyer_allocated_wh,
                buyer_read=None if row.buyer_allocated_wh is None else row.imported_wh is not None,
                paid_wh=row.paid_wh,
                seller_metered_wh=row.exported_wh,
                buyer_metered_wh=row.imported_wh,
            )
            for row in rows
        )

    def _registers(self, member: Address, first: int, count: int, *, exported: bool) -> _Slots:
        found: _Slots = [None] * count
        prefix = Prefix.READING + member
        for key, value in self._ledger.store.scan(prefix, prefix + number(first)):
            place = int.from_bytes(key[-8:], "big") - first
            if place >= count:
                break
            row = reading_codec.decode(value)
            found[place] = row.exported_wh if exported else row.imported_wh
        return found

    def _allocated_below(
        self, member: Address, first: int, count: int, state: TradeState, ended: bool
    ) -> _Slots:
        """0 for slots that are allocated on the member's meter, None for the others; allocations are added to it."""
        if ended:
            return [0] * count
        meter = self._ledger.state.meters.get(member)
        in_force = state in (TradeState.ACTIVE, TradeState.METERING)
        next_slot = first if meter is None or not in_force else meter.next_slot
        return [0 if first + place < next_slot else None for place in range(count)]

    def quote(self, terms: Terms) -> Quote:
        """Escrow and worst-case credit loss of ``terms`` (PROTOCOL 2.2, 2.6)."""
        figures = quote(terms, self._ledger.genesis.parameters)
        return Quote(
            at=self.position(),
            value=figures.value,
            buyer_escrow=figures.buyer_escrow,
            seller_escrow=figures.seller_escrow,
            seller_worst_credit=figures.seller_worst_credit,
            buyer_worst_credit=figures.buyer_worst_credit,
        )

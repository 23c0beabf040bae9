"""Index rows of one block, derived from its receipts: what lists and histories are served from (LESSONS 14, 19).

Everything here can be built again from blocks; it is written with the block so that no query ever lags behind.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from consensus.encoding import encode
from consensus.types import Address, Digest
from contracts.receipts import (
    BalanceChanged,
    CreditChanged,
    CreditReason,
    DelegatesChanged,
    EpochPhase,
    Event,
    GroupsFormed,
    GroupTallied,
    PhaseChanged,
    ReadingAccepted,
    Receipt,
    SlotAllocated,
    TradeChanged,
    TradeSettled,
    TradeState,
)
from contracts.seats import delegate_set_at
from contracts.state import State
from contracts.transaction import Terms, TradeOffer, TradeOpen, Transaction
from node.ledger_rows import (
    EVERYBODY,
    Allocation,
    CreditRow,
    EpochRow,
    Location,
    Prefix,
    ReadingRow,
    TransitionRow,
    epoch_codec,
    number,
    place,
)
from node.store import Store

_SHORTFALLS: Final = (CreditReason.SELLER_SHORTFALL, CreditReason.BUYER_SHORTFALL)


class BlockIndexer:
    """Collects the index rows of one block."""

    def __init__(self, store: Store, state: State, height: int) -> None:
        """``state`` is that after the block."""
        self._store = store
        self._state = state
        self._height = height
        self._sequence = 0
        self.rows: dict[bytes, bytes | None] = {}
        self._started: dict[Address, list[tuple[int, Digest]]] = {}
        self._allocated: dict[Digest, list[Allocation]] = {}
        self._epochs: dict[int, EpochRow] = {}
        self._settled: TradeSettled | None = None
        self._losses = [0, 0]

    def add(
        self, transactions: Sequence[Transaction], discarded: Sequence[Digest], receipts: Sequence[Receipt]
    ) -> dict[bytes, bytes | None]:
        """The rows of a block with these ``transactions``, removed ids and receipts (the block's own last)."""
        for index, (transaction, receipt) in enumerate(zip(transactions, receipts, strict=False)):
            self._add_transaction(index, transaction, receipt)
            for event in receipt.events:
                self._add_event(index, transaction.id, event)
        for index, transaction_id in enumerate(discarded):
            self._locate(transaction_id, Location(self._height, index, True, None, None))
        for event in receipts[-1].events:
            self._add_event(len(transactions), None, event)
        self._finish()
        return self.rows

    def _add_transaction(self, index: int, transaction: Transaction, receipt: Receipt) -> None:
        opened, terms = _trade_of(transaction) if not receipt.code else (None, None)
        self._locate(transaction.id, Location(self._height, index, False, opened, terms))

    def _locate(self, transaction_id: Digest, location: Location) -> None:
        self.rows[Prefix.IDENTIFIER + transaction_id] = encode(location)

    def _add_event(self, index: int, transaction_id: Digest | None, event: Event) -> None:
        match event:
            case BalanceChanged():
                pass  # the most frequent by far, and in no list
            case CreditChanged():
                row = CreditRow(event.reason, event.delta, event.credit)
                self.rows[Prefix.CREDIT + event.address + place(self._height, self._sequence)] = encode(row)
                if event.reason in _SHORTFALLS:
                    self._losses[event.reason is CreditReason.BUYER_SHORTFALL] += event.delta
            case TradeSettled():
                self._settled, self._losses = event, [0, 0]
            case TradeChanged():
                self._add_transition(index, transaction_id, event)
            case SlotAllocated():
                self._add_allocation(event)
            case ReadingAccepted():
                reading = ReadingRow(event.exported_wh, event.imported_wh)
                self.rows[Prefix.READING + event.member + number(event.slot)] = encode(reading)
            case DelegatesChanged():
                ranking = delegate_set_at(self._state, event.height).ranking
                self.rows[Prefix.DELEGATES + number(event.height)] = encode(ranking)
            case GroupsFormed() | GroupTallied() | PhaseChanged():
                self._add_epoch(event)
            case _:
                pass
        self._sequence += 1

    def _add_transition(self, index: int, transaction_id: Digest | None, event: TradeChanged) -> None:
        if event.contract_id == transaction_id:
            for party in (event.seller, event.buyer, EVERYBODY):
                self._started.setdefault(party, []).append((index, event.contract_id))
            return
        settled = self._settled
        if settled is None or settled.contract_id != event.contract_id:
            settled, losses = None, [0, 0]
        else:
            losses = self._losses
        row = TransitionRow(event.state, settled, losses[0], losses[1])
        self.rows[Prefix.TRANSITION + event.contract_id + place(self._height, self._sequence)] = encode(row)

    def _add_allocation(self, event: SlotAllocated) -> None:
        contract = self._state.contracts.get(event.contract_id)
        if contract is not None:
            seller = contract.terms.seller == event.member
        else:  # it ended in this very block
            location = self._store.get(Prefix.IDENTIFIER + event.contract_id)
            terms = None if location is None else msgspec.msgpack.decode(location, type=Location).terms
            seller = terms is not None and terms.seller == event.member
        allocation = Allocation(seller, event.slot, event.allocated_wh)
        self._allocated.setdefault(event.contract_id, []).append(allocation)

    def _add_epoch(self, event: GroupsFormed | GroupTallied | PhaseChanged) -> None:
        self._epochs[event.epoch] = self._epoch_after(self._epoch(event.epoch), event)

    def _epoch_after(self, known: EpochRow, event: GroupsFormed | GroupTallied | PhaseChanged) -> EpochRow:
        match event:
            case GroupsFormed():
                return msgspec.structs.replace(
                    known,
                    members=event.members,
                    assignment=event.assignment,
                    energy_excess_wh=event.energy_excess_wh,
                    credit_excess=event.credit_excess,
                    submitted=event.submitted,
                )
            case GroupTallied():
                return msgspec.structs.replace(known, tallies=(*known.tallies, event))
            case PhaseChanged():
                return self._phase_changed(known, event.phase)

    def _phase_changed(self, known: EpochRow, phase: EpochPhase) -> EpochRow:
        match phase:
            case EpochPhase.RUNNING:
                ranking = delegate_set_at(self._state, self._height + 1).ranking
                addresses = tuple(delegate.address for delegate in ranking)
                return msgspec.structs.replace(known, first_height=self._height + 1, delegates=addresses)
            case EpochPhase.PLANNING:
                return msgspec.structs.replace(known, snapshot_height=self._height)
            case EpochPhase.VOTING:
                return known
            case EpochPhase.CLOSING:
                return msgspec.structs.replace(known, closing_height=self._height + 1)

    def _epoch(self, epoch: int) -> EpochRow:
        known = self._epochs.get(epoch)
        if known is not None:
            return known
        stored = self._store.get(Prefix.EPOCH + number(epoch))
        return EpochRow() if stored is None else epoch_codec.decode(stored)

    def _finish(self) -> None:
        for party, started in self._started.items():
            self.rows[Prefix.PARTY + party + number(self._height)] = encode(tuple(started))
        for contract_id, allocations in self._allocated.items():
            key = Prefix.ALLOCATION + contract_id + number(self._height)
            self.rows[key] = encode(tuple(allocations))
        for epoch, row in self._epochs.items():
            self.rows[Prefix.EPOCH + number(epoch)] = encode(row)


def genesis_rows(state: State) -> dict[bytes, bytes | None]:
    """Rows of block 0: C(1), and epoch 0 with its groups (PROTOCOL 4.7)."""
    ranking = delegate_set_at(state, 1).ranking
    snapshot, groups = (
        state.epoch.snapshots.require(number(0)),
        state.epoch.groups.require(number(0)),
    )
    row = EpochRow(
        first_height=1,
        members=tuple(member.address for member in snapshot.members if member.eligible),
        assignment=groups.assignment,
        energy_excess_wh=groups.score.energy_excess,
        credit_excess=groups.score.credit_excess,
        delegates=tuple(delegate.address for delegate in ranking),
    )
    return {
        Prefix.DELEGATES + number(1): encode(ranking),
        Prefix.EPOCH + number(0): encode(row),
    }


def events_of(receipts: Sequence[Receipt]) -> Iterator[tuple[Digest | None, Event]]:
    """All events of a block in order, each with the transaction that caused it; None for the block's own."""
    for receipt in receipts[:-1]:
        for event in receipt.events:
            yield receipt.transaction_id, event
    for event in receipts[-1].events:
        yield None, event


def _trade_of(transaction: Transaction) -> tuple[TradeState | None, Terms | None]:
    match transaction.payload:
        case TradeOpen(terms):
            return TradeState.ACTIVE, terms
        case TradeOffer(terms):
            return TradeState.OFFERED, terms
        case _:
            return None, None

"""Orders over contracts and readings that the state tables imply: rebuilt on load, kept beside them, never hashed.

Every structure here follows from the tables' content alone (ties are broken by activation height and index), so two
nodes with the same tables act in the same order, whatever their history. Entries that have lost their object, or have
done their work before a restart, stay until their turn and are skipped: who takes one asks the table first.
"""

from bisect import insort
from heapq import heappop, heappush
from typing import Final, Generic, TypeAlias, TypeVar

from consensus.types import Address, Digest
from contracts.trade_records import Contract, Offer

T = TypeVar("T")

EXPIRE: Final = 0
BEGIN_METERING: Final = 1
SETTLE: Final = 2

Deadline: TypeAlias = tuple[int, int, int, int, Digest]
"""(due ms of block time, activation height, index, kind, id), PROTOCOL 6.11."""
Place: TypeAlias = tuple[int, int, int, Digest]
"""(-end slot, -height, -index, id): the last of an ascending list is served first (PROTOCOL 2.4)."""


class SlotBuckets(Generic[T]):
    """Items by slot number, taken in ascending slots; a slot's items come in the order they were added."""

    def __init__(self) -> None:
        self._buckets: dict[int, list[T]] = {}
        self._slots: list[int] = []

    def add(self, slot: int, item: T) -> None:
        """File ``item`` under ``slot``."""
        bucket = self._buckets.get(slot)
        if bucket is None:
            self._buckets[slot] = [item]
            heappush(self._slots, slot)
        else:
            bucket.append(item)

    def first(self) -> int | None:
        """The smallest slot with items, or None."""
        return self._slots[0] if self._slots else None

    def take_first(self) -> list[T]:
        """Remove and return the items of the smallest slot; there must be one."""
        return self._buckets.pop(heappop(self._slots))

    def take_below(self, slot: int) -> list[T]:
        """Remove and return all items filed under smaller slots, in slot order."""
        taken: list[T] = []
        while self._slots and self._slots[0] < slot:
            taken.extend(self.take_first())
        return taken


class MeterBook:
    """The contracts that one member's meter serves."""

    def __init__(self) -> None:
        self.waiting: SlotBuckets[tuple[Place, bool]] = SlotBuckets()
        """By first slot of the window, with whether the member sells."""
        self.sales: list[Place] = []
        """Begun and not yet filled, the next to be served last."""
        self.purchases: list[Place] = []
        self.ending: SlotBuckets[Digest] = SlotBuckets()
        """By the slot after the window."""
        self.covered_to = 0
        """The latest end of a window that has begun: a slot below it needs a reading or its closing."""


class TradeIndex:
    """All derived orders of one state."""

    def __init__(self, slot_ms: int) -> None:
        self._slot_ms = slot_ms
        self._books: dict[Address, MeterBook] = {}
        self._expiries: list[Deadline] = []
        self._beginnings: SlotBuckets[Deadline] = SlotBuckets()
        self._closings: SlotBuckets[Deadline] = SlotBuckets()
        self.due: list[Deadline] = []
        """Heap of deadlines that have come and wait for their turn."""
        self.read_slots: dict[Address, list[int]] = {}
        """Slots of each member with a reading in the state, ascending."""
        self.readers: SlotBuckets[Address] = SlotBuckets()
        """Who has a reading in the state, by slot."""

    def book(self, member: Address) -> MeterBook:
        """The contracts of ``member``."""
        book = self._books.get(member)
        if book is None:
            book = self._books[member] = MeterBook()
        return book

    def add_offer(self, offer_id: Digest, offer: Offer) -> None:
        """File an open offer's expiry."""
        heappush(self._expiries, (offer.terms.expiry_ms, offer.height, offer.index, EXPIRE, offer_id))

    def add_contract(self, contract_id: Digest, contract: Contract) -> None:
        """File a contract in its parties' books and under its deadlines."""
        terms, height, index = contract.terms, contract.height, contract.index
        start = self.start_slot(contract)
        end = self.end_slot(contract)
        place = (-end, -height, -index, contract_id)
        for book, sells in ((self.book(terms.seller), True), (self.book(terms.buyer), False)):
            book.waiting.add(start, (place, sells))
            book.ending.add(end, contract_id)
        self._beginnings.add(start, (terms.start_ms, height, index, BEGIN_METERING, contract_id))
        self._closings.add(end, (end * self._slot_ms, height, index, SETTLE, contract_id))

    def start_slot(self, contract: Contract) -> int:
        """The first slot of the contract's window."""
        return contract.terms.start_ms // self._slot_ms

    def end_slot(self, contract: Contract) -> int:
        """The slot after the contract's window."""
        return contract.terms.start_ms // self._slot_ms + contract.terms.slots

    def settle_when_due(self, contract_id: Digest, contract: Contract) -> None:
        """Queue a contract whose slots are all allocated on both meters."""
        end_ms = self.end_slot(contract) * self._slot_ms
        heappush(self.due, (end_ms, contract.height, contract.index, SETTLE, contract_id))

    def add_reading(self, slot: int, member: Address) -> None:
        """File an accepted reading."""
        slots = self.read_slots.get(member)
        if slots is None:
            self.read_slots[member] = [slot]
        else:
            insort(slots, slot)
        self.readers.add(slot, member)

    def collect_due(self, time_ms: int, open_slot: int) -> None:
        """Move into `due` what block time ``time_ms`` and the closing of slots below ``open_slot`` bring."""
        due = self.due
        while self._expiries and self._expiries[0][0] <= time_ms:
            heappush(due, heappop(self._expiries))
        for deadline in self._beginnings.take_below(time_ms // self._slot_ms + 1):
            heappush(due, deadline)
        for deadline in self._closings.take_below(open_slot + 1):
            heappush(due, deadline)

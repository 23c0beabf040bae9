"""Orders over contracts and readings that the state tables imply: rebuilt on load, kept beside them, never hashed.

Every structure here follows from the tables' content alone (ties are broken by activation height and index), so two
nodes with the same tables act in the same order, whatever their history. What ends early is taken out again, so that
nothing here grows with the past.
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


class Buckets(Generic[T]):
    """Items by number (a slot, or milliseconds), taken in ascending numbers, each number's in the order of adding."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[T, None]] = {}
        self._numbers: list[int] = []
        """Heap of the numbers; one whose bucket was emptied by `remove` stays until its turn."""

    def add(self, number: int, item: T) -> None:
        """File ``item`` under ``number``."""
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = {item: None}
            heappush(self._numbers, number)
        else:
            bucket[item] = None

    def remove(self, number: int, item: T) -> None:
        """Take ``item`` out, if it is still there."""
        bucket = self._buckets.get(number)
        if bucket is not None:
            bucket.pop(item, None)
            if not bucket:
                del self._buckets[number]

    def first(self) -> int | None:
        """The smallest number with items, or None."""
        while self._numbers and self._numbers[0] not in self._buckets:
            heappop(self._numbers)
        return self._numbers[0] if self._numbers else None

    def take_first(self) -> list[T]:
        """Remove and return the items of the smallest number, if there is one."""
        number = self.first()
        return [] if number is None else list(self._buckets.pop(number))

    def take_below(self, number: int) -> list[T]:
        """Remove and return all items filed under smaller numbers, in number order."""
        taken: list[T] = []
        while self._numbers and self._numbers[0] < number:
            taken.extend(self._buckets.pop(heappop(self._numbers), ()))
        return taken


class MeterBook:
    """The contracts that one member's meter serves."""

    def __init__(self) -> None:
        self.waiting: Buckets[tuple[Place, bool]] = Buckets()
        """By first slot of the window, with whether the member sells."""
        self.sales: list[Place] = []
        """Begun and not yet filled, the next to be served last."""
        self.purchases: list[Place] = []
        self.ending: Buckets[Digest] = Buckets()
        """By the slot after the window."""
        self.covered_to = 0
        """The latest end of a window that has begun: a slot below it needs a reading or its closing."""


class TradeIndex:
    """All derived orders of one state."""

    def __init__(self, slot_ms: int) -> None:
        self._slot_ms = slot_ms
        self._books: dict[Address, MeterBook] = {}
        self._expiries: Buckets[Deadline] = Buckets()
        self._beginnings: Buckets[Deadline] = Buckets()
        self._closings: Buckets[Deadline] = Buckets()
        self.due: list[Deadline] = []
        """Heap of deadlines that have come and wait for their turn; one may have lost its object, or stand twice."""
        self.read_slots: dict[Address, list[int]] = {}
        """Slots of each member with a reading in the state, ascending."""
        self.readers: Buckets[Address] = Buckets()
        """Who has a reading in the state, by slot."""

    def book(self, member: Address) -> MeterBook:
        """The contracts of ``member``."""
        book = self._books.get(member)
        if book is None:
            book = self._books[member] = MeterBook()
        return book

    def add_offer(self, offer_id: Digest, offer: Offer) -> None:
        """File an open offer's expiry."""
        self._expiries.add(offer.terms.expiry_ms, _expiry(offer_id, offer))

    def remove_offer(self, offer_id: Digest, offer: Offer) -> None:
        """Forget an offer that was answered."""
        self._expiries.remove(offer.terms.expiry_ms, _expiry(offer_id, offer))

    def add_contract(self, contract_id: Digest, contract: Contract) -> None:
        """File a contract in its parties' books and under its deadlines."""
        terms, height, index = contract.terms, contract.height, contract.index
        start, end = self.start_slot(contract), self.end_slot(contract)
        place = (-end, -height, -index, contract_id)
        for book, sells in ((self.book(terms.seller), True), (self.book(terms.buyer), False)):
            book.waiting.add(start, (place, sells))
            book.ending.add(end, contract_id)
        self._beginnings.add(start, (terms.start_ms, height, index, BEGIN_METERING, contract_id))
        self._closings.add(end, (end * self._slot_ms, height, index, SETTLE, contract_id))

    def remove_contract(self, contract_id: Digest, contract: Contract) -> None:
        """Forget a contract that was cancelled or settled; places already live go with the end of its window."""
        terms, height, index = contract.terms, contract.height, contract.index
        start, end = self.start_slot(contract), self.end_slot(contract)
        place = (-end, -height, -index, contract_id)
        for book, sells in ((self.book(terms.seller), True), (self.book(terms.buyer), False)):
            book.waiting.remove(start, (place, sells))
            book.ending.remove(end, contract_id)
        self._beginnings.remove(start, (terms.start_ms, height, index, BEGIN_METERING, contract_id))
        self._closings.remove(end, (end * self._slot_ms, height, index, SETTLE, contract_id))

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
        for deadline in self._expiries.take_below(time_ms + 1):
            heappush(due, deadline)
        for deadline in self._beginnings.take_below(time_ms // self._slot_ms + 1):
            heappush(due, deadline)
        for deadline in self._closings.take_below(open_slot + 1):
            heappush(due, deadline)


def _expiry(offer_id: Digest, offer: Offer) -> Deadline:
    return offer.terms.expiry_ms, offer.height, offer.index, EXPIRE, offer_id

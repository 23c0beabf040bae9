"""The pool of valid transactions that wait for a block: capped in every direction, served first come first (9.2, 9.3).

An entry is decoded, hashed and checked once; the same object goes into batches, proposals and execution. Heartbeats,
ballots and evidence have a room of their own and go first, since every block has room for them (PROTOCOL 6.7). An
entry leaves when a decided block holds or removes its id, or when a decided header's time passes its
``valid_until``: only then has it expired, never by a clock (PROTOCOL 9.3).
"""

import enum
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Final

from consensus.complaint import PoolEntry
from consensus.types import ZERO_ADDRESS, Address, Digest, Value
from contracts.transaction import MAX_TRANSACTION_BYTES, Transaction, TransactionType

PRIORITY_TYPES: Final = frozenset(
    {TransactionType.HEARTBEAT, TransactionType.BALLOTS, TransactionType.EVIDENCE}
)
MAX_PRIORITY: Final = 2_048
"""Entries of priority types: two ballots and a heartbeat of each of several hundred members."""
MAX_PRIORITY_BYTES: Final = 8 * 1_048_576
"""Batches of 128 ballots are about 25 KiB."""
MAX_PRIORITY_PER_SENDER: Final = 64
"""A member needs a handful; a bootstrap service, which carries others' ballots, some dozens."""
STRANGERS_SHARE: Final = 8
"""Senders that are no members share an eighth of the pool: keys cost nothing, so each alone may not have a share."""
MAX_RELAYED: Final = 1_024
"""Entries sent on at a time: a batch of gossip."""
MAX_GONE: Final = 16_384
"""References of the last few blocks, 2 MiB."""
MAX_EXPIRED: Final = 65_536
"""Ids of which "expired" is remembered; an older one is "unknown", which is true as well."""


class PoolCode(enum.Enum):
    """Why the pool does not take a transaction now."""

    FULL = enum.auto()
    SENDER_LIMIT = enum.auto()


class PoolLimits(Value, frozen=True):
    """Caps of ordinary transactions, from the node's own configuration."""

    max_transactions: int
    max_bytes: int
    max_per_sender: int


class Entry:
    """One transaction in the pool, or on its way in while its signatures are checked."""

    __slots__ = (
        "bucket",
        "priority",
        "received_ms",
        "relayed_ms",
        "relayed_to",
        "resent_ms",
        "size",
        "transaction",
    )

    def __init__(self, transaction: Transaction, bucket: Address, received_ms: int) -> None:
        self.transaction = transaction
        self.size = len(transaction.raw)
        self.priority = transaction.type in PRIORITY_TYPES
        self.bucket = bucket
        """Whose share it counts against: the sender's, or the strangers'."""
        self.received_ms = received_ms
        """Monotonic instant of arrival."""
        self.relayed_ms: int | None = None
        """Monotonic instant at which this node first sent it to all delegates."""
        self.resent_ms: int | None = None
        """When it did so last."""
        self.relayed_to = 0
        """Delegates to whom a live connection took it, this node included if it is one."""


class _Room:
    """The entries of one class, first come first, with their caps."""

    def __init__(self, limits: PoolLimits, strangers: int) -> None:
        self.limits = limits
        self.strangers = strangers
        self.entries: dict[Digest, Entry] = {}
        self.count = 0
        self.size = 0
        self.per_sender: dict[Address, int] = {}

    def refusal(self, bucket: Address, size: int) -> PoolCode | None:
        if self.count >= self.limits.max_transactions or self.size + size > self.limits.max_bytes:
            return PoolCode.FULL
        cap = self.strangers if bucket == ZERO_ADDRESS else self.limits.max_per_sender
        return PoolCode.SENDER_LIMIT if self.per_sender.get(bucket, 0) >= cap else None

    def occupy(self, entry: Entry) -> None:
        self.count += 1
        self.size += entry.size
        self.per_sender[entry.bucket] = self.per_sender.get(entry.bucket, 0) + 1

    def vacate(self, entry: Entry) -> None:
        self.count -= 1
        self.size -= entry.size
        left = self.per_sender[entry.bucket] - 1
        if left:
            self.per_sender[entry.bucket] = left
        else:
            del self.per_sender[entry.bucket]


class Mempool:
    """The pool; it knows no clock and no threads."""

    def __init__(self, limits: PoolLimits, is_member: Callable[[Address], bool]) -> None:
        self.limits = limits
        self._is_member = is_member
        self._ordinary = _Room(limits, max(1, limits.max_transactions // STRANGERS_SHARE))
        priority = PoolLimits(MAX_PRIORITY, MAX_PRIORITY_BYTES, MAX_PRIORITY_PER_SENDER)
        self._priority = _Room(priority, MAX_PRIORITY // STRANGERS_SHARE)
        self._by_reference: dict[Digest, Entry] = {}
        self._checking: dict[Digest, Entry] = {}
        """By reference: on the way in. By id would let bad signature bytes hold the place of good ones."""
        self._by_second: dict[int, dict[Digest, Entry]] = {}
        """Entries by ``valid_until`` in whole seconds."""
        self._by_opening: dict[int, dict[Digest, Entry]] = {}
        """Entries by ``valid_from`` in whole seconds."""
        self._swept_second: int | None = None
        self._expired: dict[Digest, None] = {}
        self._gone: dict[Digest, None] = {}
        """References that left lately, so that a late copy is not even decoded."""

    # ---- on the way in

    def begin(self, transaction: Transaction, received_ms: int) -> Entry | PoolCode:
        """Reserve room while signatures are checked; the caller has asked `get` and `is_checking` before."""
        bucket = transaction.sender if self._is_member(transaction.sender) else ZERO_ADDRESS
        entry = Entry(transaction, bucket, received_ms)
        room = self._room(entry)
        refusal = room.refusal(bucket, entry.size)
        if refusal is not None:
            return refusal
        room.occupy(entry)
        self._checking[transaction.reference] = entry
        return entry

    def admit(self, entry: Entry) -> bool:
        """The signatures hold: the entry waits from now on. False if its id came in with other bytes meanwhile."""
        transaction = entry.transaction
        self._checking.pop(transaction.reference, None)
        room = self._room(entry)
        if transaction.id in room.entries:
            room.vacate(entry)
            return False
        room.entries[transaction.id] = entry
        self._by_reference[transaction.reference] = entry
        second = transaction.valid_until_ms // 1_000
        self._by_second.setdefault(second, {})[transaction.id] = entry
        opening = transaction.valid_from_ms // 1_000
        self._by_opening.setdefault(opening, {})[transaction.id] = entry
        if self._swept_second is not None:
            # Its window may have passed while its signatures were checked.
            self._swept_second = min(self._swept_second, second)
        return True

    def refuse(self, entry: Entry) -> None:
        """The signatures do not hold, or the id was decided meanwhile: give the room back."""
        self._checking.pop(entry.transaction.reference, None)
        self._room(entry).vacate(entry)

    # ---- what is known

    def get(self, transaction_id: Digest) -> Entry | None:
        """The waiting entry with this id."""
        return self._ordinary.entries.get(transaction_id) or self._priority.entries.get(transaction_id)

    def by_reference(self, reference: Digest) -> Transaction | None:
        """The waiting transaction with exactly these bytes: valid, its signatures checked."""
        entry = self._by_reference.get(reference)
        return None if entry is None else entry.transaction

    def entry_by_reference(self, reference: Digest) -> Entry | None:
        """As `by_reference`, with what the pool knows of it."""
        return self._by_reference.get(reference)

    def is_checking(self, reference: Digest) -> bool:
        """Whether these very bytes are on their way in."""
        return reference in self._checking

    def has_seen(self, reference: Digest) -> bool:
        """Whether these very bytes are here, on their way in, or left lately."""
        return reference in self._by_reference or reference in self._checking or reference in self._gone

    def is_expired(self, transaction_id: Digest) -> bool:
        """Whether it left because a decided header's time passed its window."""
        return transaction_id in self._expired

    def __len__(self) -> int:
        return len(self._by_reference)

    @property
    def size_bytes(self) -> int:
        """Bytes held, also by what is being checked."""
        return self._ordinary.size + self._priority.size

    def entries(self) -> Iterator[Entry]:
        """All waiting entries, priority first, each class in order of arrival."""
        yield from self._priority.entries.values()
        yield from self._ordinary.entries.values()

    def includable(self, time_ms: int) -> int:
        """How many entries a block of header time ``time_ms`` may hold: only these wait for it (PROTOCOL 6.7, 9.2)."""
        second = time_ms // 1_000
        outside = 0
        for passed, entries in self._by_second.items():
            if passed < second:
                outside += len(entries)
        for opening, entries in self._by_opening.items():
            if opening > second:
                outside += len(entries)
        for entry in self._by_second.get(second, {}).values():
            outside += entry.transaction.valid_until_ms < time_ms
        for entry in self._by_opening.get(second, {}).values():
            outside += entry.transaction.valid_from_ms > time_ms
        return len(self._by_reference) - outside

    def oldest_received_ms(self) -> int | None:
        """When the oldest waiting entry arrived; None if nothing waits."""
        firsts = [
            next(iter(room.entries.values())) for room in (self._priority, self._ordinary) if room.entries
        ]
        return min((entry.received_ms for entry in firsts), default=None)

    # ---- for consensus

    def batch(
        self, time_ms: int, max_count: int, max_bytes: int, excluded: Container[Digest]
    ) -> list[Transaction]:
        """What a block of header time ``time_ms`` may hold, first come first, within count and bytes.

        Priority entries take at most half of a block, so that they cannot keep trades out.
        """
        chosen: list[Transaction] = []
        share = min(max_bytes, max(max_bytes // 2, MAX_TRANSACTION_BYTES))
        size = self._fill(chosen, self._priority, time_ms, (max_count + 1) // 2, share, excluded)
        self._fill(chosen, self._ordinary, time_ms, max_count, max_bytes - size, excluded)
        return chosen

    @staticmethod
    def _fill(
        chosen: list[Transaction],
        room: _Room,
        time_ms: int,
        max_count: int,
        max_bytes: int,
        excluded: Container[Digest],
    ) -> int:
        size = 0
        for entry in room.entries.values():
            if len(chosen) >= max_count:
                break
            transaction = entry.transaction
            if not transaction.valid_from_ms <= time_ms <= transaction.valid_until_ms:
                continue
            if transaction.id in excluded:
                continue
            if size + entry.size > max_bytes:
                break
            size += entry.size
            chosen.append(transaction)
        return size

    def complaint_entries(self, included: Container[Digest], received_before_ms: int) -> Iterator[PoolEntry]:
        """Entries absent from a proposal that have waited since before ``received_before_ms`` (PROTOCOL 6.7)."""
        for room in (self._priority, self._ordinary):
            for entry in room.entries.values():
                if entry.received_ms > received_before_ms:
                    break
                if entry.transaction.id not in included:
                    yield _pool_entry(entry)

    def left_out(self, included: Container[Digest], before_ms: int) -> list[Entry]:
        """Entries that a block with room left out though they came, or were last sent on, before ``before_ms``.

        Whoever proposed it seems not to have them: at most a message's worth, oldest first.
        """
        found: list[Entry] = []
        for room in (self._priority, self._ordinary):
            for entry in room.entries.values():
                if entry.received_ms > before_ms or len(found) == MAX_RELAYED:
                    break
                if (entry.resent_ms or 0) <= before_ms and entry.transaction.id not in included:
                    found.append(entry)
        return found

    def decided(self, ids: Iterable[Digest], header_time_ms: int) -> list[Digest]:
        """A block with these ids, included or removed, is decided; the ids that expired with its header's time."""
        for transaction_id in ids:
            entry = self.get(transaction_id)
            if entry is not None:
                self._remove(entry)
        expired = self._expire(header_time_ms)
        while len(self._gone) > MAX_GONE:
            del self._gone[next(iter(self._gone))]
        return expired

    def _expire(self, header_time_ms: int) -> list[Digest]:
        expired: list[Digest] = []
        for second in self._seconds_through(header_time_ms // 1_000):
            for entry in list(self._by_second.get(second, {}).values()):
                if entry.transaction.valid_until_ms < header_time_ms:
                    self._remove(entry)
                    expired.append(entry.transaction.id)
        for transaction_id in expired:
            self._expired[transaction_id] = None
        while len(self._expired) > MAX_EXPIRED:
            del self._expired[next(iter(self._expired))]
        return expired

    def _seconds_through(self, second: int) -> Iterable[int]:
        """Seconds in which something may expire by now; after a long halt only those that exist are looked at."""
        first = self._swept_second
        self._swept_second = second
        if first is None or second - first > len(self._by_second):
            return sorted(s for s in self._by_second if s <= second)
        return range(first, second + 1)

    def _remove(self, entry: Entry) -> None:
        transaction = entry.transaction
        room = self._room(entry)
        del room.entries[transaction.id]
        room.vacate(entry)
        del self._by_reference[transaction.reference]
        self._gone[transaction.reference] = None
        _take_out(self._by_second, transaction.valid_until_ms // 1_000, transaction.id)
        _take_out(self._by_opening, transaction.valid_from_ms // 1_000, transaction.id)

    def _room(self, entry: Entry) -> _Room:
        return self._priority if entry.priority else self._ordinary


def _take_out(buckets: dict[int, dict[Digest, Entry]], second: int, transaction_id: Digest) -> None:
    bucket = buckets[second]
    del bucket[transaction_id]
    if not bucket:
        del buckets[second]


def _pool_entry(entry: Entry) -> PoolEntry:
    transaction = entry.transaction
    return PoolEntry(
        transaction_id=transaction.id,
        received_ms=entry.received_ms if entry.relayed_ms is None else entry.relayed_ms,
        relayed_to_all=entry.relayed_ms is not None,
        valid_from_ms=transaction.valid_from_ms,
        valid_until_ms=transaction.valid_until_ms,
        size_bytes=entry.size,
        always_room=entry.priority,
    )

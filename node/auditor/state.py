"""The state: records, tables and the tree over them (annex on the state, 1 and 2; on the epoch, 1)."""

from collections.abc import Iterable
from typing import Any, Generic, NamedTuple, TypeVar

from node.auditor.encoding import encode, tagged
from node.auditor.shapes import Terms

R = TypeVar("R")

# ---- records


class Account(NamedTuple):
    """S_i and what goes with it (PROTOCOL 1.1)."""

    public_key: bytes
    balance: int
    credit: int
    energy_wh: int
    open_contracts: int
    open_offers: int
    active_epoch: int
    left_height: int | None


class Totals(NamedTuple):
    """The sums of PROTOCOL 1.6."""

    balances: int
    escrow: int
    genesis: int
    issued: int
    redeemed: int
    members: int
    energy_wh: int


class Identifiers(NamedTuple):
    """Ids of one block, kept until no window is open (PROTOCOL 9.2)."""

    ids: tuple[bytes, ...]
    valid_until_ms: int


class MeterRecord(NamedTuple):
    """A member's meters, as (key, power, first slot)."""

    terms: tuple[tuple[bytes, int, int], ...]
    next_slot: int
    last_counter: tuple[bytes, int] | None


class Offer(NamedTuple):
    """A trade that one party offered."""

    terms: Terms
    offerer: bytes
    height: int
    place: int


class Contract(NamedTuple):
    """A trade with money in escrow."""

    terms: Terms
    height: int
    place: int
    state: int
    cancelled_by: bytes | None
    excused: bool
    seller_wh: int
    buyer_wh: int
    seller_slots: tuple[int, ...]
    buyer_slots: tuple[int, ...]


class OpenReading(NamedTuple):
    """A reading that is still of use."""

    counter: int
    exported_wh: int
    imported_wh: int
    public_key: bytes


class Metering(NamedTuple):
    """Slots below ``running_slot`` have ended, below ``open_slot`` they are closed."""

    running_slot: int
    open_slot: int


class ChainRecord(NamedTuple):
    """The last block, and epoch and phase of the next."""

    height: int
    block_hash: bytes
    time_ms: int
    chain_ms: int
    proposer: bytes
    epoch: int
    epoch_first_height: int
    phase: int
    phase_since_chain_ms: int
    phase_blocks: int


class Seat(NamedTuple):
    """A group's delegate and who seated it."""

    group: int
    holder: bytes
    votes: int
    energy_wh: int
    credit: int
    supporters: tuple[bytes, ...]


class SeatSet(NamedTuple):
    """A ranked set of delegates, from a height on."""

    epoch: int
    from_height: int
    replacements: int
    ranking: tuple[Seat, ...]

    @property
    def faults(self) -> int:
        """f = (n - 1) // 3."""
        return (len(self.ranking) - 1) // 3

    @property
    def quorum(self) -> int:
        """q = n - f."""
        return len(self.ranking) - self.faults

    @property
    def holders(self) -> list[bytes]:
        """The delegates in ranking order."""
        return [seat.holder for seat in self.ranking]


class Snapshot(NamedTuple):
    """Members as (address, N, T, eligible), in address order."""

    epoch: int
    height: int
    seed: bytes
    members: tuple[tuple[bytes, int, int, bool], ...]


class Groups(NamedTuple):
    """The group of each eligible member."""

    epoch: int
    group_total: int
    assignment: tuple[int, ...]
    score: tuple[int, int]
    submitter: bytes | None


class BestPlan(NamedTuple):
    """The best plan committed so far, and who has committed one."""

    epoch: int
    submitter: bytes
    assignment: tuple[int, ...]
    score: tuple[int, int]
    submitters: tuple[bytes, ...]


class BallotRecord(NamedTuple):
    """A voter's newest ballot."""

    sequence: int
    choices: tuple[bytes, ...]
    accepted: int


class Conduct(NamedTuple):
    """Faults as (epoch, no_block, wrong_block, down)."""

    streak: int = 0
    voter_paid_epoch: int | None = None
    faults: tuple[tuple[int, int, int, int], ...] = ()


# ---- tables and tree


class Table(Generic[R]):
    """The records of one prefix, by raw key."""

    def __init__(self, prefix: int, changed: dict[bytes, Any]) -> None:
        self.prefix = bytes([prefix])
        self.rows: dict[bytes, R] = {}
        self._changed = changed

    def get(self, key: bytes) -> R | None:
        """The record of ``key``."""
        return self.rows.get(key)

    def __getitem__(self, key: bytes) -> R:
        return self.rows[key]

    def __contains__(self, key: bytes) -> bool:
        return key in self.rows

    def put(self, key: bytes, value: R) -> None:
        """Write a record."""
        self.rows[key] = value
        self._changed[self.prefix + key] = value

    def delete(self, key: bytes) -> None:
        """Remove a record that is there."""
        del self.rows[key]
        self._changed[self.prefix + key] = None


class Single(Generic[R]):
    """A table of one record, under the empty key."""

    def __init__(self, prefix: int, changed: dict[bytes, Any]) -> None:
        self._table: Table[R] = Table(prefix, changed)

    @property
    def value(self) -> R:
        """The record."""
        return self._table[b""]

    @value.setter
    def value(self, value: R) -> None:
        self._table.put(b"", value)

    def get(self) -> R | None:
        """The record, or None."""
        return self._table.get(b"")

    def clear(self) -> None:
        """Remove it."""
        self._table.delete(b"")


class Tree:
    """4 096 buckets under three levels of sixteen children (annex on the state, 1)."""

    def __init__(self) -> None:
        empty = tagged("state.bucket", b"")
        self._buckets: list[dict[bytes, bytes]] = [{} for _ in range(4_096)]
        self._levels = [[empty] * 4_096]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            node = tagged("state.node", b"".join(below[:16]))
            self._levels.append([node] * (len(below) // 16))
        self._key_hashes: dict[bytes, bytes] = {}

    @property
    def root(self) -> bytes:
        """The state root."""
        return self._levels[-1][0]

    def update(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Set or, with None, remove entries, and hash anew what is above them."""
        touched: set[int] = set()
        for key, value in changes:
            hashed = self._key_hash(key)
            number = hashed[0] << 4 | hashed[1] >> 4
            touched.add(number)
            if value is None:
                self._buckets[number].pop(hashed, None)
            else:
                self._buckets[number][hashed] = tagged("state.leaf", value)
        for number in touched:
            bucket = self._buckets[number]
            content = b"".join([part for hashed in sorted(bucket) for part in (hashed, bucket[hashed])])
            self._levels[0][number] = tagged("state.bucket", content)
        for below, level in zip(self._levels, self._levels[1:], strict=False):
            touched = {number >> 4 for number in touched}
            for number in touched:
                level[number] = tagged("state.node", b"".join(below[16 * number : 16 * number + 16]))

    def _key_hash(self, key: bytes) -> bytes:
        hashed = self._key_hashes.get(key)
        if hashed is None:
            if len(self._key_hashes) > 65_536:  # accounts and meters come again and again, ids do not
                self._key_hashes.clear()
            hashed = self._key_hashes[key] = tagged("state.key", key)
        return hashed


class State:
    """All records after the last block."""

    def __init__(self) -> None:
        changed: dict[bytes, Any] = {}
        self.changed = changed
        self.entries: dict[bytes, bytes] = {}
        """Full key to encoded record, as of the last `commit`."""
        self.tree = Tree()
        self.accounts: Table[Account] = Table(1, changed)
        self.totals: Single[Totals] = Single(2, changed)
        self.identifiers: Table[Identifiers] = Table(3, changed)
        self.tip: Single[tuple[bytes]] = Single(4, changed)
        self.meters: Table[MeterRecord] = Table(5, changed)
        self.meter_owners: Table[tuple[bytes]] = Table(6, changed)
        self.invite_uses: Table[tuple[int]] = Table(7, changed)
        self.offers: Table[Offer] = Table(8, changed)
        self.contracts: Table[Contract] = Table(9, changed)
        self.readings: Table[OpenReading] = Table(10, changed)
        self.metering: Single[Metering] = Single(11, changed)
        self.slot_ends: Table[tuple[int]] = Table(12, changed)
        self.chain: Single[ChainRecord] = Single(32, changed)
        self.seat_sets: Table[SeatSet] = Table(33, changed)
        self.missed: Single[tuple[tuple[tuple[bytes, int, int, int], ...]]] = Single(34, changed)
        self.snapshots: Table[Snapshot] = Table(35, changed)
        self.groups: Table[Groups] = Table(36, changed)
        self.best_plan: Single[BestPlan] = Single(37, changed)
        self.ballots: Table[BallotRecord] = Table(38, changed)
        self.conduct: Table[Conduct] = Table(39, changed)
        self.proven: Table[tuple[int]] = Table(40, changed)

    def commit(self) -> bytes:
        """Encode what changed; the new state root."""
        changes = {key: None if value is None else encode(value) for key, value in self.changed.items()}
        self.changed.clear()
        for key, value in changes.items():
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value
        self.tree.update(changes.items())
        return self.tree.root

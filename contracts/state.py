"""State: typed tables over one key-value space, with the changes of the running block (PROTOCOL 9.5).

A table's key is one prefix byte and the raw key; its values are canonical encodings. Objects are kept decoded; at the
end of a block only changed keys are encoded, hashed into the tree and handed to the store.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from consensus.encoding import Codec, encode
from consensus.errors import MalformedInput, fail, invariant
from consensus.types import Address, Credit, Digest, PublicKey, Unsigned, Wire
from contracts.state_tree import StateProof, StateTree
from contracts.trade_index import TradeIndex
from contracts.trade_records import (
    Contract,
    InviteUse,
    MeteringProgress,
    MeterRecord,
    Offer,
    OpenReading,
    SlotEnd,
)

if TYPE_CHECKING:
    from contracts.epoch_state import EpochTables

V = TypeVar("V")

MAX_VALUE_BYTES: Final = 4 * 1_048_576
"""The snapshot of 10 000 members, the largest single value, is about 500 KiB."""
SINGLETON: Final = b""
"""Raw key of a table with one record."""


class Table(Generic[V]):
    """One kind of record, ``raw key -> value``; iteration is in key order."""

    def __init__(self, prefix: int, kind: type[V] | object) -> None:
        self.prefix = bytes((prefix,))
        self._codec: Codec[V] = Codec(kind, MAX_VALUE_BYTES)
        self._rows: dict[bytes, V] = {}
        self._before: dict[bytes, V | None] = {}
        """The value that each key changed in this block had before it."""

    def get(self, key: bytes) -> V | None:
        """The record of ``key``, or None."""
        return self._rows.get(key)

    def require(self, key: bytes) -> V:
        """The record of ``key``; its absence is our own bug."""
        value = self._rows.get(key)
        if value is None:
            fail(f"table {self.prefix[0]} lost its record {key.hex()}")
        return value

    def put(self, key: bytes, value: V) -> None:
        """Write a record."""
        if key not in self._before:
            self._before[key] = self._rows.get(key)
        self._rows[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a record that exists."""
        invariant(key in self._rows, f"table {self.prefix[0]} has no record {key.hex()} to delete")
        if key not in self._before:
            self._before[key] = self._rows[key]
        del self._rows[key]

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[bytes]:
        """Raw keys in order."""
        yield from sorted(self._rows)

    def items(self) -> Iterator[tuple[bytes, V]]:
        """Records in key order."""
        for key in sorted(self._rows):
            yield key, self._rows[key]

    def changes(self) -> Iterator[tuple[V | None, V | None]]:
        """(before, after) of every key written in this block; None for absent."""
        for key, before in self._before.items():
            yield before, self._rows.get(key)

    def load(self, key: bytes, data: bytes) -> None:
        """Take a stored record in, without marking it changed."""
        self._rows[key] = self._codec.decode(data)

    def take_changes(self) -> dict[bytes, bytes | None]:
        """Encoded changes since the last call, by full key; None for deleted."""
        rows, prefix = self._rows, self.prefix
        changes: dict[bytes, bytes | None] = {}
        for key, before in self._before.items():
            if key in rows:
                changes[prefix + key] = encode(rows[key])
            elif before is not None:
                changes[prefix + key] = None
        self._before.clear()
        return changes


class Account(Wire, frozen=True):
    """S_i = <a_i, b_i, T_i, N_i> and what eligibility needs (PROTOCOL 1.1); kept for ever (1.5)."""

    public_key: PublicKey
    balance: Unsigned
    """b_i in nano-units."""
    credit: Credit
    """T_i in milli-credits."""
    energy_wh: Unsigned
    """N_i."""
    open_contracts: Unsigned
    """Active or metering contracts of which it is a party."""
    open_offers: Unsigned
    """Offers of its own that nobody has answered yet."""
    active_epoch: Unsigned
    """Last epoch in which it voted, served, sent a heartbeat or joined (PROTOCOL 4.6)."""
    left_height: Unsigned | None
    """Block of its `leave`; None while it is a member."""


class Totals(Wire, frozen=True):
    """Sums that conservation is checked against (PROTOCOL 1.6, S7), updated with every change."""

    balances: Unsigned
    escrow: Unsigned
    genesis: Unsigned
    """Money at genesis, plus entry grants."""
    issued: Unsigned
    redeemed: Unsigned
    members: Unsigned
    """Accounts that have not left."""
    energy_wh: Unsigned
    """Sum of all N."""


class IdentifierBlock(Wire, frozen=True):
    """Transaction and discarded ids of one block, dropped when none can be in its window again (PROTOCOL 9.2)."""

    ids: tuple[Digest, ...]
    valid_until_ms: Unsigned
    """The latest of theirs."""


class Tip(Wire, frozen=True):
    """What the next header repeats of the last block (PROTOCOL 9.1)."""

    receipts_root: Digest


class MeterOwner(Wire, frozen=True):
    """Whose meter a key belongs to: one meter measures for one member (PROTOCOL 1.4)."""

    address: Address


class State:
    """All tables of a chain, beside the orders they imply; `commit` ends a block.

    Prefixes 1..31 belong to this file, 32..63 to the tables of the epoch (`contracts.epoch_state`). A state is made by
    `contracts.engine.new_state`, which sets ``epoch``.
    """

    epoch: "EpochTables"

    def __init__(self, slot_ms: int) -> None:
        self._tables: dict[bytes, Table[Any]] = {}
        self.tree = StateTree()
        self.accounts: Table[Account] = self.register(Table(1, Account))
        """By address."""
        self.totals: Table[Totals] = self.register(Table(2, Totals))
        """One record."""
        self.identifiers: Table[IdentifierBlock] = self.register(Table(3, IdentifierBlock))
        """By height, 8 bytes big-endian."""
        self.tip: Table[Tip] = self.register(Table(4, Tip))
        """One record."""
        self.meters: Table[MeterRecord] = self.register(Table(5, MeterRecord))
        """By member address."""
        self.meter_owners: Table[MeterOwner] = self.register(Table(6, MeterOwner))
        """By meter key."""
        self.invites: Table[InviteUse] = self.register(Table(7, InviteUse))
        """By member address."""
        self.offers: Table[Offer] = self.register(Table(8, Offer))
        """By id."""
        self.contracts: Table[Contract] = self.register(Table(9, Contract))
        """By id."""
        self.readings: Table[OpenReading] = self.register(Table(10, OpenReading))
        """By slot, 8 bytes big-endian, and member address."""
        self.metering: Table[MeteringProgress] = self.register(Table(11, MeteringProgress))
        """One record."""
        self.slot_ends: Table[SlotEnd] = self.register(Table(12, SlotEnd))
        """By the first slot that had not ended in that block, 8 bytes big-endian."""
        self.known_ids: dict[Digest, None] = {}
        """The ids in ``identifiers``, for lookups."""
        self.identifier_heights: deque[int] = deque()
        """Heights in ``identifiers``, ascending."""
        self.slot_end_keys: deque[int] = deque()
        """Slots in ``slot_ends``, ascending."""
        self.trades = TradeIndex(slot_ms)

    def register(self, table: Table[V]) -> Table[V]:
        """Add a table with a prefix of its own."""
        invariant(table.prefix not in self._tables, f"two tables with prefix {table.prefix[0]}")
        self._tables[table.prefix] = table
        return table

    def load(self, entries: Mapping[bytes, bytes]) -> None:
        """Fill an empty state from a store; `MalformedInput` for an unknown table or a malformed record."""
        for key, value in entries.items():
            table = self._tables.get(key[:1])
            if table is None:
                raise MalformedInput(f"state key {key.hex()} belongs to no table")
            table.load(key[1:], value)
        self.tree.update(entries)
        self._rebuild_indexes()

    def _rebuild_indexes(self) -> None:
        for key, block in self.identifiers.items():
            self.known_ids.update(dict.fromkeys(block.ids))
            self.identifier_heights.append(int.from_bytes(key, "big"))
        self.slot_end_keys.extend(int.from_bytes(key, "big") for key in self.slot_ends)
        for key in self.readings:
            self.trades.add_reading(int.from_bytes(key[:8], "big"), key[8:])
        for offer_id, offer in self.offers.items():
            self.trades.add_offer(offer_id, offer)
        contracts = sorted(self.contracts.items(), key=lambda item: (item[1].height, item[1].index))
        for contract_id, contract in contracts:
            self.trades.add_contract(contract_id, contract)
            end = self.trades.end_slot(contract)
            parties = (contract.terms.seller, contract.terms.buyer)
            if all(self.meters.require(party).next_slot >= end for party in parties):
                self.trades.settle_when_due(contract_id, contract)

    def commit(self) -> tuple[dict[bytes, bytes | None], Digest]:
        """Changed entries (None: deleted) and the new state root."""
        changes: dict[bytes, bytes | None] = {}
        for table in self._tables.values():
            changes.update(table.take_changes())
        return changes, self.tree.update(changes)

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """Every full key with its encoded value, table by table, each in key order; nothing may be uncommitted."""
        for prefix, table in self._tables.items():
            for key, value in table.items():
                yield prefix + key, encode(value)

    def prove(self, key: bytes) -> StateProof:
        """Membership or absence proof of a full key under the last committed root; `MalformedInput` for no table."""
        table = self._tables.get(key[:1])
        if table is None:
            raise MalformedInput(f"state key {key.hex()} belongs to no table")
        value = table.get(key[1:])
        return self.tree.prove(key, None if value is None else encode(value))


def number_key(number: int) -> bytes:
    """A height or slot as a raw key: 8 bytes big-endian, so that key order is number order."""
    return number.to_bytes(8, "big")


def reading_key(slot: int, member: Address) -> bytes:
    """Raw key of a reading."""
    return slot.to_bytes(8, "big") + member


def account_of(state: State, address: Address) -> Account | None:
    """The account of a registered member or leaver, or None."""
    return state.accounts.get(address)

"""State: typed tables over one key-value space, with the changes of the running block (PROTOCOL 9.5).

A table's key is one prefix byte and the raw key; its values are canonical encodings. Objects are kept decoded; at the
end of a block only changed keys are encoded, hashed into the tree and handed to the store.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

from consensus.encoding import Codec, encode
from consensus.errors import MalformedInput, fail, invariant
from consensus.types import Address, Credit, Digest, PublicKey, Unsigned, Wire
from contracts.state_tree import StateProof, StateTree

V = TypeVar("V")

MAX_VALUE_BYTES: Final = 4 * 1_048_576
"""The snapshot of 10 000 members, the largest single value, is about 500 KiB."""


class Table(Generic[V]):
    """One kind of record, ``raw key -> value``; iteration is in key order."""

    def __init__(self, prefix: int, kind: type[V] | object) -> None:
        self.prefix = bytes((prefix,))
        self._codec: Codec[V] = Codec(kind, MAX_VALUE_BYTES)
        self._rows: dict[bytes, V] = {}
        self._changed: dict[bytes, None] = {}

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
        self._rows[key] = value
        self._changed[key] = None

    def delete(self, key: bytes) -> None:
        """Remove a record that exists."""
        invariant(key in self._rows, f"table {self.prefix[0]} has no record {key.hex()} to delete")
        del self._rows[key]
        self._changed[key] = None

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def items(self) -> Iterator[tuple[bytes, V]]:
        """Records in key order."""
        for key in sorted(self._rows):
            yield key, self._rows[key]

    def load(self, key: bytes, data: bytes) -> None:
        """Take a stored record in, without marking it changed."""
        self._rows[key] = self._codec.decode(data)

    def take_changes(self) -> dict[bytes, bytes | None]:
        """Encoded changes since the last call, by full key; None for deleted."""
        changes = {
            self.prefix + key: encode(self._rows[key]) if key in self._rows else None for key in self._changed
        }
        self._changed.clear()
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


class IdentifierBlock(Wire, frozen=True):
    """Transaction and discarded ids of one block, dropped when none can be in its window again (PROTOCOL 9.2)."""

    ids: tuple[Digest, ...]
    valid_until_ms: tuple[Unsigned, ...]


class State:
    """All tables of a chain; `register` adds one, `commit` ends a block."""

    def __init__(self) -> None:
        self._tables: dict[bytes, Table[Any]] = {}
        self.tree = StateTree()
        self.accounts: Table[Account] = self.register(Table(1, Account))
        self.totals: Table[Totals] = self.register(Table(2, Totals))
        self.identifiers: Table[IdentifierBlock] = self.register(Table(3, IdentifierBlock))

    def register(self, table: Table[V]) -> Table[V]:
        """Add a table with a prefix of its own."""
        invariant(table.prefix not in self._tables, f"two tables with prefix {table.prefix[0]}")
        self._tables[table.prefix] = table
        return table

    def load(self, entries: Mapping[bytes, bytes]) -> None:
        """Fill an empty state from a store; `MalformedInput` for an unknown table."""
        for key, value in entries.items():
            table = self._tables.get(key[:1])
            if table is None:
                raise MalformedInput(f"state key {key.hex()} belongs to no table")
            table.load(key[1:], value)
        self.tree.update(entries)

    def commit(self) -> tuple[dict[bytes, bytes | None], Digest]:
        """Changed entries (None: deleted) and the new state root."""
        changes: dict[bytes, bytes | None] = {}
        for table in self._tables.values():
            changes.update(table.take_changes())
        return changes, self.tree.update(changes)

    def prove(self, key: bytes) -> StateProof:
        """Membership or absence proof of a full key under the last committed root."""
        value = self._tables[key[:1]].get(key[1:])
        return self.tree.prove(key, None if value is None else encode(value))


def account_of(state: State, address: Address) -> Account | None:
    """The account of a registered member or leaver, or None."""
    return state.accounts.get(address)

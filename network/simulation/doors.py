"""What a simulated node needs of a ledger, a pool and the delegate sets; `Doors` makes them for each life of a process.

Two worlds stand behind it: one of stand-ins (`stand_ins`), whose sets are drawn from the seed, and one with the shipped
contract engine (`network.simulation.system`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from consensus.block import Block, CertifiedBlock
from consensus.delegates import DelegateSet
from consensus.inputs import HeightContext, Instant, Offending, Overlooked
from consensus.types import Digest, Value
from network.simulation.disk import Disk


@dataclass(frozen=True)
class Term:
    """One height's epoch and delegates."""

    epoch: int
    delegates: DelegateSet
    first_of_epoch: bool


class Terms(Protocol):
    """The terms of all heights, the same for every node of a run."""

    def term(self, height: int) -> Term:
        """The term of ``height``, at least 1 and at most two above the highest height that any node decided."""


class Opened(Value, frozen=True):
    """What validity needs to know of a transaction, derived from its bytes (PROTOCOL 9.2)."""

    transaction_id: Digest
    valid_from_ms: int
    valid_until_ms: int
    sound: bool = True
    """Whether it is rightly signed and of this chain."""
    always_room: bool = False
    """Heartbeats, ballots and evidence: for them every block has room (PROTOCOL 6.7)."""


class Opener(Protocol):
    """Decodes transactions."""

    def __call__(self, data: bytes) -> Opened:
        """`MalformedInput` if ``data`` is no transaction."""


@dataclass(frozen=True)
class Waiting:
    """A transaction in the pool."""

    opened: Opened
    data: bytes
    reference: Digest
    received_ms: int

    def holds_at(self, time_ms: int) -> bool:
        """Whether it may stand in a block of this header time (PROTOCOL 9.2)."""
        return self.opened.valid_from_ms <= time_ms <= self.opened.valid_until_ms


@dataclass(frozen=True)
class Verdict:
    """What the pool says of an assembled proposal."""

    reason: str | None
    offending: Offending | None
    overlooked: tuple[Overlooked, ...]
    wait_ms: int | None


class LedgerDoor(Protocol):
    """The state after the decided blocks of one disk."""

    @property
    def height(self) -> int:
        """Of the last block applied."""

    def finished(self, transaction: Digest) -> bool:
        """Whether the id was committed or discarded: it never commits again."""

    def apply(self, certified: CertifiedBlock) -> None:
        """Store and execute the next block."""

    def context(self) -> HeightContext:
        """What deciding the next height needs (PROTOCOL 9.1)."""


class PoolDoor(Protocol):
    """What waits at one node; volatile."""

    def add(self, data: bytes, now_ms: int) -> bool:
        """Take in a transaction; False if it is malformed, unsound, known or finished."""

    def __len__(self) -> int:
        """How many wait, whatever their windows."""

    def keep(self, data: bytes) -> None:
        """Hold bytes for proposals that name them, whatever they are worth."""

    def find(self, reference: Digest) -> bytes | None:
        """Bytes by reference."""

    def settle(self, wall_ms: int) -> None:
        """Drop what the ledger finished and what has run out."""

    def includable(self, time_ms: int) -> Sequence[Waiting]:
        """What may stand in a block of this header time, in the order of arrival."""

    def held_longer_than(self, age_ms: int, now_ms: int) -> Sequence[Waiting]:
        """What waits suspiciously long."""

    def batch(self, time_ms: int, max_bytes: int, excluded: Iterable[Digest]) -> Sequence[Waiting]:
        """What a block of this header time takes, within both limits."""

    def judge(self, block: Block, entered_ms: int, at: Instant) -> Verdict:
        """Check an assembled proposal as PROTOCOL 6.8 and 6.7 want it."""


class Doors(Protocol):
    """Makes the doors of a fresh process."""

    def ledger(self, disk: Disk) -> LedgerDoor:
        """The ledger on a disk, at the height of its last block."""

    def pool(self, ledger: LedgerDoor) -> PoolDoor:
        """An empty pool."""

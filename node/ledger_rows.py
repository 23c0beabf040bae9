"""Rows of the ledger's store: a prefix byte, then big-endian numbers and ids, so that key order is list order.

m name                          head and genesis
s state key                     the state tree's entries after the last block
b height                        `CertifiedBlock`
h height                        header, certificate and counts
r height                        receipts, each encoded
i id                            where a transaction was decided; for trades also their terms
c address height sequence       a change of credit
p party height                  trades that began in a block (party zero: all)
t id height sequence            a trade's later transitions
a id height                     energy allocated to a trade in a block
u member slot                   an accepted reading
e epoch                         what is known of an epoch
d height                        C(height) where it differs from C(height - 1)
"""

import enum
from typing import Final

from consensus.block import Certificate, Header
from consensus.delegates import Delegate
from consensus.encoding import Codec
from consensus.types import ZERO_ADDRESS, Address, Digest, Unsigned, Wire
from contracts.receipts import CreditReason, GroupTallied, TradeSettled, TradeState
from contracts.transaction import Terms

MAX_ROW_BYTES: Final = 64 * 1_048_576
"""Receipts of a full block with 4 096 deadlines, the largest row, are a few MiB."""
EVERYBODY: Final = ZERO_ADDRESS
"""Party under which all trades are listed."""


class Prefix(bytes, enum.Enum):
    """First byte of a row's key."""

    META = b"m"
    STATE = b"s"
    BLOCK = b"b"
    HEADER = b"h"
    RECEIPTS = b"r"
    IDENTIFIER = b"i"
    CREDIT = b"c"
    PARTY = b"p"
    TRANSITION = b"t"
    ALLOCATION = b"a"
    READING = b"u"
    EPOCH = b"e"
    DELEGATES = b"d"


HEAD_KEY: Final = b"mhead"
GENESIS_KEY: Final = b"mgenesis"


class HeadRow(Wire, frozen=True):
    """The last block, its roots, and how far the journal was durable when it was written."""

    height: Unsigned
    block_hash: Digest
    state_root: Digest
    receipts_root: Digest
    journal_identity: bytes
    journal_sequence: Unsigned


class HeaderRow(Wire, frozen=True):
    """What lists, proofs and statuses need of a block, without its transactions."""

    header: Header
    certificate: Certificate
    transactions: Unsigned
    discarded: Unsigned


class Location(Wire, frozen=True):
    """Where a transaction was decided."""

    height: Unsigned
    index: Unsigned
    """Place in the block, or among its removals."""
    discarded: bool
    opened: TradeState | None
    """State in which a trade of this id began; None if it is no trade, or none came of it."""
    terms: Terms | None


class CreditRow(Wire, frozen=True):
    """A change of credit; height and order stand in the key."""

    reason: CreditReason
    delta: int
    credit: Unsigned


class TransitionRow(Wire, frozen=True):
    """A trade's change of state after it began."""

    state: TradeState
    settlement: TradeSettled | None
    seller_credit_delta: int
    buyer_credit_delta: int


class Allocation(Wire, frozen=True):
    """Energy of one slot given to one side of a trade."""

    seller: bool
    slot: Unsigned
    wh: Unsigned


class ReadingRow(Wire, frozen=True):
    """A reading's registers."""

    exported_wh: Unsigned
    imported_wh: Unsigned


class EpochRow(Wire, frozen=True):
    """What the ledger's events told of an epoch, so far."""

    first_height: Unsigned | None = None
    snapshot_height: Unsigned | None = None
    closing_height: Unsigned | None = None
    members: tuple[Address, ...] = ()
    assignment: tuple[Unsigned, ...] = ()
    energy_excess_wh: Unsigned = 0
    credit_excess: Unsigned = 0
    submitted: bool = False
    delegates: tuple[Address, ...] = ()
    tallies: tuple[GroupTallied, ...] = ()


StartedTrades = tuple[tuple[int, bytes], ...]
"""(index, id) of trades that began in one block."""

head_codec: Final[Codec[HeadRow]] = Codec(HeadRow, 1_024)
header_row_codec: Final[Codec[HeaderRow]] = Codec(HeaderRow, MAX_ROW_BYTES)
receipts_codec: Final[Codec[tuple[bytes, ...]]] = Codec(tuple[bytes, ...], MAX_ROW_BYTES)
location_codec: Final[Codec[Location]] = Codec(Location, 1_024)
credit_codec: Final[Codec[CreditRow]] = Codec(CreditRow, 256)
transition_codec: Final[Codec[TransitionRow]] = Codec(TransitionRow, 1_024)
allocations_codec: Final[Codec[tuple[Allocation, ...]]] = Codec(tuple[Allocation, ...], MAX_ROW_BYTES)
reading_codec: Final[Codec[ReadingRow]] = Codec(ReadingRow, 64)
epoch_codec: Final[Codec[EpochRow]] = Codec(EpochRow, MAX_ROW_BYTES)
delegates_codec: Final[Codec[tuple[Delegate, ...]]] = Codec(tuple[Delegate, ...], MAX_ROW_BYTES)
trades_codec: Final[Codec[StartedTrades]] = Codec(StartedTrades, MAX_ROW_BYTES)


def number(value: int) -> bytes:
    """A height, slot or epoch in a key: 8 bytes big-endian."""
    return value.to_bytes(8, "big")


def place(height: int, sequence: int) -> bytes:
    """An event's place in a key: height, and order within the block in 4 bytes."""
    return height.to_bytes(8, "big") + sequence.to_bytes(4, "big")


def place_of(key_end: bytes) -> tuple[int, int]:
    """Height and sequence from the last 12 bytes of a key."""
    return int.from_bytes(key_end[:8], "big"), int.from_bytes(key_end[8:12], "big")

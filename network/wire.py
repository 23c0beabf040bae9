"""What peers say to each other once they are connected: the closed union `PeerMessage` and its limits.

Every kind has a size limit that is checked before decoding, a lane (what is sent first when a link is slow) and a
statement of whether a guest, i.e. a node that is not a member yet, may say it (PROTOCOL 10.1).

A message is encoded once, whatever the number of its recipients; blocks travel as the bytes that the ledger stores.
"""

import enum
from typing import Annotated, Final, TypeAlias

import msgspec

from consensus.block import MAX_ENCODED_BLOCK_BYTES, Block, Certificate
from consensus.encoding import Codec, encode
from consensus.errors import MalformedInput
from consensus.messages import (
    MAX_MESSAGE_BYTES,
    Commit,
    ConsensusMessage,
    NewView,
    Prepare,
    Proposal,
    ViewChange,
)
from consensus.types import Digest, PublicKey, SignatureBytes, Unsigned, Wire

MAX_TRANSACTION_BYTES: Final = 65_536
"""One transaction: genesis refuses a block limit that could not hold this much."""
MAX_TRANSACTIONS: Final = 4_096
"""Transactions or references in one message: the default block's count; larger blocks are asked for in parts."""
MAX_TRANSACTIONS_BYTES: Final = 2 * 1_048_576
"""Sum in one message; what does not fit is left out of an answer and can be asked for again."""
MAX_BLOCKS: Final = 256
"""Blocks in one answer: empty blocks are about 1 KiB, so a quarter MiB of them."""
BLOCKS_RESPONSE_TARGET_BYTES: Final = 1_048_576
"""An answer to `BlocksRequest` is complete, or holds at least this much: so a short answer proves a lazy server."""
MAX_ADDRESS_RECORDS: Final = 256
"""Records are at most about 400 bytes: 100 KiB."""
MAX_HOST_BYTES: Final = 253
"""Longest host name of the domain name system."""

TransactionBytes = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_TRANSACTION_BYTES)]
BlockBytes = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_ENCODED_BLOCK_BYTES)]
TransactionList = Annotated[tuple[TransactionBytes, ...], msgspec.Meta(max_length=MAX_TRANSACTIONS)]
ReferenceList = Annotated[tuple[Digest, ...], msgspec.Meta(min_length=1, max_length=MAX_TRANSACTIONS)]
Nonce = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class Role(enum.IntEnum):
    """What a peer may do here."""

    MEMBER = 1
    GUEST = 2
    """Not a member yet: may ask for blocks and addresses and submit transactions, at a modest rate."""


class Transactions(Wire, frozen=True, tag=16):
    """Gossip: transactions for the delegates' pools, full bytes (PROTOCOL 6.4, 9.2)."""

    transactions: TransactionList


class TransactionsRequest(Wire, frozen=True, tag=17):
    """Asks for the full bytes behind references of a proposal (PROTOCOL 6.4)."""

    references: ReferenceList


class TransactionsResponse(Wire, frozen=True, tag=18):
    """Those of the asked-for transactions that the sender holds, in the order asked, as many as fit."""

    transactions: TransactionList


class UndecidedBlockRequest(Wire, frozen=True, tag=19):
    """Asks for a block that is not decided, by digest (PROTOCOL 6.4, 6.5: served until h is durable)."""

    height: Unsigned
    digest: Digest


class UndecidedBlockResponse(Wire, frozen=True, tag=20):
    """The block, or None where the sender does not hold it."""

    height: Unsigned
    digest: Digest
    block: Block | None


class BlocksRequest(Wire, frozen=True, tag=21):
    """Asks for the certified blocks of heights ``from_height`` .. ``from_height + count - 1`` (PROTOCOL 10.1)."""

    from_height: Unsigned
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_BLOCKS)]


class BlocksResponse(Wire, frozen=True, tag=22):
    """Canonical bytes of `consensus.block.CertifiedBlock`, consecutive from ``from_height``.

    Empty where the sender has none; otherwise all that was asked for, or at least `BLOCKS_RESPONSE_TARGET_BYTES`.
    """

    from_height: Unsigned
    blocks: Annotated[tuple[BlockBytes, ...], msgspec.Meta(max_length=MAX_BLOCKS)]


class Decided(Wire, frozen=True, tag=23):
    """A decided block with its certificate: bytes of `consensus.block.CertifiedBlock` (PROTOCOL 6.12, 6.6)."""

    height: Unsigned
    certified: BlockBytes


class StatusAnnouncement(Wire, frozen=True, tag=24):
    """What the sender's ledger holds; a hint whom to ask, never believed for anything else."""

    height: Unsigned
    """Highest height whose block and certificate it serves."""
    block_hash: Digest
    oldest_height: Unsigned
    """Lowest height it can serve blocks of; 1 unless it has pruned."""


class CertifiedHeightRequest(Wire, frozen=True, tag=25):
    """A node without its journal asks for the highest certified height (PROTOCOL 6.5)."""

    nonce: Nonce


class CertifiedHeightResponse(Wire, frozen=True, tag=26):
    """The answer to the request with ``nonce``, with the certificate that proves it; None for height 0."""

    nonce: Nonce
    height: Unsigned
    certificate: Certificate | None


class AddressRecord(Wire, frozen=True):
    """Where a node listens, numbered and signed by its node key (PROTOCOL 8.1a); see `network.address_book`."""

    public_key: PublicKey
    sequence: Unsigned
    """A higher number replaces a lower one."""
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_HOST_BYTES)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    signature: SignatureBytes


class AddressRecords(Wire, frozen=True, tag=27):
    """Records the sender holds newest: gossip, and the answer to `AddressRecordsRequest`."""

    records: Annotated[tuple[AddressRecord, ...], msgspec.Meta(max_length=MAX_ADDRESS_RECORDS)]


class AddressRecordsRequest(Wire, frozen=True, tag=28):
    """Asks where the holders of these keys listen."""

    public_keys: Annotated[tuple[PublicKey, ...], msgspec.Meta(min_length=1, max_length=MAX_ADDRESS_RECORDS)]


class RoleGranted(Wire, frozen=True, tag=29):
    """The receiver's role at the sender has changed, e.g. its registration committed (PROTOCOL 10.1)."""

    role: Role


class Goodbye(Wire, frozen=True, tag=30):
    """Why the sender closes the connection; the last message on it."""

    reason: Annotated[str, msgspec.Meta(max_length=256)]


class Ping(Wire, frozen=True, tag=31):
    """Asks for a sign of life."""

    nonce: Unsigned


class Pong(Wire, frozen=True, tag=32):
    """The sign of life."""

    nonce: Unsigned


LinkMessage: TypeAlias = RoleGranted | Goodbye | Ping | Pong
"""Spoken and heard by the transport itself; never handed up."""

ApplicationMessage: TypeAlias = (
    ConsensusMessage
    | Transactions
    | TransactionsRequest
    | TransactionsResponse
    | UndecidedBlockRequest
    | UndecidedBlockResponse
    | BlocksRequest
    | BlocksResponse
    | Decided
    | StatusAnnouncement
    | CertifiedHeightRequest
    | CertifiedHeightResponse
    | AddressRecords
    | AddressRecordsRequest
)
"""What the transport's user sends and receives."""

PeerMessage: TypeAlias = ApplicationMessage | LinkMessage


class Lane(enum.IntEnum):
    """Order in which a slow link is served, lowest first."""

    CONSENSUS = 0
    """Agreement waits for it."""
    SYNC = 1
    """Somebody waits for it."""
    GOSSIP = 2
    """Can be lost: the oldest is dropped when a peer reads too slowly."""


class _Rule(msgspec.Struct, frozen=True):
    tag: int
    lane: Lane
    max_bytes: int
    guest: bool = False


_ENVELOPE_BYTES: Final = 64
"""Array header, tag, and the small fields around a body with a limit of its own."""
_LIST_BYTES: Final = MAX_TRANSACTIONS_BYTES + 5 * MAX_TRANSACTIONS + _ENVELOPE_BYTES
_BLOCKS_BYTES: Final = (
    BLOCKS_RESPONSE_TARGET_BYTES + MAX_ENCODED_BLOCK_BYTES + 5 * MAX_BLOCKS + _ENVELOPE_BYTES
)

_RULES: Final[dict[type, _Rule]] = {
    Proposal: _Rule(4, Lane.CONSENSUS, MAX_MESSAGE_BYTES),
    Prepare: _Rule(2, Lane.CONSENSUS, 512),
    Commit: _Rule(3, Lane.CONSENSUS, 512),
    ViewChange: _Rule(5, Lane.CONSENSUS, 262_144),
    NewView: _Rule(6, Lane.CONSENSUS, MAX_MESSAGE_BYTES),
    Transactions: _Rule(16, Lane.GOSSIP, _LIST_BYTES, guest=True),
    TransactionsRequest: _Rule(17, Lane.CONSENSUS, 34 * MAX_TRANSACTIONS + _ENVELOPE_BYTES),
    TransactionsResponse: _Rule(18, Lane.CONSENSUS, _LIST_BYTES),
    UndecidedBlockRequest: _Rule(19, Lane.CONSENSUS, 128),
    UndecidedBlockResponse: _Rule(20, Lane.CONSENSUS, MAX_ENCODED_BLOCK_BYTES + _ENVELOPE_BYTES),
    BlocksRequest: _Rule(21, Lane.SYNC, 64, guest=True),
    BlocksResponse: _Rule(22, Lane.SYNC, _BLOCKS_BYTES),
    Decided: _Rule(23, Lane.SYNC, MAX_ENCODED_BLOCK_BYTES + _ENVELOPE_BYTES),
    StatusAnnouncement: _Rule(24, Lane.SYNC, 128, guest=True),
    CertifiedHeightRequest: _Rule(25, Lane.CONSENSUS, 64),
    CertifiedHeightResponse: _Rule(26, Lane.CONSENSUS, 262_144 + _ENVELOPE_BYTES),
    AddressRecords: _Rule(27, Lane.GOSSIP, 400 * MAX_ADDRESS_RECORDS + _ENVELOPE_BYTES, guest=True),
    AddressRecordsRequest: _Rule(28, Lane.SYNC, 34 * MAX_ADDRESS_RECORDS + _ENVELOPE_BYTES, guest=True),
    RoleGranted: _Rule(29, Lane.SYNC, 16, guest=True),
    Goodbye: _Rule(30, Lane.CONSENSUS, 512, guest=True),
    Ping: _Rule(31, Lane.CONSENSUS, 16, guest=True),
    Pong: _Rule(32, Lane.CONSENSUS, 16, guest=True),
}
_BY_TAG: Final = {rule.tag: rule for rule in _RULES.values()}
MAX_FRAME_BYTES: Final = max(rule.max_bytes for rule in _RULES.values())
"""The largest message of any kind; framing refuses more before it buffers anything."""
MAX_GUEST_FRAME_BYTES: Final = max(rule.max_bytes for rule in _RULES.values() if rule.guest)

_codec: Final[Codec[PeerMessage]] = Codec(PeerMessage, MAX_FRAME_BYTES)


def encode_message(message: PeerMessage) -> bytes:
    """Canonical bytes of ``message``; `ValueError` where our own message breaks its kind's size limit."""
    payload = encode(message)
    limit = _RULES[type(message)].max_bytes
    if len(payload) > limit:
        raise ValueError(f"{type(message).__name__} of {len(payload)} bytes exceeds its limit of {limit}")
    return payload


def decode_message(payload: bytes) -> PeerMessage:
    """The message in ``payload``; `MalformedInput` if unknown, too large for its kind, ill-typed or not canonical.

    Tag and size are judged on the first two bytes, before anything is decoded.
    """
    rule = _BY_TAG.get(payload[1]) if len(payload) >= 2 and 0x91 <= payload[0] <= 0x9F else None
    if rule is None:
        raise MalformedInput(f"not a peer message: it begins with {payload[:2].hex() or 'nothing'}")
    if len(payload) > rule.max_bytes:
        raise MalformedInput(
            f"{len(payload)} bytes exceed the limit of {rule.max_bytes} for messages of tag {rule.tag}"
        )
    return _codec.decode(payload)


def lane_of(message: PeerMessage) -> Lane:
    """The lane in which ``message`` waits."""
    return _RULES[type(message)].lane


def guest_may_send(message: PeerMessage) -> bool:
    """Whether a node that is not a member may say this (PROTOCOL 10.1)."""
    return _RULES[type(message)].guest

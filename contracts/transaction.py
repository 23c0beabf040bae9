"""Transactions: body, signatures, identity and every payload (PROTOCOL 9.2).

A transaction on the wire is ``[body, signatures]``; ``body`` is ``[chain id, type, sender, valid_from, valid_until,
nonce, payload]``. The id is H(body): other signature bytes make no other transaction. The first signature is the
sender's.
"""

import enum
from typing import Annotated, Final, TypeAlias

import msgspec

from consensus.block import Header
from consensus.encoding import Codec, encode
from consensus.errors import MalformedInput
from consensus.hashing import tagged_hash
from consensus.merkle import MerklePath
from consensus.messages import Commit, Prepare, PrePrepareVote
from consensus.signing import TRANSACTION_DOMAIN, Signer
from consensus.types import Address, BasisPoints, Digest, PublicKey, SignatureBytes, Unsigned, Value, Wire

MAX_TRANSACTION_BYTES: Final = 65_536
"""256 signed readings are at most 41 KiB; a plan for 10 000 members 30 KiB; evidence with a 4 KiB transaction less."""
MAX_OPERATORS: Final = 16
"""Of a chain (PROTOCOL 1.5): so that approvals fit a transaction and cost a few milliseconds to verify."""
MAX_SIGNATURES: Final = MAX_OPERATORS + 2
"""All operators, the member, and one to spare."""
MAX_WINDOW_SLOTS: Final = 96
"""A window of 1..96 slots: a day of quarter-hours (PROTOCOL 2.1)."""


class TransactionType(enum.IntEnum):
    """The closed list of contracts' entry points."""

    JOIN = 1
    LEAVE = 2
    TRANSFER = 3
    ISSUE = 4
    REDEEM = 5
    TRADE_OPEN = 6
    TRADE_OFFER = 7
    TRADE_ACCEPT = 8
    TRADE_WITHDRAW = 9
    TRADE_DECLINE = 10
    TRADE_CANCEL = 11
    EXCUSE = 12
    READINGS = 13
    BALLOTS = 14
    PLAN = 15
    HEARTBEAT = 16
    EVIDENCE = 17
    CHANGE_METER = 18


class BuyerRule(enum.IntEnum):
    """What the buyer pays for (PROTOCOL 2.1, 2.5)."""

    PAY_ACTUAL = 1
    TAKE_OR_PAY = 2


class Signature(Wire, frozen=True):
    """A signature with the key that made it, so that validity needs no state (PROTOCOL 6.8)."""

    public_key: PublicKey
    signature: SignatureBytes


class Meter(Wire, frozen=True):
    """A member's one meter: its key and greatest power in W (PROTOCOL 1.4).

    In `invited` chains ``approvals`` holds ``operator_threshold`` operator signatures over
    METER_DOMAIN || encode([chain id, member address, key, max_power_w]); empty in `open` chains.
    """

    public_key: PublicKey
    max_power_w: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]
    approvals: Annotated[tuple[Signature, ...], msgspec.Meta(max_length=MAX_OPERATORS)]


class Invite(Wire, frozen=True):
    """Permission to join, usable once: INVITE_DOMAIN || encode([chain id, public_key, last_time_ms]) is signed."""

    public_key: PublicKey
    last_time_ms: Unsigned
    approvals: Annotated[tuple[Signature, ...], msgspec.Meta(max_length=MAX_OPERATORS)]


class Join(Wire, frozen=True):
    """Register the sender, whose key is ``public_key``; the transaction's signature proves possession (1.3, 1.5)."""

    public_key: PublicKey
    meter: Meter
    invite: Invite | None


class Leave(Wire, frozen=True):
    """PROTOCOL 1.7."""


class ChangeMeter(Wire, frozen=True):
    """A change of meter; holds from the first slot that starts after it (PROTOCOL 1.4)."""

    meter: Meter


class Transfer(Wire, frozen=True):
    """Move ``amount`` nano-units (at least 1) to a registered member (PROTOCOL 1.6)."""

    recipient: Address
    amount: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class Issue(Wire, frozen=True):
    """Operators create money for a member; the sender is the first operator that signed (PROTOCOL 1.6)."""

    recipient: Address
    amount: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class Redeem(Wire, frozen=True):
    """The sending member and the operators destroy money of the member (PROTOCOL 1.6)."""

    amount: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class Terms(Wire, frozen=True):
    """What both parties agree on before a trade starts (PROTOCOL 2.1)."""

    seller: Address
    buyer: Address
    quantity_wh: Annotated[int, msgspec.Meta(ge=1, le=10**9)]
    price: Annotated[int, msgspec.Meta(ge=0, le=10**9)]
    """Micro-units of currency per kWh, so ``wh * price`` is nano-units."""
    start_ms: Unsigned
    """Start of the first slot, aligned to the Unix epoch."""
    slots: Annotated[int, msgspec.Meta(ge=1, le=MAX_WINDOW_SLOTS)]
    penalty_bp: BasisPoints
    buyer_rule: BuyerRule
    expiry_ms: Unsigned
    """An offer still open at this header time expires; at or before ``start_ms``."""


class TradeOpen(Wire, frozen=True):
    """A trade that both parties signed; the sender is one of them, the second signature the other's (2.2)."""

    terms: Terms


class TradeOffer(Wire, frozen=True):
    """A trade offered by the sender, one party, to the other (PROTOCOL 2.2)."""

    terms: Terms


class TradeAccept(Wire, frozen=True):
    """The named party accepts an offer."""

    offer_id: Digest


class TradeWithdraw(Wire, frozen=True):
    """The offerer takes an offer back."""

    offer_id: Digest


class TradeDecline(Wire, frozen=True):
    """The named party refuses an offer."""

    offer_id: Digest


class TradeCancel(Wire, frozen=True):
    """One party's half of a cancellation; the second makes it (PROTOCOL 2.3)."""

    contract_id: Digest


class Excuse(Wire, frozen=True):
    """Operators mark a contract: no penalties, no credit change (2.3); the sender is the first operator that signed."""

    contract_id: Digest


class Reading(Wire, frozen=True):
    """A meter's two registers for one slot; signed over READING_DOMAIN || chain id || encode(the first five fields)."""

    member: Address
    slot: Unsigned
    """Number of the slot: its start in ms // slot_ms."""
    counter: Unsigned
    exported_wh: Annotated[int, msgspec.Meta(ge=0, le=10**12)]
    imported_wh: Annotated[int, msgspec.Meta(ge=0, le=10**12)]
    public_key: PublicKey
    signature: SignatureBytes


class Readings(Wire, frozen=True):
    """1..256 readings, carried by anyone (PROTOCOL 2.4)."""

    readings: Annotated[tuple[Reading, ...], msgspec.Meta(min_length=1, max_length=256)]


class Ballot(Wire, frozen=True):
    """A vote for the seat of the voter's group in ``epoch`` (PROTOCOL 5.2).

    Signed over BALLOT_DOMAIN || chain id || encode([voter, epoch, sequence, choices]); ``public_key`` hashes to
    ``voter``.
    """

    voter: Address
    epoch: Unsigned
    sequence: Unsigned
    choices: Annotated[tuple[Address, ...], msgspec.Meta(min_length=1, max_length=3)]
    public_key: PublicKey
    signature: SignatureBytes


class Ballots(Wire, frozen=True):
    """1..128 signed ballots, carried by anyone: a member's own, or a batch of the bootstrap service (PROTOCOL 8.1)."""

    ballots: Annotated[tuple[Ballot, ...], msgspec.Meta(min_length=1, max_length=128)]


class Plan(Wire, frozen=True):
    """A grouping of the eligible members, in address order, and the score it claims (PROTOCOL 4.5)."""

    epoch: Unsigned
    """The epoch whose groups it forms."""
    assignment: tuple[Unsigned, ...]
    energy_excess_wh: Unsigned
    credit_excess: Unsigned


class Heartbeat(Wire, frozen=True):
    """Sign of life (PROTOCOL 3.2c, 4.6): a delegate shows its own commit of a missed height, others nothing."""

    epoch: Unsigned
    commit: Commit | None


class ConflictingVotes(Wire, frozen=True, tag=1):
    """Two votes of one key, one kind and one (epoch, height, view) with different digests (PROTOCOL 3.2b)."""

    first: PrePrepareVote | Prepare | Commit
    second: PrePrepareVote | Prepare | Commit


class InvalidTransactionProposed(Wire, frozen=True, tag=2):
    """A fresh pre-prepare with header and path to a transaction that is malformed, badly signed or out of window."""

    pre_prepare: PrePrepareVote
    header: Header
    path: MerklePath
    transaction: bytes


class InvalidHeaderProposed(Wire, frozen=True, tag=3):
    """A fresh pre-prepare whose header names a wrong chain, version or epoch (PROTOCOL 3.2b)."""

    pre_prepare: PrePrepareVote
    header: Header


Proof: TypeAlias = ConflictingVotes | InvalidTransactionProposed | InvalidHeaderProposed


class Evidence(Wire, frozen=True):
    """Proof of a wrong block or of equivocation, submitted by anyone (PROTOCOL 3.2b)."""

    proof: Proof


Payload: TypeAlias = (
    Join
    | Leave
    | Transfer
    | Issue
    | Redeem
    | TradeOpen
    | TradeOffer
    | TradeAccept
    | TradeWithdraw
    | TradeDecline
    | TradeCancel
    | Excuse
    | Readings
    | Ballots
    | Plan
    | Heartbeat
    | Evidence
    | ChangeMeter
)

PAYLOAD_TYPES: Final[dict[TransactionType, type[Payload]]] = {
    TransactionType.JOIN: Join,
    TransactionType.LEAVE: Leave,
    TransactionType.TRANSFER: Transfer,
    TransactionType.ISSUE: Issue,
    TransactionType.REDEEM: Redeem,
    TransactionType.TRADE_OPEN: TradeOpen,
    TransactionType.TRADE_OFFER: TradeOffer,
    TransactionType.TRADE_ACCEPT: TradeAccept,
    TransactionType.TRADE_WITHDRAW: TradeWithdraw,
    TransactionType.TRADE_DECLINE: TradeDecline,
    TransactionType.TRADE_CANCEL: TradeCancel,
    TransactionType.EXCUSE: Excuse,
    TransactionType.READINGS: Readings,
    TransactionType.BALLOTS: Ballots,
    TransactionType.PLAN: Plan,
    TransactionType.HEARTBEAT: Heartbeat,
    TransactionType.EVIDENCE: Evidence,
    TransactionType.CHANGE_METER: ChangeMeter,
}
TYPE_OF: Final = {payload: kind for kind, payload in PAYLOAD_TYPES.items()}


Signatures: TypeAlias = Annotated[
    tuple[Signature, ...], msgspec.Meta(min_length=1, max_length=MAX_SIGNATURES)
]


class SignedTransaction(Wire, frozen=True):
    """The wire form around a body that was encoded, and perhaps signed, before."""

    body: msgspec.Raw
    signatures: Signatures


class Transaction(Value, frozen=True):
    """A decoded transaction: made once at the door of a node, then handed on (PROTOCOL 9.2)."""

    raw: bytes
    """The full bytes, signatures included."""
    id: Digest
    """H(body)."""
    reference: Digest
    """H(full bytes)."""
    chain_id: Digest
    type: TransactionType
    sender: Address
    valid_from_ms: int
    valid_until_ms: int
    payload: Payload
    signatures: tuple[Signature, ...]
    signed_bytes: bytes
    """TRANSACTION_DOMAIN || body, what each of ``signatures`` signs."""


_AnyBody: TypeAlias = tuple[Digest, Unsigned, Address, Unsigned, Unsigned, Unsigned, msgspec.Raw]
_Decoded: TypeAlias = tuple[tuple[Digest, int, Address, int, int, int, Payload], tuple[Signature, ...]]


def _codec_of(payload: type[Payload]) -> Codec[_Decoded]:
    """Decoder of a whole transaction with this payload: what is decoded at once is compared with its bytes once."""
    body: object = tuple[Digest, Unsigned, Address, Unsigned, Unsigned, Unsigned, payload]  # type: ignore[valid-type]
    return Codec(tuple[body, Signatures], MAX_TRANSACTION_BYTES)  # type: ignore[valid-type]


_codecs: Final[dict[int, Codec[_Decoded]]] = {
    int(kind): _codec_of(payload) for kind, payload in PAYLOAD_TYPES.items()
}
_any_codec: Final[Codec[tuple[_AnyBody, Signatures]]] = Codec(
    tuple[_AnyBody, Signatures], MAX_TRANSACTION_BYTES
)
_BODY_OFFSET: Final = 1
"""The body follows the header of an array of two."""
_TYPE_OFFSET: Final = _BODY_OFFSET + 1 + 2 + 32
"""The type follows the header of an array of seven, and the chain id with its own; a known type takes one byte."""
_TYPES: Final = {int(kind): kind for kind in TransactionType}


def decode_transaction(raw: bytes, reference: Digest | None = None) -> Transaction:
    """The transaction in ``raw``; `MalformedInput` if it is not the canonical encoding of a known type (9.4).

    ``reference`` is H(``raw``), where the caller has computed it already.
    """
    codec = _codecs.get(raw[_TYPE_OFFSET]) if len(raw) > _TYPE_OFFSET else None
    if codec is None:
        (_, kind, *_), _ = _any_codec.decode(raw)
        raise MalformedInput(f"unknown transaction type {kind}")
    body, signatures = codec.decode(raw)
    chain_id, kind, sender, valid_from_ms, valid_until_ms, _nonce, payload = body
    body_bytes = raw[_BODY_OFFSET : len(raw) - len(encode(signatures))]
    return Transaction(
        raw,
        tagged_hash("transaction.body", body_bytes),
        tagged_hash("transaction.full", raw) if reference is None else reference,
        chain_id,
        _TYPES[kind],
        sender,
        valid_from_ms,
        valid_until_ms,
        payload,
        signatures,
        TRANSACTION_DOMAIN + body_bytes,
    )


def encode_body(
    chain_id: bytes, sender: bytes, valid_from_ms: int, valid_until_ms: int, nonce: int, payload: Payload
) -> bytes:
    """Canonical body bytes, ready to be signed by one or more parties."""
    kind = TYPE_OF[type(payload)]
    return encode((chain_id, int(kind), sender, valid_from_ms, valid_until_ms, nonce, payload))


def sign_body(body: bytes, signers: tuple[Signer, ...]) -> bytes:
    """Full transaction bytes signed by ``signers``, the sender first."""
    message = TRANSACTION_DOMAIN + body
    return join_signatures(body, tuple(Signature(s.public_key, s.sign(message)) for s in signers))


def join_signatures(body: bytes, signatures: tuple[Signature, ...]) -> bytes:
    """Full transaction bytes from a body and signatures collected elsewhere, the sender's first."""
    return encode(SignedTransaction(msgspec.Raw(body), signatures))

"""Every type that is sent, signed or stored, found by itself, with a maker of plain values drawn from a seed.

Values are made as plain Python (tuples, integers, bytes) from the type's own bounds and packed by another MessagePack
implementation, so that nothing of the codec under test takes part in what it is to decode.
"""

import importlib
import pkgutil
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]
from msgspec import inspect

import consensus
import contracts
import network
import node
from consensus.effects import JournalRecord
from consensus.encoding import Codec, encode
from consensus.messages import ConsensusMessage, message_codec
from consensus.signing import TRANSACTION_DOMAIN
from consensus.types import Address, Digest, Unsigned, Wire
from contracts.transaction import (
    PAYLOAD_TYPES,
    Signatures,
    SignedTransaction,
    Transaction,
    TransactionType,
    decode_transaction,
    encode_body,
    join_signatures,
)
from network.handshake import HandshakeMessage, handshake_codec
from network.wire import PeerMessage, decode_message
from node.auditor import shapes
from node.auditor.encoding import Shape

Plain = Any
"""None, bool, int, bytes, str and tuples of these."""
Maker = Callable[[random.Random], Plain]

MAX_BYTES: Final = 64 * 1_048_576
"""Nothing made here comes near: the limits themselves have tests of their own."""
EDGES: Final = tuple(
    edge
    for bits in (5, 7, 8, 15, 16, 31, 32, 63, 64)
    for edge in (2**bits - 1, 2**bits, -(2**bits), -(2**bits) - 1)
)
"""Where MessagePack changes the size of an integer."""
LENGTHS: Final = (0, 1, 2, 3, 31, 32, 33, 255, 256, 300)
"""Of byte strings: around where the size of the length changes."""
SHIPPED: Final = ("consensus", "contracts", "network", "node")
NOT_SHIPPED: Final = ("network.simulation", "node.__main__", "node.auditor.__main__")


@dataclass(frozen=True)
class Target:
    """One type with the shipped decoder that reads it."""

    name: str
    make: Maker
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    shape: Shape | None = None
    """The auditor's own description of the same bytes, where it has one."""
    kind: type = object
    """What ``shape`` describes: a decoder of a union may make something else of a mutant."""


# ---- plain values


def maker_of(kind: inspect.Type) -> Maker:
    """A maker of plain values that the decoder of ``kind`` must accept."""
    match kind:
        case inspect.IntType():
            return _integers(kind)
        case inspect.BytesType():
            return _byte_strings(kind.min_length or 0, kind.max_length)
        case inspect.StrType():
            return _texts(kind)
        case inspect.BoolType():
            return lambda rng: bool(rng.getrandbits(1))
        case inspect.NoneType():
            return lambda _: None
        case inspect.EnumType():
            values: tuple[Plain, ...] = tuple(member.value for member in kind.cls)
            return lambda rng: values[_below(rng, len(values))]
        case inspect.VarTupleType():
            return _lists(kind)
        case inspect.TupleType():
            return _records([maker_of(item) for item in kind.item_types], None)
        case inspect.UnionType():
            makers = [maker_of(item) for item in kind.types]
            return lambda rng: makers[_below(rng, len(makers))](rng)
        case inspect.StructType():
            return _records([maker_of(field.type) for field in kind.fields], kind.tag)
        case _:
            raise TypeError(f"no maker for {kind}: write one")


def _below(rng: random.Random, count: int) -> int:
    """0 .. ``count`` - 1: by the one draw that is the same in every version of Python."""
    return (rng.getrandbits(32) * count) >> 32


def _integers(kind: inspect.IntType) -> Maker:
    low = -(2**63) if kind.ge is None else int(kind.ge)
    high = 2**63 - 1 if kind.le is None else int(kind.le)
    edges = (low, high, *(edge for edge in EDGES if low <= edge <= high))

    def make(rng: random.Random) -> int:
        if rng.getrandbits(1):
            return edges[_below(rng, len(edges))]
        return low + (rng.getrandbits(72) >> (8 + _below(rng, 64))) % (high - low + 1)

    return make


def _byte_strings(low: int, high: int | None) -> Maker:
    if low == high:
        return lambda rng: rng.getrandbits(8 * low).to_bytes(low, "big")
    lengths = tuple(n for n in LENGTHS if low <= n and (high is None or n <= high)) or (low,)

    def make(rng: random.Random) -> bytes:
        length = lengths[_below(rng, len(lengths))]
        return rng.getrandbits(8 * length).to_bytes(length, "big") if length else b""

    return make


def _texts(kind: inspect.StrType) -> Maker:
    low, high = kind.min_length or 0, 64 if kind.max_length is None else kind.max_length
    if kind.pattern is not None:  # only of the form ^(one|another)$; the decoder refuses what this gets wrong
        words = kind.pattern.removeprefix("^(").removesuffix(")$").split("|")
        return lambda rng: words[_below(rng, len(words))]
    letters = "aZ0.-_ äßπ\u2028€𝄞\x00"

    def make(rng: random.Random) -> str:
        length = low + _below(rng, min(high, 40) - low + 1)
        return "".join(letters[_below(rng, len(letters))] for _ in range(length))

    return make


def _lists(kind: inspect.VarTupleType) -> Maker:
    item, low = maker_of(kind.item_type), kind.min_length or 0
    flat = isinstance(kind.item_type, inspect.IntType | inspect.BytesType | inspect.EnumType)
    lengths = [n for n in ((0, 1, 2, 3, 15, 16, 17) if flat else (0, 1, 1, 2)) if n >= low]
    lengths = [n for n in lengths if kind.max_length is None or n <= kind.max_length] or [low]

    def make(rng: random.Random) -> tuple[Plain, ...]:
        return tuple([item(rng) for _ in range(lengths[_below(rng, len(lengths))])])

    return make


def _records(makers: list[Maker], tag: str | int | None) -> Maker:
    head = () if tag is None else (tag,)
    return lambda rng: (*head, *[make(rng) for make in makers])


# ---- targets


def _import_all(package: ModuleType) -> None:
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.startswith(NOT_SHIPPED):
            importlib.import_module(found.name)


def _wire_types(base: type[Any] = Wire) -> Iterator[type[Any]]:
    below: list[type[Any]] = base.__subclasses__()
    for kind in below:
        if kind.__module__.split(".")[0] in SHIPPED and not kind.__module__.startswith(NOT_SHIPPED):
            yield kind
        yield from _wire_types(kind)


_SHAPES: Final[dict[str, Shape]] = {
    "Header": shapes.HEADER,
    "Certificate": shapes.CERTIFICATE,
    "MerklePath": shapes.PATH,
    "Discard": shapes.DISCARD,
    "CertifiedBlock": shapes.CERTIFIED_BLOCK,
    "Genesis": shapes.GENESIS,
    "PrePrepareVote": shapes.PRE_PREPARE_VOTE,
    "Prepare": shapes.PREPARE_VOTE,
    "Commit": shapes.COMMIT_VOTE,
    "ViewChange": shapes.VIEW_CHANGE_MESSAGE,
    "Terms": shapes.TERMS,
    "Reading": shapes.READING,
    "Ballot": shapes.BALLOT,
    "Meter": shapes.METER,
    "Invite": shapes.INVITE,
    **{kind.__name__: shapes.PAYLOADS[number] for number, kind in PAYLOAD_TYPES.items()},
}


def _members(union: Any) -> tuple[type, ...]:
    members: tuple[type, ...] = union.__args__
    return members


_JOURNAL: Final = Codec[Any](JournalRecord, MAX_BYTES)
_DECODERS: Final[tuple[tuple[tuple[type, ...], Callable[[bytes], Any]], ...]] = (
    (_members(ConsensusMessage), message_codec.decode),
    (_members(PeerMessage), decode_message),
    (_members(HandshakeMessage), handshake_codec.decode),
    (_members(JournalRecord), _JOURNAL.decode),
)
"""Unions with a decoder of their own; the first that holds a type reads it."""


def _decoder_of(kind: type) -> Callable[[bytes], Any]:
    for members, decode in _DECODERS:
        if kind in members:
            return decode
    return Codec[Any](kind, MAX_BYTES).decode


def _transaction(kind: TransactionType) -> Target:
    """A whole transaction of one type; its body travels raw, so that a maker of its own is needed."""
    payload = maker_of(inspect.type_info(PAYLOAD_TYPES[kind]))
    body = maker_of(inspect.type_info(tuple[Digest, Unsigned, Address, Unsigned, Unsigned, Unsigned]))
    signatures = maker_of(inspect.type_info(Signatures))

    def make(rng: random.Random) -> Plain:
        chain_id, _, *others = body(rng)
        return (chain_id, int(kind), *others, payload(rng)), signatures(rng)

    return Target(
        f"transaction {kind.name.lower()}", make, decode_transaction, _encode_again, shapes.TRANSACTION
    )


def _encode_again(transaction: Transaction) -> bytes:
    """From the decoded fields alone."""
    t = transaction
    body = encode_body(t.chain_id, t.sender, t.valid_from_ms, t.valid_until_ms, _nonce(t), t.payload)
    return join_signatures(body, t.signatures)


def _nonce(transaction: Transaction) -> int:
    """The one field that a decoded transaction does not keep."""
    body = msgpack.unpackb(transaction.signed_bytes[len(TRANSACTION_DOMAIN) :], use_list=False)
    return int(body[5])


def all_targets() -> tuple[Target, ...]:
    """Every wire type of the shipped code and every kind of transaction, by name."""
    for package in (consensus, contracts, network, node):
        _import_all(package)
    found: dict[str, Target] = {}
    for kind in _wire_types():
        if kind is SignedTransaction:
            continue
        name = f"{kind.__module__}.{kind.__name__}"
        make = maker_of(inspect.type_info(kind))
        found[name] = Target(name, make, _decoder_of(kind), encode, _SHAPES.get(kind.__name__), kind)
    for number in PAYLOAD_TYPES:
        target = _transaction(number)
        found[target.name] = target
    return tuple(found[name] for name in sorted(found))

"""Doors of a node through which bytes of others come in, each with the code that stands behind it.

``keyed`` targets are served by a fuzzer that holds a valid key: what it sends is rightly signed, or comes from a peer
that has proven itself, so that nothing is refused for its signature alone.
"""

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import msgspec

from consensus.block import certified_block_codec
from consensus.ed25519 import Ed25519Verifier
from consensus.encoding import Codec, encode
from consensus.errors import MalformedInput
from consensus.merkle import MerklePath, merkle_path, merkle_root, verify_path
from consensus.messages import message_codec
from consensus.signing import TRANSACTION_DOMAIN
from contracts.genesis import Genesis, check_genesis, genesis_codec
from contracts.state_tree import StateProof, StateTree, verify_state_proof
from contracts.transaction import decode_transaction
from contracts.validation import check_transaction
from network.address_book import check_record, record_bytes, record_codec
from network.bootstrap.records import announcement_from_json, announcement_to_json
from network.framing import FrameDecoder, encode_frame
from network.handshake import ChainIdentity, Handshake, handshake_codec
from network.wire import Role, decode_message
from node.config import parse_config
from node.files import SystemFiles
from node.formation import announcement_of
from node.journal import Journal
from scripts.simulating.bit_flips_home import CONFIG
from scripts.simulating.codec_conformance import mutate, twisted
from scripts.simulating.codec_conformance_types import Target as CodecTarget
from scripts.simulating.codec_conformance_types import all_targets
from scripts.simulating.crash_points_chain import make_genesis, member_key
from scripts.simulating.crash_points_disk import RecordingDisk
from scripts.simulating.malformed_input_delegate import Delegates

Make = Callable[[random.Random], bytes]
_pack: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=True).pack


@dataclass(frozen=True)
class Door:
    """One target."""

    name: str
    keyed: bool
    make: Make
    """Bytes that are wrong in a way that looks right, or right."""
    take: Callable[[bytes], None]
    """Hand them in; a `ProtocolError` is a refusal, anything else that is raised a finding."""


def _plain_bytes(targets: list[CodecTarget]) -> Make:
    """Values of any of the types, twisted, mutated or as they are."""
    before = [b"\x90"]

    def make(rng: random.Random) -> bytes:
        plain = targets[rng.randrange(len(targets))].make(rng)
        choice = rng.randrange(8)
        data = _pack(twisted(plain, rng) if choice < 4 else plain)
        if choice in (3, 4, 5):
            data = mutate(data or b"\x90", before[0], rng)
        before[0] = data or b"\x90"
        return data

    return make


def _canonical(decode: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def take(data: bytes) -> None:
        if encode(decode(data)) != data:
            raise AssertionError("what was taken is not canonical")

    return take


def _signed_transaction(targets: list[CodecTarget]) -> Make:
    """Bodies twisted and then signed by a member."""
    chain_id, key = make_genesis().hash(), member_key(1)

    def make(rng: random.Random) -> bytes:
        body, _ = targets[rng.randrange(len(targets))].make(rng)
        body = (chain_id, body[1], key.address, 1_000, 2_000, *body[5:])
        raw = _pack(twisted(body, rng) if rng.randrange(4) else body)
        if not rng.randrange(4):
            raw = mutate(raw, raw, rng)
        signature = (key.public_key, key.sign(TRANSACTION_DOMAIN + raw))
        return b"\x92" + raw + _pack((signature,))

    return make


def _take_transaction(data: bytes) -> None:
    genesis = _genesis()
    check_transaction(
        decode_transaction(data),
        chain_id=_chain_id(),
        parameters=genesis.parameters,
        verifier=Ed25519Verifier(),
    )


@functools.cache
def _genesis() -> Genesis:
    return make_genesis()


@functools.cache
def _chain_id() -> bytes:
    return _genesis().hash()


def _signed_record(rng: random.Random) -> bytes:
    key = member_key(1)
    fields = twisted((key.public_key, 7, "127.0.0.1", 26_656), rng)
    if not isinstance(fields, tuple) or len(fields) != 4:
        return _pack(fields)
    message = record_bytes(*fields)
    return _pack((*fields, key.sign(message)))


def _handshake(keyed: bool) -> Callable[[bytes], None]:
    chain = ChainIdentity(bytes(32), bytes(32))
    peer = member_key(2).public_key if keyed else bytes(32)

    def take(data: bytes) -> None:
        shake = Handshake(chain, "test", bytes(16), member_key(1).public_key, peer, lambda _: Role.MEMBER)
        shake.start()
        for payload in _pieces(data):
            shake.receive(payload)

    return take


def _pieces(data: bytes) -> list[bytes]:
    """The payloads of a stream that a strict reader of frames gives out."""
    decoder = FrameDecoder(65_536)
    pieces = []
    for start in range(0, len(data), 700):
        decoder.feed(data[start : start + 700])
        while (piece := decoder.next_frame()) is not None:
            pieces.append(piece)
    decoder.finish()
    return pieces


def _framed(inner: Make) -> Make:
    def make(rng: random.Random) -> bytes:
        stream = b"".join(encode_frame(inner(rng) or b"\x90") for _ in range(1 + rng.randrange(3)))
        return mutate(stream, stream, rng) if not rng.randrange(3) else stream

    return make


def _hello(rng: random.Random) -> bytes:
    """Fitting but for what is twisted."""
    plain = (1, 1, bytes(32), bytes(32), "peer", bytes(16))
    return _pack(twisted(plain, rng) if rng.randrange(2) else plain)


def _mutated(wholes: list[bytes]) -> Make:
    def make(rng: random.Random) -> bytes:
        data = wholes[rng.randrange(len(wholes))]
        for _ in range(1 + rng.randrange(3)):
            data = mutate(data or b"\x00", wholes[0], rng)
        return data

    return make


def _journal() -> tuple[Make, Callable[[bytes], None]]:
    key, directory = member_key(1).public_key, Path("/home/journal")
    disk = RecordingDisk()
    Journal.create(SystemFiles(directory, disk), key, bytes(16)).close()
    [(path, content)] = disk.after_kill().items()

    def take(data: bytes) -> None:
        Journal.load(SystemFiles(directory, RecordingDisk({path: data})), key)

    return _mutated([content]), take


def _state_proof() -> tuple[Make, Callable[[bytes], None]]:
    tree = StateTree()
    tree.update({bytes((n,)): bytes((n,)) for n in range(64)})
    proof = tree.prove(b"\x01", b"\x01")
    plain = msgpack.unpackb(encode(proof), use_list=False)
    codec: Codec[StateProof] = Codec(StateProof, 65_536)

    def make(rng: random.Random) -> bytes:
        return _pack(twisted(plain, rng))

    def take(data: bytes) -> None:
        found = codec.decode(data)
        if verify_state_proof(tree.root, found) and (found.key, found.value) not in _entries(found.key):
            raise AssertionError("a false proof is believed")

    return make, take


def _entries(key: bytes) -> tuple[tuple[bytes, bytes | None], ...]:
    """What the tree of `_state_proof` says of a key."""
    known = len(key) == 1 and key[0] < 64
    return ((key, key if known else None),)


def _merkle() -> tuple[Make, Callable[[bytes], None]]:
    leaves = [bytes((n,)) * 32 for n in range(21)]
    plain = msgpack.unpackb(encode(merkle_path(leaves, 5)), use_list=False)
    codec: Codec[MerklePath] = Codec(MerklePath, 65_536)
    tree_root = merkle_root(leaves)

    def take(data: bytes) -> None:
        path = codec.decode(data)
        if verify_path(tree_root, leaves[6], path):
            raise AssertionError("a false path is believed")

    return lambda rng: _pack(twisted(plain, rng)), take


def all_doors() -> tuple[Door, ...]:
    """Every target."""
    targets = all_targets()

    def of(*prefixes: str) -> list[CodecTarget]:
        return [target for target in targets if target.name.startswith(prefixes)]

    messages = of("consensus.messages.")
    genesis = encode(make_genesis())
    announcement = msgspec.json.encode(announcement_to_json(announcement_of(make_genesis())))
    delegates = Delegates()
    make_journal, take_journal = _journal()
    make_proof, take_proof = _state_proof()
    make_path, take_path = _merkle()
    return (
        Door(
            "peer messages",
            False,
            _plain_bytes(of("network.wire.", "consensus.messages.")),
            _canonical(decode_message),
        ),
        Door("consensus messages", False, _plain_bytes(messages), _canonical(message_codec.decode)),
        Door("transactions", False, _plain_bytes(of("transaction ")), _take_transaction),
        Door(
            "transactions signed by a member",
            True,
            _signed_transaction(of("transaction ")),
            _take_transaction,
        ),
        Door(
            "certified blocks",
            False,
            _plain_bytes(of("consensus.block.Cert")),
            _canonical(certified_block_codec.decode),
        ),
        Door(
            "handshake of a stranger",
            False,
            _framed(_plain_bytes(of("network.handshake."))),
            _handshake(keyed=False),
        ),
        Door("handshake of a delegate", True, _framed(_hello), _handshake(keyed=True)),
        Door("handshake messages", True, _hello, _canonical(handshake_codec.decode)),
        Door("frames", False, _framed(_plain_bytes(messages)), _take_frames),
        Door(
            "address records",
            False,
            _plain_bytes(of("network.wire.AddressRecord")),
            _canonical(record_codec.decode),
        ),
        Door("address records signed by a member", True, _signed_record, _take_record),
        Door("genesis", False, _mutated([genesis]), _take_genesis),
        Door(
            "announcements",
            False,
            _mutated([announcement]),
            _take_announcement,
        ),
        Door("state proofs", False, make_proof, take_proof),
        Door("Merkle paths", False, make_path, take_path),
        Door("journal files", False, make_journal, take_journal),
        Door("config.toml", False, _mutated([CONFIG.encode()]), _take_config),
        Door("a replica, from strangers", False, delegates.unsigned, delegates.take),
        Door("a replica, votes signed by a delegate", True, delegates.signed, delegates.take),
        Door("a replica, views signed by a delegate", True, delegates.signed_views, delegates.take),
    )


def _take_record(data: bytes) -> None:
    check_record(record_codec.decode(data), Ed25519Verifier())


def _take_frames(data: bytes) -> None:
    _pieces(data)


def _take_announcement(data: bytes) -> None:
    announcement_from_json(data)


def _take_genesis(data: bytes) -> None:
    check_genesis(genesis_codec.decode(data), Ed25519Verifier())


def _take_config(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise MalformedInput(str(error)) from error
    parse_config(text, "config.toml")

"""The closed union of peer messages: canonical, bounded, one rule for each."""

import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.block import Certificate, CommitSignature
from consensus.encoding import encode
from consensus.errors import MalformedInput
from consensus.messages import Commit, NewView, Prepare, PrePrepareVote, ViewChange
from network import wire
from network.wire import (
    MAX_FRAME_BYTES,
    AddressRecord,
    AddressRecords,
    AddressRecordsRequest,
    BlocksRequest,
    BlocksResponse,
    CertifiedHeightRequest,
    CertifiedHeightResponse,
    Decided,
    Goodbye,
    Lane,
    PeerMessage,
    Ping,
    Pong,
    Role,
    RoleGranted,
    StatusAnnouncement,
    Transactions,
    TransactionsRequest,
    TransactionsResponse,
    UndecidedBlockRequest,
    UndecidedBlockResponse,
    decode_message,
    encode_message,
    guest_may_send,
    lane_of,
)
from tests.unit.network.harness import chain_of

D, K, S = bytes(32), b"k" * 32, b"s" * 64
BIG = 2**63 - 1

EXAMPLES: list[PeerMessage] = [
    Prepare(0, 1, 0, D, K, S),
    Commit(BIG, BIG, BIG, D, K, S),
    ViewChange(0, 1, 2, None, (), K, S),
    NewView(0, 1, 2, (ViewChange(0, 1, 2, None, (), K, S),), K, S),
    Transactions((b"t",)),
    TransactionsRequest((D,)),
    TransactionsResponse(()),
    UndecidedBlockRequest(1, D),
    UndecidedBlockResponse(1, D, None),
    UndecidedBlockResponse(1, D, chain_of(1)[0].block),
    BlocksRequest(BIG, 256),
    BlocksResponse(1, (b"block",)),
    Decided(1, b"block"),
    StatusAnnouncement(BIG, D, BIG),
    CertifiedHeightRequest(bytes(16)),
    CertifiedHeightResponse(bytes(16), 1, Certificate(0, 1, 0, D, (CommitSignature(K, S),))),
    AddressRecords((AddressRecord(K, BIG, "h" * 253, 65_535, S),) * 256),
    AddressRecordsRequest((K,) * 256),
    RoleGranted(Role.GUEST),
    Goodbye("x" * 256),
    Ping(BIG),
    Pong(BIG),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_every_kind_comes_back_as_it_went_even_at_its_largest(message: PeerMessage) -> None:
    assert decode_message(encode_message(message)) == message


def struct_tag(kind: Any) -> int:
    tag: int = kind.__struct_config__.tag
    return tag


def test_every_member_of_the_union_has_a_rule_with_its_own_tag() -> None:
    kinds = set(typing.get_args(PeerMessage))
    assert kinds == set(wire._RULES)
    for kind, rule in wire._RULES.items():
        assert struct_tag(kind) == rule.tag
    assert len({rule.tag for rule in wire._RULES.values()}) == len(kinds)


@pytest.mark.parametrize(
    "payload", [b"", b"\x92", b"\x90", b"\x92\x7f\x00", b"\x92\xcc\x10", b"\x81\x10\x00", b"\xc0\x10"]
)
def test_what_is_no_peer_message_is_refused_unread(payload: bytes) -> None:
    with pytest.raises(MalformedInput, match="not a peer message"):
        decode_message(payload)


def test_a_bare_pre_prepare_vote_is_no_message() -> None:
    with pytest.raises(MalformedInput, match="not a peer message"):
        decode_message(encode(PrePrepareVote(0, 1, 0, D, K, S)))


def test_each_kind_has_its_own_size_limit_checked_before_decoding() -> None:
    oversize = encode(Ping(1)) + bytes(100)
    with pytest.raises(MalformedInput, match="exceed the limit of 16 for messages of tag 31"):
        decode_message(oversize)


def test_our_own_oversize_message_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="exceeds its limit"):
        encode_message(Transactions((bytes(65_536),) * 40))


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (BlocksRequest(1, 0), "count"),
        (BlocksRequest(1, 257), "count"),
        (BlocksRequest(-1, 1), "height"),
        (TransactionsRequest(()), "nothing asked"),
        (TransactionsRequest((b"short",)), "digest"),
        (Transactions((b"",)), "empty transaction"),
        (Transactions((b"x" * 65_537,)), "large transaction"),
        (Transactions((b"x",) * 4_097), "many transactions"),
        (AddressRecords((AddressRecord(K, 1, "", 1, S),)), "host"),
        (AddressRecords((AddressRecord(K, 1, "h", 0, S),)), "port"),
        (Goodbye("x" * 257), "reason"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_out_of_bounds_are_refused(message: PeerMessage, why: str) -> None:
    with pytest.raises(MalformedInput):
        decode_message(encode(message))


def test_a_longer_encoding_of_the_same_value_is_refused() -> None:
    with pytest.raises(MalformedInput, match="canonical"):
        decode_message(b"\x92\x1f\xcc\x01")
    assert decode_message(b"\x92\x1f\x01") == Ping(1)


def test_trailing_bytes_and_extra_fields_are_refused() -> None:
    with pytest.raises(MalformedInput):
        decode_message(encode(Ping(1)) + b"\x00")
    with pytest.raises(MalformedInput):
        decode_message(b"\x93\x1f\x01\x01")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_that_encodes_to_them_or_refused(payload: bytes) -> None:
    try:
        message = decode_message(payload)
    except MalformedInput:
        return
    assert encode_message(message) == payload


def test_the_frame_cap_covers_the_largest_kind_only_just() -> None:
    assert max(rule.max_bytes for rule in wire._RULES.values()) == MAX_FRAME_BYTES
    assert MAX_FRAME_BYTES < 6 * 1_048_576


def test_votes_overtake_blocks_and_blocks_overtake_gossip() -> None:
    lanes = [lane_of(m) for m in (Prepare(0, 1, 0, D, K, S), Decided(1, b"b"), Transactions((b"t",)))]
    assert lanes == [Lane.CONSENSUS, Lane.SYNC, Lane.GOSSIP]


def test_a_guest_may_catch_up_and_submit_but_not_vote() -> None:
    allowed = {type(m) for m in EXAMPLES if guest_may_send(m)}
    assert allowed == {
        Transactions, BlocksRequest, StatusAnnouncement, AddressRecords, AddressRecordsRequest,
        RoleGranted, Goodbye, Ping, Pong,
    }  # fmt: skip


def test_the_annex_lists_every_message_as_it_is() -> None:
    """docs/annex/network.md is part of the protocol (PROTOCOL 4.3): the table is compared line by line."""
    annex = Path(__file__).parents[3].joinpath("docs/annex/network.md").read_text(encoding="utf-8")
    for kind, rule in wire._RULES.items():
        cells = (
            rule.tag,
            kind.__name__,
            ", ".join(struct_fields(kind)),
            rule.max_bytes,
            rule.lane.name.lower(),
            "yes" if rule.guest else "no",
        )
        assert f"| {' | '.join(map(str, cells))} |" in annex
    assert annex.split("## Messages")[1].count("\n| ") == len(wire._RULES) + 1


def struct_fields(kind: Any) -> tuple[str, ...]:
    names: tuple[str, ...] = kind.__struct_fields__
    return names

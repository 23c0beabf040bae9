"""Those who mean no good, on real sockets: bad frames, silence, floods, deafness (issue 2, point 6)."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from consensus.encoding import encode
from consensus.messages import Prepare
from network.framing import encode_frame
from network.handshake import Hello, RefusalCode, Welcome
from network.limits import RateLimit, TransportLimits
from network.wire import (
    BlocksRequest,
    Decided,
    Goodbye,
    Ping,
    Pong,
    Role,
    RoleGranted,
    StatusAnnouncement,
    Transactions,
    decode_message,
    encode_message,
)
from tests.unit.network.harness import CHAIN, HOST, Node, Stranger, until

StartNode = Callable[..., Awaitable[Node]]
VOTE = Prepare(0, 1, 0, bytes(32), bytes(32), bytes(64))
HELLO = encode(Hello(CHAIN.protocol_version, CHAIN.chain_id, CHAIN.parameters_hash, "x", bytes(16)))


@pytest.mark.parametrize(
    ("bytes_said", "reason"),
    [
        (b"\xff\xff\xff\xff", "4294967295 bytes exceeds the limit"),
        (b"\x00\x00\x00\x00", "without payload"),
        (encode_frame(b"\xc1"), "not a peer message"),
        (encode_frame(b"\x92\x1f\xcc\x01"), "canonical"),
        (encode_frame(encode(Ping(1)) + bytes(100)), "exceed the limit of 16"),
    ],
    ids=["4 GiB", "zero", "noise", "non-canonical", "oversize"],
)
async def test_a_malformed_frame_costs_the_connection_and_a_ban_with_its_reason(
    start_node: StartNode, bytes_said: bytes, reason: str
) -> None:
    node = await start_node(1)
    stranger = await Stranger.welcomed(9, node)
    stranger.say_raw(bytes_said)
    goodbye = decode_message(await stranger.hear())
    assert isinstance(goodbye, Goodbye)
    assert reason in goodbye.reason
    assert await stranger.closed()
    stranger.leave()
    await until(lambda: node.peer_events == [(stranger.key, True), (stranger.key, False)])
    assert (node.transport.metrics.malformed, node.transport.metrics.bans) == (1, 1)
    again = await Stranger.connect(9, node)
    again.say(HELLO)
    assert (await again.refusal()).code == RefusalCode.BANNED
    again.leave()


async def test_half_a_frame_and_the_end_changes_nothing(start_node: StartNode) -> None:
    node = await start_node(1)
    stranger = await Stranger.welcomed(9, node)
    stranger.say_raw(encode_frame(encode_message(Transactions((b"t" * 1_000,))))[:500])
    stranger.writer.write_eof()
    await until(lambda: node.peer_events == [(stranger.key, True), (stranger.key, False)])
    assert node.received == []
    stranger.leave()


async def test_a_frame_that_never_ends_is_given_up(start_node: StartNode) -> None:
    node = await start_node(1, limits=TransportLimits(frame_timeout_ms=500))
    stranger = await Stranger.welcomed(9, node)
    stranger.say_raw(b"\x00\x00\x10\x00half")
    await until(lambda: node.peer_events[-1] == (stranger.key, False))
    assert node.transport.metrics.idle_disconnects == 1
    stranger.leave()


@pytest.mark.parametrize(
    "said",
    [b"\x00\x00\x08\x00", encode_frame(b"\xc1"), encode_frame(HELLO) * 2, encode_frame(encode(VOTE))],
    ids=["large", "noise", "twice", "a vote before the welcome"],
)
async def test_bad_manners_in_the_handshake_are_refused_with_a_reason(
    start_node: StartNode, said: bytes
) -> None:
    node = await start_node(1)
    stranger = await Stranger.connect(9, node)
    stranger.say_raw(said)
    refused = await stranger.refusal()
    assert refused.code == RefusalCode.MALFORMED
    assert await stranger.closed()
    assert node.peer_events == []
    stranger.leave()


async def test_who_is_slow_with_the_handshake_is_sent_away(start_node: StartNode) -> None:
    node = await start_node(1, limits=TransportLimits(handshake_timeout_ms=200))
    silent = await asyncio.open_connection(HOST, node.port)
    half = await Stranger.connect(9, node)
    half.say(HELLO)
    assert (await half.refusal()).code == RefusalCode.TIMEOUT
    assert await half.closed()
    assert await asyncio.wait_for(silent[0].read(), 5) == b""
    await until(lambda: node.transport.metrics.pending_now == 0)
    silent[1].close()
    half.leave()


async def test_a_handshake_said_a_byte_at_a_time_has_no_more_time(start_node: StartNode) -> None:
    node = await start_node(1, limits=TransportLimits(handshake_timeout_ms=300))
    stranger = await Stranger.connect(9, node)
    for byte in encode_frame(HELLO)[:30]:
        stranger.say_raw(bytes((byte,)))
        await asyncio.sleep(0.005)
    assert (await stranger.refusal()).code == RefusalCode.TIMEOUT
    stranger.leave()


async def test_1000_idle_sockets_do_no_harm_and_are_closed(start_node: StartNode) -> None:
    limits = TransportLimits(handshake_timeout_ms=1_500)
    node, friend = await start_node(1, limits=limits), await start_node(2)
    idle = [socket.socket() for _ in range(1_000)]
    loop = asyncio.get_running_loop()
    for sock in idle:
        sock.setblocking(False)
        await loop.sock_connect(sock, (HOST, node.port))
    await until(lambda: node.transport.metrics.pending_evicted >= 1_000 - limits.max_pending_per_address)
    assert len(node.transport._open) <= limits.max_pending
    friend.dials(node)
    await until(lambda: node.transport.is_connected(friend.key), 1.0)
    friend.transport.send(node.key, StatusAnnouncement(1, bytes(32), 1))
    await until(lambda: node.received, 1.0)
    await until(lambda: len(node.transport._open) == 1)
    assert node.transport.metrics.pending_now == 0
    for sock in idle:
        sock.close()


async def test_a_peer_that_never_reads_is_dropped_at_the_high_water_mark(start_node: StartNode) -> None:
    limits = TransportLimits(queue_bytes=2 * 1_048_576, write_buffer_bytes=65_536)
    node = await start_node(1, limits=limits)
    deaf = await Stranger.welcomed(9, node)
    deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
    block = Decided(1, bytes(500_000))
    sent = 0
    while node.transport.is_connected(deaf.key):
        node.transport.send(deaf.key, block)
        sent += 1
        assert node.transport.waiting_bytes(deaf.key) <= limits.queue_bytes
        await asyncio.sleep(0)
        assert sent < 100
    assert node.transport.metrics.overflow_disconnects == 1
    assert node.peer_events[-1] == (deaf.key, False)
    deaf.leave()


async def test_gossip_to_a_peer_that_never_reads_is_lost_first_and_then_the_peer(
    start_node: StartNode,
) -> None:
    limits = TransportLimits(queue_bytes=1_048_576, write_buffer_bytes=65_536, stall_timeout_ms=1_500)
    node = await start_node(1, limits=limits)
    deaf = await Stranger.welcomed(9, node)
    deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
    gossip = Transactions((bytes(60_000),))
    while not node.transport.metrics.gossip_dropped:
        node.transport.send(deaf.key, gossip)
        await asyncio.sleep(0)
    assert node.transport.is_connected(deaf.key)
    await until(lambda: not node.transport.is_connected(deaf.key))
    assert node.transport.metrics.overflow_disconnects == 1
    deaf.leave()


async def test_a_silent_peer_is_asked_for_a_sign_of_life_and_then_given_up(start_node: StartNode) -> None:
    limits = TransportLimits(ping_interval_ms=300, idle_timeout_ms=1_800)
    node = await start_node(1, limits=limits)
    silent = await Stranger.welcomed(9, node)
    assert isinstance(decode_message(await silent.hear()), Ping)
    await until(lambda: node.peer_events[-1] == (silent.key, False))
    assert node.transport.metrics.idle_disconnects == 1
    silent.leave()


async def test_a_ping_is_answered(start_node: StartNode) -> None:
    node = await start_node(1)
    stranger = await Stranger.welcomed(9, node)
    stranger.say(encode_message(Ping(77)))
    assert decode_message(await stranger.hear()) == Pong(77)
    assert node.received == []
    stranger.leave()


async def test_a_flooding_member_is_read_at_its_rate_and_loses_nothing(start_node: StartNode) -> None:
    limits = TransportLimits(member_rate=RateLimit(bytes_per_second=1_000_000, messages_per_second=500))
    node, flood = await start_node(1, limits=limits), await start_node(2)
    flood.dials(node)
    await until(lambda: flood.transport.is_connected(node.key))
    started = asyncio.get_running_loop().time()
    for height in range(800):
        flood.transport.send(node.key, StatusAnnouncement(height, bytes(32), 1))
    await until(lambda: len(node.received) == 800)
    flood.transport.send(node.key, StatusAnnouncement(800, bytes(32), 1))
    await until(lambda: len(node.received) == 801)
    assert node.transport.metrics.rate_limited >= 1
    assert asyncio.get_running_loop().time() - started > 0.5


def members_only(*numbers: int) -> Callable[[bytes], bool]:
    from tests.unit.network.harness import KeySigner

    members = {KeySigner(number).public_key for number in numbers}
    return lambda key: key in members


async def test_a_guest_may_ask_for_blocks_and_submit_but_not_vote(start_node: StartNode) -> None:
    """PROTOCOL 10.1: a joining node is no member yet and must catch up."""
    node = await start_node(1, admits=members_only(2))
    guest = await start_node(3)
    guest.dials(node)
    await until(lambda: guest.transport.is_connected(node.key) and node.transport.is_connected(guest.key))
    assert node.transport.role_of(guest.key) is Role.GUEST is guest.transport.role_at(node.key)
    assert node.transport.metrics.guests_now == 1
    assert guest.transport.send(node.key, BlocksRequest(1, 64))
    assert guest.transport.send(node.key, Transactions((b"join",)))
    assert not guest.transport.send(node.key, VOTE)
    await until(lambda: len(node.received) == 2)
    assert node.transport.send(guest.key, Decided(1, b"block"))
    await until(lambda: guest.received)


async def test_a_guest_that_votes_all_the_same_is_banned(start_node: StartNode) -> None:
    node = await start_node(1, admits=members_only())
    stranger = await Stranger.connect(9, node)
    stranger.say(HELLO)
    stranger.say(encode(Welcome(Role.MEMBER)))
    stranger.say(encode_message(VOTE))
    assert await stranger.closed()
    await until(lambda: node.transport.metrics.bans == 1)
    assert node.received == []
    stranger.leave()


async def test_a_guest_is_read_slowly(start_node: StartNode) -> None:
    limits = TransportLimits(guest_rate=RateLimit(bytes_per_second=100_000, messages_per_second=10))
    node = await start_node(1, admits=members_only(), limits=limits)
    guest = await start_node(3)
    guest.dials(node)
    await until(lambda: guest.transport.is_connected(node.key))
    for height in range(1, 31):
        guest.transport.send(node.key, BlocksRequest(height, 1))
    await until(lambda: node.transport.metrics.rate_limited)
    handled = len(node.received)
    guest.transport.send(node.key, BlocksRequest(99, 1))
    await asyncio.sleep(0.1)
    assert len(node.received) == handled


async def test_a_guest_becomes_a_member_without_a_new_connection(start_node: StartNode) -> None:
    members: set[bytes] = set()
    node = await start_node(1, admits=lambda key: key in members)
    guest = await start_node(3)
    guest.dials(node)
    await until(lambda: guest.transport.is_connected(node.key))
    members.add(guest.key)
    node.transport.refresh_roles()
    await until(lambda: guest.transport.role_at(node.key) is Role.MEMBER)
    assert guest.transport.send(node.key, VOTE)
    await until(lambda: node.messages() == [VOTE])
    assert node.transport.metrics.guests_now == 0
    assert guest.peer_events == [(node.key, True)]


async def test_a_vote_that_outruns_the_news_of_membership_counts(start_node: StartNode) -> None:
    members: set[bytes] = set()
    node = await start_node(1, admits=lambda key: key in members)
    stranger = await Stranger.welcomed(9, node)
    members.add(stranger.key)
    stranger.say(encode_message(VOTE))
    assert decode_message(await stranger.hear()) == RoleGranted(Role.MEMBER)
    assert node.messages() == [VOTE]
    stranger.leave()


async def test_guests_are_few(start_node: StartNode) -> None:
    node = await start_node(1, admits=members_only(4), limits=TransportLimits(max_guests=1))
    first = await Stranger.welcomed(2, node)
    second = await Stranger.connect(3, node)
    second.say(HELLO)
    assert (await second.refusal()).code == RefusalCode.NOT_ADMITTED
    member = await Stranger.welcomed(4, node)
    for stranger in (first, second, member):
        stranger.leave()


async def test_peers_are_bounded(start_node: StartNode) -> None:
    node = await start_node(1, limits=TransportLimits(max_peers=1))
    first = await Stranger.welcomed(2, node)
    second = await Stranger.connect(3, node)
    second.say(HELLO)
    assert (await second.refusal()).code == RefusalCode.FULL
    for stranger in (first, second):
        stranger.leave()


async def test_a_peer_punished_by_the_runtime_is_gone_and_not_dialled_before_its_ban_ends(
    start_node: StartNode,
) -> None:
    limits = TransportLimits(reconnect_min_ms=10, reconnect_max_ms=20, ban_ms=400)
    node, liar = await start_node(1, limits=limits), await start_node(2)
    node.dials(liar)
    await until(lambda: node.transport.is_connected(liar.key))
    node.transport.punish(liar.key, "sent a forged block")
    await until(lambda: node.peer_events == [(liar.key, True), (liar.key, False)])
    dials = node.transport.metrics.dials
    await asyncio.sleep(0.15)
    assert node.transport.metrics.dials == dials
    await until(lambda: node.transport.is_connected(liar.key))


async def test_plain_text_on_the_port_is_closed(start_node: StartNode) -> None:
    node = await start_node(1)
    reader, writer = await asyncio.open_connection(HOST, node.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n")
    await asyncio.wait_for(reader.read(), 5)
    await until(lambda: not node.transport._open)
    assert node.transport.metrics.handshakes_failed == 1
    writer.close()

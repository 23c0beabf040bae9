"""Transports on real loopback sockets: meeting, speaking, losing and finding each other again."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import pytest
import uvloop

from consensus.messages import Prepare
from network.handshake import ChainIdentity
from network.limits import TransportLimits
from network.peer import Endpoint
from network.wire import BlocksResponse, Decided, Role, StatusAnnouncement, Transactions
from tests.unit.network.harness import HOST, Node, running_nodes, until

StartNode = Callable[..., Awaitable[Node]]
QUICK = TransportLimits(reconnect_min_ms=20, reconnect_max_ms=100)


def status(height: int) -> StatusAnnouncement:
    return StatusAnnouncement(height, bytes(32), 1)


async def meet(a: Node, b: Node) -> None:
    a.dials(b)
    await until(lambda: a.transport.is_connected(b.key) and b.transport.is_connected(a.key))


async def test_two_nodes_meet_and_speak_both_ways(start_node: StartNode) -> None:
    a, b = await start_node(1), await start_node(2)
    await meet(a, b)
    assert a.transport.send(b.key, status(1))
    assert b.transport.send(a.key, status(2))
    await until(lambda: a.received and b.received)
    assert b.received == [(a.key, status(1))]
    assert a.received == [(b.key, status(2))]
    assert a.peer_events == [(b.key, True)]
    assert a.transport.role_of(b.key) is Role.MEMBER is a.transport.role_at(b.key)
    assert a.transport.connected() == (b.key,)


async def test_messages_of_one_lane_arrive_in_order_and_complete(start_node: StartNode) -> None:
    a, b = await start_node(1), await start_node(2)
    await meet(a, b)
    for height in range(5_000):
        a.transport.send(b.key, status(height))
    await until(lambda: len(b.received) == 5_000)
    assert b.messages() == [status(height) for height in range(5_000)]


async def test_when_both_dial_one_connection_is_left_and_nobody_hears_of_the_other(
    start_node: StartNode,
) -> None:
    a, b = await start_node(1), await start_node(2)
    a.dials(b)
    b.dials(a)
    await until(lambda: a.transport.metrics.handshakes_accepted and b.transport.metrics.handshakes_accepted)
    await until(lambda: len(a.transport._open) == len(b.transport._open) == 1)
    (kept,) = a.transport._open
    assert kept.initiated == (a.key < b.key)
    assert a.peer_events == [(b.key, True)]
    assert b.peer_events == [(a.key, True)]
    a.transport.send(b.key, status(1))
    b.transport.send(a.key, status(2))
    await until(lambda: a.received and b.received)


async def test_a_large_block_passes(start_node: StartNode) -> None:
    a, b = await start_node(1), await start_node(2)
    await meet(a, b)
    block = bytes(4 * 1_048_576)
    answer = BlocksResponse(1, (bytes(1_048_575), block))
    a.transport.send(b.key, Decided(1, block))
    a.transport.send(b.key, answer)
    await until(lambda: len(b.received) == 2)
    assert b.messages() == [Decided(1, block), answer]


async def test_a_broadcast_is_encoded_once_and_skips_who_is_absent_and_oneself(start_node: StartNode) -> None:
    a, b, c = await start_node(1), await start_node(2), await start_node(3)
    a.dials(b, c)
    await until(lambda: len(a.transport.connected()) == 2)
    absent = bytes(32)
    assert a.transport.broadcast((b.key, absent, a.key, c.key), status(7)) == 2
    (at_b,), (at_c,) = (a.transport._peers[key].outbox.take(1_000) for key in (b.key, c.key))
    assert at_b is at_c
    assert a.transport.metrics.unsent == 1
    assert not a.transport.send(absent, status(1))


@pytest.mark.parametrize(
    ("chain", "code"),
    [
        (ChainIdentity(b"d" * 32, b"p" * 32), "chain_id"),
        (ChainIdentity(b"c" * 32, b"q" * 32), "parameters"),
        (ChainIdentity(b"c" * 32, b"p" * 32, 2), "protocol_version"),
    ],
)
async def test_another_chain_parameters_or_version_are_refused(
    start_node: StartNode, chain: ChainIdentity, code: str
) -> None:
    a, b = await start_node(1, limits=QUICK), await start_node(2, chain=chain)
    a.dials(b)
    await until(lambda: a.transport.metrics.handshakes_refused and b.transport.metrics.handshakes_refused)
    assert a.peer_events == b.peer_events == []


async def test_who_does_not_hold_the_dialled_key_is_left(start_node: StartNode) -> None:
    a, b, c = await start_node(1, limits=QUICK), await start_node(2), await start_node(3)
    a.transport.set_peers({c.key: b.endpoint})
    await until(lambda: a.transport.metrics.handshakes_failed)
    assert a.peer_events == []
    a.dials(c)
    await until(lambda: a.transport.is_connected(c.key))


async def test_a_man_in_the_middle_with_a_key_of_its_own_gets_no_connection(start_node: StartNode) -> None:
    """Mallory's node stands at Bob's address: Alice dials Bob's key and leaves when Mallory's answers."""
    alice, bob = await start_node(1, limits=QUICK), await start_node(2)
    mallory = await start_node(3)
    mallory.dials(bob)
    alice.transport.set_peers({bob.key: mallory.endpoint})
    await until(
        lambda: alice.transport.metrics.handshakes_failed >= 2 and mallory.transport.is_connected(bob.key)
    )
    assert alice.peer_events == []
    assert bob.peer_events == [(mallory.key, True)]


async def test_a_relay_of_bytes_only_carries_what_it_cannot_read(start_node: StartNode) -> None:
    alice, bob = await start_node(1, limits=QUICK), await start_node(2)
    seen = bytearray()
    tasks: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            seen.extend(data)
            writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, back = await asyncio.open_connection(HOST, bob.port)
        tasks.add(asyncio.ensure_future(carry(onward, writer)))
        await carry(reader, back)

    server = await asyncio.start_server(relay, HOST, 0)
    alice.transport.set_peers({bob.key: Endpoint(HOST, server.sockets[0].getsockname()[1])})
    await until(lambda: alice.transport.is_connected(bob.key))
    alice.transport.send(bob.key, Transactions((b"a transaction nobody else may read",)))
    await until(lambda: bob.received)
    assert b"a transaction" not in seen
    assert len(seen) > 1_000
    await alice.transport.close()
    await asyncio.gather(*tasks)
    server.close()
    await server.wait_closed()


async def test_a_lost_peer_is_dialled_until_it_is_back(start_node: StartNode) -> None:
    a, b = await start_node(1, limits=QUICK), await start_node(2)
    await meet(a, b)
    port = b.port
    await b.transport.close()
    await until(lambda: not a.transport.is_connected(b.key))
    await until(lambda: a.transport.metrics.dial_failures >= 2)
    again = Node(2)
    await again.transport.start(HOST, port)
    await until(lambda: a.transport.is_connected(b.key))
    assert a.peer_events == [(b.key, True), (b.key, False), (b.key, True)]
    a.transport.send(b.key, status(1))
    await until(lambda: again.received)
    await again.transport.close()


async def test_a_restarted_peer_replaces_its_own_corpse(start_node: StartNode) -> None:
    """The old connection may look alive for long (power loss); the new process has another instance number."""
    a, b, twin = await start_node(1), await start_node(2), await start_node(2)
    await meet(a, b)
    twin.dials(a)
    await until(lambda: a.peer_events == [(b.key, True), (b.key, False), (b.key, True)])
    twin.transport.send(a.key, status(9))
    await until(lambda: a.received)
    assert a.transport.metrics.peers_now == 1


async def test_a_peer_that_is_no_longer_wanted_is_left_by_who_dialled(start_node: StartNode) -> None:
    a, b = await start_node(1), await start_node(2)
    await meet(a, b)
    a.dials()
    await until(lambda: b.peer_events == [(a.key, True), (a.key, False)])
    await until(lambda: not a.transport._peers)


async def test_a_moved_peer_is_dialled_at_its_new_place(start_node: StartNode) -> None:
    a, b = await start_node(1), await start_node(2)
    a.transport.set_peers({b.key: Endpoint(HOST, 1)})
    await until(lambda: a.transport.metrics.dial_failures)
    a.dials(b)
    await until(lambda: a.transport.is_connected(b.key))


async def test_a_connection_to_oneself_is_not_dialled(start_node: StartNode) -> None:
    a = await start_node(1)
    a.dials(a)
    assert a.transport._peers == {}


async def test_a_second_process_with_the_same_key_is_refused(start_node: StartNode) -> None:
    a, twin = await start_node(1), await start_node(1, limits=QUICK)
    peer = twin.transport._peer(a.key)  # set_peers skips the own key, as a wrong address record could not
    peer.endpoint = a.endpoint
    twin.transport._dialler.schedule(peer, 0)
    await until(lambda: a.transport.metrics.handshakes_refused)
    assert a.peer_events == twin.peer_events == []


async def test_votes_overtake_what_waits(start_node: StartNode) -> None:
    a, b = await start_node(1), await start_node(2)
    await meet(a, b)
    vote = Prepare(0, 1, 0, bytes(32), bytes(32), bytes(64))
    for _ in range(100):
        a.transport.send(b.key, Transactions((bytes(60_000),)))
    a.transport.send(b.key, vote)
    await until(lambda: len(b.received) == 101)
    assert b.messages().index(vote) == 0


async def test_a_held_peer_waits_and_then_goes_on(start_node: StartNode) -> None:
    a, b = await start_node(1), await start_node(2)
    await meet(a, b)
    b.transport.hold(a.key, True)
    for height in range(100):
        a.transport.send(b.key, status(height))
    await until(lambda: a.transport.metrics.messages_sent == 100)
    await asyncio.sleep(0.05)
    assert b.received == []
    b.transport.hold(a.key, False)
    await until(lambda: len(b.received) == 100)


async def test_what_was_said_before_the_end_still_arrives(start_node: StartNode) -> None:
    a, b = await start_node(1), await start_node(2)
    await meet(a, b)
    a.transport.send(b.key, status(1))
    await a.transport.close()
    await until(lambda: b.peer_events[-1] == (a.key, False))
    assert b.messages() == [status(1)]


async def test_closing_twice_or_with_a_dial_under_way_ends(start_node: StartNode) -> None:
    a = await start_node(1)
    a.transport.set_peers({bytes(32): Endpoint("192.0.2.1", 9)})
    await until(lambda: a.transport.metrics.dials)
    await asyncio.wait_for(a.transport.close(), 5)


SCENARIOS = [
    test_two_nodes_meet_and_speak_both_ways,
    test_when_both_dial_one_connection_is_left_and_nobody_hears_of_the_other,
    test_a_large_block_passes,
    test_who_does_not_hold_the_dialled_key_is_left,
    test_a_lost_peer_is_dialled_until_it_is_back,
    test_votes_overtake_what_waits,
    test_a_held_peer_waits_and_then_goes_on,
    test_what_was_said_before_the_end_still_arrives,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_same_under_uvloop(scenario: Callable[[StartNode], Coroutine[None, None, None]]) -> None:
    """A node runs on uvloop, whose transports are other classes with other habits."""

    async def play() -> None:
        async with running_nodes() as start_node:
            await scenario(start_node)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play())

"""PROTOCOL 10.1, 10.2 and 6.12 on real sockets: joining, falling behind, being handed blocks, asking others.

What the ledger adds (checking certificates against the chain of set hashes, grouping a joiner) is tested with it; here
its check is played by comparing with the true chain.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from consensus.block import certified_block_codec
from consensus.encoding import encode
from consensus.messages import Prepare
from consensus.types import PublicKey
from network.dissemination import Dissemination
from network.gossip import TransactionGossip
from network.limits import TransportLimits
from network.peer import Endpoint
from network.scheduler import LoopScheduler
from network.sync import SyncSession
from network.sync_effects import DeliverBlock
from network.synchronizer import Synchronizer
from network.tls import NodeIdentity
from network.transport import Transport
from network.wire import (
    ApplicationMessage,
    BlocksRequest,
    BlocksResponse,
    Decided,
    Role,
    StatusAnnouncement,
    Transactions,
)
from tests.unit.network.harness import CHAIN as CHAIN_IDENTITY
from tests.unit.network.harness import HOST, chain_of, seed, until

BLOCKS = [encode(block) for block in chain_of(400)]
HASHES = [block.certificate.digest for block in chain_of(400)]
FORGED = [encode(block) for block in chain_of(400, salt=1)]
SILENCE_MS = 600


class Follower:
    """A node without consensus: transport, gossip and following the chain, wired as the runtime wires them."""

    def __init__(self, number: int, members: set[PublicKey], height: int, silence_ms: int) -> None:
        identity = NodeIdentity(seed(number))
        self.key = identity.public_key
        self.blocks = BLOCKS[:height]
        self.serves = BLOCKS
        self.received: list[ApplicationMessage] = []
        self.levels: list[bool] = []
        self.port = 0
        self.mute = False
        """Announce nothing to new peers."""
        self.unapplied: list[DeliverBlock] | None = None
        """What is delivered while the ledger is too slow."""
        self.transport = Transport(
            identity=identity,
            chain=CHAIN_IDENTITY,
            software="test/1",
            admits=members.__contains__,
            on_message=self._on_message,
            on_peer=self._on_peer,
            randomness=random.Random(number),
            limits=TransportLimits(reconnect_min_ms=20, reconnect_max_ms=200),
        )
        scheduler = LoopScheduler()
        self.gossip = TransactionGossip(self.transport, scheduler, self.key)
        self.sync = Synchronizer(
            links=self.transport,
            scheduler=scheduler,
            session=SyncSession(height),
            dissemination=Dissemination(self.key, silence_ms, scheduler.now_ms()),
            load_block=lambda height: self.serves[height - 1] if 1 <= height <= len(self.blocks) else None,
            tip=lambda: StatusAnnouncement(len(self.blocks), HASHES[len(self.blocks) - 1], 1),
            deliver=self._deliver,
            on_caught_up=self.levels.append,
        )

    def _on_message(self, sender: PublicKey, message: ApplicationMessage) -> None:
        self.received.append(message)
        match message:
            case BlocksRequest() | BlocksResponse() | Decided() | StatusAnnouncement():
                self.sync.on_message(sender, message)
            case Transactions(transactions=transactions):
                self.gossip.admitted(transactions, sender)
            case _:
                pass

    def _on_peer(self, key: PublicKey, connected: bool) -> None:
        if not self.mute:
            self.sync.on_peer(key, connected)

    def _deliver(self, block: DeliverBlock) -> None:
        if self.unapplied is not None:
            self.unapplied.append(block)
        else:
            self._apply(block)

    def apply_all(self) -> None:
        """The ledger works again."""
        while self.unapplied:
            self._apply(self.unapplied.pop(0))
        self.unapplied = None

    def _apply(self, block: DeliverBlock) -> None:
        if block.height != len(self.blocks) + 1:
            return
        if block.encoded == BLOCKS[block.height - 1]:
            self.decide(block.height)
        else:
            self.sync.invalid(block.height, "the certificate does not fit the set hashes")

    def decide(self, height: int) -> None:
        self.blocks.append(BLOCKS[height - 1])
        self.sync.decided(height, BLOCKS[height - 1])

    def dials(self, *others: "Follower") -> None:
        self.transport.set_peers({other.key: Endpoint(HOST, other.port) for other in others})


StartFollower = Callable[..., Awaitable[Follower]]


@pytest.fixture
async def start() -> AsyncIterator[StartFollower]:
    """Start a `Follower`; members are those that are started so, a ``guest`` is none."""
    members: set[PublicKey] = set()
    started: list[Follower] = []

    async def start_one(
        number: int, height: int = 0, *, guest: bool = False, silence_ms: int = 60_000
    ) -> Follower:
        node = Follower(number, members, height, silence_ms)
        if not guest:
            members.add(node.key)
        started.append(node)
        node.port = await node.transport.start(HOST, 0)
        node.sync.start()
        return node

    yield start_one
    for node in started:
        node.sync.stop()
        node.gossip.stop()
    for node in started:
        await node.transport.close()


async def test_10_1_a_joining_node_fetches_blocks_with_certificates_from_its_peers(
    start: StartFollower,
) -> None:
    """It is a guest, since its registration is not on the ledger that it does not have yet."""
    peers = [await start(n, 400) for n in (1, 2, 3)]
    joiner = await start(9, guest=True)
    joiner.dials(*peers)
    await until(lambda: len(joiner.blocks) == 400)
    served = [message for message in joiner.received if isinstance(message, BlocksResponse)]
    assert len(served) >= 7
    for encoded in served[0].blocks:
        certified = certified_block_codec.decode(encoded)
        assert certified.certificate.digest == certified.block.header.digest()
    assert all(peer.transport.role_of(joiner.key) is Role.GUEST for peer in peers)


async def test_10_1_it_may_submit_its_registration_before_it_is_a_member(start: StartFollower) -> None:
    member, delegate = await start(1), await start(2)
    joiner = await start(9, guest=True)
    member.dials(delegate)
    joiner.dials(member)
    await until(
        lambda: member.transport.is_connected(delegate.key) and joiner.transport.is_connected(member.key)
    )
    member.gossip.set_delegates([delegate.key])
    joiner.gossip.set_delegates([member.key])
    joiner.gossip.admitted([b"registration"], None)
    await until(lambda: Transactions((b"registration",)) in delegate.received)


async def test_10_1_one_honest_peer_is_enough_among_forgers(start: StartFollower) -> None:
    honest, forger = await start(1, 400), await start(2, 400)
    forger.serves = FORGED
    joiner = await start(9, guest=True)
    joiner.dials(forger, honest)
    await until(lambda: len(joiner.blocks) == 400)
    assert joiner.transport.metrics.bans >= 1


async def test_10_2_a_node_that_fell_behind_catches_up_and_says_so(start: StartFollower) -> None:
    delegates = [await start(n, 300) for n in (1, 2, 3)]
    late = await start(4, 100)
    late.sync.set_delegates([node.key for node in (*delegates, late)], [late.key], late.key, 3)
    assert not late.sync.session.caught_up
    late.dials(*delegates)
    await until(lambda: late.levels == [True])
    assert len(late.blocks) >= 299
    await until(lambda: len(late.blocks) == 300)


async def test_10_2_a_node_that_was_level_and_falls_behind_leaves_and_returns(start: StartFollower) -> None:
    delegates = [await start(n, 100) for n in (1, 2, 3)]
    late = await start(4, 100)
    late.sync.set_delegates([node.key for node in (*delegates, late)], [late.key], late.key, 3)
    late.dials(*delegates)
    await until(lambda: late.levels == [True])
    late.unapplied = []
    for node in delegates:
        for height in range(101, 301):
            node.decide(height)
    await until(lambda: late.levels == [True, False])
    late.apply_all()
    await until(lambda: late.levels == [True, False, True])
    await until(lambda: len(late.blocks) == 300)


async def test_6_12_delegates_hand_decided_blocks_to_the_members_of_their_own_group(
    start: StartFollower,
) -> None:
    delegate, mine, foreign = await start(1), await start(2), await start(3)
    delegate.dials(mine, foreign)
    await until(lambda: len(delegate.transport.connected()) == 2)
    delegate.sync.set_delegates([delegate.key], [delegate.key, mine.key], delegate.key, 1)
    for height in (1, 2, 3):
        delegate.decide(height)
    await until(lambda: len(mine.blocks) == 3)
    assert [m.height for m in mine.received if isinstance(m, Decided)] == [1, 2, 3]
    assert not any(isinstance(m, Decided) for m in foreign.received)


async def test_6_12_a_member_whose_delegate_is_silent_asks_others(start: StartFollower) -> None:
    """Nor does its delegate announce a height: it keeps what it decides to itself."""
    silent, other = await start(1), await start(2, 5)
    member = await start(3, silence_ms=SILENCE_MS)
    other.sync.stop()
    other.mute = True
    member.sync.set_delegates([silent.key, other.key], [silent.key, member.key], member.key, 2)
    member.dials(silent, other)
    await until(lambda: len(member.blocks) == 5)
    assert any(isinstance(message, BlocksRequest) for message in other.received)


async def test_6_12_a_member_applies_a_block_only_after_its_check(start: StartFollower) -> None:
    delegate, member = await start(1), await start(2)
    delegate.dials(member)
    await until(
        lambda: delegate.transport.is_connected(member.key) and member.transport.is_connected(delegate.key)
    )
    delegate.transport.send(member.key, Decided(1, FORGED[0]))
    await until(lambda: not member.transport.is_connected(delegate.key))
    assert member.blocks == []
    assert member.transport.metrics.bans == 1


async def test_6_7_a_clients_transaction_is_relayed_to_all_delegates_once(start: StartFollower) -> None:
    delegates = [await start(n) for n in (1, 2, 3)]
    member = await start(4)
    member.dials(*delegates)
    delegates[0].dials(*delegates[1:])
    await until(
        lambda: len(member.transport.connected()) == 3 and len(delegates[0].transport.connected()) == 3
    )
    for node in (member, *delegates):
        node.gossip.set_delegates([delegate.key for delegate in delegates])
    member.gossip.admitted([b"t1", b"t2"], None)
    await until(lambda: all(Transactions((b"t1", b"t2")) in delegate.received for delegate in delegates))
    await asyncio.sleep(0.05)
    for delegate in delegates:
        assert sum(isinstance(message, Transactions) for message in delegate.received) == 1


async def test_10_1_a_joining_node_has_no_vote(start: StartFollower) -> None:
    member, joiner = await start(1), await start(9, guest=True)
    joiner.dials(member)
    await until(lambda: joiner.transport.is_connected(member.key))
    assert not joiner.transport.send(member.key, Prepare(0, 1, 0, bytes(32), joiner.key, bytes(64)))

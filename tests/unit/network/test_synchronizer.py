"""The shell around catching up and dissemination, with links and time of a test's making."""

from collections import deque

from consensus.encoding import encode
from network.dissemination import Dissemination
from network.sync import SyncSession
from network.sync_effects import DeliverBlock
from network.synchronizer import REPEAT_MS, Synchronizer
from network.wire import (
    ApplicationMessage,
    BlocksRequest,
    BlocksResponse,
    Decided,
    StatusAnnouncement,
)
from tests.unit.network.harness import FakeLinks, FakeScheduler, chain_of, key

CHAIN = [encode(block) for block in chain_of(300)]
HASHES = [block.certificate.digest for block in chain_of(300)]
FORGED = [encode(block) for block in chain_of(300, salt=1)]


class Member:
    """A synchronizer on a ledger that takes every block of the true chain."""

    def __init__(self, number: int, scheduler: FakeScheduler, *others: int, height: int = 0) -> None:
        self.key = key(number)
        self.links = FakeLinks(*(key(n) for n in others))
        self.ledger = CHAIN[:height]
        self.level: list[bool] = []
        self.sync = Synchronizer(
            links=self.links,
            scheduler=scheduler,
            session=SyncSession(height),
            dissemination=Dissemination(self.key, 2_000, scheduler.now_ms()),
            load_block=self._load,
            tip=lambda: StatusAnnouncement(len(self.ledger), HASHES[len(self.ledger) - 1], 1),
            deliver=self._deliver,
            on_caught_up=self.level.append,
        )

    def _load(self, height: int) -> bytes | None:
        return self.ledger[height - 1] if 1 <= height <= len(self.ledger) else None

    def _deliver(self, block: DeliverBlock) -> None:
        if block.height != len(self.ledger) + 1:
            return
        if block.encoded != CHAIN[block.height - 1]:
            self.sync.invalid(block.height, "forged")
            return
        self.decide(block.height)

    def decide(self, height: int) -> None:
        self.ledger.append(CHAIN[height - 1])
        self.sync.decided(height, CHAIN[height - 1])


def carry(*members: Member) -> None:
    """Deliver everything that was sent, and what that leads to."""
    by_key = {member.key: member for member in members}
    waiting: deque[tuple[bytes, bytes, ApplicationMessage]] = deque()
    while True:
        for member in members:
            waiting.extend((member.key, to, message) for to, message in member.links.sent)
            member.links.sent.clear()
        if not waiting:
            return
        sender, to, message = waiting.popleft()
        if to in by_key:
            assert isinstance(message, BlocksRequest | BlocksResponse | Decided | StatusAnnouncement)
            by_key[to].sync.on_message(sender, message)


def test_a_new_node_meets_its_peers_and_has_the_whole_chain_soon() -> None:
    scheduler = FakeScheduler()
    old = [Member(n, scheduler, 9, height=300) for n in (1, 2, 3)]
    new = Member(9, scheduler, 1, 2, 3)
    new.sync.set_delegates([m.key for m in old], [new.key], new.key, 3)
    for member in old:
        member.sync.on_peer(new.key, True)
    carry(new, *old)
    assert new.ledger == CHAIN
    assert new.level == [True]


def test_a_new_peer_hears_the_height_at_once_and_everybody_when_it_changes() -> None:
    scheduler = FakeScheduler()
    node = Member(1, scheduler, 2, 3, height=5)
    node.sync.on_peer(key(2), True)
    assert node.links.take(StatusAnnouncement) == [(key(2), StatusAnnouncement(5, HASHES[4], 1))]
    node.sync.start()
    node.links.sent.clear()
    node.decide(6)
    scheduler.advance(1_000)
    heard = node.links.take(StatusAnnouncement)
    assert [(to, m.height) for to, m in heard] == [(key(2), 6), (key(3), 6)]
    scheduler.advance(REPEAT_MS - 1_000)
    assert node.links.take(StatusAnnouncement) == []
    scheduler.advance(1_000)
    assert len(node.links.take(StatusAnnouncement)) == 2
    node.sync.stop()
    scheduler.advance(60_000)
    assert node.links.sent == []


def test_a_delegate_hands_its_group_each_block_that_it_decides() -> None:
    """PROTOCOL 6.12."""
    scheduler = FakeScheduler()
    delegate = Member(1, scheduler, 2, 3, 4)
    delegate.sync.set_delegates([key(1)], [key(1), key(3), key(4)], key(1), 1)
    delegate.decide(1)
    assert delegate.links.take(Decided) == [(key(3), Decided(1, CHAIN[0])), (key(4), Decided(1, CHAIN[0]))]


def test_a_delegate_that_is_itself_catching_up_floods_nobody() -> None:
    scheduler = FakeScheduler()
    delegate = Member(1, scheduler, 2, 3, 4)
    delegate.sync.set_delegates([key(1), key(2), key(3), key(4)], [key(1), key(5)], key(1), 3)
    delegate.decide(1)
    assert delegate.links.take(Decided) == []


def test_a_member_follows_by_what_its_delegate_hands_it() -> None:
    scheduler = FakeScheduler()
    member = Member(2, scheduler, 1)
    for height in (1, 3, 2):
        member.sync.on_message(key(1), Decided(height, CHAIN[height - 1]))
    assert member.ledger == CHAIN[:3]


def test_a_member_whose_delegate_is_silent_asks_others_and_follows() -> None:
    """PROTOCOL 6.12."""
    scheduler = FakeScheduler()
    silent, other = Member(1, scheduler, 9, height=10), Member(2, scheduler, 9, height=10)
    member = Member(9, scheduler, 1, 2)
    member.sync.set_delegates([silent.key, other.key], [silent.key, member.key], member.key, 2)
    member.sync.start()
    scheduler.advance(1_750)
    assert member.links.take(BlocksRequest) == []
    scheduler.advance(500)
    assert [to for to, _ in member.links.sent if not isinstance(_, StatusAnnouncement)] == [other.key]
    carry(member, other)
    assert len(member.ledger) == 10
    member.sync.stop()


def test_a_forged_block_costs_its_sender_and_the_chain_goes_on() -> None:
    scheduler = FakeScheduler()
    member = Member(9, scheduler, 1, 2)
    honest = Member(2, scheduler, 9, height=1)
    member.sync.on_message(key(2), StatusAnnouncement(1, HASHES[0], 1))
    member.links.sent.clear()
    member.sync.on_message(key(1), Decided(1, FORGED[0]))
    assert [peer for peer, _ in member.links.punished] == [key(1)]
    scheduler.advance(6_000)
    member.sync.start()
    carry(member, honest)
    assert member.ledger == CHAIN[:1]
    member.sync.stop()


def test_a_peer_that_left_is_not_waited_for() -> None:
    scheduler = FakeScheduler()
    member = Member(9, scheduler, 1, 2)
    for peer in (1, 2):
        member.sync.on_message(key(peer), StatusAnnouncement(200, HASHES[199], 1))
    member.links.sent.clear()
    member.sync.on_peer(key(1), False)
    asked = member.links.take(BlocksRequest)
    assert asked
    assert {to for to, _ in asked} == {key(2)}


def test_consensus_asks_for_what_is_decided_already() -> None:
    scheduler = FakeScheduler()
    member = Member(9, scheduler, 1)
    member.sync.set_delegates([key(9)], [key(9)], key(9), 1)
    assert member.level == [True]
    member.sync.on_message(key(1), StatusAnnouncement(1, HASHES[0], 1))
    assert member.links.take(BlocksRequest) == []
    member.sync.fetch(1, [key(1)])
    assert [(to, m.from_height) for to, m in member.links.take(BlocksRequest)] == [(key(1), 1)]

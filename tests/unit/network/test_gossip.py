"""Transactions on their way to the delegates: batched, to all, never back."""

import pytest

from network.gossip import COALESCE_MS, MAX_BATCH_BYTES, MAX_BATCH_TRANSACTIONS, TransactionGossip
from network.wire import Role, Transactions
from tests.unit.network.harness import FakeLinks, FakeScheduler, key

OWN, D1, D2, D3, MEMBER = (key(n) for n in range(1, 6))


class Scene:
    def __init__(self, *delegates: bytes) -> None:
        self.links = FakeLinks(D1, D2, D3, MEMBER)
        self.scheduler = FakeScheduler()
        self.gossip = TransactionGossip(self.links, self.scheduler, OWN)
        self.gossip.set_delegates(delegates)

    def sent(self) -> dict[bytes, list[bytes]]:
        by_key: dict[bytes, list[bytes]] = {}
        for recipient, message in self.links.take(Transactions):
            by_key.setdefault(recipient, []).extend(message.transactions)
        return by_key


def test_a_clients_transaction_goes_to_every_delegate() -> None:
    scene = Scene(D1, D2, D3)
    scene.gossip.admitted([b"t"], None)
    scene.scheduler.advance(0)
    assert scene.sent() == {D1: [b"t"], D2: [b"t"], D3: [b"t"]}


def test_a_delegate_tells_the_others_but_not_itself() -> None:
    scene = Scene(D1, OWN)
    scene.gossip.admitted([b"t"], None)
    scene.scheduler.advance(0)
    assert scene.sent() == {D1: [b"t"]}


def test_what_a_member_told_a_delegate_goes_no_further() -> None:
    """The member has told the other delegates itself: each link carries a transaction once."""
    scene = Scene(D1, D2, OWN)
    scene.gossip.admitted([b"t"], MEMBER)
    scene.gossip.admitted([b"u"], D1)
    scene.scheduler.advance(100)
    assert scene.sent() == {}


def test_what_a_guest_told_goes_to_all_delegates() -> None:
    scene = Scene(D1, OWN)
    guest = key(9)
    scene.links.peers[guest] = Role.GUEST
    scene.gossip.admitted([b"join"], guest)
    scene.scheduler.advance(0)
    assert scene.sent() == {D1: [b"join"]}


def test_a_member_passes_on_what_was_meant_for_a_delegate_but_not_back() -> None:
    """The sender took this node for a delegate: its view of the set is old, or ours is."""
    scene = Scene(D1, D2)
    scene.gossip.admitted([b"t"], D1)
    scene.scheduler.advance(0)
    assert scene.sent() == {D2: [b"t"]}


def test_the_first_after_a_pause_leaves_in_the_same_turn_and_the_next_wait_for_company() -> None:
    scene = Scene(D1)
    scene.gossip.admitted([b"1"], None)
    scene.gossip.admitted([b"2"], None)
    scene.scheduler.advance(0)
    assert [m.transactions for _, m in scene.links.take(Transactions)] == [(b"1", b"2")]
    for number in range(50):
        scene.gossip.admitted([b"%d" % number], None)
    scene.scheduler.advance(0)
    assert scene.links.sent == []
    scene.scheduler.advance(COALESCE_MS)
    (batch,) = [m.transactions for _, m in scene.links.take(Transactions)]
    assert len(batch) == 50


@pytest.mark.parametrize(
    ("size", "count", "batches"),
    [(100, MAX_BATCH_TRANSACTIONS, 1), (60_000, 2 * (MAX_BATCH_BYTES // 60_000 + 1), 2)],
)
def test_a_full_batch_leaves_at_once(size: int, count: int, batches: int) -> None:
    scene = Scene(D1)
    scene.gossip.admitted([bytes(size)] * count, None)
    sent = scene.links.take(Transactions)
    assert len(sent) == batches
    assert sum(len(m.transactions) for _, m in sent) == count


def test_batches_of_different_senders_are_kept_apart() -> None:
    scene = Scene(D1, D2)
    scene.gossip.admitted([b"1"], D1)
    scene.gossip.admitted([b"2"], None)
    scene.scheduler.advance(0)
    assert scene.sent() == {D1: [b"2"], D2: [b"1", b"2"]}


def test_what_has_waited_too_long_is_sent_again_even_by_a_delegate() -> None:
    scene = Scene(D1, OWN)
    scene.gossip.resend([b"old"])
    scene.scheduler.advance(0)
    assert scene.sent() == {D1: [b"old"]}


def test_stopping_sends_what_waits_and_nothing_later() -> None:
    scene = Scene(D1)
    scene.gossip.admitted([b"1"], None)
    scene.gossip.stop()
    assert scene.sent() == {D1: [b"1"]}
    scene.scheduler.advance(100)
    assert scene.sent() == {}

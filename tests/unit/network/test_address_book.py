"""Numbered, signed address records (PROTOCOL 8.1a), and how nodes pass them on without a bootstrap (8.2)."""

import itertools

import msgspec
import pytest

from consensus.ed25519 import Ed25519Verifier
from consensus.encoding import encode
from consensus.errors import InvalidMessage, MalformedInput
from network.address_book import (
    MIN_CHANGE_INTERVAL_MS,
    AddressBook,
    AddressGossip,
    check_record,
    is_host,
    record_codec,
    sign_record,
)
from network.peer import Endpoint
from network.wire import AddressRecord, AddressRecords, AddressRecordsRequest, Role
from tests.unit.network.harness import FakeLinks, KeySigner, key

ALICE, BOB, CAROL = (KeySigner(n) for n in (1, 2, 3))
VERIFIER = Ed25519Verifier()


def record(signer: KeySigner, sequence: int, host: str = "10.0.0.1", port: int = 26_656) -> AddressRecord:
    return sign_record(signer, sequence, Endpoint(host, port))


def book(*members: KeySigner) -> AddressBook:
    keys = {signer.public_key for signer in members or (ALICE, BOB, CAROL)}
    return AddressBook(VERIFIER, lambda public_key: public_key in keys)


def test_a_record_is_taken_and_found() -> None:
    mine = book()
    assert mine.add(record(ALICE, 1), 0)
    assert mine.endpoint(ALICE.public_key) == Endpoint("10.0.0.1", 26_656)
    assert mine.endpoint(BOB.public_key) is None
    assert mine.records((BOB.public_key, ALICE.public_key)) == (record(ALICE, 1),)
    assert mine.records() == (record(ALICE, 1),)


def test_the_highest_number_wins_in_any_order_of_arrival() -> None:
    records = [record(ALICE, n, f"10.0.0.{n}") for n in (1, 2, 3)]
    for order in itertools.permutations(records):
        mine = book()
        for step, each in enumerate(order):
            mine.add(each, step * MIN_CHANGE_INTERVAL_MS)
        assert mine.endpoint(ALICE.public_key) == Endpoint("10.0.0.3", 26_656)


def test_of_two_with_one_number_all_keep_the_same() -> None:
    first, second = record(ALICE, 1, "10.0.0.1"), record(ALICE, 1, "10.0.0.2")
    kept = []
    for order in ((first, second), (second, first)):
        mine = book()
        for step, each in enumerate(order):
            mine.add(each, step * MIN_CHANGE_INTERVAL_MS)
        kept.append(mine.record(ALICE.public_key))
    assert kept[0] == kept[1]


def test_the_same_record_again_is_no_news() -> None:
    mine = book()
    assert mine.add(record(ALICE, 1), 0)
    assert not mine.add(record(ALICE, 1), 60_000)


def test_who_is_not_admitted_has_no_record() -> None:
    assert not book(BOB).add(record(ALICE, 1), 0)


def test_a_member_that_moves_all_the_time_does_not_keep_everybody_busy() -> None:
    mine = book()
    assert mine.add(record(ALICE, 1), 0)
    assert not mine.add(record(ALICE, 2), MIN_CHANGE_INTERVAL_MS - 1)
    assert mine.add(record(ALICE, 3), MIN_CHANGE_INTERVAL_MS)


@pytest.mark.parametrize(
    "change", [{"host": "10.0.0.2"}, {"port": 1}, {"sequence": 9}, {"signature": bytes(64)}]
)
def test_a_changed_record_is_refused(change: dict[str, object]) -> None:
    forged = msgspec.structs.replace(record(ALICE, 1), **change)
    with pytest.raises(InvalidMessage, match="not signed by the key"):
        book().add(forged, 0)


def test_a_record_in_anothers_name_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="not signed"):
        check_record(msgspec.structs.replace(record(BOB, 1), public_key=ALICE.public_key), VERIFIER)


@pytest.mark.parametrize(
    "host", ["localhost", "node-1.example.org", "node_1", "10.0.0.1", "::1", "2001:db8::1", "a.b."]
)
def test_names_and_addresses_are_hosts(host: str) -> None:
    assert is_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "a b",
        "-a",
        "a-",
        "a..b",
        "http://a",
        "a:80",
        "a/b",
        "\N{SNOWMAN}",
        "x" * 254,
        "fe80::1%eth0",
        "a\n",
    ],
)
def test_anything_else_is_no_host(host: str) -> None:
    assert not is_host(host)
    if host and len(host) <= 253:
        with pytest.raises(InvalidMessage, match="neither a host name nor"):
            book().add(record(ALICE, 1, host), 0)


def test_a_record_travels_alone_too() -> None:
    assert record_codec.decode(encode(record(ALICE, 1))) == record(ALICE, 1)
    with pytest.raises(MalformedInput):
        record_codec.decode(encode(record(ALICE, 1))[:-1])


def test_who_left_is_forgotten() -> None:
    mine = book()
    mine.add(record(ALICE, 1), 0)
    mine.add(record(BOB, 1), 0)
    mine.retain((BOB.public_key,))
    assert mine.records() == (record(BOB, 1),)


class Scene:
    def __init__(self) -> None:
        self.links = FakeLinks(key(1), key(2), key(3))
        self.book = book()
        self.moves: list[tuple[bytes, Endpoint]] = []
        self.gossip = AddressGossip(self.links, self.book, lambda *move: self.moves.append(move))


def test_news_go_on_to_all_members_but_the_sender_once() -> None:
    scene = Scene()
    scene.links.peers[key(4)] = Role.GUEST
    message = AddressRecords((record(ALICE, 1),))
    scene.gossip.on_records(key(1), message, 0)
    assert scene.links.take(AddressRecords) == [(key(2), message), (key(3), message)]
    assert scene.moves == [(ALICE.public_key, Endpoint("10.0.0.1", 26_656))]
    scene.gossip.on_records(key(2), message, 5_000)
    assert scene.links.sent == []
    assert len(scene.moves) == 1


def test_only_what_is_news_goes_on() -> None:
    scene = Scene()
    scene.gossip.on_records(key(1), AddressRecords((record(ALICE, 2),)), 0)
    scene.links.sent.clear()
    scene.gossip.on_records(key(1), AddressRecords((record(ALICE, 1), record(BOB, 1))), 5_000)
    assert scene.links.sent[0][1] == AddressRecords((record(BOB, 1),))


def test_a_forged_record_costs_its_sender_and_what_was_good_stays() -> None:
    scene = Scene()
    forged = msgspec.structs.replace(record(BOB, 1), port=1)
    scene.gossip.on_records(key(1), AddressRecords((record(ALICE, 1), forged, record(CAROL, 1))), 0)
    assert [peer for peer, _ in scene.links.punished] == [key(1)]
    assert scene.book.records() == (record(ALICE, 1),)


def test_the_own_record_goes_to_everybody_now_and_to_each_new_peer() -> None:
    scene = Scene()
    scene.gossip.peer_connected(key(1))
    assert scene.links.sent == []
    mine = AddressRecords((record(CAROL, 1),))
    scene.gossip.announce(record(CAROL, 1))
    assert scene.links.take(AddressRecords) == [(key(1), mine), (key(2), mine), (key(3), mine)]
    scene.gossip.peer_connected(key(2))
    assert scene.links.take(AddressRecords) == [(key(2), mine)]


def test_nobody_tells_this_node_where_it_listens() -> None:
    scene = Scene()
    scene.gossip.announce(record(CAROL, 1))
    scene.links.sent.clear()
    scene.gossip.on_records(key(1), AddressRecords((record(CAROL, 99, "10.9.9.9"),)), 0)
    assert (scene.moves, scene.links.sent) == ([], [])


def test_missing_addresses_are_asked_for_and_answered() -> None:
    asker, answerer = Scene(), Scene()
    answerer.book.add(record(ALICE, 1), 0)
    answerer.gossip.announce(record(CAROL, 1))
    answerer.links.sent.clear()
    asker.book.add(record(BOB, 1), 0)
    asker.gossip.ask([ALICE.public_key, BOB.public_key, CAROL.public_key], key(2))
    ((to, request),) = asker.links.take(AddressRecordsRequest)
    assert (to, request.public_keys) == (key(2), (ALICE.public_key, CAROL.public_key))
    answerer.gossip.on_request(key(1), request)
    ((_, answer),) = answerer.links.take(AddressRecords)
    assert set(answer.records) == {record(ALICE, 1), record(CAROL, 1)}
    answerer.gossip.on_request(key(1), AddressRecordsRequest((key(77),)))
    assert answerer.links.sent == []


def test_many_missing_addresses_are_asked_for_in_parts() -> None:
    scene = Scene()
    scene.gossip.ask([n.to_bytes(32, "big") for n in range(600)], key(1))
    assert [len(m.public_keys) for _, m in scene.links.take(AddressRecordsRequest)] == [256, 256, 88]

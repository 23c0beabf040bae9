"""The pool of waiting transactions: caps, order, batches, expiry (PROTOCOL 6.7, 9.2, 9.3; LESSONS 16)."""

import pytest

from contracts.transaction import (
    Heartbeat,
    Payload,
    Transaction,
    Transfer,
    decode_transaction,
    encode_body,
    sign_body,
)
from node import mempool as mempool_module
from node.keystore import KeyPair
from node.mempool import Entry, Mempool, PoolCode, PoolLimits

CHAIN = bytes(32)
KEYS = [KeyPair(bytes([number]) * 32) for number in range(1, 6)]
MEMBERS = {key.address for key in KEYS[:4]}
STRANGER = KEYS[4]


def transaction(
    nonce: int,
    sender: KeyPair = KEYS[0],
    payload: Payload | None = None,
    window: tuple[int, int] = (0, 60_000),
) -> Transaction:
    body = encode_body(CHAIN, sender.address, *window, nonce, payload or Transfer(KEYS[1].address, 1))
    return decode_transaction(sign_body(body, (sender,)))


def heartbeat(nonce: int, sender: KeyPair = KEYS[0]) -> Transaction:
    return transaction(nonce, sender, Heartbeat(1, None))


def pool(count: int = 100, size: int = 1_000_000, per_sender: int = 100) -> Mempool:
    return Mempool(PoolLimits(count, size, per_sender), lambda address: address in MEMBERS)


def put(target: Mempool, item: Transaction, received_ms: int = 0) -> Entry:
    entry = target.begin(item, received_ms)
    assert isinstance(entry, Entry)
    assert target.admit(entry)
    return entry


def ids(items: list[Transaction]) -> list[bytes]:
    return [item.id for item in items]


def test_only_what_a_block_of_this_time_may_hold_counts_as_waiting() -> None:
    """6.7, 9.2: else a transaction whose window is not open, or over, charges an honest primary with a failed view."""
    target = pool()
    windows = (
        (0, 60_000),
        (1_500, 60_000),
        (1_501, 60_000),
        (0, 1_499),
        (0, 1_500),
        (2_000, 3_000),
        (0, 900),
    )
    for nonce, window in enumerate(windows):
        put(target, transaction(nonce, window=window))
    for time_ms in (0, 900, 901, 1_499, 1_500, 1_501, 2_000, 3_001, 60_000, 60_001):
        assert target.includable(time_ms) == len(target.batch(time_ms, 100, 10**6, ())), time_ms
    target.decided([], 2_500)
    assert target.includable(2_500) == len(target.batch(2_500, 100, 10**6, ())) == 4
    target.decided([entry.transaction.id for entry in list(target.entries())], 2_501)
    assert target.includable(2_501) == 0


def test_batch_is_first_come_first_served() -> None:
    target = pool()
    items = [transaction(n) for n in range(10)]
    for item in items:
        put(target, item)
    assert target.batch(1_000, 100, 10**6, ()) == items
    assert target.batch(1_000, 3, 10**6, ()) == items[:3]


def test_batch_keeps_to_its_bytes_and_leaves_out_the_removed() -> None:
    target = pool()
    items = [transaction(n) for n in range(5)]
    for item in items:
        put(target, item)
    size = len(items[0].raw)
    assert ids(target.batch(0, 100, 2 * size + 1, ())) == ids(items[:2])
    assert ids(target.batch(0, 2, 10**6, {items[0].id})) == ids(items[1:3])


def test_batch_holds_only_what_is_in_its_window() -> None:
    target = pool()
    early, now, late = (
        transaction(1, window=(0, 999)),
        transaction(2, window=(500, 5_000)),
        transaction(3, window=(1_001, 5_000)),
    )
    for item in (early, now, late):
        put(target, item)
    assert target.batch(1_000, 10, 10**6, ()) == [now]
    assert target.batch(999, 10, 10**6, ()) == [early, now]


def test_priority_goes_first_but_takes_at_most_half() -> None:
    target = pool()
    trades = [transaction(n) for n in range(4)]
    beats = [heartbeat(n) for n in range(4)]
    for item in (*trades, *beats):
        put(target, item)
    assert target.batch(0, 4, 10**6, ()) == [*beats[:2], *trades[:2]]
    assert target.batch(0, 100, 10**6, ()) == [*beats, *trades]


def test_count_cap_refuses_and_frees_again() -> None:
    target = pool(count=3)
    items = [transaction(n) for n in range(4)]
    for item in items[:3]:
        put(target, item)
    assert target.begin(items[3], 0) is PoolCode.FULL
    target.decided([items[0].id], 0)
    put(target, items[3])
    assert len(target) == 3


def test_byte_cap_counts_what_is_still_being_checked() -> None:
    items = [transaction(n) for n in range(3)]
    target = pool(size=2 * len(items[0].raw))
    first = target.begin(items[0], 0)
    put(target, items[1])
    assert target.begin(items[2], 0) is PoolCode.FULL
    assert isinstance(first, Entry)
    target.refuse(first)
    put(target, items[2])
    assert target.size_bytes == 2 * len(items[0].raw)


def test_one_sender_cannot_fill_the_pool() -> None:
    target = pool(per_sender=2)
    for n in range(2):
        put(target, transaction(n))
    assert target.begin(transaction(2), 0) is PoolCode.SENDER_LIMIT
    put(target, transaction(3, KEYS[1]))


def test_strangers_share_an_eighth() -> None:
    target = pool(count=16)
    keys = [KeyPair(bytes([200 + n]) * 32) for n in range(3)]
    put(target, transaction(1, keys[0]))
    put(target, transaction(1, keys[1]))
    assert target.begin(transaction(1, keys[2]), 0) is PoolCode.SENDER_LIMIT
    put(target, transaction(1, KEYS[0]))


def test_full_pool_still_has_room_for_heartbeats() -> None:
    target = pool(count=1)
    put(target, transaction(1))
    put(target, heartbeat(1))
    assert len(target) == 2


def test_priority_room_is_capped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool_module, "MAX_PRIORITY", 4)
    monkeypatch.setattr(mempool_module, "MAX_PRIORITY_PER_SENDER", 2)
    target = pool()
    for n in range(2):
        put(target, heartbeat(n))
    assert target.begin(heartbeat(2), 0) is PoolCode.SENDER_LIMIT
    for n in range(2):
        put(target, heartbeat(n, KEYS[1]))
    assert target.begin(heartbeat(0, KEYS[2]), 0) is PoolCode.FULL


def test_same_id_with_other_bytes_is_held_once() -> None:
    target = pool()
    body = encode_body(CHAIN, KEYS[0].address, 0, 60_000, 1, Transfer(KEYS[1].address, 1))
    good = decode_transaction(sign_body(body, (KEYS[0],)))
    other = decode_transaction(sign_body(body, (KEYS[0], KEYS[1])))
    assert (good.id, good.reference == other.reference) == (other.id, False)
    bad_entry, good_entry = target.begin(other, 0), target.begin(good, 0)
    assert isinstance(bad_entry, Entry)
    assert isinstance(good_entry, Entry)
    assert target.is_checking(good.reference)
    assert target.admit(good_entry)
    assert not target.admit(bad_entry)
    assert target.by_reference(good.reference) is good
    assert target.by_reference(other.reference) is None
    assert target.size_bytes == len(good.raw)


def test_bad_signature_bytes_do_not_hold_the_place_of_good_ones() -> None:
    target = pool()
    body = encode_body(CHAIN, KEYS[0].address, 0, 60_000, 1, Transfer(KEYS[1].address, 1))
    forged = decode_transaction(sign_body(body, (KEYS[1],)))
    good = decode_transaction(sign_body(body, (KEYS[0],)))
    forged_entry = target.begin(forged, 0)
    put(target, good)
    assert isinstance(forged_entry, Entry)
    target.refuse(forged_entry)
    assert target.get(good.id) is not None
    assert len(target) == 1


def test_expired_only_when_a_decided_header_passed_the_window() -> None:
    target = pool()
    short, long = transaction(1, window=(0, 1_500)), transaction(2, window=(0, 9_000))
    put(target, short)
    put(target, long)
    assert target.decided([], 1_500) == []
    assert not target.is_expired(short.id)
    assert target.decided([], 1_501) == [short.id]
    assert target.is_expired(short.id)
    assert target.get(short.id) is None
    assert target.decided([], 9_000_000) == [long.id]
    assert (len(target), target.size_bytes) == (0, 0)


def test_expiry_finds_what_was_admitted_after_its_window_passed() -> None:
    target = pool()
    entry = target.begin(transaction(1, window=(0, 1_500)), 0)
    target.decided([], 8_000)
    assert isinstance(entry, Entry)
    target.admit(entry)
    assert target.decided([], 8_100) == [entry.transaction.id]


def test_expiry_finds_everything_after_a_long_halt() -> None:
    target = pool()
    target.decided([], 1_000)
    expected = set()
    for n in range(20):
        expected.add(put(target, transaction(n, window=(0, 2_000 + 137 * n))).transaction.id)
    assert set(target.decided([], 10**12)) == expected


def test_what_expired_is_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool_module, "MAX_EXPIRED", 2)
    target = pool()
    items = [transaction(n, window=(0, 1_000 + n)) for n in range(3)]
    for item in items:
        put(target, item)
    target.decided([], 5_000)
    assert [target.is_expired(item.id) for item in items] == [False, True, True]


def test_committed_leaves_by_id_whatever_its_bytes() -> None:
    target = pool()
    item = transaction(1)
    put(target, item)
    target.decided([item.id, bytes(32)], 0)
    assert target.get(item.id) is None
    assert target.by_reference(item.reference) is None


def test_complaint_sees_only_what_waited_long_and_was_left_out() -> None:
    target = pool()
    relayed = put(target, transaction(1), received_ms=100)
    relayed.relayed_ms = 100
    included = put(target, transaction(2), received_ms=110)
    unrelayed = put(target, heartbeat(3), received_ms=120)
    put(target, transaction(4), received_ms=500)
    found = list(target.complaint_entries({included.transaction.id}, 200))
    assert {(e.transaction_id, e.relayed_to_all, e.always_room) for e in found} == {
        (relayed.transaction.id, True, False),
        (unrelayed.transaction.id, False, True),
    }


def test_left_out_are_those_that_came_or_were_sent_on_before() -> None:
    target = pool()
    old, sent, included = (put(target, transaction(n), received_ms=n) for n in range(3))
    sent.resent_ms = 400
    put(target, transaction(9), received_ms=450)
    assert target.left_out({included.transaction.id}, 399) == [old]
    assert target.left_out({included.transaction.id}, 400) == [old, sent]
    assert target.left_out((), 400) == [old, sent, included]


def test_copies_of_what_left_lately_are_known_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool_module, "MAX_GONE", 1)
    target = pool()
    first, second, waiting = (put(target, transaction(n)).transaction for n in range(3))
    assert target.has_seen(first.reference)
    target.decided([first.id], 0)
    assert target.has_seen(first.reference)
    target.decided([second.id], 0)
    assert [target.has_seen(item.reference) for item in (first, second, waiting)] == [False, True, True]


def test_oldest_is_that_of_both_classes() -> None:
    target = pool()
    assert target.oldest_received_ms() is None
    put(target, transaction(1), received_ms=7)
    put(target, heartbeat(2), received_ms=5)
    assert target.oldest_received_ms() == 5


def test_unknown_sender_is_held_against_the_strangers_share() -> None:
    target = pool(count=8)
    entry = put(target, transaction(1, STRANGER))
    assert entry.bucket == bytes(20)

"""Pending connections, rate limits and bans, without IO."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network.admission import MAX_BANS, BanList, PendingConnections, RateMeter
from network.limits import RateLimit
from tests.unit.network.harness import key


def test_the_newest_connection_pushes_out_the_oldest_of_its_address() -> None:
    pending: PendingConnections[int] = PendingConnections(10, 2)
    assert pending.add(1, "a") is None
    assert pending.add(2, "b") is None
    assert pending.add(3, "a") is None
    assert pending.add(4, "a") == 1
    assert pending.add(5, "a") == 3
    assert len(pending) == 3


def test_when_all_places_are_taken_the_oldest_of_all_goes() -> None:
    pending: PendingConnections[int] = PendingConnections(2, 2)
    pending.add(1, "a")
    pending.add(2, "b")
    assert pending.add(3, "c") == 1
    assert len(pending) == 2


def test_an_eviction_that_empties_the_newcomers_own_address_is_counted_right() -> None:
    pending: PendingConnections[int] = PendingConnections(5, 1)
    for number in range(20):
        assert pending.add(number, "a") == (number - 1 if number else None)
    assert len(pending) == 1
    pending.remove(19)
    assert len(pending) == 0


def test_removing_what_is_not_there_is_no_error() -> None:
    pending: PendingConnections[int] = PendingConnections(2, 2)
    pending.remove(7)
    assert len(pending) == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30), st.sampled_from("abc")), max_size=80))
def test_the_bounds_hold_whatever_comes_and_goes(steps: list[tuple[bool, int, str]]) -> None:
    pending: PendingConnections[int] = PendingConnections(6, 3)
    inside: dict[int, str] = {}
    for arrives, number, address in steps:
        if arrives and number not in inside:
            evicted = pending.add(number, address)
            if evicted is not None:
                del inside[evicted]
            inside[number] = address
        elif not arrives:
            pending.remove(number)
            inside.pop(number, None)
        assert len(pending) == len(inside) <= 6
        assert all(list(inside.values()).count(a) <= 3 for a in "abc")


def test_a_burst_of_one_second_is_free_and_the_debt_beyond_is_waited_for() -> None:
    meter = RateMeter(RateLimit(bytes_per_second=1_000, messages_per_second=10), 0)
    assert meter.spend(1_000, 1, 0) == 0
    assert meter.spend(500, 1, 0) == 500
    assert meter.spend(0, 0, 499) == 1
    assert meter.spend(0, 0, 500) == 0


def test_messages_count_as_well_as_bytes() -> None:
    meter = RateMeter(RateLimit(bytes_per_second=1_000_000, messages_per_second=10), 0)
    assert meter.spend(10, 10, 0) == 0
    assert meter.spend(1, 1, 0) == 100


def test_asking_every_millisecond_loses_no_allowance() -> None:
    meter = RateMeter(RateLimit(bytes_per_second=1_000, messages_per_second=10), 0)
    meter.spend(0, 20, 0)
    for now_ms in range(1, 1_000):
        assert meter.spend(0, 0, now_ms) == 1_000 - now_ms
    assert meter.spend(0, 0, 1_000) == 0


def test_silence_saves_up_no_more_than_a_second() -> None:
    meter = RateMeter(RateLimit(bytes_per_second=1_000, messages_per_second=10), 0)
    assert meter.spend(2_000, 0, 3_600_000) == 1_000


def test_bans_end_and_double_and_are_forgiven_in_the_end() -> None:
    bans = BanList(1_000, 3_000)
    assert bans.remaining_ms(key(1), 0) == 0
    assert bans.ban(key(1), 0) == 1_000
    assert bans.remaining_ms(key(1), 400) == 600
    assert bans.remaining_ms(key(1), 1_000) == 0
    assert bans.ban(key(1), 2_000) == 2_000
    assert [bans.ban(key(1), 4_000), bans.ban(key(1), 4_000)] == [3_000, 3_000]
    assert bans.ban(key(1), 20_000) == 1_000


@pytest.mark.parametrize("extra", [1, 50])
def test_the_ban_list_is_bounded(extra: int) -> None:
    bans = BanList(1_000, 3_000)
    for number in range(MAX_BANS + extra):
        bans.ban(number.to_bytes(32, "big"), 0)
    assert bans.remaining_ms((extra - 1).to_bytes(32, "big"), 1) == 0
    assert bans.remaining_ms(extra.to_bytes(32, "big"), 1) == 999

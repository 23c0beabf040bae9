"""Delays between attempts, and which of two connections is kept."""

import random

import pytest

from network.peer import Backoff, Endpoint, keeps_existing
from tests.unit.network.harness import key


def test_delays_double_up_to_the_cap_and_chance_shortens_each() -> None:
    backoff = Backoff(100, 10_000, random.Random(1))
    delays = [backoff.next_ms() for _ in range(12)]
    for count, delay in enumerate(delays):
        full = min(10_000, 100 * 2**count)
        assert full // 2 <= delay <= full
    assert len(set(delays[-4:])) > 1


def test_after_a_success_the_shortest_delay_comes_again() -> None:
    backoff = Backoff(100, 10_000, random.Random(1))
    for _ in range(10):
        backoff.next_ms()
    backoff.reset()
    assert backoff.next_ms() <= 100


def test_ten_thousand_failures_are_no_large_number() -> None:
    backoff = Backoff(100, 10_000, random.Random(1))
    backoff.failures = 10_000
    assert backoff.next_ms() <= 10_000


def test_both_ends_keep_the_connection_that_the_smaller_key_dialled() -> None:
    small, large = key(1), key(2)
    # One connection dialled by each; "existing" differs between the ends, what is kept must not.
    for existing_by_small in (True, False):
        at_small = keeps_existing(small, large, existing_by_small, not existing_by_small)
        at_large = keeps_existing(large, small, not existing_by_small, existing_by_small)
        assert at_small == at_large == existing_by_small


@pytest.mark.parametrize("initiated", [True, False])
def test_of_two_dialled_by_the_same_side_the_newer_is_kept(initiated: bool) -> None:
    assert not keeps_existing(key(1), key(2), initiated, initiated)


@pytest.mark.parametrize(
    ("host", "text"), [("node1", "node1:80"), ("::1", "[::1]:80"), ("10.0.0.1", "10.0.0.1:80")]
)
def test_endpoints_are_shown_as_people_write_them(host: str, text: str) -> None:
    assert Endpoint(host, 80).text() == text

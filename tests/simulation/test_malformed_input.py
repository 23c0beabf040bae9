"""Malformed input at every door is refused or canonical; what would crash, stall or fill a node is found (G9)."""

import dataclasses
import random

import msgspec
import pytest

from consensus.errors import MalformedInput, invariant
from scripts.simulating.malformed_input import bomb, knock, send_malformed
from scripts.simulating.malformed_input_targets import Door, all_doors


@pytest.fixture(scope="module")
def doors() -> dict[str, Door]:
    return {door.name: door for door in all_doors()}


def test_nothing_malformed_gets_through_any_door() -> None:
    result = send_malformed(60)
    assert result.findings == ()
    assert len(result.doors) >= 12
    assert sum(door.keyed for door in result.doors) >= 5
    assert all(door.refused for door in result.doors), "every door was tried with what it must refuse"
    assert sum(door.taken for door in result.doors) > 100, "much of it looks right"


def planted(doors: dict[str, Door], take: object, cases: int = 120) -> tuple[str, ...]:
    return knock(dataclasses.replace(doors["consensus messages"], take=take), cases).findings  # type: ignore[arg-type]


def test_a_decoder_that_raises_its_librarys_error_is_found(doors: dict[str, Door]) -> None:
    findings = planted(doors, msgspec.msgpack.decode)
    assert any("DecodeError" in finding for finding in findings)


def test_a_decoder_that_takes_too_long_is_found(doors: dict[str, Door]) -> None:
    def slow(data: bytes) -> None:
        if len(data) % 32 == 0:
            sum(range(1_000_000))

    assert any("ms" in finding for finding in planted(doors, slow))


def test_a_decoder_that_takes_too_much_memory_is_found(doors: dict[str, Door]) -> None:
    def greedy(data: bytes) -> None:
        bytearray(9 * 1_048_576 + len(data))

    assert any("bytes" in finding for finding in planted(doors, greedy))


def test_an_invariant_that_a_peer_can_trip_is_found(doors: dict[str, Door]) -> None:
    def tripping(data: bytes) -> None:
        invariant(len(data) % 7 != 0, "seven")

    assert any("trips an invariant: seven" in finding for finding in planted(doors, tripping))


def test_a_decoder_without_the_canonical_check_is_found(doors: dict[str, Door]) -> None:
    def lax(data: bytes) -> None:
        try:
            value = msgspec.msgpack.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
            raise MalformedInput(str(error)) from error
        if msgspec.msgpack.encode(value) != data:
            raise AssertionError("not canonical")

    assert any("not canonical" in finding for finding in planted(doors, lax, 1_200))


def test_bombs_are_of_every_kind_and_no_larger_than_a_frame() -> None:
    rng = random.Random(1)
    bombs = [bomb(rng) for _ in range(400)]
    assert len({data[:2] for data in bombs}) >= 7
    assert max(map(len, bombs)) <= 65_536 + 16

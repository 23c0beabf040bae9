"""Codecs against a second implementation, with pinned hashes; and planted bugs in them are found (G10)."""

import dataclasses

import msgspec
import pytest

from consensus.encoding import Codec, encode
from consensus.errors import MalformedInput
from consensus.messages import Prepare
from consensus.types import Wire
from network.wire import PeerMessage
from scripts.simulating.codec_conformance import (
    FULL_CASES,
    SMALL_CASES,
    check_codecs,
    check_elsewhere,
    check_type,
    read_pins,
)
from scripts.simulating.codec_conformance_types import Target, all_targets


@pytest.fixture(scope="module")
def targets() -> dict[str, Target]:
    return {target.name: target for target in all_targets()}


def test_every_wire_type_is_canonical_read_alike_by_both_decoders_and_as_pinned() -> None:
    result = check_codecs(SMALL_CASES)
    assert result.findings == ()
    assert result.changed == (), (
        "a format has changed: if that is meant, pin it anew (docs/simulation/storage.md)"
    )
    assert len(result.types) > 150
    assert sum(item.mutants_taken for item in result.types) > 1_000, "mutants that are values of their own"
    assert sum(item.mutants_refused for item in result.types) > 5_000
    assert sum(item.audited for item in result.types) > 45


def test_pins_hold_every_type(targets: dict[str, Target]) -> None:
    pins = read_pins()
    assert set(pins[str(SMALL_CASES)]) == set(targets)
    assert set(pins.get(str(FULL_CASES), {})) <= set(targets)


def test_every_kind_of_peer_message_is_among_the_targets(targets: dict[str, Target]) -> None:
    for kind in PeerMessage.__args__:
        assert f"{kind.__module__}.{kind.__name__}" in targets


def planted(targets: dict[str, Target], **changes: object) -> tuple[str, ...]:
    target = dataclasses.replace(targets["consensus.messages.Prepare"], **changes)  # type: ignore[arg-type]
    return check_type(target, 400).findings


def test_the_target_without_a_planted_bug_has_no_findings(targets: dict[str, Target]) -> None:
    assert planted(targets) == ()


def test_a_decoder_without_the_canonical_check_is_found(targets: dict[str, Target]) -> None:
    def lax(data: bytes) -> object:
        try:
            return msgspec.msgpack.decode(data, type=Prepare)
        except msgspec.MsgspecError as error:
            raise MalformedInput(str(error)) from error

    assert any("not canonical" in finding for finding in planted(targets, decode=lax))


def test_a_decoder_with_other_bounds_than_the_auditors_is_found(targets: dict[str, Target]) -> None:
    class Wide(Wire, frozen=True, tag=2):
        epoch: int
        height: int
        view: int
        digest: bytes
        signer: bytes
        signature: bytes

    findings = planted(targets, decode=Codec[Wide](Wide, 512).decode, kind=Wide)
    assert any("the auditor refuses what the node takes" in finding for finding in findings)


def test_a_decoder_that_refuses_what_is_valid_is_found(targets: dict[str, Target]) -> None:
    findings = planted(targets, decode=Codec[Prepare](Prepare, 140).decode)
    assert any("a valid value is refused" in finding for finding in findings)


def test_an_encoder_that_exchanges_fields_is_found(targets: dict[str, Target]) -> None:
    def exchanged(value: Prepare) -> bytes:
        return encode(msgspec.structs.replace(value, epoch=value.height, height=value.epoch))

    assert any("is encoded again as" in finding for finding in planted(targets, encode=exchanged))


def test_a_decoder_that_raises_something_else_is_found(targets: dict[str, Target]) -> None:
    def raising(data: bytes) -> object:
        try:
            return msgspec.msgpack.decode(data, type=Prepare)
        except msgspec.ValidationError as error:
            raise MalformedInput(str(error)) from error

    assert any("raises DecodeError" in finding for finding in planted(targets, decode=raising))


def test_hashes_are_the_same_under_other_hash_seeds() -> None:
    results = check_elsewhere(4, hash_seeds=("4242",))
    assert all(item.agrees is not False for item in results), results
    assert results[0].agrees

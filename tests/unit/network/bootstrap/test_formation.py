"""Formation without sockets: registrations, genesis, acknowledgements, restarts (PROTOCOL 8.1b)."""

from pathlib import Path

import pytest

from consensus.encoding import encode
from contracts.genesis import Registration, check_genesis, genesis_codec
from network.bootstrap.errors import Refused, StoreUnusable
from network.bootstrap.formation import Stage, different_fields
from network.bootstrap.records import acknowledge
from network.bootstrap.store import RecordKind
from tests.unit.network.bootstrap.support import (
    VERIFIER,
    Opened,
    announcement,
    key,
    registered,
    registration,
)


def refusal(opened: Opened, raw: bytes) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        opened.formation.register(raw)
    return caught.value.status, caught.value.code


def test_the_genesis_appears_with_the_last_member(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    for number in (3, 1, 4):
        assert opened.formation.register(registered(number))
        assert opened.formation.genesis is None
    opened.formation.register(registered(2))
    assert opened.formation.stage is Stage.ACKNOWLEDGING
    assert opened.changes == 4
    genesis = genesis_codec.decode(opened.formation.genesis or b"")
    check_genesis(genesis, VERIFIER)
    assert {member.public_key for member in genesis.members} == {key(n).public_key for n in (1, 2, 3, 4)}
    assert genesis.parameters == announcement().parameters
    assert genesis.hash() == opened.formation.genesis_hash


def test_the_order_of_arrival_does_not_change_the_genesis(tmp_path: Path) -> None:
    one, other = Opened(tmp_path / "one"), Opened(tmp_path / "other")
    for number in (1, 2, 3, 4):
        one.formation.register(registered(number))
        other.formation.register(registered(5 - number))
    assert one.formation.genesis == other.formation.genesis


def test_registering_again_changes_nothing(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    assert opened.formation.register(registered(1))
    assert not opened.formation.register(registered(1))
    assert opened.formation.registered == 1
    size = opened.log.size_bytes
    opened.formation.register(registered(1))
    assert opened.log.size_bytes == size


def test_each_refusal_has_its_reason(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    opened.formation.register(registered(1))
    good = registration(2)
    forged = Registration(good.public_key, good.meter_public_key, good.max_power_w + 1, good.signature)
    small_order = Registration(bytes(32), good.meter_public_key, good.max_power_w, good.signature)
    assert refusal(opened, b"\x00") == (400, "malformed")
    assert refusal(opened, bytes(600)) == (413, "too_large")
    assert refusal(opened, encode(forged)) == (422, "registration_invalid")
    assert refusal(opened, encode(small_order)) == (422, "registration_invalid")
    assert refusal(opened, encode(registration(2, chain_name="town"))) == (422, "registration_invalid")
    assert refusal(opened, encode(registration(2, meter_number=1))) == (409, "meter_in_use")
    assert refusal(opened, encode(registration(1, meter_number=9))) == (409, "registered_differently")
    assert opened.formation.registered == 1
    for number in (2, 3, 4):
        opened.formation.register(registered(number))
    assert refusal(opened, registered(5)) == (409, "full")


def test_named_founders_only(tmp_path: Path) -> None:
    opened = Opened(tmp_path, founders=tuple(key(number).public_key for number in (1, 2, 3, 4)))
    assert refusal(opened, registered(5)) == (403, "not_a_founder")
    assert opened.formation.register(registered(4))


def test_acknowledgements_are_checked_and_complete_the_formation(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    formation = opened.formation

    def refused(raw: bytes) -> tuple[int, str]:
        with pytest.raises(Refused) as caught:
            formation.acknowledge(raw)
        return caught.value.status, caught.value.code

    assert refused(encode(acknowledge(bytes(32), key(1)))) == (409, "no_genesis")
    for number in (1, 2, 3, 4):
        formation.register(registered(number))
    genesis_hash = formation.genesis_hash or b""
    assert refused(b"junk") == (400, "malformed")
    assert refused(encode(acknowledge(bytes(32), key(1)))) == (422, "acknowledgement_invalid")
    assert refused(encode(acknowledge(genesis_hash, key(5)))) == (403, "not_a_member")
    for number in (1, 2, 3):
        assert formation.acknowledge(encode(acknowledge(genesis_hash, key(number))))
    assert not formation.acknowledge(encode(acknowledge(genesis_hash, key(1))))
    assert formation.missing_acknowledgements() == [key(4).public_key]
    formation.acknowledge(encode(acknowledge(genesis_hash, key(4))))
    assert formation.stage is Stage.FORMED
    collected = formation.acknowledgements()
    assert collected is not None
    assert [one.public_key for one in collected.acknowledgements] == sorted(
        key(n).public_key for n in (1, 2, 3, 4)
    )


@pytest.mark.parametrize("steps", range(9))
def test_a_restart_after_any_step_takes_up_where_it_was(tmp_path: Path, steps: int) -> None:
    """PROTOCOL 8.2: four registrations and four acknowledgements, with a restart in every possible place."""

    def step(opened: Opened, number: int) -> None:
        if number < 4:
            opened.formation.register(registered(number + 1))
        else:
            genesis_hash = opened.formation.genesis_hash or b""
            opened.formation.acknowledge(encode(acknowledge(genesis_hash, key(number - 3))))

    first = Opened(tmp_path)
    for number in range(steps):
        step(first, number)
    genesis = first.formation.genesis
    first.log.close()
    second = Opened(tmp_path)
    assert second.formation.genesis == genesis
    assert second.formation.registered == min(steps, 4)
    assert second.formation.acknowledged == max(0, steps - 4)
    for number in range(steps, 8):
        step(second, number)
    assert second.formation.stage is Stage.FORMED
    second.log.rewrite(list(second.formation.records()))
    second.log.close()
    assert Opened(tmp_path).formation.stage is Stage.FORMED


def test_a_home_with_another_formation_is_refused(tmp_path: Path) -> None:
    Opened(tmp_path).log.close()
    with pytest.raises(StoreUnusable, match=r"members 4 / 5"):
        Opened(tmp_path, announcement(members=5))


def test_differences_are_named_one_by_one() -> None:
    shown = different_fields(announcement(), announcement(members=7, chain_name="town"))
    assert "chain_name village / town" in shown
    assert "members 4 / 7" in shown
    assert different_fields(announcement(), announcement()) == ""


def test_a_failed_disk_loses_nothing_and_a_repeated_registration_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last member is stored, the genesis is not: the same registration again publishes it."""
    opened = Opened(tmp_path)
    for number in (1, 2, 3):
        opened.formation.register(registered(number))
    append = opened.log.append

    def failing(kind: RecordKind, content: bytes, *, durable: bool = True) -> None:
        if kind is RecordKind.GENESIS:
            raise OSError("no space left")
        append(kind, content, durable=durable)

    with monkeypatch.context() as patched:
        patched.setattr(opened.log, "append", failing)
        with pytest.raises(OSError, match="no space"):
            opened.formation.register(registered(4))
    assert opened.formation.genesis is None
    assert not opened.formation.register(registered(4))
    assert opened.formation.stage is Stage.ACKNOWLEDGING

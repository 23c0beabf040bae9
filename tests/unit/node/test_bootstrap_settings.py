"""`cgpbft bootstrap`'s flags, and an invite's file: refused with a reason, or taken as meant (PROTOCOL 1.5, 11)."""

from pathlib import Path
from typing import Any

import pytest

from consensus.parameters import DEMO
from contracts.genesis import Admission
from contracts.transaction import Invite, Meter, Signature
from node.bootstrap_process import BootstrapProcess, BootstrapSettings, bootstrap_settings
from node.errors import ConfigurationError
from node.invites import InviteFile, read_invite, write_invite
from node.keystore import KeyPair, read_key

OPERATORS = [KeyPair(bytes((number,)) * 32).public_key.hex() for number in (1, 2, 3)]


def made(**flags: Any) -> BootstrapSettings:
    return bootstrap_settings(**{"home": Path("unused"), "members": 8, "groups": 4, **flags})


def test_the_plain_command_makes_an_invited_chain_of_the_default_parameters() -> None:
    settings = made()
    assert settings.admission is Admission.INVITED
    assert settings.parameters.run_ms == 79_200_000
    assert settings.parameters.groups == 4


def test_demo_open_and_overrides() -> None:
    settings = made(demo=True, allow_open=True, overrides=["run_ms=9000", "allow_non_bft=true"], groups=0)
    assert settings.admission is Admission.OPEN
    assert settings.parameters.run_ms == 9_000
    assert settings.parameters.allow_non_bft
    assert settings.parameters.slot_ms == DEMO.slot_ms
    assert settings.parameters.groups == 0


def test_bounds_are_filled_in_for_the_number_of_members() -> None:
    """PROTOCOL 11: planning_ms is at least max_drift + (f+1)(request + view timeout), f from N where k = 0."""
    settings = made(members=100, groups=0, demo=True)
    assert settings.parameters.planning_ms == 300 + 34 * 1_200


def test_the_threshold_defaults_to_the_majority() -> None:
    assert made(operators=OPERATORS).operator_threshold == 2
    assert made(operators=OPERATORS[:2]).operator_threshold == 2
    assert made(operators=OPERATORS, operator_threshold=1).operator_threshold == 1


@pytest.mark.parametrize(
    ("flags", "because"),
    [
        ({"members": 0}, "--members"),
        ({"members": 10_001}, "--members"),
        ({"admission": "open"}, "--allow-open"),
        ({"admission": "invited", "allow_open": True}, "contradict"),
        ({"admission": "closed"}, "invited or open"),
        ({"operators": ["00"]}, "--operator 00"),
        ({"operators": [OPERATORS[0], OPERATORS[0]]}, "twice"),
        ({"operators": OPERATORS, "operator_threshold": 4}, "--operator-threshold"),
        ({"operators": OPERATORS, "operator_threshold": 0}, "--operator-threshold"),
        ({"overrides": ["speed=1"]}, "no such parameter"),
        ({"overrides": ["groups=1"]}, "no such parameter"),
        ({"overrides": ["run_ms=fast"]}, "whole number"),
        ({"overrides": ["run_ms=-1"]}, "whole number"),
        ({"overrides": ["decay_bp=10001"]}, "no chain"),
        ({"overrides": ["allow_non_bft=1"]}, "true or false"),
        ({"overrides": ["alpha=9000"]}, "alpha must be below beta"),
        ({"groups": 2}, "allow_non_bft"),
        ({"founding_balance": -1}, "balance"),
        ({"founding_balance": 10**18, "members": 10}, "2.63 - 1"),
        ({"entry_balance": 1, "allow_open": True}, "--entry-balance"),
        ({"chain_name": ""}, "--chain-name"),
        ({"port": 70_000}, "--port"),
        ({"founders": ["zz"]}, "--founder"),
    ],
)
def test_contradictory_flags_are_refused_with_what_to_do(flags: dict[str, Any], because: str) -> None:
    with pytest.raises(ConfigurationError, match=because):
        made(**flags)


async def test_an_invited_chain_without_operators_makes_a_key_and_keeps_it(tmp_path: Path) -> None:
    """The file may be moved to safety: its public half stays, and the announcement with it."""
    settings = made(home=tmp_path, port=0)
    process = BootstrapProcess(settings)
    await process.start()
    await process.stop()
    operator = read_key(tmp_path / "operator.key").public_key
    (tmp_path / "operator.key").rename(tmp_path / "elsewhere.key")
    process = BootstrapProcess(settings)
    await process.start()
    await process.stop()
    assert bytes.fromhex((tmp_path / "operator.public").read_text()) == operator
    assert not (tmp_path / "operator.key").exists()
    assert (tmp_path / "bootstrap.key").stat().st_mode & 0o077 == 0


def invite() -> InviteFile:
    signature = Signature(KeyPair(bytes(32)).public_key, bytes(64))
    return InviteFile(
        bytes(range(32)),
        Invite(KeyPair(b"1" * 32).public_key, 1_900_000_000_000, (signature,)),
        Meter(KeyPair(b"2" * 32).public_key, 11_000, (signature, signature)),
    )


def test_an_invite_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "invite.json"
    write_invite(path, invite())
    write_invite(path, invite())
    assert read_invite(path) == invite()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"chain_id": 5}', "x" * 70_000])
def test_what_is_no_invite_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "invite.json"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="no invite"):
        read_invite(path)


def test_an_invite_with_a_short_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "invite.json"
    write_invite(path, invite())
    path.write_text(path.read_text().replace(bytes(range(32)).hex(), "00ff"))
    with pytest.raises(ConfigurationError, match="no invite"):
        read_invite(path)
    with pytest.raises(ConfigurationError, match="cannot read"):
        read_invite(tmp_path / "missing")

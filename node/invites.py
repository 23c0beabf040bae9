"""Invite files: what an operator hands to who may join an `invited` chain (PROTOCOL 1.4, 1.5)."""

import os
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from consensus.types import Digest, Value
from contracts.transaction import MAX_SIGNATURES, Invite, Meter, Signature
from node.errors import ConfigurationError

V = TypeVar("V")

MAX_FILE_BYTES: Final = 65_536
"""36 approvals of about 250 bytes, with room for a person's line breaks."""


class InviteFile(Value, frozen=True):
    """Written by `cgpbft operator invite`, read by `cgpbft join --invite`; both parts may gather approvals in turn."""

    chain_id: Digest
    """Pins the genesis: an invite to one chain opens no other."""
    invite: Invite
    meter: Meter


class _ApprovalJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    public_key: str
    signature: str


class _MeterJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    public_key: str
    max_power_w: int
    approvals: list[_ApprovalJson]


class _InviteJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    chain_id: str
    public_key: str
    last_time_ms: int
    approvals: list[_ApprovalJson]
    meter: _MeterJson


def read_invite(path: Path) -> InviteFile:
    """The invite in ``path``; `ConfigurationError` if there is none. The ledger checks the approvals."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read the invite {path}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path} is no invite: it has more than {MAX_FILE_BYTES} bytes")
    try:
        shown = msgspec.json.decode(data, type=_InviteJson)
        invite = InviteFile(
            _checked(bytes.fromhex(shown.chain_id), Digest),
            _checked(
                (bytes.fromhex(shown.public_key), shown.last_time_ms, _signatures(shown.approvals)), Invite
            ),
            _checked(
                (
                    bytes.fromhex(shown.meter.public_key),
                    shown.meter.max_power_w,
                    _signatures(shown.meter.approvals),
                ),
                Meter,
            ),
        )
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigurationError(f"{path} is no invite: {error}; ask the operator for another") from error
    if max(len(shown.approvals), len(shown.meter.approvals)) > MAX_SIGNATURES:
        raise ConfigurationError(f"{path} holds more approvals than a transaction can carry")
    return invite


def write_invite(path: Path, invite: InviteFile) -> None:
    """Write ``invite`` as JSON, replacing what stands there; it holds no secret."""
    shown = _InviteJson(
        invite.chain_id.hex(),
        invite.invite.public_key.hex(),
        invite.invite.last_time_ms,
        _approvals(invite.invite.approvals),
        _MeterJson(
            invite.meter.public_key.hex(), invite.meter.max_power_w, _approvals(invite.meter.approvals)
        ),
    )
    passing = path.with_name(f"{path.name}.new")
    try:
        passing.write_bytes(msgspec.json.format(msgspec.json.encode(shown), indent=2) + b"\n")
        os.replace(passing, path)
    except OSError as error:
        raise ConfigurationError(f"cannot write the invite {path}: {error.strerror}") from error


def _signatures(approvals: list[_ApprovalJson]) -> list[tuple[bytes, bytes]]:
    return [(bytes.fromhex(one.public_key), bytes.fromhex(one.signature)) for one in approvals]


def _approvals(signatures: tuple[Signature, ...]) -> list[_ApprovalJson]:
    return [_ApprovalJson(one.public_key.hex(), one.signature.hex()) for one in signatures]


def _checked(value: object, kind: Any) -> Any:
    """``value`` as the wire type ``kind``, lengths and ranges checked."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind)

"""Resume files: operators let delegates that lost their journals sign again, outside the fault model (PROTOCOL 6.5)."""

from pathlib import Path
from typing import Annotated, Final

import msgspec

from consensus.encoding import encode
from consensus.signing import RESUME_DOMAIN, Signer, Verifier
from consensus.types import Digest, Unsigned, Value
from contracts.genesis import Genesis
from contracts.transaction import MAX_OPERATORS
from node.errors import ConfigurationError

MAX_FILE_BYTES: Final = 16_384
"""Sixteen approvals of about 250 bytes, with room for line breaks."""
_Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Hex64 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{128}\Z")]


class Approval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One operator's signature, in hex."""

    public_key: _Hex32
    signature: _Hex64


class ResumeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signing is allowed at ``height`` from ``first_view`` on; approvals may be gathered in turn."""

    chain_id: _Hex32
    height: Unsigned
    first_view: Unsigned
    approvals: Annotated[tuple[Approval, ...], msgspec.Meta(max_length=MAX_OPERATORS)] = ()


class Permission(Value, frozen=True):
    """A resume file whose approvals suffice."""

    height: int
    first_view: int


def resume_bytes(chain_id: Digest, height: int, first_view: int) -> bytes:
    """What operators sign: RESUME_DOMAIN || encode([chain id, height, first view])."""
    return RESUME_DOMAIN + encode((chain_id, height, first_view))


def approve(file: ResumeFile, signer: Signer) -> ResumeFile:
    """``file`` with the approval of ``signer``; unchanged if it is there already."""
    key = signer.public_key.hex()
    if any(approval.public_key == key for approval in file.approvals):
        return file
    message = resume_bytes(bytes.fromhex(file.chain_id), file.height, file.first_view)
    approval = Approval(key, signer.sign(message).hex())
    return msgspec.structs.replace(file, approvals=(*file.approvals, approval))


def read_resume(path: Path) -> ResumeFile:
    """The file at ``path``; `ConfigurationError` says what is wrong with it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path} is no resume file: it has more than {MAX_FILE_BYTES} bytes")
    try:
        return msgspec.json.decode(data, type=ResumeFile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} is no resume file: {error}; make it by `cgpbft operator resume`"
        ) from error


def check_resume(file: ResumeFile, genesis: Genesis, verifier: Verifier) -> Permission:
    """What ``file`` permits; `ConfigurationError` if it is another chain's or not signed by enough operators."""
    chain_id = genesis.hash()
    if file.chain_id != chain_id.hex():
        raise ConfigurationError(
            f"the resume file is for chain {file.chain_id}, this node is on {chain_id.hex()}"
        )
    message = resume_bytes(chain_id, file.height, file.first_view)
    signed = {
        approval.public_key
        for approval in file.approvals
        if verifier.verify(bytes.fromhex(approval.public_key), message, bytes.fromhex(approval.signature))
    }
    count = sum(1 for operator in genesis.operators if operator.hex() in signed)
    if genesis.operator_threshold < 1 or count < genesis.operator_threshold:
        raise ConfigurationError(
            f"{count} operators signed the resume file, {max(genesis.operator_threshold, 1)} have to"
        )
    return Permission(file.height, file.first_view)

"""What makes a block invalid whatever the state: signatures, windows, proofs (PROTOCOL 6.8, 6.10; annex on blocks).

Signatures are collected as (key, message, signature) and verified by whoever asked, on other threads or at once.
"""

from collections.abc import Iterator
from typing import Any

from node.auditor.encoding import (
    Malformed,
    address_of,
    decode,
    encode,
    signature_holds,
    tagged,
    u64,
)
from node.auditor.shapes import (
    BALLOTS,
    CHANGE_METER,
    COMMIT,
    CONFLICT,
    EVIDENCE,
    EXCUSE,
    HEARTBEAT,
    ISSUE,
    JOIN,
    MAX_TRANSACTION_BYTES,
    READINGS,
    REDEEM,
    TRADE_OPEN,
    TRANSACTION,
    Certificate,
    Invite,
    Meter,
    Parameters,
    Transaction,
    ViewChange,
    Vote,
)

Check = tuple[bytes, bytes, bytes]
"""(public key, message, signature)."""
VIEW_CHANGE_PHASE = 4
"""What a view-change signs as its phase; its number on the wire is another (annex on blocks, 3)."""
MANY_SIGNERS = (TRADE_OPEN, ISSUE, REDEEM, EXCUSE)


class Decoded:
    """A transaction with its bytes' hashes."""

    __slots__ = ("id", "raw", "reference", "signed_bytes", "transaction")

    def __init__(self, raw: bytes) -> None:
        """`Malformed` unless ``raw`` is canonical."""
        self.raw = raw
        self.transaction: Transaction = decode(raw, TRANSACTION, MAX_TRANSACTION_BYTES)
        body = encode(self.transaction.body)
        self.id = tagged("transaction.body", body)
        self.reference = tagged("transaction.full", raw)
        self.signed_bytes = b"cgpbft/transaction/1" + body


# ---- what is signed


def vote_bytes(phase: int, chain_id: bytes, epoch: int, height: int, view: int, digest: bytes) -> bytes:
    """What a consensus message signs (PROTOCOL 6.5)."""
    place = u64(epoch) + u64(height) + u64(view)
    return b"cgpbft/consensus/1" + bytes([phase]) + chain_id + place + digest


def vote_check(vote: Vote, chain_id: bytes) -> Check:
    """The signature of a vote."""
    message = vote_bytes(vote.phase, chain_id, vote.epoch, vote.height, vote.view, vote.digest)
    return vote.signer, message, vote.signature


def view_change_check(message: ViewChange, chain_id: bytes) -> Check:
    """The outer signature of a view-change."""
    content = tagged("message", encode((message.prepared, message.accepted)))
    place = (message.epoch, message.height, message.view)
    return message.signer, vote_bytes(VIEW_CHANGE_PHASE, chain_id, *place, content), message.signature


def certificate_checks(certificate: Certificate, chain_id: bytes) -> list[Check]:
    """The commits of a certificate."""
    c = certificate
    message = vote_bytes(COMMIT, chain_id, c.epoch, c.height, c.view, c.digest)
    return [(key, message, signature) for key, signature in c.signatures]


def transaction_checks(decoded: Decoded, chain_id: bytes) -> Iterator[Check]:
    """Every signature that a transaction carries (annex on transactions, 2 and 3.4)."""
    body = decoded.transaction.body
    for key, signature in decoded.transaction.signatures:
        yield key, decoded.signed_bytes, signature
    kind, payload = body.type, body.payload
    if kind == READINGS:
        for reading in payload[0]:
            message = b"cgpbft/reading/1" + chain_id + encode(reading[:5])
            yield reading.public_key, message, reading.signature
    elif kind == BALLOTS:
        for ballot in payload[0]:
            message = b"cgpbft/ballot/1" + chain_id + encode(ballot[:4])
            yield ballot.public_key, message, ballot.signature
    elif kind in (JOIN, CHANGE_METER):
        yield from _approval_checks(body.sender, payload, chain_id)
    elif kind == HEARTBEAT and payload[1] is not None:
        yield vote_check(payload[1], chain_id)
    elif kind == EVIDENCE:
        proof = payload[0]
        for vote in proof[1:3] if proof[0] == CONFLICT else proof[1:2]:
            yield vote_check(vote, chain_id)


def _approval_checks(member: bytes, payload: tuple[Any, ...], chain_id: bytes) -> Iterator[Check]:
    for item in payload:
        if isinstance(item, Meter):
            fields = (chain_id, member, item.public_key, item.max_power_w)
            message = b"cgpbft/meter/1" + encode(fields)
        elif isinstance(item, Invite):
            message = b"cgpbft/invite/1" + encode((chain_id, item.public_key, item.last_time_ms))
        else:
            continue
        for key, signature in item.approvals:
            yield key, message, signature


# ---- rules without state


def shape_fault(decoded: Decoded, chain_id: bytes, rules: Parameters) -> str | None:
    """What breaks rules 2 and 3 of the annex on transactions, 3; None if nothing does."""
    body, keys = decoded.transaction.body, [key for key, _ in decoded.transaction.signatures]
    if body.chain_id != chain_id:
        return "it is for another chain"
    if not 0 <= body.valid_until_ms - body.valid_from_ms <= rules.tx_window_ms:
        return "its window is too long or ends before it begins"
    if address_of(keys[0]) != body.sender:
        return "the first key is not the sender's"
    if len(set(keys)) != len(keys):
        return "a key signs twice"
    if len(keys) > 1 and body.type not in MANY_SIGNERS:
        return "too many signatures"
    return _payload_fault(body.type, body.payload, keys)


def _payload_fault(kind: int, payload: Any, keys: list[bytes]) -> str | None:
    if kind == TRADE_OPEN:
        parties = sorted((payload[0].seller, payload[0].buyer))
        if sorted(address_of(key) for key in keys) != parties:
            return "the signatures are not those of the two parties"
    elif kind in (JOIN, CHANGE_METER):
        if kind == JOIN and payload[0] != keys[0]:
            return "a join is signed by another key than it registers"
        for item in payload:
            if isinstance(item, Meter | Invite) and len(dict(item.approvals)) != len(item.approvals):
                return "a key approves twice"
    elif kind == BALLOTS:
        if any(address_of(ballot.public_key) != ballot.voter for ballot in payload[0]):
            return "a ballot's key is not its voter's"
    elif kind == HEARTBEAT and payload[1] is not None and payload[1].signer != keys[0]:
        return "a heartbeat shows another key's commit"
    return None


def window_holds(decoded: Decoded, time_ms: int) -> bool:
    """valid_from <= header time <= valid_until (PROTOCOL 9.2)."""
    body = decoded.transaction.body
    return body.valid_from_ms <= time_ms <= body.valid_until_ms


def transaction_fault(raw: bytes, chain_id: bytes, rules: Parameters, time_ms: int) -> str | None:
    """Why no block of header time ``time_ms`` may hold ``raw`` (PROTOCOL 3.2b); None if one may."""
    try:
        decoded = Decoded(raw)
    except Malformed as error:
        return str(error)
    fault = shape_fault(decoded, chain_id, rules)
    if fault is not None:
        return fault
    if not window_holds(decoded, time_ms):
        return "it is out of its window"
    if not all(signature_holds(*check) for check in transaction_checks(decoded, chain_id)):
        return "a signature does not verify"
    return None

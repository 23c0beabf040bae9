"""Validity that needs no state: canonical, correctly signed, in its window (PROTOCOL 6.8, 9.2)."""

from consensus.errors import MalformedInput
from consensus.hashing import address_of
from consensus.signing import Verifier
from consensus.types import Digest
from contracts.transaction import decode_transaction


def transaction_fault(raw: bytes, chain_id: Digest, time_ms: int, verifier: Verifier) -> str | None:
    """Why no valid block with header time ``time_ms`` holds ``raw``, or None; also what evidence goes by (3.2b)."""
    try:
        transaction = decode_transaction(raw)
    except MalformedInput as error:
        return str(error)
    if transaction.chain_id != chain_id:
        return "signed for another chain"
    if not transaction.valid_from_ms <= time_ms <= transaction.valid_until_ms:
        return "out of its window"
    if address_of(transaction.signatures[0].public_key) != transaction.sender:
        return "the first signature is not the sender's"
    for signature in transaction.signatures:
        if not verifier.verify(signature.public_key, transaction.signed_bytes, signature.signature):
            return "badly signed"
    return None

"""What makes a transaction or a block's list of them invalid, without looking at accounts (PROTOCOL 6.8, 9.2).

A failure here makes the *block* invalid: malformed, foreign chain, a missing or wrong signature, a window that is too
long or not open, an id already on chain or twice in the block, sizes. Whatever needs the state (membership, balances,
the rights of operators and meters) is judged by the contracts and commits as a rejected receipt. Signatures carry their
keys, so `check_transaction` needs no state: it may run on any thread, once per node, before or after ordering.
"""

import enum
from collections.abc import Sequence

from consensus.block import Discard
from consensus.encoding import encode
from consensus.errors import MalformedInput
from consensus.parameters import Parameters
from consensus.signing import Verifier
from consensus.types import Digest
from contracts.signatures import signature_checks, signer_fault
from contracts.state import State
from contracts.transaction import Transaction, decode_transaction


class InvalidReason(enum.StrEnum):
    """Stable names of what makes a transaction unfit for any block, or for this one."""

    MALFORMED = "malformed"
    FOREIGN_CHAIN = "foreign_chain"
    WINDOW_WRONG = "window_wrong"
    """Ends before it begins, or is longer than tx_window_ms."""
    SIGNER_WRONG = "signer_wrong"
    """A key that neither hashes to the sender nor matches the payload, a missing or a superfluous signature."""
    SIGNATURE_WRONG = "signature_wrong"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    ALREADY_ON_CHAIN = "already_on_chain"
    TWICE_IN_BLOCK = "twice_in_block"
    DISCARDED_IN_BLOCK = "discarded_in_block"
    BLOCK_TOO_LARGE = "block_too_large"


class InvalidTransaction(MalformedInput):
    """A transaction, or a block's list, breaks PROTOCOL 6.8 or 9.2; ``reason`` is its stable name."""

    def __init__(self, reason: InvalidReason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def check_transaction(
    transaction: Transaction, *, chain_id: Digest, parameters: Parameters, verifier: Verifier
) -> None:
    """Raise `InvalidTransaction` unless ``transaction`` is fit for a block of this chain at some time (6.8, 9.2)."""
    t = transaction
    if t.chain_id != chain_id:
        raise InvalidTransaction(
            InvalidReason.FOREIGN_CHAIN, f"it is for chain {t.chain_id.hex()}, this is {chain_id.hex()}"
        )
    length_ms = t.valid_until_ms - t.valid_from_ms
    if not 0 <= length_ms <= parameters.tx_window_ms:
        raise InvalidTransaction(
            InvalidReason.WINDOW_WRONG,
            f"its window is {length_ms} ms long; 0..{parameters.tx_window_ms} are allowed",
        )
    fault = signer_fault(t)
    if fault is not None:
        raise InvalidTransaction(InvalidReason.SIGNER_WRONG, fault)
    for key, message, signature in signature_checks(t, chain_id):
        if not verifier.verify(key, message, signature):
            raise InvalidTransaction(
                InvalidReason.SIGNATURE_WRONG, f"a signature of key {key.hex()} does not verify"
            )


def check_window(transaction: Transaction, time_ms: int) -> None:
    """Raise `InvalidTransaction` unless header time ``time_ms`` lies in the window (PROTOCOL 9.2)."""
    if time_ms < transaction.valid_from_ms:
        raise InvalidTransaction(
            InvalidReason.NOT_YET_VALID, f"valid from {transaction.valid_from_ms}, block time is {time_ms}"
        )
    if time_ms > transaction.valid_until_ms:
        raise InvalidTransaction(
            InvalidReason.EXPIRED, f"valid until {transaction.valid_until_ms}, block time is {time_ms}"
        )


def check_block_transactions(
    state: State,
    transactions: Sequence[Transaction],
    discarded: Sequence[Discard],
    *,
    time_ms: int,
    parameters: Parameters,
) -> None:
    """Raise `InvalidTransaction` unless these may follow ``state`` in one block of header time ``time_ms``.

    Counts, bytes, windows and ids (PROTOCOL 6.8, 6.10, 9.2); `check_transaction` is separate, and so are the proofs of
    removals. Removals count toward the block's bytes with their whole encoding.
    """
    if len(transactions) > parameters.max_block_transactions:
        raise InvalidTransaction(
            InvalidReason.BLOCK_TOO_LARGE,
            f"{len(transactions)} transactions; at most {parameters.max_block_transactions} are allowed",
        )
    size = sum(len(t.raw) for t in transactions) + sum(len(encode(item)) for item in discarded)
    if size > parameters.max_block_bytes:
        raise InvalidTransaction(
            InvalidReason.BLOCK_TOO_LARGE, f"{size} bytes; at most {parameters.max_block_bytes} are allowed"
        )
    removed: dict[Digest, None] = {}
    for item in discarded:
        removed_id = discarded_transaction(item).id
        _check_new(state, removed_id, removed)
        removed[removed_id] = None
    included: dict[Digest, None] = {}
    for transaction in transactions:
        check_window(transaction, time_ms)
        if transaction.id in removed:
            raise InvalidTransaction(
                InvalidReason.DISCARDED_IN_BLOCK, f"{transaction.id.hex()} is both included and discarded"
            )
        _check_new(state, transaction.id, included)
        included[transaction.id] = None


def discarded_transaction(item: Discard) -> Transaction:
    """The removed transaction; `InvalidTransaction` unless its bytes are canonical and have the listed id (6.10)."""
    try:
        transaction = decode_transaction(item.transaction)
    except MalformedInput as error:
        raise InvalidTransaction(InvalidReason.MALFORMED, f"a removed transaction: {error}") from error
    if transaction.id != item.transaction_id:
        raise InvalidTransaction(
            InvalidReason.MALFORMED,
            f"a removal lists {item.transaction_id.hex()} with the bytes of {transaction.id.hex()}",
        )
    return transaction


def transaction_fault(
    raw: bytes, chain_id: Digest, time_ms: int, parameters: Parameters, verifier: Verifier
) -> str | None:
    """Why ``raw`` could be in no valid block of header time ``time_ms``, whatever the state; None if it could.

    What evidence of a wrong block goes by: malformed, badly signed or out of its window (PROTOCOL 3.2b).
    """
    try:
        transaction = decode_transaction(raw)
        check_transaction(transaction, chain_id=chain_id, parameters=parameters, verifier=verifier)
        check_window(transaction, time_ms)
    except MalformedInput as error:
        return str(error)
    return None


def _check_new(state: State, identifier: Digest, before: dict[Digest, None]) -> None:
    if identifier in before:
        raise InvalidTransaction(
            InvalidReason.TWICE_IN_BLOCK, f"{identifier.hex()} stands twice in the block"
        )
    if identifier in state.known_ids:
        raise InvalidTransaction(InvalidReason.ALREADY_ON_CHAIN, f"{identifier.hex()} is on chain already")

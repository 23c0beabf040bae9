"""Real transactions, decoded and checked once a run: what one node found in given bytes, every other would find."""

from contracts.transaction import Transaction, TransactionType, decode_transaction
from contracts.validation import InvalidTransaction, check_transaction
from network.simulation.doors import Opened
from network.simulation.system.cast import Cast

MAX_KEPT = 4_096
"""Decoded transactions kept: several blocks' worth."""
ROOMY = frozenset({TransactionType.HEARTBEAT, TransactionType.BALLOTS, TransactionType.EVIDENCE})
"""For these every block has room (PROTOCOL 6.7)."""


class Opening:
    """`network.simulation.doors.Opener` of the chain of a cast."""

    def __init__(self, cast: Cast) -> None:
        self._cast = cast
        self._kept: dict[bytes, tuple[Opened, Transaction]] = {}

    def __call__(self, data: bytes) -> Opened:
        """`MalformedInput` if ``data`` is no transaction."""
        return self._look(data)[0]

    def transaction(self, data: bytes) -> Transaction:
        """The decoded transaction; `MalformedInput` if it is none."""
        return self._look(data)[1]

    def _look(self, data: bytes) -> tuple[Opened, Transaction]:
        known = self._kept.get(data)
        if known is None:
            transaction = decode_transaction(data)
            opened = Opened(
                transaction.id,
                transaction.valid_from_ms,
                transaction.valid_until_ms,
                self._is_sound(transaction),
                transaction.type in ROOMY,
            )
            known = self._kept[data] = (opened, transaction)
            if len(self._kept) > MAX_KEPT:
                del self._kept[next(iter(self._kept))]
        return known

    def _is_sound(self, transaction: Transaction) -> bool:
        cast = self._cast
        try:
            check_transaction(
                transaction, chain_id=cast.chain_id, parameters=cast.parameters, verifier=cast.ring
            )
        except InvalidTransaction:
            return False
        return True

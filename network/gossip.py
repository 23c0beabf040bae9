"""Transactions on their way to the delegates (PROTOCOL 6.7: relayed to *all* delegates).

The node to which a client gave a transaction sends it to every delegate; a delegate that got it from a member sends
it no further, since the member has told the others itself. So a transaction crosses each link at most once. What has
waited too long in a pool is sent again by `TransactionGossip.resend`, which heals a member that told only some.

Nothing is done per transaction but appending to a list: what comes within `COALESCE_MS` leaves as one message.
"""

from collections.abc import Sequence
from typing import Final

from consensus.types import PublicKey
from network.links import Links
from network.scheduler import Scheduled, Scheduler
from network.wire import Role, Transactions

COALESCE_MS: Final = 2
"""Longest wait for company. The first transaction after a pause does not wait at all."""
MAX_BATCH_TRANSACTIONS: Final = 1_024
MAX_BATCH_BYTES: Final = 262_144
"""A full batch leaves at once; with the largest transaction on top it stays far below the message's limit."""


class TransactionGossip:
    """Batches and routes; the caller has checked every transaction and hands each in once, when its pool took it."""

    def __init__(self, links: Links, scheduler: Scheduler, own_key: PublicKey) -> None:
        self._links = links
        self._scheduler = scheduler
        self._own_key = own_key
        self._delegates: tuple[PublicKey, ...] = ()
        self._waiting: dict[PublicKey | None, list[bytes]] = {}
        """By the peer that must not get them back."""
        self._waiting_count = 0
        self._waiting_bytes = 0
        self._flush: Scheduled | None = None
        self._flushed_ms = scheduler.now_ms() - COALESCE_MS

    def set_delegates(self, delegates: Sequence[PublicKey]) -> None:
        """Who has to know: the delegates of the current and the next height."""
        self._delegates = tuple(delegates)

    def admitted(self, transactions: Sequence[bytes], sender: PublicKey | None) -> None:
        """The pool took ``transactions``, new to it, from a client (None) or a peer: send on what is ours to send."""
        if (
            sender is not None
            and self._links.role_of(sender) is not Role.GUEST
            and self._own_key in self._delegates
        ):
            return
        self._put(transactions, sender)

    def resend(self, transactions: Sequence[bytes]) -> None:
        """Send to all delegates what has waited long without being proposed."""
        self._put(transactions, None)

    def stop(self) -> None:
        """Send what waits and stop."""
        if self._flush is not None:
            self._flush.cancel()
        self._send_all()

    def _put(self, transactions: Sequence[bytes], sender: PublicKey | None) -> None:
        waiting = self._waiting.setdefault(sender, [])
        for transaction in transactions:
            waiting.append(transaction)
            self._waiting_count += 1
            self._waiting_bytes += len(transaction)
            if self._waiting_count >= MAX_BATCH_TRANSACTIONS or self._waiting_bytes >= MAX_BATCH_BYTES:
                self._send_all()
                waiting = self._waiting.setdefault(sender, [])
        if self._waiting_count and self._flush is None:
            idle_ms = self._scheduler.now_ms() - self._flushed_ms
            self._flush = self._scheduler.call_later_ms(max(0, COALESCE_MS - idle_ms), self._send_all)

    def _send_all(self) -> None:
        self._flush = None
        self._flushed_ms = self._scheduler.now_ms()
        waiting, self._waiting = self._waiting, {}
        self._waiting_count = 0
        self._waiting_bytes = 0
        for sender, transactions in waiting.items():
            if transactions:
                recipients = [key for key in self._delegates if key not in (sender, self._own_key)]
                self._links.broadcast(recipients, Transactions(tuple(transactions)))

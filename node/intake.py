"""Transactions on their way into the pool, from clients and from peers (PROTOCOL 6.7, 9.2, 9.3).

One decode, one hash and one check of signatures per transaction and node: what the pool holds is valid for ever, but
for its window and its id. Nothing here is done per transaction that could be done per batch.
"""

import asyncio
from collections.abc import Callable, Container, Sequence
from typing import Final

from consensus.block import full_hash
from consensus.errors import MalformedInput
from consensus.inputs import Instant
from consensus.types import Digest, PublicKey
from contracts.transaction import MAX_TRANSACTION_BYTES, Transaction, decode_transaction
from contracts.validation import InvalidReason, InvalidTransaction
from network.gossip import TransactionGossip
from network.links import Links
from network.wire import Role
from node.clock import Clock
from node.ledger import Ledger
from node.ledger_rows import Location
from node.mempool import Entry, Mempool, PoolCode
from node.service import SubmitCode, SubmitOutcome, TransactionState
from node.verification import SignatureChecks, Verdict

MAX_CHECKING: Final = 8_192
"""Transactions whose signatures are being checked: about a second's work; beyond it clients are told to wait."""
RETRY_AFTER_MS: Final = 1_000
"""What a refused client is told to wait: a full pool is some blocks' worth."""

_CODES: Final = {
    InvalidReason.MALFORMED: SubmitCode.MALFORMED,
    InvalidReason.FOREIGN_CHAIN: SubmitCode.FOREIGN_CHAIN,
    InvalidReason.SIGNATURE_WRONG: SubmitCode.BAD_SIGNATURE,
    InvalidReason.SIGNER_WRONG: SubmitCode.BAD_SIGNATURE,
    InvalidReason.NOT_YET_VALID: SubmitCode.NOT_YET_VALID,
    InvalidReason.EXPIRED: SubmitCode.EXPIRED,
}


class Intake:
    """The way in; owns the pool's entries until they are decided."""

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        *,
        ledger: Ledger,
        pool: Mempool,
        checks: SignatureChecks,
        gossip: TransactionGossip,
        links: Links,
        clock: Clock,
        delegates: Callable[[], tuple[PublicKey, ...]],
        own_key: PublicKey,
        on_admitted: Callable[[int], None],
        on_judged: Callable[[Sequence[Entry]], None],
    ) -> None:
        """``delegates`` of the undecided height; ``on_admitted`` is told how many waited before the newest came.

        ``on_judged`` is told what is no longer being checked, whether the pool took it or not.
        """
        self._ledger = ledger
        self._pool = pool
        self._checks = checks
        self._gossip = gossip
        self._links = links
        self._clock = clock
        self._delegates = delegates
        self._own_key = own_key
        self._on_admitted = on_admitted
        self._on_judged = on_judged
        self._own_checking: set[Digest] = set()
        self.accepted = 0
        self.refused = 0

    # ---- from clients

    async def submit(self, raws: Sequence[bytes]) -> list[SubmitOutcome]:
        """Take transactions from a client; one outcome each, in order."""
        outcomes: list[SubmitOutcome | None] = []
        entries: list[tuple[int, Entry]] = []
        now = self._clock.now()
        for place, raw in enumerate(raws):
            judged = self._judge(raw, now)
            if isinstance(judged, Entry):
                entries.append((place, judged))
                outcomes.append(None)
            else:
                outcomes.append(judged)
        if entries:
            verdicts = await self._checks.check([entry.transaction for _, entry in entries])
            self._admit([entry for _, entry in entries], verdicts, None)
            for (place, entry), verdict in zip(entries, verdicts, strict=True):
                outcomes[place] = self._outcome(entry, verdict)
        told = [outcome for outcome in outcomes if outcome is not None]
        self.accepted += sum(outcome.accepted for outcome in told)
        self.refused += sum(not outcome.accepted for outcome in told)
        return told

    def submit_own(self, raw: bytes) -> Digest | None:
        """Take this node's own transaction without waiting; its id, or None if the pool has no place for it now."""
        judged = self._judge(raw, self._clock.now())
        if not isinstance(judged, Entry):
            return judged.id if judged.accepted else None
        transaction_id = judged.transaction.id
        self._own_checking.add(transaction_id)

        def checked(verdicts: Sequence[Verdict]) -> None:
            self._own_checking.discard(transaction_id)
            self._admit([judged], verdicts, None)

        self._checks.submit([judged.transaction], checked)
        return transaction_id

    def is_waiting(self, transaction_id: Digest) -> bool:
        """Whether it waits for a block, or is this node's own and on its way into the pool."""
        return transaction_id in self._own_checking or self._pool.get(transaction_id) is not None

    def _judge(self, raw: bytes, now: Instant, reference: Digest | None = None) -> Entry | SubmitOutcome:
        """What can be told at once, or a place in the pool for one whose signatures are to be checked."""
        if len(raw) > MAX_TRANSACTION_BYTES:
            reason = f"{len(raw)} bytes; a transaction has at most {MAX_TRANSACTION_BYTES}"
            return SubmitOutcome(SubmitCode.TOO_LARGE, None, None, reason)
        try:
            transaction = decode_transaction(raw, reference)
        except MalformedInput as error:
            return SubmitOutcome(SubmitCode.MALFORMED, None, None, str(error))
        if transaction.chain_id != self._ledger.chain_id:
            reason = f"signed for chain {transaction.chain_id.hex()}, this is {self._ledger.chain_id.hex()}"
            return SubmitOutcome(SubmitCode.FOREIGN_CHAIN, transaction.id, None, reason)
        known = self._known(transaction)
        if known is not None:
            return known
        return self._window_refusal(transaction, now) or self._begin(transaction, now)

    def _known(self, transaction: Transaction) -> SubmitOutcome | None:
        """Submitting again is idempotent (LESSONS 13)."""
        location = None
        if transaction.id in self._ledger.state.known_ids or self._is_past(transaction):
            location = self._ledger.locate(transaction.id)
        if location is not None:
            state = self._decided_state(transaction.id, location)
            return SubmitOutcome(SubmitCode.KNOWN, transaction.id, state)
        entry = self._pool.get(transaction.id)
        if entry is not None:
            return self._pending(SubmitCode.KNOWN, entry)
        if self._pool.is_checking(transaction.reference):
            return SubmitOutcome(SubmitCode.KNOWN, transaction.id, TransactionState.PENDING)
        return None

    def _decided_state(self, transaction_id: Digest, location: Location) -> TransactionState:
        if location.discarded:
            return TransactionState.DISCARDED
        receipt = self._ledger.receipt(location.height, location.index)
        return TransactionState.REJECTED if receipt.code else TransactionState.COMMITTED

    def _is_past(self, transaction: Transaction) -> bool:
        return transaction.valid_until_ms < self._ledger.time_ms

    def _window_refusal(self, transaction: Transaction, now: Instant) -> SubmitOutcome | None:
        """Certainly expired by a decided header, or not open yet by this node's clock (PROTOCOL 6.8, 9.2)."""
        if self._is_past(transaction):
            reason = f"valid until {transaction.valid_until_ms}, the chain's time is {self._ledger.time_ms}"
            return SubmitOutcome(SubmitCode.EXPIRED, transaction.id, TransactionState.EXPIRED, reason)
        drift_ms = self._ledger.genesis.parameters.max_drift_ms
        now_ms = max(now.wall_ms, self._ledger.time_ms)
        if transaction.valid_from_ms > now_ms + drift_ms:
            reason = f"valid from {transaction.valid_from_ms}, it is {now_ms}: submit it then"
            wait_ms = transaction.valid_from_ms - now_ms
            return SubmitOutcome(SubmitCode.NOT_YET_VALID, transaction.id, None, reason, wait_ms)
        return None

    def _begin(self, transaction: Transaction, now: Instant) -> Entry | SubmitOutcome:
        if self._checks.waiting >= MAX_CHECKING:
            reason = f"{self._checks.waiting} transactions are being checked"
            return SubmitOutcome(SubmitCode.POOL_FULL, transaction.id, None, reason, RETRY_AFTER_MS)
        begun = self._pool.begin(transaction, now.monotonic_ms)
        match begun:
            case Entry():
                return begun
            case PoolCode.FULL:
                reason = "the pool of waiting transactions is full"
                return SubmitOutcome(SubmitCode.POOL_FULL, transaction.id, None, reason, RETRY_AFTER_MS)
            case PoolCode.SENDER_LIMIT:
                reason = "this sender has as many transactions waiting as one may have"
                return SubmitOutcome(SubmitCode.SENDER_LIMIT, transaction.id, None, reason, RETRY_AFTER_MS)

    def _outcome(self, entry: Entry, verdict: Verdict) -> SubmitOutcome:
        if verdict is None:
            if self._pool.get(entry.transaction.id) is None:  # decided while its signatures were checked
                return self._known(entry.transaction) or self._pending(SubmitCode.ACCEPTED, entry)
            return self._pending(SubmitCode.ACCEPTED, entry)
        code = SubmitCode.REFUSED
        if isinstance(verdict, InvalidTransaction):
            code = _CODES.get(verdict.reason, SubmitCode.REFUSED)
        return SubmitOutcome(code, entry.transaction.id, None, str(verdict))

    def _pending(self, code: SubmitCode, entry: Entry) -> SubmitOutcome:
        return SubmitOutcome(code, entry.transaction.id, TransactionState.PENDING, holders=entry.relayed_to)

    # ---- from peers

    def gossiped(self, sender: PublicKey, raws: Sequence[bytes]) -> None:
        """Take transactions from a peer. One that no honest node passes on costs the peer its connection."""
        entries: list[Entry] = []
        now = self._clock.now()
        for raw in raws:
            reference = full_hash(raw)
            if self._pool.has_seen(reference):
                continue  # a copy costs a hash, not a decode
            judged = self._judge(raw, now, reference)
            if isinstance(judged, Entry):
                entries.append(judged)
            elif judged.code in (SubmitCode.MALFORMED, SubmitCode.TOO_LARGE, SubmitCode.FOREIGN_CHAIN):
                self._links.punish(sender, f"passed on a transaction that is none: {judged.reason}")
                break
        if entries:
            self._checks.submit(
                [entry.transaction for entry in entries],
                lambda verdicts: self._gossip_checked(entries, verdicts, sender),
            )

    def _gossip_checked(self, entries: list[Entry], verdicts: list[Verdict], sender: PublicKey) -> None:
        self._admit(entries, verdicts, sender)
        bad = next((verdict for verdict in verdicts if verdict is not None), None)
        if bad is not None:
            self._links.punish(sender, f"passed on an invalid transaction: {bad}")

    # ---- both

    def _admit(self, entries: Sequence[Entry], verdicts: Sequence[Verdict], sender: PublicKey | None) -> None:
        before = len(self._pool)
        known_ids = self._ledger.state.known_ids
        admitted: list[Entry] = []
        for entry, verdict in zip(entries, verdicts, strict=True):
            if verdict is not None or entry.transaction.id in known_ids:
                self._pool.refuse(entry)
            elif self._pool.admit(entry):
                admitted.append(entry)
        self._on_judged(entries)
        if not admitted:
            return
        self._gossip.admitted([entry.transaction.raw for entry in admitted], sender)
        if self._relays(sender):
            self._note_relayed(admitted)
        self._on_admitted(before)

    def _relays(self, sender: PublicKey | None) -> bool:
        """Whether `TransactionGossip.admitted` sent it on: mirrors its rule."""
        return (
            sender is None
            or self._links.role_of(sender) is Role.GUEST
            or self._own_key not in self._delegates()
        )

    def _note_relayed(self, entries: Sequence[Entry]) -> None:
        now_ms = self._clock.now().monotonic_ms
        connected = frozenset(self._links.connected())
        holders = sum(key in connected or key == self._own_key for key in self._delegates())
        for entry in entries:
            if entry.relayed_ms is None:
                entry.relayed_ms = now_ms
            entry.resent_ms = now_ms
            entry.relayed_to = max(entry.relayed_to, holders)

    def relay_left_out(self, included: Container[Digest], before_ms: int) -> None:
        """A block with room left out what has long been here: send it to all delegates (again), PROTOCOL 6.7.

        So nobody who told only some can censor, or make this node accuse a primary that never had it. Under load, when
        blocks are full and everybody waits, nothing is sent twice.
        """
        entries = self._pool.left_out(included, before_ms)
        if entries:
            self._gossip.resend([entry.transaction.raw for entry in entries])
            self._note_relayed(entries)

    def block_decided(self, included: Container[Digest]) -> None:
        """The same for who sees only decided blocks: once two request timeouts have passed."""
        timeout_ms = self._ledger.genesis.parameters.request_timeout_ms
        self.relay_left_out(included, self._clock.now().monotonic_ms - 2 * timeout_ms)


class Waiters:
    """Who waits for a transaction's end; used only where a client asked to wait."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._futures: dict[Digest, list[asyncio.Future[None]]] = {}
        self._count = 0

    async def wait(self, transaction_id: Digest, timeout_ms: int) -> None:
        """Return when `settle` names the id, or after the timeout, or at once where too many wait already."""
        if self._count >= self._limit or timeout_ms <= 0:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures.setdefault(transaction_id, []).append(future)
        self._count += 1
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                await future
        except TimeoutError:
            pass
        finally:
            self._count -= 1
            left = [other for other in self._futures.get(transaction_id, ()) if other is not future]
            if left:
                self._futures[transaction_id] = left
            else:
                self._futures.pop(transaction_id, None)

    def settle(self, transaction_ids: Sequence[Digest]) -> None:
        """These ended."""
        if not self._futures:
            return
        for transaction_id in transaction_ids:
            for future in self._futures.get(transaction_id, ()):
                if not future.done():
                    future.set_result(None)

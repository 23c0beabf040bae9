"""The pool door: what waits at one node, batches of it, and the check of what others propose from theirs."""

from collections.abc import Iterable

from consensus.block import Block, full_hash
from consensus.complaint import PoolEntry, ProposedBlock, overlooked, proposal_wait_ms
from consensus.errors import MalformedInput
from consensus.inputs import Instant, Offending
from consensus.parameters import Parameters
from consensus.proposal import block_size
from consensus.types import Digest
from network.simulation.doors import LedgerDoor, Opener, Verdict, Waiting

TRANSACTIONS_KEPT = 512
"""Transactions kept after they finished, for those who ask for them late."""


class Pool:
    """Volatile: a crash empties it."""

    def __init__(self, ledger: LedgerDoor, parameters: Parameters, opener: Opener) -> None:
        self._ledger = ledger
        self._parameters = parameters
        self._open = opener
        self._waiting: dict[Digest, Waiting] = {}
        self._bytes: dict[Digest, bytes] = {}

    def add(self, data: bytes, now_ms: int) -> bool:
        """Take in a transaction; False if it is malformed, unsound, known or finished."""
        try:
            opened = self._open(data)
        except MalformedInput:
            return False
        known = opened.transaction_id in self._waiting or self._ledger.finished(opened.transaction_id)
        if known or not opened.sound:
            return False
        reference = full_hash(data)
        self._waiting[opened.transaction_id] = Waiting(opened, data, reference, now_ms)
        self.keep(data)
        return True

    def __len__(self) -> int:
        """How many wait, whatever their windows."""
        return len(self._waiting)

    def keep(self, data: bytes) -> None:
        """Hold bytes for proposals that name them, whatever they are worth."""
        self._bytes[full_hash(data)] = data
        while len(self._bytes) > TRANSACTIONS_KEPT:
            del self._bytes[next(iter(self._bytes))]

    def find(self, reference: Digest) -> bytes | None:
        """Bytes by reference."""
        return self._bytes.get(reference)

    def settle(self, wall_ms: int) -> None:
        """Drop what the ledger finished and what has run out."""
        self._waiting = {
            identity: item
            for identity, item in self._waiting.items()
            if not self._ledger.finished(identity) and item.opened.valid_until_ms >= wall_ms
        }

    def includable(self, time_ms: int) -> list[Waiting]:
        """What may stand in a block of this header time, in the order of arrival."""
        return [item for item in self._waiting.values() if item.holds_at(time_ms)]

    def held_longer_than(self, age_ms: int, now_ms: int) -> list[Waiting]:
        """What waits suspiciously long."""
        return [item for item in self._waiting.values() if now_ms - item.received_ms >= age_ms]

    def batch(self, time_ms: int, max_bytes: int, excluded: Iterable[Digest]) -> list[Waiting]:
        """What a block of this header time takes, within both limits."""
        left_out = frozenset(excluded)
        chosen: list[Waiting] = []
        for item in self.includable(time_ms):
            if item.opened.transaction_id in left_out:
                continue
            max_bytes -= len(item.data)
            if max_bytes < 0 or len(chosen) == self._parameters.max_block_transactions:
                break
            chosen.append(item)
        return chosen

    def judge(self, block: Block, entered_ms: int, at: Instant) -> Verdict:
        """Check an assembled proposal as PROTOCOL 6.8 and 6.7 want it."""
        discarded = {item.transaction_id for item in block.discarded}
        ids: list[Digest] = []
        for index, data in enumerate(block.transactions):
            reason, provable = self._fault_of(data, block.header.time_ms, ids, discarded)
            if reason is not None:
                return Verdict(reason, Offending(index, data) if provable else None, (), None)
        present = frozenset(ids) | frozenset(discarded)
        return self._complaints(block, present, entered_ms, at)

    def _fault_of(
        self, data: bytes, time_ms: int, ids: list[Digest], discarded: set[Digest]
    ) -> tuple[str | None, bool]:
        """Why a transaction may not stand in the block, and whether that is provable; appends its id."""
        try:
            opened = self._open(data)
        except MalformedInput:
            return "a transaction is malformed", True
        identity = opened.transaction_id
        if not opened.sound:
            return "a transaction is unsound", True
        if not opened.valid_from_ms <= time_ms <= opened.valid_until_ms:
            return "a transaction is out of its window", True
        if identity in ids or identity in discarded or self._ledger.finished(identity):
            return "a transaction stands twice or is finished", False
        ids.append(identity)
        return None, False

    def _complaints(self, block: Block, present: frozenset[Digest], entered_ms: int, at: Instant) -> Verdict:
        size = block_size(block)
        now_ms, time_ms = at.monotonic_ms, block.header.time_ms
        arrivals = [item.received_ms for identity, item in self._waiting.items() if identity in present]
        proposed = ProposedBlock(time_ms, len(block.transactions), size, max(arrivals, default=None))
        entries = (
            PoolEntry(
                identity,
                item.received_ms,
                True,
                item.opened.valid_from_ms,
                item.opened.valid_until_ms,
                len(item.data),
                item.opened.always_room,
            )
            for identity, item in self._waiting.items()
            if identity not in present
        )
        left_out = overlooked(entries, proposed, now_ms, self._parameters)
        wait_ms = None
        if block.transactions:
            oldest = min((item.received_ms for item in self.includable(time_ms)), default=now_ms)
            wait_ms = proposal_wait_ms(entered_ms, oldest, now_ms)
        return Verdict(None, None, left_out, wait_ms)

"""Complaints about a primary that censors or is slow (PROTOCOL 6.7).

`overlooked` judges one proposal against the pool's entries; `Complaints` remembers what follows from it. A complaint
makes a delegate sign a view-change at each height it enters under that primary.
"""

from collections.abc import Iterable
from typing import Final

from consensus.errors import invariant
from consensus.inputs import Overlooked
from consensus.parameters import Parameters
from consensus.types import Address, Digest, Value

SAMPLES: Final = 20
"""Non-empty blocks of one primary over which its median latency is taken."""
MAX_COMPLAINED: Final = 4_096
"""Ids complained about, or given up, at a time: a block's worth."""


class PoolEntry(Value, frozen=True):
    """What the pool knows of a waiting transaction, as far as a complaint needs it."""

    transaction_id: Digest
    received_ms: int
    """Monotonic instant at which it arrived here and was relayed."""
    relayed_to_all: bool
    valid_from_ms: int
    valid_until_ms: int
    size_bytes: int
    always_room: bool
    """Heartbeats, ballots and evidence: for them every block has room."""


class ProposedBlock(Value, frozen=True):
    """What a complaint needs to know of a proposal."""

    time_ms: int
    """Its header time."""
    transaction_count: int
    size_bytes: int
    """Of transactions and removals, as held against max_block_bytes."""
    newest_received_ms: int | None
    """When the newest of its transactions arrived here; None if none did before the proposal."""


def overlooked(
    entries: Iterable[PoolEntry], block: ProposedBlock, now_ms: int, parameters: Parameters
) -> tuple[Overlooked, ...]:
    """Those of ``entries``, all absent from ``block``, that it should have held (PROTOCOL 6.7).

    ``now_ms`` is the monotonic instant at which the proposal was held. The first `MAX_COMPLAINED` are enough.
    """
    found: list[Overlooked] = []
    for entry in entries:
        held_ms = now_ms - entry.received_ms
        if not entry.relayed_to_all or held_ms < parameters.request_timeout_ms:
            continue
        if not entry.valid_from_ms <= block.time_ms <= entry.valid_until_ms:
            continue
        if _had_room(entry, block, parameters) or _preferred_later(entry, block, parameters):
            found.append(Overlooked(entry.transaction_id, held_ms))
            if len(found) == MAX_COMPLAINED:
                break
    return tuple(found)


def _had_room(entry: PoolEntry, block: ProposedBlock, parameters: Parameters) -> bool:
    return entry.always_room or (
        block.transaction_count < parameters.max_block_transactions
        and block.size_bytes + entry.size_bytes <= parameters.max_block_bytes
    )


def _preferred_later(entry: PoolEntry, block: ProposedBlock, parameters: Parameters) -> bool:
    """A full block that holds a transaction received request_timeout_ms after the one left out."""
    newest = block.newest_received_ms
    return newest is not None and newest - entry.received_ms >= parameters.request_timeout_ms


def proposal_wait_ms(entered_ms: int, oldest_includable_ms: int, now_ms: int) -> int:
    """From the later of entering the height and holding an includable transaction to holding the proposal (6.7)."""
    return max(0, now_ms - max(entered_ms, oldest_includable_ms))


class Complaints:
    """What this delegate holds against the primary at the head of its heights; nothing outlives that primary."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._primary: Address | None = None
        self._primary_since_ms = 0
        self._censored: dict[Digest, None] = {}
        self._given_up: dict[Digest, None] = {}
        self._waits_ms: list[int] = []
        self._slow = False
        self._slow_said: dict[Address, None] = {}
        self._epoch = 0
        self._since_ms = 0

    def enter(self, primary: Address, epoch: int, now_ms: int) -> None:
        """A height begins under ``primary``; another one than before starts without complaints."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._slow_said.clear()
        if primary != self._primary:
            self._primary = primary
            self._primary_since_ms = now_ms
            self._censored.clear()
            self._given_up.clear()
            self._waits_ms.clear()
            self._slow = False

    def judge(
        self, primary: Address, left_out: tuple[Overlooked, ...], wait_ms: int | None, now_ms: int
    ) -> bool:
        """Take in a fresh valid proposal of ``primary``; whether a new complaint follows from it.

        A transaction complained about that is no longer overlooked has been proposed or has run out: no complaint.
        A new primary first gets one view_timeout_ms.
        """
        if primary != self._primary:
            return False
        active = self.active(primary, now_ms)
        ids = [item.transaction_id for item in left_out if item.transaction_id not in self._given_up]
        if now_ms - self._primary_since_ms < self._parameters.view_timeout_ms:
            ids = []
        self._censored = dict.fromkeys(ids[:MAX_COMPLAINED])
        self._note_wait(primary, wait_ms)
        raised = not active and (self._slow or bool(self._censored))
        if raised:
            self._since_ms = now_ms
        return raised

    def active(self, primary: Address, now_ms: int) -> bool:
        """Whether a complaint against ``primary`` stands; one without effect for missed_ms // 2 is dropped here."""
        if primary != self._primary or not (self._slow or self._censored):
            return False
        if now_ms - self._since_ms < self._parameters.missed_ms // 2:
            return True
        self._given_up.update(self._censored)
        while len(self._given_up) > MAX_COMPLAINED:
            del self._given_up[next(iter(self._given_up))]
        self._censored = {}
        self._slow = False
        return False

    def _note_wait(self, primary: Address, wait_ms: int | None) -> None:
        if wait_ms is None:
            return
        self._waits_ms = [*self._waits_ms, wait_ms][-SAMPLES:]
        invariant(len(self._waits_ms) <= SAMPLES, "latency samples are bounded")
        if len(self._waits_ms) < SAMPLES or primary in self._slow_said:
            return
        ordered = sorted(self._waits_ms)
        middle_two = ordered[SAMPLES // 2 - 1] + ordered[SAMPLES // 2]
        if middle_two > self._parameters.view_timeout_ms:
            self._slow = True
            self._slow_said[primary] = None

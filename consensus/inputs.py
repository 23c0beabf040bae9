"""Everything that can happen to a replica: the closed union of its inputs.

Each input carries ``at``, the instant at which the shell handed it in: the replica has no clock of its own.
"""

from typing import TypeAlias

from consensus.block import Block, Certificate, CertifiedBlock
from consensus.delegates import DelegateSet
from consensus.messages import ConsensusMessage
from consensus.types import Address, Digest, PublicKey, Value


class Instant(Value, frozen=True):
    """A reading of both clocks of this node."""

    wall_ms: int
    """UTC milliseconds; only for header times (PROTOCOL 6.8)."""
    monotonic_ms: int
    """Never goes back; for everything else."""


class Timer(Value, frozen=True):
    """A timeout with identity; one of an earlier height, view or generation is ignored when it fires."""

    kind: str
    height: int
    view: int
    generation: int


class HeightContext(Value, frozen=True):
    """What deciding ``height`` needs from the ledger: the state after its parent (PROTOCOL 9.1)."""

    height: int
    epoch: int
    parent_hash: Digest
    parent_time_ms: int
    parent_certificate: Certificate | None
    """last-commit of the block to decide; None for height 1."""
    delegates: DelegateSet
    """C(height)."""
    next_delegates: DelegateSet
    """C(height + 1)."""
    head: Address
    """head(height): primary of view 0."""
    previous_delegates: DelegateSet | None
    """C(height - 1), whose commits make ``parent_certificate``; None for height 1."""
    state_root: Digest
    receipts_root: Digest


class Received(Value, frozen=True):
    """A decoded message from the peer that proved ``sender`` in its handshake; nothing else of it is trusted."""

    at: Instant
    sender: PublicKey
    message: ConsensusMessage


class TimerFired(Value, frozen=True):
    """A timer set by `SetTimer` ran out."""

    at: Instant
    timer: Timer


class PoolChanged(Value, frozen=True):
    """What waits in the pool: told on arrival of the first transaction, after each block and when it runs empty."""

    at: Instant
    waiting: int
    """Includable transactions held."""
    oldest_received_ms: int | None
    """Monotonic instant at which the oldest includable one arrived here; None if nothing waits."""


class Batch(Value, frozen=True):
    """Answer to `BuildBatch`: what the primary may propose now."""

    at: Instant
    height: int
    view: int
    generation: int
    transactions: tuple[bytes, ...]
    references: tuple[Digest, ...]
    """`full_hash` of each, computed once by the pool."""


class Overlooked(Value, frozen=True):
    """A transaction that a proposal left out although PROTOCOL 6.7 says it belonged there.

    Judged from the pool's entries by `consensus.complaint.overlooked`.
    """

    transaction_id: Digest
    held_ms: int


class Offending(Value, frozen=True):
    """The transaction that makes a fresh proposal provably wrong: malformed, badly signed or out of window (3.2b).

    One already on chain, or listed and included, makes a proposal invalid too, but only state shows it: no evidence.
    """

    index: int
    """Its place in the proposal's references."""
    transaction: bytes


class ProposalChecked(Value, frozen=True):
    """Answer to `CheckProposal`: the assembled block, or why it is invalid.

    ``block`` is None with ``reason`` set when a transaction breaks PROTOCOL 6.8 (canonical, signed, in window, not on
    chain, sizes); while bytes are missing no answer comes.
    """

    at: Instant
    height: int
    view: int
    digest: Digest
    block: Block | None
    reason: str | None
    overlooked: tuple[Overlooked, ...]
    newest_includable_wait_ms: int | None
    """Time from the later of entering the height and holding an includable transaction to holding the proposal;
    None for a block without transactions (complaint of a slow primary, PROTOCOL 6.7)."""
    offending: Offending | None = None
    """With ``reason``: the transaction that proves the primary's fault, if one does."""


class BlockFetched(Value, frozen=True):
    """An undecided block's bytes, found by digest at a peer or in the own journal.

    Checked against its header here; one that is not whole is asked for again by another `FetchBlock`.
    """

    at: Instant
    block: Block


class DecidedReceived(Value, frozen=True):
    """A block with a certificate from a peer; neither is checked yet."""

    at: Instant
    certified: CertifiedBlock


class Advanced(Value, frozen=True):
    """The ledger holds the block below ``context.height`` durably: answer to `Decide`, or catching up went on."""

    at: Instant
    context: HeightContext


class SyncState(Value, frozen=True):
    """Whether this node is behind: it votes only when ``caught_up`` (PROTOCOL 10.2)."""

    at: Instant
    caught_up: bool


class JournalLost(Value, frozen=True):
    """The journal is missing, damaged or restored: sign nothing until `AbstainUntil` says how far (PROTOCOL 6.5)."""

    at: Instant


class AbstainUntil(Value, frozen=True):
    """q other delegates named their highest certified heights, the largest being ``certified_height`` = M."""

    at: Instant
    certified_height: int


class Resume(Value, frozen=True):
    """The operators allow signing at ``height`` from ``first_view`` on; their signatures are already checked."""

    at: Instant
    height: int
    first_view: int


Input: TypeAlias = (
    Received
    | TimerFired
    | PoolChanged
    | Batch
    | ProposalChecked
    | BlockFetched
    | DecidedReceived
    | Advanced
    | SyncState
    | JournalLost
    | AbstainUntil
    | Resume
)

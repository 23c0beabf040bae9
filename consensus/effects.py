"""Everything a replica asks its shell to do: the closed union of its effects, run strictly in list order.

`Persist` stands before the `Send` that depends on it (PROTOCOL 6.5): the shell returns from `Persist` only when the
records are durable.
"""

from typing import Final, TypeAlias

from consensus.block import Block, CertifiedBlock, Header
from consensus.inputs import Timer
from consensus.merkle import MerklePath
from consensus.messages import (
    Commit,
    ConsensusMessage,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepareVote,
    Proposal,
    ViewChange,
)
from consensus.types import Digest, PublicKey, Value, Wire


class BlockRecord(Wire, frozen=True, tag=1):
    """A whole block, stored before its prepare leaves."""

    height: int
    block: Block


class PreparedRecord(Wire, frozen=True, tag=2):
    """A prepared certificate, stored before the commit leaves."""

    height: int
    certificate: PreparedCertificate


class SentRecord(Wire, frozen=True, tag=3):
    """A message this node signed, stored before it leaves and resent byte for byte after a restart."""

    height: int
    message: Proposal | Prepare | Commit | ViewChange | NewView


UNKNOWN_HEIGHT: Final = 2**63 - 1
"""In an `AbstainRecord`: not known yet, so nothing at all may be signed. No `Forget` ever passes it."""


class AbstainRecord(Wire, frozen=True, tag=4):
    """Nothing may be signed at heights up to and including ``height`` (journal lost, PROTOCOL 6.5).

    Of several the last one written holds; `UNKNOWN_HEIGHT` until q other delegates have named theirs.
    """

    height: int


class ResumeRecord(Wire, frozen=True, tag=5):
    """Operators allowed signing at ``height`` from ``first_view`` on, outside the fault model."""

    height: int
    first_view: int


JournalRecord: TypeAlias = BlockRecord | PreparedRecord | SentRecord | AbstainRecord | ResumeRecord


class Persist(Value, frozen=True):
    """Append to the journal; durable before the next effect runs."""

    records: tuple[JournalRecord, ...]


class Send(Value, frozen=True):
    """Send to the delegates named, or to all other delegates of the current height if ``to`` is empty."""

    message: ConsensusMessage
    to: tuple[PublicKey, ...] = ()


class SetTimer(Value, frozen=True):
    """Start ``timer``; it comes back as `TimerFired` after ``delay_ms``. Same kind again replaces the running one."""

    timer: Timer
    delay_ms: int


class CancelTimer(Value, frozen=True):
    """Stop the running timer of ``kind``, if any."""

    kind: str


class BuildBatch(Value, frozen=True):
    """Ask the pool for transactions valid at header time ``time_ms``; comes back as `Batch`.

    ``excluded`` are ids that the same block discards (an id is not both listed and included, PROTOCOL 6.10);
    ``max_bytes`` is what removal proofs leave of the block.
    """

    height: int
    view: int
    generation: int
    time_ms: int
    max_bytes: int
    excluded: tuple[Digest, ...]


class CheckProposal(Value, frozen=True):
    """Gather the transactions of ``proposal``, check what needs no consensus state; comes back as `ProposalChecked`.

    ``entered_ms`` is the monotonic instant at which the height was entered (for the slow-primary figure).
    ``known`` short-cuts gathering when the block is already held (re-proposal).
    """

    proposal: Proposal
    sender: PublicKey
    entered_ms: int
    known: Block | None


class FetchBlock(Value, frozen=True):
    """Find an undecided block by digest in the own journal or at peers; comes back as `BlockFetched`.

    Repeats until found or the height ends.
    """

    height: int
    digest: Digest
    holders: tuple[PublicKey, ...]
    """Delegates whose signatures show that they store it (PROTOCOL 6.5), asked first."""


class FetchDecided(Value, frozen=True):
    """Somebody is ahead: fetch decided blocks from ``height`` on from ``holders`` or anyone."""

    height: int
    holders: tuple[PublicKey, ...]


class SendDecided(Value, frozen=True):
    """Answer a late delegate with the decided block of ``height`` and its certificate (PROTOCOL 6.6)."""

    height: int
    to: PublicKey


class Decide(Value, frozen=True):
    """``certified.block`` is final: store it with its certificate, execute it, answer with `Advanced`."""

    certified: CertifiedBlock


class Forget(Value, frozen=True):
    """The journal may drop records of heights below ``height``: their block and certificate are durable.

    Records of the height decided last stay, so that a journal always shows below what nothing is signed (6.5).
    """

    height: int


class Report(Value, frozen=True):
    """Evidence of equivocation, for an evidence transaction (PROTOCOL 3.2b)."""

    first: bytes
    second: bytes
    """Canonical bytes of two conflicting votes of one kind."""


class ReportProposal(Value, frozen=True):
    """Evidence of a wrong block: a fresh pre-prepare of a wrong header or of a wrong transaction (PROTOCOL 3.2b).

    Without ``transaction`` the header itself names a wrong chain, version or epoch.
    """

    pre_prepare: PrePrepareVote
    header: Header
    path: MerklePath | None
    transaction: bytes | None


class Trace(Value, frozen=True):
    """Something worth seeing for people and tests (status page, simulator's reachability counts); never acted on."""

    event: str
    height: int
    view: int
    detail: str = ""


Effect: TypeAlias = (
    Persist
    | Send
    | SetTimer
    | CancelTimer
    | BuildBatch
    | CheckProposal
    | FetchBlock
    | FetchDecided
    | SendDecided
    | Decide
    | Forget
    | Report
    | ReportProposal
    | Trace
)

"""Everything a replica knows of the one height in flight (PROTOCOL 6.2)."""

from typing import Final

from consensus.block import Block, Certificate, CertifiedBlock, Discard
from consensus.certificate import Decision, make_prepared
from consensus.effects import BlockRecord, JournalRecord, PreparedRecord, SentRecord
from consensus.errors import invariant
from consensus.inputs import HeightContext, Instant
from consensus.judge import Judge
from consensus.messages import (
    Commit,
    Prepare,
    PreparedCertificate,
    PrePrepareVote,
    Proposal,
    ViewChange,
    Vote,
)
from consensus.own_votes import OwnVotes
from consensus.removal import FailedViews, views_remembered
from consensus.signing import Verifier
from consensus.tally import VIEWS_KEPT, Tally
from consensus.types import Digest, PublicKey, Value
from consensus.view_change import choose

MAX_PRE_PREPARES_PER_VIEW: Final = 4
"""The first counts; of an equivocating primary's others at most three can gather f + 1 prepares."""


class PendingBatch(Value, frozen=True):
    """A batch asked from the pool, with what the block will hold besides."""

    view: int
    generation: int
    time_ms: int
    discarded: tuple[Discard, ...]


class HeightState:
    """What others said and what this node signed about one height; replaced as a whole when the next begins."""

    def __init__(
        self, chain_id: Digest, context: HeightContext, verifier: Verifier, public_key: PublicKey, at: Instant
    ) -> None:
        self.context = context
        self.judge = Judge(chain_id, context, verifier)
        self.judge.known = self._is_known
        self.public_key = public_key
        self.rank = self.judge.rank(public_key)
        self.own = OwnVotes(context.height)
        self.entered_ms = at.monotonic_ms
        """Monotonic instant at which this height was entered."""

        self.view = 0
        """The highest view this delegate signed a view-change for or entered; never goes back."""
        self.entered_view = 0
        """The last view it entered: 0, or one with a valid new-view. Proposals of this view are looked at."""
        self.view_wall_ms = at.wall_ms
        """Clock at entering ``view``: signing its view-change, else accepting its new-view (PROTOCOL 6.8)."""
        self.chosen: PreparedCertificate | None = None
        """The highest certificate of the entered view's new-view; its block must be proposed again."""
        self.view_changes: dict[PublicKey, ViewChange] = {}
        """Of each sender the highest, verified."""
        self.failed = FailedViews(self.judge)

        self.proposal: Proposal | None = None
        """The first one of ``entered_view`` that its primary signed."""
        self.proposal_valid = False
        self.invalid_reason: str | None = None
        self.early: dict[PublicKey, Proposal] = {}
        """Per sender the proposal of the highest view not entered yet; unverified."""
        self.pre_prepares: dict[int, dict[Digest, PrePrepareVote]] = {}
        self.prepares: Tally[Prepare] = Tally(self.judge.quorum - 1)
        self.commits: Tally[Commit] = Tally(self.judge.quorum)
        self.prepared: PreparedCertificate | None = None
        """The highest one."""
        self.certificate: Certificate | None = None
        """A certificate of this height that came whole."""
        self.blocks: dict[Digest, Block] = {}
        self.journaled: dict[Digest, None] = {}
        self.fetching: dict[Digest, None] = {}
        self.gathering_overdue = False
        """Whether the proposal's transactions take so long to gather that a certified block is asked for whole."""
        self.batch: PendingBatch | None = None
        self.nothing_to_propose = False
        self.empty_due = False
        self.busy = False
        """Whether transactions were waiting when the height was entered: then a batch may gather (PROTOCOL 11)."""
        self.decided: CertifiedBlock | None = None

    # ------------------------------------------------------------------ who

    @property
    def is_primary(self) -> bool:
        """Whether this node is primary of the view it entered last."""
        return self.rank is not None and self.judge.primary_key(self.entered_view) == self.public_key

    @property
    def in_view(self) -> bool:
        """Whether the current view has begun; between view-change and new-view it has not."""
        return self.view == self.entered_view

    @property
    def decision(self) -> Decision | None:
        """Set once decided: what the certificate proves."""
        if self.decided is None:
            return None
        return self.decision_on(self.decided.certificate.digest)

    def decision_on(self, digest: Digest) -> Decision:
        """What a certificate for ``digest`` at this height has to prove."""
        return Decision(self.context.epoch, self.context.height, digest, self.context.delegates)

    # ------------------------------------------------------------------ votes of others

    def _is_known(self, vote: Vote) -> bool:
        """Whether exactly these bytes were verified before."""
        match vote:
            case PrePrepareVote():
                return self.pre_prepares.get(vote.view, {}).get(vote.digest) == vote
            case Prepare():
                return self.prepares.first(vote.signer, vote.view) == vote
            case Commit():
                return self.commits.first(vote.signer, vote.view) == vote

    def note_pre_prepare(self, vote: PrePrepareVote) -> PrePrepareVote | None:
        """Keep a verified pre-prepare; the first of its view, if ``vote`` is the first that contradicts it."""
        invariant(vote.height == self.context.height, "votes of one height are counted together (6.4)")
        known = self.pre_prepares.setdefault(vote.view, {})
        first = next(iter(known.values()), None)
        if vote.digest in known:
            return None
        if len(known) < MAX_PRE_PREPARES_PER_VIEW:
            known[vote.digest] = vote
        while len(self.pre_prepares) > VIEWS_KEPT:
            del self.pre_prepares[min(self.pre_prepares)]
        self.refresh_prepared(vote.view, vote.digest)
        return first if len(known) == 2 else None

    def refresh_prepared(self, view: int, digest: Digest) -> None:
        """Form the prepared certificate of (view, digest) if its votes are there and it is the highest (6.4, 6.6).

        One of a view not reached yet waits until this delegate gets there: a view-change names lower views only.
        """
        if view > self.view or (self.prepared is not None and self.prepared.pre_prepare.view >= view):
            return
        pre_prepare = self.pre_prepares.get(view, {}).get(digest)
        if pre_prepare is not None and self.prepares.has_quorum(view, digest):
            self.prepared = make_prepared(pre_prepare, self.prepares.votes(view, digest), self.judge)

    def go_to(self, view: int, wall_ms: int) -> None:
        """Leave the current view for a higher one; what lower views prepared meanwhile counts from here on."""
        invariant(view > self.view, "views never go backward (6.6)")
        invariant(self.decided is None, "no view follows a decision (6.5)")
        self.view = view
        self.view_wall_ms = wall_ms
        self.batch = None
        for voted in sorted(self.pre_prepares):
            if voted < view:
                self._refresh_view(voted)

    def enter(self, view: int, chosen: PreparedCertificate | None) -> None:
        """The current view begins: its new-view is valid and names ``chosen``. Its votes may be here already."""
        invariant(view == self.view and view > self.entered_view, "views never go backward (6.6)")
        self.entered_view = view
        self.chosen = chosen
        self.proposal = None
        self.proposal_valid = False
        self.invalid_reason = None
        self.gathering_overdue = False
        self.nothing_to_propose = False
        self._refresh_view(view)

    def _refresh_view(self, view: int) -> None:
        for digest in tuple(self.pre_prepares.get(view, ())):
            self.refresh_prepared(view, digest)

    def note_view_change(self, message: ViewChange) -> bool:
        """Keep a verified view-change if it is its sender's highest; whether it is."""
        held = self.view_changes.get(message.signer)
        if held is not None and held.view >= message.view:
            return False
        self.view_changes[message.signer] = message
        self.failed.note_view_change(message)
        invariant(
            len(self.view_changes) <= len(self.context.delegates), "one view-change a seat is kept (6.6)"
        )
        return True

    def view_changes_at_least(self, view: int) -> int:
        """Delegates whose highest view-change is for ``view`` or above."""
        return sum(1 for message in self.view_changes.values() if message.view >= view)

    # ------------------------------------------------------------------ blocks

    def hold(self, block: Block, digest: Digest) -> None:
        """Keep a block by digest; the oldest that nothing names any more makes room (the journal keeps its own)."""
        self.blocks.setdefault(digest, block)
        self.fetching.pop(digest, None)
        limit = views_remembered(self.judge.faults) + 3
        for old in tuple(self.blocks):
            if len(self.blocks) <= limit:
                break
            if old != digest and not self._is_needed(old):
                del self.blocks[old]

    def _is_needed(self, digest: Digest) -> bool:
        named = (
            self.prepared is not None and self.prepared.pre_prepare.digest == digest,
            self.chosen is not None and self.chosen.pre_prepare.digest == digest,
            self.proposal is not None and self.proposal.vote.digest == digest,
            self.certificate is not None and self.certificate.digest == digest,
        )
        return any(named)

    def is_gathering(self, digest: Digest) -> bool:
        """Whether the block of ``digest`` is the current proposal's, whose transactions are being gathered."""
        proposal = self.proposal
        return proposal is not None and proposal.vote.digest == digest and self.invalid_reason is None

    def records_of(self, digest: Digest) -> tuple[JournalRecord, ...]:
        """What to journal so that the block of ``digest`` is stored: nothing if it is (PROTOCOL 6.5)."""
        invariant(digest in self.blocks, "a vote is signed for a held block only (6.5)")
        if digest in self.journaled:
            return ()
        self.journaled[digest] = None
        return (BlockRecord(self.context.height, self.blocks[digest]),)

    # ------------------------------------------------------------------ after a restart

    def restore(self, records: tuple[JournalRecord, ...]) -> None:
        """Take over what the journal holds of this height (PROTOCOL 6.5)."""
        for record in records:
            match record:
                case BlockRecord():
                    digest = record.block.header.digest()
                    self.journaled[digest] = None
                    self.blocks.setdefault(digest, record.block)
                case PreparedRecord():
                    held = self.prepared
                    if held is None or held.pre_prepare.view < record.certificate.pre_prepare.view:
                        self.prepared = record.certificate
                case SentRecord():
                    self._restore_message(record)
                case _:
                    continue
        self.view = self.own.floor
        if self.own.view_change is not None:
            self.note_view_change(self.own.view_change)
            carried = self.own.view_change.prepared
            if carried is not None and (
                self.prepared is None or self.prepared.pre_prepare.view < carried.pre_prepare.view
            ):
                self.prepared = carried
        self._restore_leadership()

    def _restore_leadership(self) -> None:
        """A primary that had announced or proposed in its view goes on from there; it never does either twice."""
        announced = self.own.new_views.get(self.view)
        if announced is not None:
            for message in announced.view_changes:
                self.note_view_change(message)
            self.entered_view = self.view
            self.chosen = choose(announced.view_changes)
        proposal = self.own.proposals.get(self.view)
        if proposal is not None:
            invariant(self.in_view, "a primary proposes only in a view that has begun (6.6)")
            invariant(proposal.vote.digest in self.blocks, "a proposed block was stored before it left (6.5)")
            self.proposal = proposal
            self.proposal_valid = True

    def _restore_message(self, record: SentRecord) -> None:
        message = record.message
        self.own.restore(message)
        match message:
            case Proposal():
                self.note_pre_prepare(message.vote)
                self.failed.note_proposal(message)
            case Prepare():
                _add_once(self.prepares, message)
            case Commit():
                _add_once(self.commits, message)
            case _:
                return


def _add_once(tally: Tally[Prepare] | Tally[Commit], vote: Prepare | Commit) -> None:
    if tally.first(vote.signer, vote.view) is None:
        tally.add(vote)  # type: ignore[arg-type]

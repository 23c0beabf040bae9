"""What a recovered node can be led to sign: offered rival blocks, rival votes and later views at its height (S4, 6.6).

A node that lost a record of what it signed shows it here: it signs something that contradicts what left before.
"""

from collections.abc import Iterable

from consensus.block import Block, Header, discarded_root, full_hash, last_commit_hash, transactions_root
from consensus.delegates import Delegate
from consensus.effects import BuildBatch, CheckProposal, Effect, JournalRecord, Send, SentRecord
from consensus.encoding import encode
from consensus.inputs import (
    Batch,
    HeightContext,
    Input,
    Instant,
    PoolChanged,
    ProposalChecked,
    Received,
)
from consensus.messages import (
    ConsensusMessage,
    NewView,
    Prepare,
    PrePrepareVote,
    Proposal,
    V,
    ViewChange,
    sign_vote,
    view_change_bytes,
)
from consensus.replica import Replica
from consensus.signing import Signer
from scripts.simulating.crash_points_recording import Recording, signer_and_place

Place = tuple[int, int, str]
"""Height, view and kind: where a key signs one digest."""
RIVAL = b"what nobody offered before"


class Signed:
    """What left a node, and what would contradict it."""

    def __init__(self) -> None:
        self._digests: dict[Place, bytes] = {}
        self._floors: dict[int, int] = {}
        """By height the highest view of anything signed."""
        self.count = 0

    def add(self, message: ConsensusMessage) -> None:
        """It has left."""
        self.count += 1
        _, height, view, kind, digest = signer_and_place(message)
        self._digests[height, view, kind] = digest
        self._floors[height] = max(self._floors.get(height, 0), view)

    def contradicted_by(self, messages: Iterable[ConsensusMessage]) -> str | None:
        """The first of ``messages`` that an honest key may not sign any more, in words."""
        for message in messages:
            _, height, view, kind, digest = signer_and_place(message)
            before = self._digests.get((height, view, kind))
            if before is not None and before != digest:
                return f"S4: two {kind} of height {height}, view {view}"
            if before is None and view < self._floors.get(height, 0) and kind != "NewView":
                return f"6.6: {kind} of height {height}, view {view} after view {self._floors[height]}"
        return None


class _Temptation:
    def __init__(self, recording: Recording, records: tuple[JournalRecord, ...], height: int) -> None:
        self._recording = recording
        self._context: HeightContext = recording.contexts[height - 1]
        interval_ms = recording.parameters.empty_block_interval_ms
        self._time_ms = self._context.parent_time_ms + interval_ms + 1
        self._at = Instant(self._time_ms, 10_000_000)
        self._own = recording.signer.public_key
        self._signers = {signer.public_key: signer for signer in recording.signers}
        self.sent: list[ConsensusMessage] = []
        self._replica = Replica(
            chain_id=recording.chain_id,
            parameters=recording.parameters,
            signer=recording.signer,
            verifier=recording.verifier,
            context=self._context,
            at=self._at,
            journal=records,
        )
        self._take(self._replica.start(self._at))

    def _step(self, item: Input) -> None:
        self._take(self._replica.step(item))

    def _take(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message, _):
                    if signer_and_place(message)[0] == self._own:
                        self.sent.append(message)
                case CheckProposal(proposal, _, _, known):
                    self._check(proposal, known)
                case BuildBatch():
                    batch = (effect.height, effect.view, effect.generation)
                    self._step(Batch(self._at, *batch, (RIVAL,), (full_hash(RIVAL),)))
                case _:
                    pass

    def _check(self, proposal: Proposal, known: Block | None) -> None:
        vote = proposal.vote
        transactions = (RIVAL,) if proposal.references == (full_hash(RIVAL),) else ()
        block = known or Block(proposal.header, transactions, proposal.last_commit, proposal.discarded)
        place = (vote.height, vote.view, vote.digest)
        self._step(ProposalChecked(self._at, *place, block, None, (), None))

    def _primary(self, view: int) -> Delegate:
        ranking = self._context.delegates.ranking
        head = [delegate.address for delegate in ranking].index(self._context.head)
        return ranking[(head + view) % len(ranking)]

    def tempt(self, views: int) -> None:
        """In each view from 0 on: a rival proposal, rival prepares, then the next view."""
        self._step(PoolChanged(self._at, 1, 0))
        for view in range(views):
            self._rival(view)
            self._next_view(view + 1)

    def _rival(self, view: int) -> None:
        context, primary = self._context, self._primary(view)
        if primary.public_key == self._own:
            return
        header = Header(
            version=1,
            chain_id=self._recording.chain_id,
            height=context.height,
            epoch=context.epoch,
            view=view,
            parent_hash=context.parent_hash,
            time_ms=self._time_ms,
            proposer=primary.address,
            transactions_root=transactions_root([full_hash(RIVAL)]),
            last_commit_hash=last_commit_hash(context.parent_certificate),
            discarded_root=discarded_root(()),
            receipts_root=context.receipts_root,
            state_root=context.state_root,
            delegates_hash=context.delegates.hash(),
            next_delegates_hash=context.next_delegates.hash(),
        )
        vote = self._vote(PrePrepareVote, self._signers[primary.public_key], view, header.digest())
        proposal = Proposal(vote, header, (full_hash(RIVAL),), context.parent_certificate, ())
        self._step(Received(self._at, primary.public_key, proposal))
        for key, signer in self._signers.items():
            if key not in (self._own, primary.public_key):
                self._step(Received(self._at, key, self._vote(Prepare, signer, view, header.digest())))

    def _vote(self, kind: type[V], signer: Signer, view: int, digest: bytes) -> V:
        context = self._context
        place = (context.epoch, context.height, view)
        return sign_vote(kind, self._recording.chain_id, *place, digest, signer)

    def _next_view(self, view: int) -> None:
        """All others ask for ``view`` and show nothing prepared; its primary, if another, announces it."""
        changes = []
        for key, signer in self._signers.items():
            if key != self._own:
                changes.append(self._view_change(signer, view))
                self._step(Received(self._at, key, changes[-1]))
        primary = self._primary(view).public_key
        if primary != self._own:
            context, signer = self._context, self._signers[primary]
            plain = NewView(context.epoch, context.height, view, tuple(changes), primary, bytes(64))
            signature = signer.sign(view_change_bytes(plain, self._recording.chain_id))
            self._step(
                Received(
                    self._at,
                    primary,
                    NewView(plain.epoch, plain.height, view, plain.view_changes, primary, signature),
                )
            )

    def _view_change(self, signer: Signer, view: int) -> ViewChange:
        context, key = self._context, signer.public_key
        plain = ViewChange(context.epoch, context.height, view, None, (), key, bytes(64))
        signature = signer.sign(view_change_bytes(plain, self._recording.chain_id))
        return ViewChange(plain.epoch, plain.height, view, None, (), key, signature)


def tempt(
    recording: Recording, records: tuple[JournalRecord, ...], height: int, views: int
) -> tuple[ConsensusMessage, ...]:
    """What a node with these ``records`` signs anew at ``height`` when offered rivals in ``views`` views.

    The bytes that it only sends again are no new signatures: among them may be the late commit of PROTOCOL 6.4.
    """
    temptation = _Temptation(recording, records, height)
    temptation.tempt(views)
    known = {encode(record.message) for record in records if isinstance(record, SentRecord)}
    return tuple(message for message in temptation.sent if encode(message) not in known)

"""Pre-prepare, prepare, commit, as each delegate does them (PROTOCOL 6.4, 6.8).

``receive_*`` take in what a peer said and raise `InvalidMessage` before anything has changed. The rules ``prepare``
and ``commit`` act when what was taken in allows it; each returns whether it did. `consensus.deciding` has the end.
"""

from consensus.block import Block, Header
from consensus.certificate import Decision, check_certificate
from consensus.complaint import Complaints
from consensus.core import Core
from consensus.effects import CheckProposal, PreparedRecord, Report, ReportProposal
from consensus.encoding import encode
from consensus.errors import InvalidMessage, invariant
from consensus.height import HeightState
from consensus.inputs import Offending, ProposalChecked
from consensus.merkle import leaf_hash, merkle_path
from consensus.messages import Commit, Prepare, PrePrepareVote, Proposal, V, Vote
from consensus.proposal import (
    block_size,
    check_contents,
    check_header,
    check_parts,
    check_role,
    proposal_fits,
    wrong_origin,
)
from consensus.removal import RemovalCheck, is_disjoint
from consensus.tally import Tally
from consensus.timers import CLOCK
from consensus.types import PublicKey

# ---------------------------------------------------------------------- pre-prepare


def receive_proposal(core: Core, sender: PublicKey, proposal: Proposal) -> None:
    """A primary's pre-prepare: judged if its view has begun here, kept if it has not yet, dropped if it is over."""
    height, vote = core.height, proposal.vote
    height.judge.check_place(vote)
    if vote.signer != height.judge.primary_key(vote.view):
        raise InvalidMessage(f"not the primary of view {vote.view}")
    if vote.signer == core.public_key or vote.view < height.entered_view:
        return
    if vote.view > height.entered_view:
        _keep_early(height, sender, proposal)
        core.trace("kept-early")
        return
    if height.proposal is not None and height.proposal.vote.digest == vote.digest:
        return
    check_parts(proposal)
    height.judge.check_vote(vote)
    first = height.note_pre_prepare(vote)
    if first is not None:
        _report(core, first, vote)
    if height.proposal is not None:
        return
    height.failed.note_proposal(proposal)
    height.proposal = proposal
    core.saw(vote, "pre-prepare")
    core.trace("pre-prepared")
    _judge_proposal(core, sender, proposal)


def _keep_early(height: HeightState, sender: PublicKey, proposal: Proposal) -> None:
    if height.judge.rank(sender) is None:
        raise InvalidMessage("the carrier of an early proposal holds no seat")
    held = height.early.get(sender)
    if held is None or held.vote.view < proposal.vote.view:
        height.early[sender] = proposal


def _judge_proposal(core: Core, sender: PublicKey, proposal: Proposal) -> None:
    """All that can be judged at once; the transactions are gathered and checked outside (`CheckProposal`)."""
    height = core.height
    chosen = None if height.chosen is None else height.chosen.pre_prepare.digest
    known = height.blocks.get(proposal.vote.digest)
    try:
        check_role(proposal, height.judge, chosen)
        check_header(proposal.header, height.context, core.chain_id)
        if chosen is None:
            check_contents(proposal, height.context, core.parameters)
            _check_last_commit(core, proposal)
            RemovalCheck(height.judge, proposal.vote.view).check(proposal.discarded)
    except InvalidMessage as error:
        _found_invalid(core, proposal, str(error), None)
        return
    if chosen is not None and known is not None:
        height.proposal_valid = True
        return
    core.emit(CheckProposal(proposal, sender, height.entered_ms, known))


def _check_last_commit(core: Core, proposal: Proposal) -> None:
    """The last-commit certificate is valid: q commits of C(h-1) for the parent; none in block 1 (PROTOCOL 6.8, 9.1)."""
    context, certificate = core.height.context, proposal.last_commit
    if context.parent_certificate is None or context.previous_delegates is None:
        if certificate is not None:
            raise InvalidMessage("block 1 has no last-commit")
        return
    if certificate is None:
        raise InvalidMessage("the last-commit is missing")
    decision = Decision(
        context.parent_certificate.epoch, context.height - 1, context.parent_hash, context.previous_delegates
    )
    known = core.parent_commits.known_in(certificate.view) if core.parent_commits is not None else None
    check_certificate(certificate, decision, core.chain_id, core.verifier, known)


def _found_invalid(core: Core, proposal: Proposal, reason: str, offending: Offending | None) -> None:
    """An invalid proposal: `failover.reject` signs a view-change at once; a provable fault is reported (3.2b)."""
    height, vote, header = core.height, proposal.vote, proposal.header
    height.invalid_reason = reason
    height.proposal_valid = False
    core.trace("invalid-proposal", reason)
    fresh = header.view == vote.view
    if fresh and offending is not None and offending.index < len(proposal.references):
        leaves = [leaf_hash(item) for item in proposal.references]
        core.emit(ReportProposal(vote, header, merkle_path(leaves, offending.index), offending.transaction))
    elif fresh and wrong_origin(header, core.chain_id, height.context.epoch) is not None:
        core.emit(ReportProposal(vote, header, None, None))


def proposal_checked(core: Core, answer: ProposalChecked) -> None:
    """The transactions of the current proposal were gathered and checked."""
    height = core.height
    proposal = height.proposal
    if proposal is None or height.decided is not None or height.proposal_valid:
        return
    vote = proposal.vote
    if (answer.height, answer.view, answer.digest) != (vote.height, vote.view, vote.digest):
        return
    if answer.block is None:
        _found_invalid(core, proposal, answer.reason or "a transaction is invalid", answer.offending)
        return
    invariant(proposal_fits(answer.block, proposal), "the gathered block is the proposed one")
    misfit = _misfit(core, answer.block)
    if misfit is not None:
        _found_invalid(core, proposal, misfit, None)
        return
    height.hold(answer.block, vote.digest)
    height.proposal_valid = True
    if proposal.header.view == vote.view:
        _judge_primary(core, core.complaints, proposal.header, answer)


def _misfit(core: Core, block: Block) -> str | None:
    """What only the gathered block can show to be wrong, beside its transactions."""
    if block_size(block) > core.parameters.max_block_bytes:
        return f"the block exceeds {core.parameters.max_block_bytes} bytes"
    return None if is_disjoint(block) else "a transaction is both removed and included (6.10)"


def _judge_primary(core: Core, complaints: Complaints, header: Header, answer: ProposalChecked) -> None:
    """PROTOCOL 6.7: what a valid proposal says about its primary takes effect from the next height on."""
    now_ms = core.now.monotonic_ms
    wait_ms = answer.newest_includable_wait_ms
    if complaints.judge(header.proposer, answer.overlooked, wait_ms, now_ms):
        core.trace("complaint", f"{len(answer.overlooked)} overlooked")


# ---------------------------------------------------------------------- votes


def receive_prepare(core: Core, vote: Prepare) -> None:
    """A backup found the block valid."""
    height = core.height
    height.judge.check_place(vote)
    if vote.signer == height.judge.primary_key(vote.view):
        raise InvalidMessage("a primary signs no prepare in its own view")
    if _take_prepare(core, vote):
        core.saw(vote, "prepare")
    votes = height.prepares.votes(vote.view, vote.digest)
    proposed = height.proposal is not None and height.proposal.vote.digest == vote.digest
    if len(votes) > height.judge.faults and not proposed:
        core.fetch_block(vote.digest, tuple(votes))


def _take_prepare(core: Core, vote: Prepare, *, verified: bool = False) -> bool:
    height = core.height
    if not _is_new(core, height.prepares, vote, verified=verified):
        return False
    height.prepares.add(vote)
    height.refresh_prepared(vote.view, vote.digest)
    return True


def receive_commit(core: Core, vote: Commit) -> None:
    """A delegate holds a prepared certificate; q commits of one view decide, whatever view this node is in."""
    height = core.height
    height.judge.check_place(vote)
    if _is_new(core, height.commits, vote):
        height.commits.add(vote)
        core.saw(vote, "commit")


def _is_new(core: Core, tally: Tally[V], vote: V, *, verified: bool = False) -> bool:
    """Whether a vote counts: verified, the first of its key and view, and its quorum does not stand yet.

    A second vote of a key with another digest is evidence and does not count.
    """
    if vote.signer == core.public_key or not tally.keeps(vote.signer, vote.view):
        return False
    if tally.first(vote.signer, vote.view) is None:
        if tally.has_quorum(vote.view, vote.digest):
            return False
        if not verified:
            core.height.judge.check_vote(vote)
        return True
    first = tally.conflicts(vote)
    if first is not None:
        if not verified:
            core.height.judge.check_vote(vote)
        tally.mark_reported(vote)
        _report(core, first, vote)
    return False


def _report(core: Core, first: Vote, second: Vote) -> None:
    """Two votes of one key, phase, height and view with different digests: evidence of equivocation (3.2b)."""
    invariant(
        first.signer == second.signer and first.view == second.view, "evidence is against one key and view"
    )
    invariant(first.digest != second.digest, "equal digests are no evidence (S13)")
    invariant(type(first) is type(second), "votes of different phases do not conflict (S13)")
    core.emit(Report(encode(first), encode(second)))
    core.trace("equivocation", type(second).__name__)


def note_nested(core: Core, vote: PrePrepareVote | Prepare) -> None:
    """Take in a verified vote that came inside another message; it counts and convicts like any other."""
    if isinstance(vote, Prepare):
        _take_prepare(core, vote, verified=True)
        return
    first = core.height.note_pre_prepare(vote)
    if first is not None:
        _report(core, first, vote)


# ---------------------------------------------------------------------- rules


def prepare(core: Core) -> bool:
    """6.4: a delegate that finds the block valid signs (h, v, digest). Before it, the whole block is stored (6.5)."""
    height, proposal = core.height, core.height.proposal
    if proposal is None or not height.proposal_valid or not _may_vote_in_view(core):
        return False
    if height.is_primary or height.view in height.own.prepares:
        return False
    if proposal.header.view == proposal.vote.view and not _time_in_bounds(core, proposal.header.time_ms):
        return False
    digest = proposal.vote.digest
    invariant(proposal.vote.view == height.view, "a prepare is of the current view")
    vote = core.sign(Prepare, height.view, digest)
    core.publish(vote, *height.records_of(digest))
    height.prepares.add(vote)
    height.refresh_prepared(vote.view, digest)
    core.saw(vote, "prepare")
    return True


def _may_vote_in_view(core: Core) -> bool:
    height = core.height
    return core.voting and height.decided is None and height.in_view


def _time_in_bounds(core: Core, time_ms: int) -> bool:
    """6.8: a fresh block's time out of bounds only withholds the prepare, one ahead until the clock reaches it."""
    drift_ms = core.parameters.max_drift_ms
    if time_ms < core.height.view_wall_ms - drift_ms:
        return False
    ahead_ms = time_ms - drift_ms - core.now.wall_ms
    if ahead_ms > 0:
        if CLOCK not in core.timers:
            core.set_timer(CLOCK, min(ahead_ms, core.parameters.view_timeout_max_ms))
            core.trace("time-ahead")
        return False
    return True


def commit(core: Core) -> bool:
    """6.4: with a pre-prepare and q - 1 prepares of others a delegate that holds the block signs commit.

    It need not have prepared, or may have prepared another digest in that view. The certificate is stored first.
    """
    height, prepared = core.height, core.height.prepared
    if prepared is None or height.decided is not None or not core.voting:
        return False
    view, digest = prepared.pre_prepare.view, prepared.pre_prepare.digest
    if view != height.view or view in height.own.commits:
        return False
    if digest not in height.blocks:
        core.seek_block(digest, tuple(item.signer for item in prepared.prepares))
        return False
    vote = core.sign(Commit, view, digest)
    records = (*height.records_of(digest), PreparedRecord(height.context.height, prepared))
    core.publish(vote, *records)
    height.commits.add(vote)
    core.saw(vote, "commit")
    core.trace("prepared")
    return True

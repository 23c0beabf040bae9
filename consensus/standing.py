"""Whether this node may sign, and where it stands: restart, lost journal, resume, catching up (PROTOCOL 6.5, 10.2)."""

from consensus.certificate import Decision, check_certificate
from consensus.core import Core
from consensus.effects import (
    UNKNOWN_HEIGHT,
    AbstainRecord,
    FetchDecided,
    Forget,
    JournalRecord,
    Persist,
    ResumeRecord,
    SendDecided,
    SentRecord,
)
from consensus.errors import InvalidMessage, invariant
from consensus.failover import change_view
from consensus.height import HeightState
from consensus.inputs import AbstainUntil, DecidedReceived, HeightContext, Resume
from consensus.judge import MAX_VIEW
from consensus.messages import Commit, ConsensusMessage, Proposal, ViewChange
from consensus.next_height import place_of
from consensus.parent_commits import ParentCommits
from consensus.proposal import block_is_whole, empty_block_time_ms
from consensus.timers import EMPTY, KINDS
from consensus.types import Digest, PublicKey, SignatureBytes

ABSTAINED_HEIGHTS = 2
"""A lost journal may have signed at the height above the highest certified one, and q answers may lag by one."""


# ---------------------------------------------------------------------- the journal


def read_journal(core: Core, records: tuple[JournalRecord, ...]) -> None:
    """Sort the journal's records by height, and learn what forbids to sign (PROTOCOL 6.5)."""
    for record in records:
        match record:
            case AbstainRecord():
                core.abstain_until = record.height
                if record.height == UNKNOWN_HEIGHT:
                    core.resumed = None
            case ResumeRecord():
                core.resumed = record
            case _:
                core.journal.setdefault(record.height, []).append(record)
                if isinstance(record, SentRecord):
                    core.signing_floor = max(core.signing_floor, record.height)


def journal_lost(core: Core) -> None:
    """Sign nothing until q other delegates have said how far the chain is certified."""
    core.abstain_until = UNKNOWN_HEIGHT
    core.resumed = None
    core.emit(Persist((AbstainRecord(UNKNOWN_HEIGHT),)))
    core.trace("journal-lost")


def abstain_until(core: Core, answer: AbstainUntil) -> None:
    """Sign nothing at heights up to M + 2."""
    if core.abstain_until != UNKNOWN_HEIGHT:
        return
    invariant(0 <= answer.certified_height < UNKNOWN_HEIGHT - ABSTAINED_HEIGHTS, "M is a height")
    core.abstain_until = answer.certified_height + ABSTAINED_HEIGHTS
    core.emit(Persist((AbstainRecord(core.abstain_until),)))
    core.trace("abstaining", str(core.abstain_until))


def resume_signed(core: Core, order: Resume) -> None:
    """The operators allow signing at a height from a view on: outside the fault model, so kept and shown."""
    if order.height < core.height.context.height or not 0 <= order.first_view <= MAX_VIEW:
        raise InvalidMessage(
            f"resume of height {order.height} from view {order.first_view} is of no use here"
        )
    core.resumed = ResumeRecord(order.height, order.first_view)
    core.emit(Persist((core.resumed,)))
    core.trace("resumed", f"height {order.height} from view {order.first_view}")


def obey_resume(core: Core) -> bool:
    """A resumed height is voted on from the operators' first view on, and not below it."""
    height, resumed = core.height, core.resumed
    if resumed is None or resumed.height != height.context.height or height.decided is not None:
        return False
    if not core.voting or height.view >= resumed.first_view:
        return False
    return change_view(core, resumed.first_view, "resume")


# ---------------------------------------------------------------------- entering heights


def begin_height(core: Core) -> None:
    """What the start of a height, or of the process within one, sets up."""
    height, context = core.height, core.height.context
    core.parent_commits = _parent_commits(core)
    height.restore(tuple(core.journal.pop(context.height, ())))
    height.busy = core.waiting > 0
    for passed in [item for item in core.journal if item < context.height]:
        del core.journal[passed]
    if height.rank is not None:
        delay_ms = empty_block_time_ms(context, core.parameters) - core.now.wall_ms
        core.set_timer(EMPTY, max(0, min(delay_ms, core.parameters.empty_block_interval_ms)))
    core.complaints.enter(context.head, context.epoch, core.now.monotonic_ms)


def _parent_commits(core: Core) -> ParentCommits | None:
    context, held = core.height.context, core.parent_commits
    certificate = context.parent_certificate
    if certificate is None or context.previous_delegates is None:
        invariant(context.height == 1, "every block but the first has a certified parent (9.1)")
        return None
    invariant(certificate.height == context.height - 1, "the parent's certificate is of the height below")
    invariant(certificate.digest == context.parent_hash, "the parent's certificate is for the parent (S2)")
    if held is not None and held.decision.digest == context.parent_hash and held.view == certificate.view:
        return held
    decision = Decision(
        certificate.epoch, certificate.height, context.parent_hash, context.previous_delegates
    )
    return ParentCommits(certificate, decision)


def advance(core: Core, context: HeightContext) -> bool:
    """The ledger holds the block below ``context.height``: enter that height. Old news changes nothing."""
    height = core.height
    if context.height <= height.context.height:
        return False
    for kind in KINDS:
        core.cancel_timer(kind)
    core.height = HeightState(core.chain_id, context, core.verifier, core.public_key, core.now)
    if height.decided is not None and context.height == height.context.height + 1:
        decided = height.decided.certificate.digest
        invariant(context.parent_hash == decided, "the ledger's last block is the decided one (S2)")
        core.height.view_wall_ms = core.decided_wall_ms
    core.emit(Forget(context.height - 1))
    seats = {delegate.address for delegate in context.delegates}
    core.last_votes = {address: vote for address, vote in core.last_votes.items() if address in seats}
    begin_height(core)
    core.trace("entered")
    return True


def complain(core: Core) -> None:
    """6.7: under a primary complained about a delegate signs a view-change at each height it enters."""
    height = core.height
    if (
        height.view == 0
        and core.voting
        and core.complaints.active(height.context.head, core.now.monotonic_ms)
    ):
        change_view(core, 1, "complaint")


# ---------------------------------------------------------------------- ahead and behind


def of_another_height(core: Core, sender: PublicKey, message: ConsensusMessage) -> bool:
    """Deal with a message that is not for the height in flight; whether it was not."""
    context = core.height.context
    height, _view = place_of(message)
    if height < context.height or (height == context.height and core.height.decided is not None):
        _answer_late(core, sender, message)
        return True
    if height == context.height:
        return False
    if height == context.height + 1:
        _keep_for_next(core, sender, message)
    else:
        _fetch_decided(core, (sender,))
    return True


def _answer_late(core: Core, sender: PublicKey, message: ConsensusMessage) -> None:
    """6.6: whoever has decided h answers a view-change for h with block and certificate; late commits are kept."""
    match message:
        case ViewChange():
            if sender != core.public_key and core.answered.allow(sender, core.now.monotonic_ms):
                core.emit(SendDecided(message.height, sender))
                core.trace("answered-late")
        case Commit():
            if core.parent_commits is not None and sender == message.signer:
                core.parent_commits.offer(message)
        case _:
            return


def _keep_for_next(core: Core, sender: PublicKey, message: ConsensusMessage) -> None:
    """6.6: messages of the next height are kept; their senders have decided this one, so f + 1 start a fetch."""
    height = core.height
    following = height.context.next_delegates
    if following.position_of_key(sender) is None or place_of(message)[1] > MAX_VIEW:
        raise InvalidMessage("the sender holds no seat at the next height")
    undecided = height.decided is None
    if undecided and isinstance(message, Proposal) and height.certificate is None:
        _learn_certificate(core, message)
    core.next_height.keep(sender, message)
    if undecided and len(core.next_height.senders) > following.faults:
        _fetch_decided(core, core.next_height.senders)


def _learn_certificate(core: Core, proposal: Proposal) -> None:
    """The next height's proposal carries this height's certificate: commits that were lost need not be sent again."""
    certificate = proposal.last_commit
    if certificate is None or certificate.digest != proposal.header.parent_hash:
        raise InvalidMessage("a proposal's last-commit is for its parent")
    decision = core.height.decision_on(certificate.digest)
    check_certificate(
        certificate,
        decision,
        core.chain_id,
        core.verifier,
        _verified(core, certificate.view, decision.digest),
    )
    core.height.certificate = certificate
    core.trace("certificate-learned")


def _verified(core: Core, view: int, digest: Digest) -> dict[PublicKey, SignatureBytes]:
    """Commit signatures of exactly (view, digest) already verified: equal bytes need no second look."""
    return {signer: vote.signature for signer, vote in core.height.commits.votes(view, digest).items()}


def _fetch_decided(core: Core, holders: tuple[PublicKey, ...]) -> None:
    if core.fetched.allow(b"", core.now.monotonic_ms):
        core.emit(FetchDecided(core.height.context.height, holders))
        core.trace("behind")


def decided_received(core: Core, answer: DecidedReceived) -> None:
    """A block with its certificate: checked against C(h), then `deciding.decide` decides (PROTOCOL 6.12)."""
    height = core.height
    block, certificate = answer.certified.block, answer.certified.certificate
    if certificate.height > height.context.height:
        _fetch_decided(core, ())
        return
    if certificate.height < height.context.height or height.decided is not None:
        return
    digest = block.header.digest()
    decision = height.decision_on(digest)
    check_certificate(
        certificate,
        decision,
        core.chain_id,
        core.verifier,
        _verified(core, certificate.view, decision.digest),
    )
    if certificate.view < block.header.view:
        raise InvalidMessage("the certificate is of a view before the block was proposed")
    if not block_is_whole(block):
        raise InvalidMessage("the decided block's parts are not those of its header")
    height.certificate = certificate
    height.hold(block, digest)

"""What the primary proposes, and when (PROTOCOL 6.4, 6.6, 6.9, 6.10)."""

from consensus.block import Block, full_hash
from consensus.core import Core
from consensus.effects import BuildBatch
from consensus.errors import invariant
from consensus.height import PendingBatch
from consensus.inputs import Batch, PoolChanged
from consensus.messages import PrePrepareVote, Proposal
from consensus.proposal import empty_block_time_ms, make_header, removals_size
from consensus.removal import is_disjoint
from consensus.timers import BATCH
from consensus.types import Digest


def pool_changed(core: Core, change: PoolChanged) -> None:
    """Transactions wait, or none do any more."""
    invariant(change.waiting >= 0, "a pool does not hold fewer than no transactions")
    core.waiting = change.waiting
    core.oldest_waiting_ms = change.oldest_received_ms
    if change.waiting:
        core.height.nothing_to_propose = False
    else:
        core.height.busy = False


def propose(core: Core) -> bool:
    """The primary of a view that has begun proposes once in it: the chosen block again, or a fresh one when due."""
    height = core.height
    if height.decided is not None or not core.voting or not height.in_view or not height.is_primary:
        return False
    if height.view in height.own.proposals or height.batch is not None:
        return False
    if height.chosen is not None:
        return _propose_again(core)
    if not _is_due(core):
        return False
    _ask_for_batch(core)
    return True


def _is_due(core: Core) -> bool:
    """6.9: the first transaction wakes an idle chain at once; with nothing to decide, an empty block in its time.

    Only a busy primary, whose transactions were waiting when the height began, lets them gather for batch_wait_ms.
    """
    height = core.height
    if height.empty_due:
        return True
    if height.view > 0:
        return not height.nothing_to_propose
    if core.waiting == 0:
        return False
    if not height.busy or core.waiting >= core.parameters.max_block_transactions:
        return True
    if BATCH not in core.timers:
        core.set_timer(BATCH, core.parameters.batch_wait_ms)
    oldest_ms = core.oldest_waiting_ms
    return oldest_ms is not None and core.now.monotonic_ms - oldest_ms >= core.parameters.batch_wait_ms


def _ask_for_batch(core: Core) -> None:
    """Ask the pool; removals (6.10) take their room first, at most half the block."""
    height, parameters = core.height, core.parameters
    time_ms = max(core.now.wall_ms, height.context.parent_time_ms + 1)
    if height.empty_due:
        time_ms = max(time_ms, empty_block_time_ms(height.context, parameters))
    discarded = height.failed.removals(height.view, height.blocks, parameters.max_block_bytes // 2)
    pending = PendingBatch(height.view, core.generation(), time_ms, discarded)
    height.batch = pending
    core.cancel_timer(BATCH)
    core.emit(
        BuildBatch(
            height.context.height,
            pending.view,
            pending.generation,
            time_ms,
            parameters.max_block_bytes - removals_size(discarded),
            tuple(item.transaction_id for item in discarded),
        )
    )


def batch_built(core: Core, batch: Batch) -> None:
    """The pool's answer: propose it, unless the view is over or an empty block would come too early."""
    height, pending = core.height, core.height.batch
    if pending is None or (batch.height, batch.view) != (height.context.height, pending.view):
        return
    if batch.generation != pending.generation:
        return
    height.batch = None
    invariant(len(batch.transactions) == len(batch.references), "a batch names each transaction once")
    invariant(len(batch.references) <= core.parameters.max_block_transactions, "a batch fits a block")
    if pending.view != height.view or height.decided is not None or not core.voting:
        return
    time_ms = pending.time_ms
    if not batch.transactions and not pending.discarded:
        earliest_ms = empty_block_time_ms(height.context, core.parameters)
        core.waiting = 0
        if time_ms < earliest_ms:
            if height.view == 0 or earliest_ms > core.now.wall_ms + core.parameters.max_drift_ms:
                height.nothing_to_propose = True
                return
            # The others' timers run in this view whatever waits: a block a little ahead of the clock, within the drift
            # that all accept, keeps an honest primary with an empty pool from being charged with a failed view.
            time_ms = earliest_ms
    _propose_fresh(core, batch, pending, time_ms)


def _propose_fresh(core: Core, batch: Batch, pending: PendingBatch, time_ms: int) -> None:
    height = core.height
    parent = core.parent_commits
    last_commit = None if parent is None else parent.assemble(core.chain_id, core.verifier)
    header = make_header(
        core.chain_id,
        height.context,
        height.judge,
        height.view,
        time_ms,
        (batch.references, last_commit, pending.discarded),
    )
    block = Block(header, batch.transactions, last_commit, pending.discarded)
    invariant(is_disjoint(block), "the pool leaves out what the block removes (6.10)")
    _pre_prepare(core, block, batch.references)
    core.trace("proposed", f"{len(batch.references)} transactions, {len(pending.discarded)} removed")


def _propose_again(core: Core) -> bool:
    """6.6: the block with the highest certificate view must be proposed again, byte for byte."""
    height = core.height
    invariant(height.chosen is not None, "a block is proposed again only as the new-view says")
    certificate = height.chosen
    if certificate is None:
        return False
    digest = certificate.pre_prepare.digest
    block = height.blocks.get(digest)
    if block is None:
        if core.fetch_block(digest, tuple(item.signer for item in certificate.prepares)):
            core.trace("body-missing")
        return False
    _pre_prepare(core, block, tuple(full_hash(item) for item in block.transactions))
    core.trace("proposed-again")
    return True


def _pre_prepare(core: Core, block: Block, references: tuple[Digest, ...]) -> None:
    """Sign the block's digest in the current view, store both, send (PROTOCOL 6.4, 6.5)."""
    height = core.height
    invariant(height.is_primary and height.in_view, "the primary of a view that has begun proposes (6.4)")
    invariant(len(references) == len(block.transactions), "a proposal names each of its transactions (6.4)")
    digest = block.header.digest()
    vote = core.sign(PrePrepareVote, height.view, digest)
    proposal = Proposal(vote, block.header, references, block.last_commit, block.discarded)
    height.hold(block, digest)
    core.publish(proposal, *height.records_of(digest))
    height.proposal = proposal
    height.proposal_valid = True
    height.note_pre_prepare(vote)
    height.failed.note_proposal(proposal)
    core.saw(vote, "pre-prepare")

"""The epoch's part of a block, in the order of PROTOCOL 6.11, and the epoch's phases as PROTOCOL 4.4 states them."""

import msgspec

from consensus.block import Certificate
from consensus.errors import invariant
from consensus.types import ZERO_ADDRESS
from contracts.ballots import forget_ballots
from contracts.chain import advance, ends_phase, first_chain
from contracts.charges import charge_faults
from contracts.context import BlockContext, Fault
from contracts.epoch_records import MissedCommits
from contracts.epoch_state import chain_of
from contracts.evidence import forget_evidence
from contracts.faults import forget_old_conduct
from contracts.genesis import Genesis
from contracts.missed_commits import accuse_the_missing, count_last_commit
from contracts.plans import form_groups, put_groups
from contracts.receipts import EpochPhase, FaultKind, PhaseChanged
from contracts.rewards import book_decay, book_rewards
from contracts.seats import (
    delegate_set_at,
    forget_sets,
    next_height_head,
    recount_seats,
    seat_first_delegates,
    served_from,
    tally_seats,
)
from contracts.snapshot import put_snapshot, take_snapshot
from contracts.state import SINGLETON, State


def initialise(state: State, genesis: Genesis) -> None:
    """Epoch 0 on a state that holds the founding accounts: groups, C(1) = C(2), chain time 0 (PROTOCOL 4.7, 9.1)."""
    chain_id = genesis.hash()
    state.epoch.chain.put(SINGLETON, first_chain(chain_id, genesis.time_ms, ZERO_ADDRESS))
    state.epoch.missed.put(SINGLETON, MissedCommits(()))
    put_snapshot(state, genesis.parameters, epoch=0, height=0, seed=chain_id)
    put_groups(state, genesis.parameters, epoch=0)
    seat_first_delegates(state, genesis.parameters)


def begin_block(state: State, context: BlockContext, last_commit: Certificate | None) -> None:
    """PROTOCOL 6.11 (1): header faults (a), last-commit counters. The state is still that of the parent."""
    chain = chain_of(state)
    invariant(context.height == chain.height + 1, f"block {context.height} does not follow {chain.height}")
    invariant(
        context.epoch == chain.epoch and context.phase is chain.phase, "a block of another epoch or phase"
    )
    invariant(context.time_ms > chain.time_ms, "block time ascends (6.8)")
    _note_service(state, context)
    _accuse_failed_primaries(state, context)
    count_last_commit(state, context, last_commit)


def end_block(state: State, context: BlockContext) -> None:
    """PROTOCOL 6.11 (5): (c) judged, credit charged, seats recounted; (6) the phase's step.

    It ends with the place of the next block; before that the chain's record is still the parent's.
    """
    chain = chain_of(state)
    last_of_phase = ends_phase(chain, context.chain_ms, context.parameters)
    accuse_the_missing(state, context)
    charge_faults(state, context)
    if not (context.phase is EpochPhase.VOTING and last_of_phase):
        recount_seats(state, context)
    if last_of_phase:
        _end_phase(state, context)
    following = advance(chain, context.header, context.chain_ms, context.parameters)
    invariant(following.height == chain.height + 1, "each block is recorded behind its parent (S2)")
    invariant(following.chain_ms >= chain.chain_ms, "chain time never goes back (0.2)")
    invariant(following.epoch - chain.epoch in (0, 1), "no epoch is left out (4.4)")
    invariant(last_of_phase is (following.phase is not chain.phase), "a phase ends with its last block (4.4)")
    state.epoch.chain.put(SINGLETON, following)
    if last_of_phase:
        context.emit(PhaseChanged(following.epoch, following.phase))


def _end_phase(state: State, context: BlockContext) -> None:
    """The last step of a phase's last block (PROTOCOL 4.4)."""
    match context.phase:
        case EpochPhase.RUNNING:
            take_snapshot(state, context)
        case EpochPhase.PLANNING:
            form_groups(state, context)
        case EpochPhase.VOTING:
            tally_seats(state, context)
        case EpochPhase.CLOSING:
            book_rewards(state, context)
            book_decay(state, context)
            _forget_epoch(state, context.epoch)


def _forget_epoch(state: State, epoch: int) -> None:
    """What the next epoch does not need: it keeps sets and evidence of this one, and ten epochs of conduct."""
    state.epoch.forget_epoch(epoch)
    forget_ballots(state, epoch)
    forget_sets(state, before_epoch=epoch)
    forget_evidence(state)
    forget_old_conduct(state, epoch + 1)


def _note_service(state: State, context: BlockContext) -> None:
    """Who holds a seat from this height on serves in this epoch (PROTOCOL 4.6)."""
    seats = served_from(state, context.height)
    if seats is None:
        return
    for seat in seats.ranking:
        account = state.accounts.require(seat.holder)
        if account.active_epoch != context.epoch:
            state.accounts.put(seat.holder, msgspec.structs.replace(account, active_epoch=context.epoch))


def _accuse_failed_primaries(state: State, context: BlockContext) -> None:
    """(a): first view v of the header, 0 < v <= f, charges the primaries of views 0..v-1; never at height 1 (3.2a)."""
    delegates = delegate_set_at(state, context.height)
    if context.height == 1 or context.header.view > delegates.faults:
        return
    head = next_height_head(state)
    for view in range(context.header.view):
        failed = delegates.primary(head, view).address
        context.accuse(Fault(failed, FaultKind.NO_BLOCK, context.height))

"""Counters of (c), a delegate that is down: absence from last-commits (PROTOCOL 3.2c)."""

import msgspec

from consensus.block import Certificate
from consensus.errors import invariant
from consensus.types import Address
from contracts.context import BlockContext, Fault
from contracts.epoch_records import MissedCommit, MissedCommits
from contracts.epoch_state import chain_of
from contracts.receipts import EpochPhase, FaultKind
from contracts.seats import delegate_set_at
from contracts.state import SINGLETON, State


def count_last_commit(state: State, context: BlockContext, last_commit: Certificate | None) -> None:
    """Count who is absent from the parent's certificate (PROTOCOL 6.11 step 1).

    Counters start at zero with each epoch: its first block, which carries the certificate of the old set for the
    closing block, counts nothing. Neither does the closing block (PROTOCOL 3.2).
    """
    chain = chain_of(state)
    if context.height == chain.epoch_first_height:
        _put(state, ())
        return
    if context.phase is EpochPhase.CLOSING:
        return
    if last_commit is None:
        invariant(False, "only the first block lacks a last-commit")
        return
    present = {signature.signer: None for signature in last_commit.signatures}
    running = {counter.address: counter for counter in counters(state)}
    counted: list[MissedCommit] = []
    for delegate in delegate_set_at(state, chain.height):
        if delegate.public_key in present:
            continue
        counter = running.get(delegate.address)
        if counter is None:
            counted.append(MissedCommit(delegate.address, 1, chain.height, chain.chain_ms))
        else:
            counted.append(msgspec.structs.replace(counter, heights=counter.heights + 1))
    _put(state, tuple(counted))


def accuse_the_missing(state: State, context: BlockContext) -> None:
    """Judge (c) after the block's heartbeats (PROTOCOL 6.11 step 5): both bounds reached, counter starts anew."""
    if context.phase is EpochPhase.CLOSING:
        return
    parameters, chain = context.parameters, chain_of(state)
    kept: list[MissedCommit] = []
    for counter in counters(state):
        span_ms = chain.chain_ms - counter.since_chain_ms
        if counter.heights >= parameters.missed_limit and span_ms >= parameters.missed_ms:
            context.accuse(Fault(counter.address, FaultKind.DOWN, chain.height))
        else:
            kept.append(counter)
    _put(state, tuple(kept))


def counters(state: State) -> tuple[MissedCommit, ...]:
    """Counters above zero."""
    return state.epoch.missed.require(SINGLETON).counters


def counter_of(state: State, address: Address) -> MissedCommit | None:
    """The counter of ``address``; None if it missed nothing."""
    return next((counter for counter in counters(state) if counter.address == address), None)


def restart_counter(state: State, address: Address) -> None:
    """A heartbeat of ``address`` was committed."""
    _put(state, tuple(counter for counter in counters(state) if counter.address != address))


def _put(state: State, counted: tuple[MissedCommit, ...]) -> None:
    if counted != counters(state):
        state.epoch.missed.put(SINGLETON, MissedCommits(counted))

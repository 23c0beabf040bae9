"""Answers about the epoch for the node's API, read from the state after the last block (PROTOCOL 4-7).

History of epochs that are over comes from the ledger's events, not from here.
"""

from consensus.election import Seat
from consensus.grouping import Score
from consensus.parameters import Parameters
from consensus.types import Address, Value
from contracts.ballots import counted_ballots
from contracts.chain import Chain
from contracts.epoch_records import BallotRecord, EpochFaults, SnapshotMember
from contracts.epoch_state import ballot_key, chain_of, seat_set_at
from contracts.faults import conduct_of
from contracts.plans import require_built_in_plan
from contracts.receipts import EpochPhase
from contracts.seats import candidates, delegate_set_at
from contracts.state import SINGLETON, State, number_key


class PhaseStatus(Value, frozen=True):
    """Where the next block stands (PROTOCOL 4.4)."""

    epoch: int
    epoch_first_height: int
    phase: EpochPhase
    elapsed_ms: int
    """Chain time since the last block before the phase."""
    duration_ms: int
    """Chain time that the phase lasts at least; 0 for the closing block."""
    remaining_ms: int
    """Chain time until it may end; 0 if the next block may be its last."""


class GroupStatus(Value, frozen=True):
    """One group of an epoch whose planning is over."""

    number: int
    members: tuple[SnapshotMember, ...]
    """In address order, with the snapshot's T and N."""
    energy_wh: int
    credit: int
    """Sums of the snapshot's N and T."""
    seat: Seat | None
    """Its seat at the next height with its votes; None if the epoch has no seats yet."""
    ballots: int
    """Ballots accepted from its members for this epoch."""


class PlanStatus(Value, frozen=True):
    """Scores while planning lasts (PROTOCOL 4.5)."""

    epoch: int
    built_in: Score
    best: Score
    submitter: Address | None
    """Who committed the best plan; None while it is the built-in one."""


class FaultStatus(Value, frozen=True):
    """A member's faults of ten epochs, and what they mean now."""

    epochs: tuple[EpochFaults, ...]
    """Those with a fault, ascending."""
    streak: int
    """s of PROTOCOL 3.1."""
    excluded_now: bool
    """From the seats of the current epoch (PROTOCOL 7.2)."""
    excluded_next: bool
    """From those of the next one."""


def phase_status(state: State, parameters: Parameters) -> PhaseStatus:
    """Epoch and phase of the next block, with its times."""
    chain = chain_of(state)
    elapsed_ms = chain.chain_ms - chain.phase_since_chain_ms
    duration_ms = _duration_ms(chain, parameters)
    return PhaseStatus(
        epoch=chain.epoch,
        epoch_first_height=chain.epoch_first_height,
        phase=chain.phase,
        elapsed_ms=elapsed_ms,
        duration_ms=duration_ms,
        remaining_ms=max(0, duration_ms - elapsed_ms),
    )


def has_groups(state: State, epoch: int) -> bool:
    """Whether the groups of ``epoch`` are fixed and still in the state: the current ones, or the next ones."""
    return number_key(epoch) in state.epoch.groups


def groups_status(state: State, epoch: int) -> tuple[GroupStatus, ...]:
    """The groups of ``epoch`` in order, for which `has_groups` holds."""
    grouping = state.epoch.grouping(epoch)
    chain = chain_of(state)
    latest = seat_set_at(state, chain.height + 2)
    at_next = seat_set_at(state, chain.height + 1)
    seats = at_next if at_next.epoch == epoch else latest
    by_group = {seat.group: seat for seat in seats.ranking} if seats.epoch == epoch else {}
    return tuple(
        GroupStatus(
            number=number,
            members=members,
            energy_wh=sum(member.energy_wh for member in members),
            credit=sum(member.credit for member in members),
            seat=by_group.get(number),
            ballots=len(counted_ballots(state, grouping, number)),
        )
        for number, members in enumerate(grouping.groups)
    )


def group_of(state: State, epoch: int, address: Address) -> int | None:
    """The group of ``address`` in ``epoch``; None if it is not grouped or the groups are not in the state."""
    return state.epoch.grouping(epoch).group_of.get(address) if has_groups(state, epoch) else None


def ballot_of(state: State, epoch: int, voter: Address) -> BallotRecord | None:
    """The voter's newest accepted ballot for the current or the next epoch."""
    return state.epoch.ballots.get(ballot_key(epoch, voter))


def plan_status(state: State, parameters: Parameters) -> PlanStatus | None:
    """Scores of the built-in and of the best plan; None unless planning is on."""
    chain = chain_of(state)
    if chain.phase is not EpochPhase.PLANNING:
        return None
    built_in = require_built_in_plan(state, parameters, chain.epoch + 1).score
    best = state.epoch.best_plan.get(SINGLETON)
    if best is None:
        return PlanStatus(chain.epoch + 1, built_in, built_in, None)
    return PlanStatus(chain.epoch + 1, built_in, best.score, best.submitter)


def fault_status(state: State, address: Address) -> FaultStatus:
    """Faults of a member over ten epochs (PROTOCOL 5.5)."""
    conduct = conduct_of(state, address)
    epoch = chain_of(state).epoch
    member = (SnapshotMember(address, 0, 0, True),)
    return FaultStatus(
        epochs=conduct.faults,
        streak=conduct.streak,
        excluded_now=candidates(state, member, epoch)[0].excluded,
        excluded_next=candidates(state, member, epoch + 1)[0].excluded,
    )


def serves_until(state: State, address: Address) -> int | None:
    """First height known to be decided without ``address``; None if C(h + 2) holds it (PROTOCOL 1.7)."""
    height = chain_of(state).height
    for candidate in (height + 1, height + 2):
        if delegate_set_at(state, candidate).position(address) is None:
            return candidate
    return None


def _duration_ms(chain: Chain, parameters: Parameters) -> int:
    match chain.phase:
        case EpochPhase.RUNNING:
            return parameters.run_ms
        case EpochPhase.PLANNING:
            return parameters.planning_ms
        case EpochPhase.VOTING:
            return parameters.voting_ms
        case EpochPhase.CLOSING:
            return 0

"""Seats: who decides which height, the tally at the end of voting, the recount in every other block (PROTOCOL 5, 7.2).

State after block h holds C(h + 1) and C(h + 2); block h derives C(h + 2).
"""

from collections.abc import Sequence

from consensus.delegates import Delegate, DelegateSet, next_head
from consensus.election import Candidate, CountedBallot, Seat, first_seats, replace_excluded, tally
from consensus.errors import invariant
from consensus.parameters import Parameters
from consensus.types import Address
from contracts.ballots import counted_ballots
from contracts.context import BlockContext
from contracts.epoch_records import SeatSet, SnapshotMember
from contracts.epoch_state import chain_of, seat_set_at
from contracts.faults import is_down, is_proven
from contracts.receipts import DelegatesChanged, GroupTallied
from contracts.state import State, number_key


def delegate_set_at(state: State, height: int) -> DelegateSet:
    """C(height) with its keys: from the previous epoch's start up to two above the last block."""
    seats = seat_set_at(state, height)
    known = state.epoch.delegate_sets.get(seats.from_height)
    if known is None:
        known = DelegateSet(
            tuple(
                Delegate(seat.holder, state.accounts.require(seat.holder).public_key)
                for seat in seats.ranking
            )
        )
        state.epoch.delegate_sets[seats.from_height] = known
    return known


def next_height_head(state: State) -> Address:
    """head(h + 1) after the last block h (PROTOCOL 6.3)."""
    chain = chain_of(state)
    current = delegate_set_at(state, chain.height + 1)
    if chain.height + 1 == chain.epoch_first_height:
        return current.ranking[0].address
    return next_head(delegate_set_at(state, chain.height), chain.proposer, current, first_of_epoch=False)


def seat_first_delegates(state: State, parameters: Parameters) -> None:
    """C(1) = C(2): the groups of epoch 0 without a ballot, ranked by credit, energy, H (PROTOCOL 4.7)."""
    grouping = state.epoch.grouping(0)
    groups = [candidates(state, members, 0) for members in grouping.groups]
    ranking = first_seats(groups, grouping.seed, parameters.candidate_floor)
    _put(state, SeatSet(0, 1, 0, ranking))


def tally_seats(state: State, context: BlockContext) -> None:
    """The last voting block h: C(h + 2) from the tally alone (PROTOCOL 4.4, 7.2)."""
    epoch = context.epoch + 1
    grouping = state.epoch.grouping(epoch)
    numbers = range(len(grouping.groups))
    ballots = [counted_ballots(state, grouping, number) for number in numbers]
    groups = [candidates(state, members, epoch) for members in grouping.groups]
    every_ballot = [ballot for group in ballots for ballot in group]
    ranking = tally(groups, every_ballot, grouping.seed, context.parameters.candidate_floor)
    invariant(len(ranking) == len(groups), "every group elects one delegate (5.1)")
    for seat in sorted(ranking, key=lambda seat: seat.group):
        context.emit(_tallied(epoch, seat, len(ballots[seat.group]), recount=False))
    _seat(state, context, SeatSet(epoch, context.height + 2, 0, ranking))


def recount_seats(state: State, context: BlockContext) -> None:
    """Every other block h: C(h + 2) from C(h + 1), excluded holders replaced, at most f an epoch (PROTOCOL 7.2)."""
    current = seat_set_at(state, context.height + 1)
    allowance = (len(current.ranking) - 1) // 3 - current.replacements
    if allowance <= 0:
        return
    grouping = state.epoch.grouping(current.epoch)
    groups: list[Sequence[Candidate]] = [()] * len(grouping.groups)
    ballots: list[CountedBallot] = []
    for seat in current.ranking:
        holder = _candidate_of_seat(state, seat, current.epoch)
        groups[seat.group] = (holder,)
        if holder.excluded:
            groups[seat.group] = candidates(state, grouping.groups[seat.group], current.epoch)
            ballots.extend(counted_ballots(state, grouping, seat.group))
    if not any(holder.excluded for group in groups for holder in group):
        return
    floor = context.parameters.candidate_floor
    following = replace_excluded(current.ranking, groups, ballots, grouping.seed, floor, allowance)
    if not following.replacements:
        return
    for replacement in following.replacements:
        cast = counted_ballots(state, grouping, replacement.new.group)
        context.emit(_tallied(current.epoch, replacement.new, len(cast), recount=True))
    made = current.replacements + len(following.replacements)
    invariant(
        len(following.ranking) == len(current.ranking), "the number of seats changes at epoch ends only (7.2)"
    )
    _seat(state, context, SeatSet(current.epoch, context.height + 2, made, following.ranking))


def candidates(state: State, members: Sequence[SnapshotMember], epoch: int) -> tuple[Candidate, ...]:
    """Members of a group with what excludes them from the seats of ``epoch`` (PROTOCOL 7.2)."""
    return tuple(
        Candidate(
            address=member.address,
            energy_wh=member.energy_wh,
            credit=member.credit,
            left=state.accounts.require(member.address).left_height is not None,
            proven=is_proven(state, member.address, epoch),
            down=is_down(state, member.address, epoch),
        )
        for member in members
    )


def served_in(state: State, epoch: int) -> dict[Address, None]:
    """Who held a seat at some height of ``epoch`` (PROTOCOL 3.3, 4.6)."""
    return {
        seat.holder: None
        for _, seats in state.epoch.seat_sets.items()
        if seats.epoch == epoch
        for seat in seats.ranking
    }


def served_from(state: State, height: int) -> SeatSet | None:
    """The set whose first height is ``height``, if one starts there."""
    return state.epoch.seat_sets.get(number_key(height))


def forget_sets(state: State, before_epoch: int) -> None:
    """Remove the sets of epochs below ``before_epoch``, about which evidence is refused (PROTOCOL 3.2)."""
    for key, seats in tuple(state.epoch.seat_sets.items()):
        if seats.epoch < before_epoch:
            state.epoch.seat_sets.delete(key)
            state.epoch.delegate_sets.pop(seats.from_height, None)


def _candidate_of_seat(state: State, seat: Seat, epoch: int) -> Candidate:
    return candidates(state, (SnapshotMember(seat.holder, seat.energy_wh, seat.credit, True),), epoch)[0]


def _tallied(epoch: int, seat: Seat, ballots: int, *, recount: bool) -> GroupTallied:
    return GroupTallied(
        epoch=epoch,
        group=seat.group,
        delegate=seat.holder,
        votes=seat.votes,
        ballots=ballots,
        recount=recount,
    )


def _seat(state: State, context: BlockContext, seats: SeatSet) -> None:
    _put(state, seats)
    ranking = tuple(seat.holder for seat in seats.ranking)
    context.emit(DelegatesChanged(seats.from_height, ranking))


def _put(state: State, seats: SeatSet) -> None:
    ranking = seats.ranking
    invariant(len(ranking) > 0, "somebody holds a seat at every height (7.3)")
    invariant(len(dict.fromkeys(seat.holder for seat in ranking)) == len(ranking), "one seat a member (5.1)")
    invariant(len(dict.fromkeys(seat.group for seat in ranking)) == len(ranking), "one seat a group (5.1)")
    invariant(seats.replacements <= (len(ranking) - 1) // 3, "at most f seats an epoch change hands (7.2)")
    state.epoch.seat_sets.put(number_key(seats.from_height), seats)

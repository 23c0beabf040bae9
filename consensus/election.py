"""Credit voting within groups, the ranking of delegates, and the seats after an exclusion (PROTOCOL 5, 7.2).

A tally and a recount share `_count`: they differ only in which exclusions may be waived. Everything here follows from
the snapshot's T and N, the newest ballot of each voter, the seed, and the exclusions that the caller takes from the
ledger; docs/annex/election.md states the same steps for a second implementation.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from consensus.errors import invariant
from consensus.grouping import member_hash
from consensus.types import ENTRY_CREDIT, Address, Credit, Unsigned, Value, Wire

MAX_CHOICES: Final = 3
"""Choices on a ballot (PROTOCOL 5.2)."""
WEIGHT_FLOOR: Final = ENTRY_CREDIT
"""No voter's weight is capped below a newcomer's credit (PROTOCOL 5.2)."""


class Candidate(Value, frozen=True):
    """A member of a group: T and N of the snapshot, and what excludes it from seats of the epoch (PROTOCOL 7.2)."""

    address: Address
    energy_wh: int
    credit: int
    left: bool = False
    """It has left."""
    proven: bool = False
    """A fault (b) of it is recorded in a block of the epoch before or of this one."""
    down: bool = False
    """A fault (c) of it is recorded likewise."""

    @property
    def excluded(self) -> bool:
        """Whether it may hold no seat of this epoch (PROTOCOL 7.2)."""
        return self.left or self.proven or self.down


class CountedBallot(Value, frozen=True):
    """The newest accepted ballot of a voter (highest sequence, PROTOCOL 5.2)."""

    voter: Address
    choices: tuple[Address, ...]


class Seat(Wire, frozen=True):
    """One group's delegate and who put it there."""

    group: Unsigned
    holder: Address
    votes: Unsigned
    """V of the holder, the sum of the weights given to it."""
    energy_wh: Unsigned
    credit: Credit
    """N and T of the holder at the snapshot: what the ranking compares after the votes."""
    supporters: tuple[Address, ...]
    """Voters, in address order, whose ballot gave its weight to the holder; its own ballot among them."""


class Replacement(Value, frozen=True):
    """A seat that changed hands."""

    old: Seat
    new: Seat


class NextSet(Value, frozen=True):
    """C(h+2) as derived from C(h+1) (PROTOCOL 7.2)."""

    ranking: tuple[Seat, ...]
    replacements: tuple[Replacement, ...]
    """In the order they were made; each counts toward the f of its epoch."""


def tally(
    groups: Sequence[Sequence[Candidate]], ballots: Sequence[CountedBallot], seed: bytes, candidate_floor: int
) -> tuple[Seat, ...]:
    """The seats of the next epoch in ranking order: rules 1 to 3 of PROTOCOL 5.3 and 5.4.

    ``ballots`` may hold those of all groups, at most one a voter. The first seat is the system primary.
    """
    by_voter = _by_voter(ballots)
    seats = []
    for number, members in enumerate(groups):
        electable = _electable_in_tally(members, candidate_floor)
        seats.append(_count(number, members, electable, by_voter, seed))
    return tuple(sorted(seats, key=lambda seat: _rank_key(seat, seed)))


def first_seats(groups: Sequence[Sequence[Candidate]], seed: bytes, candidate_floor: int) -> tuple[Seat, ...]:
    """The seats of epoch 0: groups without a ballot, ranked by credit, energy, H (PROTOCOL 4.7)."""
    seats = tally(groups, (), seed, candidate_floor)
    return tuple(
        sorted(seats, key=lambda seat: (-seat.credit, -seat.energy_wh, member_hash(seed, seat.holder)))
    )


def replace_excluded(
    current: Sequence[Seat],
    groups: Sequence[Sequence[Candidate]],
    ballots: Sequence[CountedBallot],
    seed: bytes,
    candidate_floor: int,
    allowance: int,
) -> NextSet:
    """C(h+2) from C(h+1) = ``current``: excluded holders replaced in ranking order (PROTOCOL 7.2).

    ``allowance`` is f of C(h+1) less the replacements already made in this epoch. A new delegate goes last; a holder
    whose group has nobody else keeps its seat and its rank, and does not count.
    """
    by_voter = _by_voter(ballots)
    ranking = list(current)
    replacements: list[Replacement] = []
    for seat in current:
        if len(replacements) >= allowance:
            break
        members = groups[seat.group]
        if not _member(members, seat.holder).excluded:
            continue
        electable = _electable_in_recount(members, candidate_floor)
        if electable:
            new = _count(seat.group, members, electable, by_voter, seed)
            ranking.remove(seat)
            ranking.append(new)
            replacements.append(Replacement(seat, new))
    return NextSet(tuple(ranking), tuple(replacements))


def default_ballot(
    members: Sequence[Candidate], fault_counts: Mapping[Address, int], seed: bytes
) -> tuple[Address, ...]:
    """The choices a node makes for itself: fewest faults in 10 epochs, highest T, H(seed, address) (PROTOCOL 5.5)."""
    order = sorted(
        members,
        key=lambda member: (
            fault_counts.get(member.address, 0),
            -member.credit,
            member_hash(seed, member.address),
        ),
    )
    return tuple(member.address for member in order[:MAX_CHOICES])


def lower_median(values: Sequence[int]) -> int:
    """The middle value, the lower of the two for an even count."""
    invariant(len(values) > 0, "a median needs a value")
    return sorted(values)[(len(values) - 1) // 2]


def ballot_weight(credit: int, group_median: int) -> int:
    """min(T, max(2 * lower median T of the group, 50 000)), PROTOCOL 5.2."""
    return min(credit, max(2 * group_median, WEIGHT_FLOOR))


def _by_voter(ballots: Sequence[CountedBallot]) -> dict[Address, CountedBallot]:
    by_voter = {ballot.voter: ballot for ballot in ballots}
    invariant(len(by_voter) == len(ballots), "one ballot counts for each voter")
    return by_voter


def _member(members: Sequence[Candidate], address: Address) -> Candidate:
    found = [member for member in members if member.address == address]
    invariant(len(found) == 1, "a seat's holder is a member of its group")
    return found[0]


def _electable_in_tally(members: Sequence[Candidate], floor: int) -> list[Candidate]:
    """Floor, (c), (b) and left are waived in that order until somebody is electable (PROTOCOL 3.4, 7.2)."""
    kept = [member for member in members if not member.left]
    unproven = [member for member in kept if not member.proven]
    up = [member for member in unproven if not member.down]
    above = [member for member in up if member.credit >= floor]
    return above or up or unproven or kept or list(members)


def _electable_in_recount(members: Sequence[Candidate], floor: int) -> list[Candidate]:
    """Only the floor is waived; empty if every member is excluded (PROTOCOL 7.2)."""
    allowed = [member for member in members if not member.excluded]
    return [member for member in allowed if member.credit >= floor] or allowed


def _count(
    group: int,
    members: Sequence[Candidate],
    electable: Sequence[Candidate],
    by_voter: Mapping[Address, CountedBallot],
    seed: bytes,
) -> Seat:
    """The seat of ``group``: most votes, then energy, credit, H; without a single ballot credit, energy, H (5.3)."""
    median = lower_median([member.credit for member in members])
    votes = {member.address: 0 for member in electable}
    supporters: dict[Address, list[Address]] = {member.address: [] for member in electable}
    cast = False
    for voter in sorted(members, key=lambda member: member.address):
        ballot = by_voter.get(voter.address)
        if ballot is None:
            continue
        cast = True
        choice = next((choice for choice in ballot.choices if choice in votes), None)
        if choice is not None:
            votes[choice] += ballot_weight(voter.credit, median)
            supporters[choice].append(voter.address)

    def order(member: Candidate) -> tuple[int, int, int, bytes]:
        drawn = member_hash(seed, member.address)
        if cast:
            return -votes[member.address], -member.energy_wh, -member.credit, drawn
        return 0, -member.credit, -member.energy_wh, drawn

    winner = min(electable, key=order)
    address = winner.address
    return Seat(group, address, votes[address], winner.energy_wh, winner.credit, tuple(supporters[address]))


def _rank_key(seat: Seat, seed: bytes) -> tuple[int, int, int, bytes]:
    """Rules 2 and 3 of PROTOCOL 5.3: votes, energy, credit, H."""
    return -seat.votes, -seat.energy_wh, -seat.credit, member_hash(seed, seat.holder)

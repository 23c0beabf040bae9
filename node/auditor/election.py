"""Counting ballots, ranking, recounts (annex on election; PROTOCOL 5.2-5.4, 7.2)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from node.auditor.encoding import tagged
from node.auditor.state import Seat, SeatSet

WEIGHT_FLOOR = 50_000


class Voter(NamedTuple):
    """A member of a group, with the snapshot's N and T and what bars it from a seat."""

    address: bytes
    energy_wh: int
    credit: int
    left: bool
    wrong_block: bool
    down: bool

    @property
    def excluded(self) -> bool:
        """Has left, or (b) or (c) is recorded."""
        return self.left or self.wrong_block or self.down


class Count(NamedTuple):
    """The result of one group."""

    seat: Seat
    ballots: int


def electable_in_tally(members: Sequence[Voter], floor: int) -> list[Voter]:
    """Step 1 for a tally: floor, (c), (b) and left are waived in that order."""
    waivers = (
        lambda m: not m.excluded and m.credit >= floor,
        lambda m: not m.excluded,
        lambda m: not m.left and not m.wrong_block,
        lambda m: not m.left,
        lambda m: True,
    )
    for admitted in waivers:
        found = [member for member in members if admitted(member)]
        if found:
            return found
    return []


def electable_in_recount(members: Sequence[Voter], floor: int) -> list[Voter]:
    """Step 1 for a recount: only the floor is waived."""
    free = [member for member in members if not member.excluded]
    return [member for member in free if member.credit >= floor] or free


def count(
    group: int,
    members: Sequence[Voter],
    electable: Sequence[Voter],
    ballots: Mapping[bytes, Sequence[bytes]],
    seed: bytes,
) -> Count:
    """Steps 2 to 5: the seat of one group; ``electable`` is not empty."""
    ascending = sorted(member.credit for member in members)
    cap = max(2 * ascending[(len(ascending) - 1) // 2], WEIGHT_FLOOR)
    open_to = {member.address for member in electable}
    votes = dict.fromkeys(open_to, 0)
    backed: dict[bytes, bytes] = {}
    cast = 0
    for member in members:
        choices = ballots.get(member.address)
        if choices is None:
            continue
        cast += 1
        first = next((choice for choice in choices if choice in open_to), None)
        if first is not None:
            votes[first] += min(member.credit, cap)
            backed[member.address] = first

    def order(member: Voter) -> tuple[int, int, int, bytes]:
        hashed = tagged("seed.member", seed + member.address)
        if cast:
            return -votes[member.address], -member.energy_wh, -member.credit, hashed
        return -member.credit, -member.energy_wh, 0, hashed

    winner = min(electable, key=order)
    supporters = tuple(sorted(voter for voter, choice in backed.items() if choice == winner.address))
    figures = (votes[winner.address], winner.energy_wh, winner.credit)
    return Count(Seat(group, winner.address, *figures, supporters), cast)


def ranked(seats: Iterable[Seat], seed: bytes, *, first_epoch: bool = False) -> tuple[Seat, ...]:
    """By votes, N, T; in epoch 0 by T, N; then H."""

    def order(seat: Seat) -> tuple[int, int, int, bytes]:
        hashed = tagged("seed.member", seed + seat.holder)
        if first_epoch:
            return -seat.credit, -seat.energy_wh, 0, hashed
        return -seat.votes, -seat.energy_wh, -seat.credit, hashed

    return tuple(sorted(seats, key=order))


def head(parent: SeatSet, parent_proposer: bytes, current: SeatSet, first_of_epoch: bool) -> bytes:
    """head(h): the primary of view 0 (PROTOCOL 6.3)."""
    seated = current.holders
    if not first_of_epoch and parent_proposer in parent.holders:
        before = parent.holders
        start = before.index(parent_proposer)
        for holder in before[start:] + before[:start]:
            if holder in seated:
                return holder
    return seated[0]


def primary(current: SeatSet, first: bytes, view: int) -> bytes:
    """primary(h, view), ``first`` being head(h)."""
    holders = current.holders
    return holders[(holders.index(first) + view) % len(holders)]

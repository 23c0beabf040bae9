"""Who may vote and be seated, as the chain's events tell it, and the count of a group (PROTOCOL 5.2, 5.3, 7.2)."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from scripts.history.chain import (
    BallotAccepted,
    Chain,
    CreditChanged,
    Event,
    FaultRecorded,
    GroupsFormed,
    MemberJoined,
    MemberLeft,
    TradeChanged,
    TradeSettled,
)

WEIGHT_FLOOR: Final = 50_000
ENTRY_CREDIT: Final = 50_000
EXCLUDING: Final = frozenset({"wrong_block", "down"})


def tagged(tag: str, data: bytes) -> bytes:
    """H(tag, data) of the annex on blocks."""
    return sha256(bytes([len(tag)]) + tag.encode() + data).digest()


class Standing(NamedTuple):
    """A member at the snapshot."""

    address: str
    energy_wh: int
    credit: int


class Snapshot(NamedTuple):
    """What an election counts with."""

    seed: bytes
    members: Mapping[str, Standing]

    def lot(self, address: str) -> bytes:
        """What decides when all else is equal."""
        return tagged("seed.member", self.seed + bytes.fromhex(address))


class Electorate:
    """Credit, energy, ballots, faults and departures so far."""

    def __init__(self, chain: Chain) -> None:
        self.credit = {one.address: one.credit for one in chain.members}
        self.energy = {one.address: 0 for one in chain.members}
        self.gone: set[str] = set()
        self.faults: dict[str, set[tuple[int, str]]] = {}
        """(epoch, kind) of each member's."""
        self.ballots: dict[int, dict[str, tuple[int, tuple[str, ...]]]] = {}
        """Sequence and choices of the newest, by epoch and voter."""
        self._parties: dict[str, tuple[str, str]] = {}
        self.snapshots = {0: self._snapshot(bytes.fromhex(chain.chain_id))}
        self.groups: dict[int, GroupsFormed] = {0: chain.groups}

    def take(self, epoch: int, event: Event) -> None:
        """Note an event of a block of ``epoch``."""
        match event:
            case CreditChanged(address, _, _, credit):
                self.credit[address] = credit
            case MemberJoined(address):
                self.credit.setdefault(address, ENTRY_CREDIT)
                self.energy.setdefault(address, 0)
                self.gone.discard(address)
            case MemberLeft(address):
                self.gone.add(address)
            case TradeChanged(contract, _, seller, buyer):
                self._parties[contract] = (seller, buyer)
            case TradeSettled(contract=contract, delivered_wh=delivered_wh):
                for party in self._parties.get(contract, ()):
                    self.energy[party] += delivered_wh
            case FaultRecorded(address, kind):
                self.faults.setdefault(address, set()).add((epoch, kind))
            case BallotAccepted(voter, seats, sequence, choices):
                self.ballots.setdefault(seats, {})[voter] = (sequence, choices)
            case GroupsFormed():
                self.groups[event.epoch] = event
            case _:
                pass

    def take_snapshot(self, epoch: int, block_hash: str) -> None:
        """The block before planning: what the election for ``epoch`` counts with."""
        self.snapshots[epoch] = self._snapshot(tagged("seed", bytes.fromhex(block_hash)))

    def _snapshot(self, seed: bytes) -> Snapshot:
        rows = {
            address: Standing(address, self.energy[address], credit)
            for address, credit in self.credit.items()
            if address not in self.gone
        }
        return Snapshot(seed, rows)

    def excluded(self, address: str, epoch: int, kinds: frozenset[str] = EXCLUDING) -> bool:
        """From the seats of ``epoch`` (PROTOCOL 7.2), the departed aside."""
        recent = self.faults.get(address, set())
        return any(kind in kinds and at in (epoch - 1, epoch) for at, kind in recent)

    def members_of(self, epoch: int, group: int) -> list[Standing]:
        """Of one group, in address order, as they stood at the snapshot."""
        formed, snapshot = self.groups[epoch], self.snapshots[epoch]
        chosen = (
            address
            for address, number in zip(formed.members, formed.assignment, strict=True)
            if number == group
        )
        return [snapshot.members[address] for address in chosen]

    def electable(
        self, epoch: int, members: Sequence[Standing], floor: int, *, recount: bool
    ) -> list[Standing]:
        """PROTOCOL 7.2: what is waived, in order, until somebody is left; a recount waives only the floor."""
        here = [one for one in members if one.address not in self.gone]
        honest = [one for one in here if not self.excluded(one.address, epoch)]
        steps = [[one for one in honest if one.credit >= floor], honest]
        if not recount:
            wrong = frozenset({"wrong_block"})
            steps += [
                [one for one in here if not self.excluded(one.address, epoch, wrong)],
                here,
                list(members),
            ]
        return next((step for step in steps if step), [])


class Result(NamedTuple):
    """A group's winner."""

    delegate: str
    votes: int
    ballots: int


def count(
    snapshot: Snapshot,
    members: Sequence[Standing],
    electable: Sequence[Standing],
    ballots: Mapping[str, tuple[int, tuple[str, ...]]],
) -> Result:
    """PROTOCOL 5.2 and 5.3."""
    ascending = sorted(one.credit for one in members)
    cap = max(2 * ascending[(len(ascending) - 1) // 2], WEIGHT_FLOOR)
    votes = {one.address: 0 for one in electable}
    cast = 0
    for one in members:
        if one.address in ballots:
            cast += 1
            first = next((choice for choice in ballots[one.address][1] if choice in votes), None)
            if first is not None:
                votes[first] += min(one.credit, cap)

    def order(one: Standing) -> tuple[int, int, int, bytes]:
        if cast:
            return -votes[one.address], -one.energy_wh, -one.credit, snapshot.lot(one.address)
        return -one.credit, -one.energy_wh, 0, snapshot.lot(one.address)

    winner = min(electable, key=order)
    return Result(winner.address, votes[winner.address], cast)


def ranked(snapshot: Snapshot, results: Sequence[Result]) -> tuple[str, ...]:
    """PROTOCOL 5.3, 5.4."""

    def order(result: Result) -> tuple[int, int, int, bytes]:
        one = snapshot.members[result.delegate]
        return -result.votes, -one.energy_wh, -one.credit, snapshot.lot(result.delegate)

    return tuple(result.delegate for result in sorted(results, key=order))

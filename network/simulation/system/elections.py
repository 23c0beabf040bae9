"""S11 and S12 by a second, plain model: phases, ballots, tallies, recounts, faults and sets, from the blocks alone.

It counts what was signed and committed, after the words of PROTOCOL 3.2, 4.4, 4.6, 5 and 7.2, and calls none of the
code that elects. Every answer of the engine that shows in an event or a header is compared with it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from consensus.block import Block, Header
from consensus.encoding import encode
from consensus.hashing import address_of, tagged_hash
from consensus.parameters import Parameters
from consensus.signing import BALLOT_DOMAIN, Verifier
from consensus.types import Address, Digest
from contracts.genesis import Genesis
from contracts.receipts import (
    BallotAccepted,
    DelegatesChanged,
    EpochPhase,
    Event,
    FaultKind,
    FaultRecorded,
    GroupsFormed,
    HeartbeatSeen,
    MemberJoined,
    MemberLeft,
    PhaseChanged,
    Receipt,
)
from contracts.transaction import Ballot, Ballots, Transaction
from network.simulation.checkers import demand
from network.simulation.system.books import Books

MOST_BALLOTS = 4
WEIGHT_FLOOR = 50_000


@dataclass(frozen=True)
class Elector:
    """A member at a snapshot."""

    address: Address
    credit: int
    energy_wh: int
    drawn: Digest
    """H(seed, address)."""


@dataclass
class Division:
    """The groups of one epoch and the ballots for its seats."""

    groups: tuple[tuple[Elector, ...], ...]
    group_of: dict[Address, int]
    ballots: dict[Address, tuple[int, tuple[Address, ...], int]] = field(default_factory=dict)
    """Per voter: sequence, choices, ballots accepted."""


@dataclass(frozen=True)
class Set:
    """C(h)."""

    epoch: int
    holders: tuple[tuple[Address, int], ...]
    """(address, group) in ranking order."""
    replaced: int

    @property
    def ranking(self) -> tuple[Address, ...]:
        """Addresses in ranking order."""
        return tuple(address for address, _ in self.holders)

    @property
    def faults(self) -> int:
        """f."""
        return (len(self.holders) - 1) // 3


@dataclass
class Missing:
    """Consecutive heights at which a delegate is absent from last-commits."""

    heights: int
    since_height: int
    since_chain_ms: int


class Elections:
    """Told every decided block once, in order, after the books."""

    def __init__(
        self,
        genesis: Genesis,
        books: Books,
        verifier: Verifier,
        first_groups: Sequence[Sequence[Address]],
        first_ranking: Sequence[Address],
        reached: Counter[str],
    ) -> None:
        """Groups and ranking of epoch 0 follow from the built-in planner alone and are taken as they are (4.7)."""
        self._p: Parameters = genesis.parameters
        self._chain_id = genesis.hash()
        self._books = books
        self._verifier = verifier
        self._reached = reached
        self.epoch, self.phase = 0, EpochPhase.RUNNING
        self._first_height = 1
        self._phase_since_ms = self._phase_blocks = 0
        self.chain_ms, self._time_ms = 0, genesis.time_ms
        self._proposer: Address | None = None
        self._snapshot: tuple[Digest, dict[Address, Elector]] | None = None
        self._divisions: dict[int, Division] = {}
        self._active = dict.fromkeys((member.address for member in genesis.members), 0)
        self._faults: dict[tuple[Address, int], set[FaultKind]] = defaultdict(set)
        self._missing: dict[Address, Missing] = {}
        self._form_first(first_groups)
        group_of = self._divisions[0].group_of
        first = Set(0, tuple((address, group_of[address]) for address in first_ranking), 0)
        self._sets: dict[int, Set] = {1: first, 2: first}
        self._serve(first)

    def _form_first(self, groups: Sequence[Sequence[Address]]) -> None:
        seed = self._chain_id
        electors = {
            address: Elector(address, WEIGHT_FLOOR, 0, tagged_hash("seed.member", seed + address))
            for group in groups
            for address in group
        }
        formed = tuple(tuple(electors[address] for address in group) for group in groups)
        group_of = {address: number for number, group in enumerate(groups) for address in group}
        self._divisions[0] = Division(formed, group_of)

    # ------------------------------------------------------------------ a block

    def set_at(self, height: int) -> Set:
        """C(height), up to two above the last block."""
        return self._sets[height]

    def block(self, block: Block, transactions: Sequence[Transaction], receipts: Sequence[Receipt]) -> None:
        """Count a block and compare."""
        header = block.header
        height = header.height
        events = [event for receipt in receipts for event in receipt.events]
        chain_ms = self.chain_ms + min(header.time_ms - self._time_ms, 2 * self._p.empty_block_interval_ms)
        demand(header.epoch == self.epoch, f"4.4: height {height} is not of epoch {self.epoch}")
        self._check_proposer(header)
        expected = self._primaries_failed(header)
        self._count_last_commit(block)
        self._count_ballots(transactions, receipts, height)
        self._note_members(events)
        expected += self._down(events, height)
        self._compare_faults(expected, events, height)
        last = self._ends_phase(chain_ms)
        self._derive_set(height, header, events, last)
        self._end(header, chain_ms, last, events)

    def _note_members(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case MemberJoined(address=address) | HeartbeatSeen(address=address):
                    self._active[address] = self.epoch
                case BallotAccepted():
                    self._active[event.voter] = self.epoch
                case _:
                    continue

    def _left(self, address: Address) -> bool:
        return not self._books.of[address].member

    # ------------------------------------------------------------------ faults (3.2)

    def _primaries_failed(self, header: Header) -> list[tuple[Address, FaultKind]]:
        """(a)."""
        delegates = self._sets[header.height]
        if header.height == 1 or header.view > delegates.faults:
            return []
        ranking = delegates.ranking
        head = ranking.index(self._head(header.height))
        return [(ranking[(head + view) % len(ranking)], FaultKind.NO_BLOCK) for view in range(header.view)]

    def _check_proposer(self, header: Header) -> None:
        """6.3: a block first proposed in view v is the v-th primary's after head(h)."""
        ranking = self._sets[header.height].ranking
        place = ranking.index(self._head(header.height)) + header.view
        demand(
            header.proposer == ranking[place % len(ranking)],
            f"6.3: the proposer of height {header.height} is not the primary of view {header.view}",
        )
        self._reached["promoted backup proposes"] += header.view > 0

    def _head(self, height: int) -> Address:
        """head(h), PROTOCOL 6.3: who proposed the last block, or the next after it that still has a seat."""
        ranking = self._sets[height].ranking
        if height == self._first_height or self._proposer is None:
            return ranking[0]
        before = self._sets[height - 1].ranking
        place = before.index(self._proposer)
        if self._proposer not in ranking:
            self._reached["primary lost its seat"] += 1
        following = (before[(place + step) % len(before)] for step in range(len(before)))
        return next((address for address in following if address in ranking), ranking[0])

    def _count_last_commit(self, block: Block) -> None:
        height = block.header.height
        if height == self._first_height:
            self._missing.clear()
            return
        if self.phase is EpochPhase.CLOSING or block.last_commit is None:
            return
        present = {address_of(item.signer) for item in block.last_commit.signatures}
        missing: dict[Address, Missing] = {}
        for address in self._sets[height - 1].ranking:
            if address in present:
                continue
            before = self._missing.get(address)
            if before is None:
                missing[address] = Missing(1, height - 1, self.chain_ms)
            else:
                missing[address] = Missing(before.heights + 1, before.since_height, before.since_chain_ms)
        self._missing = missing

    def _down(self, events: Iterable[Event], height: int) -> list[tuple[Address, FaultKind]]:
        """(c), after the block's heartbeats."""
        for event in events:
            if isinstance(event, HeartbeatSeen) and self._missing.pop(event.address, None) is not None:
                self._reached["heartbeat restarted a counter"] += 1
        if self.phase is EpochPhase.CLOSING:
            return []
        found: list[tuple[Address, FaultKind]] = []
        for address, missing in list(self._missing.items()):
            long = self.chain_ms - missing.since_chain_ms >= self._p.missed_ms
            if missing.heights >= self._p.missed_limit and long:
                found.append((address, FaultKind.DOWN))
                del self._missing[address]
        return found

    def missed_since(self, address: Address) -> int | None:
        """The first height of a delegate's running absence."""
        missing = self._missing.get(address)
        return None if missing is None else missing.since_height

    def _compare_faults(
        self, expected: list[tuple[Address, FaultKind]], events: Iterable[Event], height: int
    ) -> None:
        recorded = [event for event in events if isinstance(event, FaultRecorded)]
        presumed = [
            (event.address, event.kind) for event in recorded if event.kind is not FaultKind.WRONG_BLOCK
        ]
        demand(
            Counter(presumed) == Counter(expected),
            f"3.2: height {height} records {presumed}, the chain shows {expected}",
        )
        for event in recorded:
            self._faults[(event.address, self.epoch)].add(event.kind)

    # ------------------------------------------------------------------ ballots (5.2)

    def _count_ballots(
        self, transactions: Sequence[Transaction], receipts: Sequence[Receipt], height: int
    ) -> None:
        """Take the ballots in the order of the block, as if nobody had judged them yet."""
        gone = {address for address, book in self._books.of.items() if not book.member}
        self._undo_changes(gone, receipts)
        for transaction, receipt in zip(transactions, receipts, strict=False):
            self._change(gone, receipt)
            if not isinstance(transaction.payload, Ballots):
                continue
            accepted = [
                (event.voter, event.epoch, event.sequence)
                for event in receipt.events
                if isinstance(event, BallotAccepted)
            ]
            counted = []
            for ballot in transaction.payload.ballots:
                if ballot.voter not in gone and self._takes(
                    ballot.voter, ballot.epoch, ballot.sequence, ballot.choices
                ):
                    message = BALLOT_DOMAIN + self._chain_id + _ballot_body(ballot)
                    rightly = self._verifier.verify(ballot.public_key, message, ballot.signature)
                    demand(
                        rightly and address_of(ballot.public_key) == ballot.voter,
                        f"5.2: height {height} holds a forged ballot",
                    )
                    before = self._divisions[ballot.epoch].ballots.get(ballot.voter)
                    count = 1 if before is None else before[2] + 1
                    self._divisions[ballot.epoch].ballots[ballot.voter] = (
                        ballot.sequence,
                        ballot.choices,
                        count,
                    )
                    counted.append((ballot.voter, ballot.epoch, ballot.sequence))
            demand(
                accepted == counted, f"S12: height {height} accepts {accepted}, to be counted are {counted}"
            )

    @staticmethod
    def _undo_changes(gone: set[Address], receipts: Sequence[Receipt]) -> None:
        """From who has left after the block to who had before it."""
        for receipt in reversed(receipts):
            for event in reversed(receipt.events):
                if isinstance(event, MemberJoined):
                    gone.add(event.address)
                elif isinstance(event, MemberLeft):
                    gone.discard(event.address)

    @staticmethod
    def _change(gone: set[Address], receipt: Receipt) -> None:
        """Who joins and leaves by one transaction."""
        for event in receipt.events:
            if isinstance(event, MemberJoined):
                gone.discard(event.address)
            elif isinstance(event, MemberLeft):
                gone.add(event.address)

    def _takes(self, voter: Address, epoch: int, sequence: int, choices: tuple[Address, ...]) -> bool:
        voting = self.phase is EpochPhase.VOTING
        if epoch != self.epoch and not (voting and epoch == self.epoch + 1):
            return False
        division = self._divisions[epoch]
        group = division.group_of.get(voter)
        if group is None or len(set(choices)) != len(choices):
            return False
        if any(division.group_of.get(choice) != group for choice in choices):
            return False
        before = division.ballots.get(voter)
        return before is None or (sequence > before[0] and before[2] < MOST_BALLOTS)

    # ------------------------------------------------------------------ sets (5.3, 7.2)

    def _derive_set(self, height: int, header: Header, events: Iterable[Event], last: bool) -> None:
        current = self._sets[height + 1]
        tallied = self.phase is EpochPhase.VOTING and last
        following = self._tally(self.epoch + 1) if tallied else self._recount(current)
        told = [event for event in events if isinstance(event, DelegatesChanged)]
        changed = following is not current
        rankings = [(event.height, event.ranking) for event in told]
        expected = [(height + 2, following.ranking)] if changed else []
        demand(rankings == expected, f"S12: block {height} seats {rankings}, a recount gives {expected}")
        self._sets[height + 2] = following
        self._sets.pop(height - 2, None)

    def _tally(self, epoch: int) -> Set:
        division = self._divisions[epoch]
        winners = []
        for number, group in enumerate(division.groups):
            electable = self._electable(group, epoch)
            votes, winner = self._count(group, electable, division, recount=False)
            winners.append((-votes, -winner.energy_wh, -winner.credit, winner.drawn, winner.address, number))
        winners.sort()
        self._reached["tally"] += 1
        return Set(epoch, tuple((row[4], row[5]) for row in winners), 0)

    def _electable(self, group: Sequence[Elector], epoch: int) -> list[Elector]:
        """Everybody but the excluded; floor, (c), (b) and left are waived in that order until somebody is left."""
        ways = (
            (True, True, True, True),
            (False, True, True, True),
            (False, False, True, True),
            (False, False, False, True),
            (False, False, False, False),
        )
        for step, (floor, down, proven, left) in enumerate(ways):
            found = [
                member
                for member in group
                if not (floor and member.credit < self._p.candidate_floor)
                and not (down and self._has_fault(member.address, epoch, FaultKind.DOWN))
                and not (proven and self._has_fault(member.address, epoch, FaultKind.WRONG_BLOCK))
                and not (left and self._left(member.address))
            ]
            if found:
                if step:
                    self._reached[("floor", "down", "proven", "left")[step - 1] + " waived in a tally"] += 1
                return found
        return list(group)

    def _has_fault(self, address: Address, epoch: int, kind: FaultKind) -> bool:
        return any(kind in self._faults.get((address, when), ()) for when in (epoch - 1, epoch))

    def _excluded(self, address: Address, epoch: int) -> bool:
        return (
            self._left(address)
            or self._has_fault(address, epoch, FaultKind.DOWN)
            or self._has_fault(address, epoch, FaultKind.WRONG_BLOCK)
        )

    def _count(
        self, group: Sequence[Elector], electable: Sequence[Elector], division: Division, *, recount: bool
    ) -> tuple[int, Elector]:
        """(votes, winner) of one group."""
        scores = sorted(member.credit for member in group)
        cap = max(2 * scores[(len(scores) - 1) // 2], WEIGHT_FLOOR)
        votes = dict.fromkeys((member.address for member in electable), 0)
        cast = 0
        for voter in group:
            ballot = division.ballots.get(voter.address)
            if ballot is None:
                continue
            cast += 1
            given = next((place for place, choice in enumerate(ballot[1]) if choice in votes), None)
            if given is not None:
                votes[ballot[1][given]] += min(voter.credit, cap)
                self._note_choice(given, recount=recount)
        if not cast:
            self._reached["group without ballots"] += 1
        if cast:
            winner = min(electable, key=lambda m: (-votes[m.address], -m.energy_wh, -m.credit, m.drawn))
            best = [m for m in electable if votes[m.address] == votes[winner.address]]
            self._reached["votes tied"] += len(best) > 1
        else:
            winner = min(electable, key=lambda m: (-m.credit, -m.energy_wh, m.drawn))
        return votes[winner.address], winner

    def _note_choice(self, given: int, *, recount: bool) -> None:
        if given:
            when, place = ("recount" if recount else "tally"), ("second", "third")[given - 1]
            self._reached[f"{when} moved a ballot to its {place} choice"] += 1

    def _recount(self, current: Set) -> Set:
        """Excluded holders are replaced in ranking order, at most f an epoch; who comes new goes last (7.2)."""
        division = self._divisions[current.epoch]
        holders = list(current.holders)
        replaced = current.replaced
        for address, group in current.holders:
            if not self._excluded(address, current.epoch):
                continue
            if replaced >= current.faults:
                self._reached["replacements exhausted"] += 1
                break
            members = division.groups[group]
            allowed = [m for m in members if not self._excluded(m.address, current.epoch)]
            above = [m for m in allowed if m.credit >= self._p.candidate_floor] or allowed
            if not above:
                self._reached["seat kept for want of another"] += 1
                continue
            winner = self._count(members, above, division, recount=True)[1]
            holders.remove((address, group))
            holders.append((winner.address, group))
            replaced += 1
            self._reached["delegate replaced"] += 1
        if replaced == current.replaced:
            return current
        return Set(current.epoch, tuple(holders), replaced)

    # ------------------------------------------------------------------ phases (4.4)

    def _ends_phase(self, chain_ms: int) -> bool:
        elapsed_ms = chain_ms - self._phase_since_ms
        durations: Mapping[EpochPhase, int] = {
            EpochPhase.RUNNING: self._p.run_ms,
            EpochPhase.PLANNING: self._p.planning_ms,
            EpochPhase.VOTING: self._p.voting_ms,
            EpochPhase.CLOSING: 0,
        }
        enough = self.phase is not EpochPhase.VOTING or self._phase_blocks >= 1
        return enough and elapsed_ms >= durations[self.phase]

    def _end(self, header: Header, chain_ms: int, last: bool, events: Sequence[Event]) -> None:
        """Snapshot and groups, then the place of the next block."""
        if last and self.phase is EpochPhase.RUNNING:
            self._take_snapshot(header)
        if last and self.phase is EpochPhase.PLANNING:
            self._take_groups(events, header.height)
        self.chain_ms, self._time_ms, self._proposer = chain_ms, header.time_ms, header.proposer
        self._phase_blocks += 1
        if last:
            self._next_phase(header.height)
            self._phase_since_ms, self._phase_blocks = chain_ms, 0
        told = [(event.epoch, event.phase) for event in events if isinstance(event, PhaseChanged)]
        expected = [(self.epoch, self.phase)] if last else []
        demand(told == expected, f"4.4: height {header.height} says {told}, the clock says {expected}")
        following = self._sets[header.height + 1]
        if following is not self._sets[header.height] or last:
            self._serve(following)

    def _next_phase(self, height: int) -> None:
        order = (EpochPhase.RUNNING, EpochPhase.PLANNING, EpochPhase.VOTING, EpochPhase.CLOSING)
        if self.phase is EpochPhase.CLOSING:
            self.epoch += 1
            self._first_height = height + 1
            self._divisions.pop(self.epoch - 2, None)
            for key in [key for key in self._faults if key[1] < self.epoch - 2]:
                del self._faults[key]
        self.phase = order[(order.index(self.phase) + 1) % len(order)]

    def _serve(self, delegates: Set) -> None:
        for address in delegates.ranking:
            self._active[address] = self.epoch

    def _take_snapshot(self, header: Header) -> None:
        seed = tagged_hash("seed", header.digest())
        present = sorted(address for address, book in self._books.of.items() if book.member)
        oldest = self.epoch - self._p.dormant_epochs
        active = [address for address in present if self._active[address] >= oldest]
        chosen = active if len(active) >= max(4, self._p.groups) else present
        self._reached["dormant member left out of the groups"] += len(chosen) < len(present)
        self._snapshot = (
            seed,
            {
                address: Elector(
                    address,
                    self._books.of[address].credit,
                    self._books.of[address].energy_wh,
                    tagged_hash("seed.member", seed + address),
                )
                for address in chosen
            },
        )

    def _take_groups(self, events: Iterable[Event], height: int) -> None:
        formed = [event for event in events if isinstance(event, GroupsFormed)]
        demand(
            len(formed) == 1 and self._snapshot is not None, f"4.5: no groups are formed at height {height}"
        )
        if self._snapshot is None:
            return
        electors = self._snapshot[1]
        told = formed[0]
        demand(
            told.members == tuple(sorted(electors)) and len(told.assignment) == len(electors),
            f"4.6: height {height} groups other members than are eligible",
        )
        total = min(self._p.groups, len(electors)) if self._p.groups else len(electors)
        groups: list[list[Elector]] = [[] for _ in range(total)]
        for address, number in zip(told.members, told.assignment, strict=True):
            groups[number].append(electors[address])
        sizes = [len(group) for group in groups]
        demand(
            sizes == sorted(sizes) and max(sizes) - min(sizes) <= 1,
            f"4.1: groups of {sizes}, height {height}",
        )
        group_of = dict(zip(told.members, told.assignment, strict=True))
        self._divisions[self.epoch + 1] = Division(tuple(map(tuple, groups)), group_of)
        self._reached["plan adopted over built-in"] += told.submitted


def _ballot_body(ballot: Ballot) -> bytes:
    """What is signed after domain and chain id."""
    return encode((ballot.voter, ballot.epoch, ballot.sequence, ballot.choices))

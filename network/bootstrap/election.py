"""What the service knows of the chain's epoch: snapshot, groups, voting window, who has voted, result (PROTOCOL 8.1d).

Folded from the events of decided blocks as a member tells them. Nobody relies on it: members read their own ledgers.
"""

from collections.abc import Mapping, Sequence

from consensus.errors import invariant
from consensus.grouping import GroupingMember
from consensus.types import Address, Digest, Value
from network.bootstrap.chain import (
    BallotCounted,
    ChainBlock,
    ChainPhase,
    CreditMoved,
    DelegatesSet,
    EnergyTraded,
    EpochFacts,
    GroupsFixed,
    MemberEntered,
    MemberFacts,
    PhaseEntered,
    SeatTallied,
)


class SnapshotTaken(Value, frozen=True):
    """The last block of *running*: what the groups and seats of ``epoch`` go by (PROTOCOL 4.4)."""

    epoch: int
    height: int
    hash: Digest
    time_ms: int


class PhaseStart(Value, frozen=True):
    """The block behind which a phase began."""

    epoch: int
    phase: ChainPhase
    height: int
    time_ms: int


class ElectionView:
    """The current epoch and the election of the next one's seats."""

    def __init__(self) -> None:
        self.height = 0
        """Last block taken in; 0: none."""
        self.block_time_ms = 0
        self.start: PhaseStart | None = None
        self.snapshot: SnapshotTaken | None = None
        self.groups: dict[int, GroupsFixed] = {}
        """By epoch: the current one's and the next one's."""
        self.voted: dict[int, dict[Address, int]] = {}
        """Sequence of the newest counted ballot, by epoch of the seats and voter."""
        self.tallies: list[SeatTallied] = []
        """Of the newest election and the recounts after it."""
        self.delegates: tuple[Address, ...] = ()
        self.joined: dict[Address, None] = {}
        """Members whose entry was seen."""
        self._moves: dict[Address, list[tuple[int, int, int]]] = {}
        """While planning: (height, energy in Wh, credit) that a member's figures changed by since the snapshot."""
        self._entered: dict[Address, int] = {}
        """Members that entered since the snapshot, with the height."""

    def begin(self, facts: EpochFacts, height: int) -> None:
        """Start inside an epoch, behind block ``height``."""
        self.height = height
        if facts.phase is not None:
            self.start = PhaseStart(facts.epoch, facts.phase, height, 0)
        if facts.members:
            self.groups[facts.epoch] = GroupsFixed(facts.epoch, facts.members, facts.assignment, 0, 0, False)
        self.delegates = facts.delegates

    @property
    def epoch(self) -> int | None:
        """Epoch of the next block; None before anything is known."""
        return None if self.start is None else self.start.epoch

    @property
    def phase(self) -> ChainPhase | None:
        """Phase of the next block."""
        return None if self.start is None else self.start.phase

    def apply(self, block: ChainBlock) -> None:
        """Take in the next block."""
        invariant(block.height == self.height + 1 or not self.height, "blocks are taken in one by one")
        self.height = block.height
        self.block_time_ms = block.time_ms
        for event in block.events:
            match event:
                case PhaseEntered():
                    self._enter(event, block)
                case GroupsFixed():
                    self.groups[event.epoch] = event
                    self.voted.setdefault(event.epoch, {})
                case BallotCounted():
                    self.voted.setdefault(event.epoch, {})[event.voter] = event.sequence
                case SeatTallied():
                    if self.tallies and self.tallies[-1].epoch != event.epoch:
                        self.tallies = []
                    self.tallies.append(event)
                case DelegatesSet():
                    self.delegates = event.ranking
                case MemberEntered():
                    self.joined[event.address] = None
                    self._entered[event.address] = block.height
                case CreditMoved():
                    self._note_move(event.address, block.height, 0, event.delta)
                case EnergyTraded():
                    for party in event.parties:
                        self._note_move(party, block.height, event.delivered_wh, 0)

    def _note_move(self, address: Address, height: int, energy_wh: int, credit: int) -> None:
        if self.phase is ChainPhase.PLANNING:
            self._moves.setdefault(address, []).append((height, energy_wh, credit))

    def _enter(self, event: PhaseEntered, block: ChainBlock) -> None:
        self.start = PhaseStart(event.epoch, event.phase, block.height, block.time_ms)
        self._moves = {}
        if event.phase is ChainPhase.PLANNING:
            self._entered = {}
            self.snapshot = SnapshotTaken(event.epoch + 1, block.height, block.hash, block.time_ms)
        if event.phase is ChainPhase.RUNNING:
            for table in (self.groups, self.voted):
                for old in [epoch for epoch in table if epoch < event.epoch]:
                    del table[old]

    def group_of(self, epoch: int) -> Mapping[Address, int]:
        """Group number by member for ``epoch``; empty while it has no groups."""
        groups = self.groups.get(epoch)
        return {} if groups is None else dict(zip(groups.members, groups.assignment, strict=True))

    def not_voted(self, epoch: int) -> list[Address]:
        """Grouped members without a counted ballot for ``epoch``, in address order."""
        groups = self.groups.get(epoch)
        voted = self.voted.get(epoch, {})
        return [] if groups is None else [member for member in groups.members if member not in voted]

    def at_snapshot(self, members: Sequence[MemberFacts]) -> list[tuple[GroupingMember, int]]:
        """Present members at the snapshot with T and N as they were then, and the last active epoch, by address.

        ``members`` were read during planning, each at its own height, none above ``height``: what the blocks since the
        snapshot changed is taken back.
        """
        invariant(self.snapshot is not None, "there is a snapshot")
        snapshot_height = 0 if self.snapshot is None else self.snapshot.height
        present = []
        for member in sorted(members, key=lambda facts: facts.address):
            left_before = member.left_height is not None and member.left_height <= snapshot_height
            entered_since = self._entered.get(member.address, 0) > snapshot_height
            if left_before or entered_since:
                continue
            energy_wh, credit = member.energy_wh, member.credit
            for height, moved_wh, moved_credit in self._moves.get(member.address, ()):
                if height <= member.height:
                    energy_wh -= moved_wh
                    credit -= moved_credit
            present.append((GroupingMember(member.address, energy_wh, credit), member.active_epoch))
        return present

"""Records of the epoch as the state tree holds them; docs/annex/epoch.md lists keys and fields (PROTOCOL 9.5)."""

from consensus.election import Seat
from consensus.grouping import Score
from consensus.types import Address, Credit, Digest, Unsigned, Value, Wire


class SeatSet(Wire, frozen=True):
    """The delegates from ``from_height`` on, until a later record; each tally and recount writes one (PROTOCOL 7.2)."""

    epoch: Unsigned
    from_height: Unsigned
    replacements: Unsigned
    """Seats that recounts of this epoch have given away so far, at most f (PROTOCOL 7.2)."""
    ranking: tuple[Seat, ...]


class MissedCommit(Wire, frozen=True):
    """A delegate that the latest last-commits lack (PROTOCOL 3.2c)."""

    address: Address
    heights: Unsigned
    """Consecutive heights missed."""
    since_height: Unsigned
    """The first of them."""
    since_chain_ms: Unsigned
    """Its chain time."""


class MissedCommits(Wire, frozen=True):
    """Counters above zero, in ranking order of the set that made the last counted commit."""

    counters: tuple[MissedCommit, ...]


class SnapshotMember(Wire, frozen=True):
    """A member at the snapshot: the T and N that the election goes by (PROTOCOL 5.2)."""

    address: Address
    energy_wh: Unsigned
    credit: Credit
    eligible: bool
    """Whether it is grouped (PROTOCOL 4.6)."""


class Snapshot(Wire, frozen=True):
    """All members that had not left after the block at ``height``, in address order (PROTOCOL 4.4)."""

    epoch: Unsigned
    """The epoch whose groups and seats follow from it."""
    height: Unsigned
    seed: Digest
    """H(snapshot block hash); the genesis hash for epoch 0 (PROTOCOL 4.3, 4.7)."""
    members: tuple[SnapshotMember, ...]


class Groups(Wire, frozen=True):
    """The groups of ``epoch``, fixed at the end of planning (PROTOCOL 4.5)."""

    epoch: Unsigned
    group_total: Unsigned
    assignment: tuple[Unsigned, ...]
    """Group number of each eligible member, in address order."""
    score: Score
    submitter: Address | None
    """Who committed the plan; None for the built-in one."""


class BestPlan(Wire, frozen=True):
    """The best plan committed so far for the groups of ``epoch`` (PROTOCOL 4.5)."""

    epoch: Unsigned
    submitter: Address
    assignment: tuple[Unsigned, ...]
    score: Score
    submitters: tuple[Address, ...]
    """All whose plan was accepted, in order: one plan each."""


class BuiltInPlan(Value, frozen=True):
    """The built-in planner's answer to a snapshot; derived, so not in the tree (PROTOCOL 4.3)."""

    epoch: int
    group_total: int
    assignment: tuple[int, ...]
    score: Score


class BallotRecord(Wire, frozen=True):
    """A voter's newest accepted ballot for an epoch (PROTOCOL 5.2)."""

    sequence: Unsigned
    choices: tuple[Address, ...]
    accepted: Unsigned
    """Ballots of this voter accepted for the epoch, at most `contracts.ballots.MAX_BALLOTS`."""


class EpochFaults(Wire, frozen=True):
    """Faults of a member recorded in blocks of ``epoch`` (PROTOCOL 3.2)."""

    epoch: Unsigned
    no_block: Unsigned
    wrong_block: Unsigned
    down: Unsigned


class Conduct(Wire, frozen=True):
    """What a member's faults and those of its delegates left behind; absent while there is nothing to tell."""

    streak: Unsigned
    """s of PROTOCOL 3.1: charged faults less clean epochs served, never below 0."""
    voter_paid_epoch: Unsigned | None
    """Latest epoch in which it paid gamma (PROTOCOL 3.2)."""
    faults: tuple[EpochFaults, ...]
    """Of the epochs with a fault among the latest `contracts.faults.FAULT_EPOCHS`, ascending."""


class ProvenFault(Wire, frozen=True):
    """Evidence about a delegate and height is on chain: more of it is refused (PROTOCOL 3.2b)."""

    booked_height: Unsigned

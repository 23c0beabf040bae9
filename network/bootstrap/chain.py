"""What the service reads of the chain: plain values, made from a member's HTTP API by the door (PROTOCOL 8.1)."""

import enum
from typing import TypeAlias

from consensus.types import Address, Digest, Value


class ChainPhase(enum.StrEnum):
    """PROTOCOL 4.4."""

    RUNNING = "running"
    PLANNING = "planning"
    VOTING = "voting"
    CLOSING = "closing"


class MemberStatus(Value, frozen=True):
    """What a member says of itself."""

    address: Address
    height: int
    """Last decided block it holds."""
    view: int
    epoch: int
    phase: ChainPhase
    ready: bool
    role: str
    problems: tuple[str, ...]


class EpochFacts(Value, frozen=True):
    """An epoch as a member's ledger has it."""

    epoch: int
    phase: ChainPhase | None
    snapshot_height: int | None
    members: tuple[Address, ...]
    """Grouped members in address order; empty while the groups are not fixed."""
    assignment: tuple[int, ...]
    delegates: tuple[Address, ...]


class MemberFacts(Value, frozen=True):
    """A member's record after block ``height``."""

    address: Address
    energy_wh: int
    credit: int
    active_epoch: int
    left_height: int | None
    height: int


class CreditMoved(Value, frozen=True):
    """A change of credit as applied, milli-credits."""

    address: Address
    delta: int


class EnergyTraded(Value, frozen=True):
    """Both parties' N grew."""

    parties: tuple[Address, Address]
    delivered_wh: int


class MemberEntered(Value, frozen=True):
    """A registration, or the return of one who left."""

    address: Address


class PhaseEntered(Value, frozen=True):
    """The next block belongs to this phase."""

    epoch: int
    phase: ChainPhase


class GroupsFixed(Value, frozen=True):
    """The groups of ``epoch``."""

    epoch: int
    members: tuple[Address, ...]
    assignment: tuple[int, ...]
    energy_excess_wh: int
    credit_excess: int
    submitted: bool


class BallotCounted(Value, frozen=True):
    """The ledger holds this voter's ballot."""

    voter: Address
    epoch: int
    sequence: int


class SeatTallied(Value, frozen=True):
    """A group's result."""

    epoch: int
    group: int
    delegate: Address
    votes: int
    ballots: int
    recount: bool


class DelegatesSet(Value, frozen=True):
    """C(height), in ranking order."""

    height: int
    ranking: tuple[Address, ...]


ChainEvent: TypeAlias = (
    CreditMoved
    | EnergyTraded
    | MemberEntered
    | PhaseEntered
    | GroupsFixed
    | BallotCounted
    | SeatTallied
    | DelegatesSet
)


class ChainBlock(Value, frozen=True):
    """A decided block's events that matter here, in order."""

    height: int
    hash: Digest
    time_ms: int
    events: tuple[ChainEvent, ...]

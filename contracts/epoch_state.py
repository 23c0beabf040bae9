"""Tables of the epoch and what is derived from them: chain, seats, snapshots, groups, plan, ballots, conduct.

Numbers in keys are 8 bytes big-endian, so key order is number order; docs/annex/epoch.md gives every key and record.
"""

from consensus.delegates import DelegateSet
from consensus.errors import fail
from consensus.types import Address
from contracts.chain import Chain
from contracts.epoch_records import (
    BallotRecord,
    BestPlan,
    BuiltInPlan,
    Conduct,
    Groups,
    MissedCommits,
    ProvenFault,
    SeatSet,
    Snapshot,
)
from contracts.groups import Grouping
from contracts.state import SINGLETON, State, Table, number_key


class EpochTables:
    """All tables of the epoch; `register_epoch_tables` hangs them on a state as ``state.epoch``."""

    def __init__(self, state: State) -> None:
        self.chain: Table[Chain] = state.register(Table(32, Chain))
        self.seat_sets: Table[SeatSet] = state.register(Table(33, SeatSet))
        """By first height; those of the current and the previous epoch, for evidence (PROTOCOL 3.2)."""
        self.missed: Table[MissedCommits] = state.register(Table(34, MissedCommits))
        self.snapshots: Table[Snapshot] = state.register(Table(35, Snapshot))
        """By the epoch whose seats it decides: the current one, and the next from its snapshot on."""
        self.groups: Table[Groups] = state.register(Table(36, Groups))
        """By epoch, like the snapshots, from the end of planning on."""
        self.best_plan: Table[BestPlan] = state.register(Table(37, BestPlan))
        """Present only while planning lasts, and only if a plan was accepted."""
        self.ballots: Table[BallotRecord] = state.register(Table(38, BallotRecord))
        """By epoch of the seats, then voter."""
        self.conduct: Table[Conduct] = state.register(Table(39, Conduct))
        """By address."""
        self.proven: Table[ProvenFault] = state.register(Table(40, ProvenFault))
        """By height of the fault, then address; those of the current and the previous epoch."""
        self.built_in: BuiltInPlan | None = None
        """Derived: the built-in plan of the latest snapshot, once somebody computed it."""
        self.delegate_sets: dict[int, DelegateSet] = {}
        """Derived: sets with their keys, by first height."""
        self._groupings: dict[int, Grouping] = {}

    def grouping(self, epoch: int) -> Grouping:
        """The groups of ``epoch``; only for one whose planning is over."""
        known = self._groupings.get(epoch)
        if known is None:
            known = Grouping(
                self.snapshots.require(number_key(epoch)), self.groups.require(number_key(epoch))
            )
            self._groupings[epoch] = known
        return known

    def forget_epoch(self, epoch: int) -> None:
        """Remove the snapshot and the groups of an epoch that is over."""
        self.snapshots.delete(number_key(epoch))
        self.groups.delete(number_key(epoch))
        self._groupings.pop(epoch, None)


def register_epoch_tables(state: State) -> None:
    """Add the epoch's tables to an empty state."""
    state.epoch = EpochTables(state)


def chain_of(state: State) -> Chain:
    """The chain's record after its last block."""
    return state.epoch.chain.require(SINGLETON)


def ballot_key(epoch: int, voter: Address) -> bytes:
    """Raw key of a voter's ballot for the seats of ``epoch``."""
    return number_key(epoch) + voter


def seat_set_at(state: State, height: int) -> SeatSet:
    """The set that decides ``height``: from the start of the previous epoch up to two above the last block (7.2)."""
    found = None
    for key, seat_set in state.epoch.seat_sets.items():
        if int.from_bytes(key, "big") > height:
            break
        found = seat_set
    if found is None:
        fail(f"no delegate set of height {height} is kept")
    return found

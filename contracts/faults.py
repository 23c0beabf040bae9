"""What faults leave in the state: counts per epoch, caps, the streak, exclusions (PROTOCOL 3.1, 3.2, 7.2)."""

from typing import Final

import msgspec

from consensus.credit import streak_after_clean_epoch, streak_after_fault
from consensus.types import Address
from contracts.epoch_records import Conduct, EpochFaults
from contracts.receipts import FaultKind
from contracts.state import State

FAULT_EPOCHS: Final = 10
"""The default ballot looks at the faults of ten epochs (PROTOCOL 5.5); older ones are forgotten."""
NO_CONDUCT: Final = Conduct(0, None, ())


def conduct_of(state: State, address: Address) -> Conduct:
    """The member's conduct; an empty one if nothing is on record."""
    return state.epoch.conduct.get(address) or NO_CONDUCT


def faults_in(state: State, address: Address, epoch: int) -> EpochFaults:
    """Faults of ``address`` recorded in blocks of ``epoch``."""
    for faults in conduct_of(state, address).faults:
        if faults.epoch == epoch:
            return faults
    return EpochFaults(epoch, 0, 0, 0)


def is_clean(state: State, address: Address, epoch: int) -> bool:
    """Whether no fault of ``address`` is recorded in ``epoch``; the first one of an epoch is always charged."""
    faults = faults_in(state, address, epoch)
    return faults.no_block + faults.wrong_block + faults.down == 0


def fault_count(state: State, address: Address, epoch: int) -> int:
    """Faults of the ten epochs up to and including ``epoch`` (PROTOCOL 5.5)."""
    first = epoch - FAULT_EPOCHS + 1
    return sum(
        faults.no_block + faults.wrong_block + faults.down
        for faults in conduct_of(state, address).faults
        if faults.epoch >= first
    )


def is_proven(state: State, address: Address, epoch: int) -> bool:
    """Whether (b) excludes ``address`` from the seats of ``epoch``: recorded in it or the one before (PROTOCOL 7.2)."""
    return any(
        faults.wrong_block > 0 and faults.epoch in (epoch - 1, epoch)
        for faults in conduct_of(state, address).faults
    )


def is_down(state: State, address: Address, epoch: int) -> bool:
    """Whether (c) excludes ``address`` from the seats of ``epoch``, likewise."""
    return any(
        faults.down > 0 and faults.epoch in (epoch - 1, epoch) for faults in conduct_of(state, address).faults
    )


def record_fault(state: State, address: Address, kind: FaultKind, epoch: int) -> bool:
    """Record a fault in the epoch of the block that books it; whether the caps let it cost credit (PROTOCOL 3.2).

    At most one charge per member and epoch for (a) or (c), and one for (b); the record itself knows no cap.
    """
    conduct = conduct_of(state, address)
    before = faults_in(state, address, epoch)
    presumed = kind is not FaultKind.WRONG_BLOCK
    charged = before.no_block + before.down == 0 if presumed else before.wrong_block == 0
    after = EpochFaults(
        epoch=epoch,
        no_block=before.no_block + (kind is FaultKind.NO_BLOCK),
        wrong_block=before.wrong_block + (kind is FaultKind.WRONG_BLOCK),
        down=before.down + (kind is FaultKind.DOWN),
    )
    kept = tuple(faults for faults in conduct.faults if faults.epoch != epoch)
    streak = streak_after_fault(conduct.streak) if charged else conduct.streak
    state.epoch.conduct.put(address, Conduct(streak, conduct.voter_paid_epoch, (*kept, after)))
    return charged


def has_paid_as_voter(state: State, address: Address, epoch: int) -> bool:
    """Whether ``address`` has paid gamma in ``epoch``: it pays no more and gains no delta in it (PROTOCOL 3.2)."""
    return conduct_of(state, address).voter_paid_epoch == epoch


def note_paid_as_voter(state: State, address: Address, epoch: int) -> None:
    """Remember that ``address`` paid gamma in ``epoch``."""
    conduct = conduct_of(state, address)
    state.epoch.conduct.put(address, msgspec.structs.replace(conduct, voter_paid_epoch=epoch))


def lower_streak(state: State, address: Address) -> None:
    """A clean epoch was served (PROTOCOL 3.1)."""
    conduct = conduct_of(state, address)
    if conduct.streak:
        lower = streak_after_clean_epoch(conduct.streak)
        state.epoch.conduct.put(address, msgspec.structs.replace(conduct, streak=lower))


def forget_old_conduct(state: State, next_epoch: int) -> None:
    """At the end of an epoch: drop what neither ``next_epoch`` nor any later one looks at."""
    first = next_epoch - FAULT_EPOCHS + 1
    for address, conduct in tuple(state.epoch.conduct.items()):
        kept = tuple(faults for faults in conduct.faults if faults.epoch >= first)
        trimmed = Conduct(conduct.streak, None, kept)
        if trimmed == NO_CONDUCT:
            state.epoch.conduct.delete(address)
        elif trimmed != conduct:
            state.epoch.conduct.put(address, trimmed)

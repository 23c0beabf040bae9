"""Ballots on their way to the ledger: checked, kept newest, handed out in batches (PROTOCOL 5.2, 8.1d).

Only a carrier: the ledger checks every ballot again, and a member that does not see its ballot there submits it itself
(PROTOCOL 5.5), so losing or withholding one costs nothing but time.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from consensus.election import MAX_CHOICES
from consensus.errors import ProtocolError
from consensus.types import Address
from network.bootstrap.doors import BallotDoor, BallotFacts
from network.bootstrap.errors import Refused
from network.bootstrap.limits import MAX_BALLOTS, CoordinatorLimits

MAX_PER_VOTER: Final = 4
"""Accepted by the ledger per voter and epoch (PROTOCOL 5.2); more are not worth carrying."""


class BallotBox:
    """Ballots of the epochs that the ledger takes ballots for now."""

    def __init__(self, door: BallotDoor, limits: CoordinatorLimits | None = None) -> None:
        self._door = door
        self._limits = limits or CoordinatorLimits()
        self._group_of: dict[int, Mapping[Address, int]] = {}
        """Groups by epoch: the current one, and the next while its voting lasts."""
        self._newest: dict[tuple[int, Address], int] = {}
        """Highest sequence known, here or on the ledger, by epoch and voter."""
        self._taken: dict[tuple[int, Address], int] = {}
        self._waiting: dict[tuple[int, Address], tuple[int, bytes]] = {}
        """Sequence and bytes of what has not been handed out, in order of arrival."""

    def open(self, epoch: int, group_of: Mapping[Address, int]) -> None:
        """Take ballots for the seats of ``epoch``, among these groups, and no longer for those two epochs back."""
        self._group_of[epoch] = group_of
        for old in [number for number in self._group_of if number < epoch - 1]:
            self._forget(old)

    def close(self, epoch: int) -> None:
        """No ballot for ``epoch`` counts any more."""
        self._forget(epoch)

    def take(self, raw: bytes) -> bool:
        """Keep a ballot for the next batch; False if it is known. `Refused` with the reason otherwise."""
        try:
            ballot = self._door.read_ballot(raw)
        except ProtocolError as error:
            raise Refused(422, "ballot_invalid", str(error)) from error
        self._check_group(ballot)
        key = (ballot.epoch, ballot.voter)
        waiting = self._waiting.get(key)
        if waiting is not None and waiting[1] == raw:
            return False
        newest = self._newest.get(key)
        if newest is not None and ballot.sequence <= newest:
            raise Refused(
                409, "ballot_old", f"a ballot of sequence {newest} of this voter is known: use a higher one"
            )
        if self._taken.get(key, 0) >= MAX_PER_VOTER:
            raise Refused(
                429, "ballots_too_many", f"the ledger takes {MAX_PER_VOTER} ballots of a voter per epoch"
            )
        if waiting is None and len(self._waiting) >= self._limits.max_ballots_waiting:
            raise Refused(
                429, "ballots_full", "too many ballots wait here: submit it to a node", retry_after_s=5
            )
        self._taken[key] = self._taken.get(key, 0) + 1
        self._newest[key] = ballot.sequence
        self._waiting[key] = (ballot.sequence, raw)
        return True

    def _check_group(self, ballot: BallotFacts) -> None:
        group_of = self._group_of.get(ballot.epoch)
        if group_of is None:
            open_for = ", ".join(str(epoch) for epoch in sorted(self._group_of)) or "no epoch"
            raise Refused(
                409, "ballot_epoch", f"ballots are taken for {open_for}, not for epoch {ballot.epoch}"
            )
        group = group_of.get(ballot.voter)
        if group is None:
            raise Refused(422, "ballot_voter", f"{ballot.voter.hex()} is in no group of epoch {ballot.epoch}")
        if not 1 <= len(ballot.choices) <= MAX_CHOICES or len(frozenset(ballot.choices)) != len(
            ballot.choices
        ):
            raise Refused(422, "ballot_choices", f"a ballot names 1 to {MAX_CHOICES} distinct members")
        outside = [choice.hex() for choice in ballot.choices if group_of.get(choice) != group]
        if outside:
            raise Refused(422, "ballot_choices", f"{outside[0]} is not in the voter's group {group}")

    def note_counted(self, epoch: int, voter: Address, sequence: int) -> None:
        """The ledger holds this ballot; an older or equal one needs no carrying."""
        key = (epoch, voter)
        self._newest[key] = max(sequence, self._newest.get(key, sequence))
        waiting = self._waiting.get(key)
        if waiting is not None and waiting[0] <= sequence:
            del self._waiting[key]

    def next_batch(self) -> list[bytes]:
        """Up to 128 waiting ballots, of one epoch or several, oldest first; they stay until `mark_sent`."""
        return [raw for _, raw in list(self._waiting.values())[:MAX_BALLOTS]]

    def mark_sent(self, batch: Sequence[bytes]) -> None:
        """The delegates hold these ballots."""
        sent = frozenset(batch)
        for key in [key for key, (_, raw) in self._waiting.items() if raw in sent]:
            del self._waiting[key]

    @property
    def waiting(self) -> int:
        """Ballots not handed out yet."""
        return len(self._waiting)

    def _forget(self, epoch: int) -> None:
        self._group_of.pop(epoch, None)
        self._newest = {key: value for key, value in self._newest.items() if key[0] != epoch}
        self._taken = {key: value for key, value in self._taken.items() if key[0] != epoch}
        self._waiting = {key: value for key, value in self._waiting.items() if key[0] != epoch}

"""Epochs by hand on top of `tests.support.chain`: phases, ballots, absences, evidence, and what became of them."""

from collections.abc import Iterable
from typing import Any

import msgspec

from consensus.block import Header
from consensus.messages import Commit, Prepare, PrePrepareVote, Vote, sign_vote
from contracts.chain import Chain as ChainRecord
from contracts.engine import BlockOutcome
from contracts.epoch_records import Conduct, SeatSet
from contracts.epoch_state import chain_of, seat_set_at
from contracts.faults import conduct_of
from contracts.receipts import CreditChanged, CreditReason, EpochPhase, FaultRecorded, ReasonCode, Receipt
from contracts.transaction import ConflictingVotes, Evidence, Proof
from tests.support.chain import Chain, Key

DIGESTS = (bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32)
"""Digests of blocks that nobody proposed."""


def tuple2(votes: Iterable[Vote]) -> tuple[Vote, Vote]:
    """Exactly two votes."""
    first, second = votes
    return first, second


class EpochChain(Chain):
    """A chain whose tests speak of phases, seats and faults."""

    @property
    def record(self) -> ChainRecord:
        """The chain's record: epoch and phase of the next block."""
        return chain_of(self.state)

    def to_phase(self, phase: EpochPhase, epoch: int | None = None, **block: Any) -> None:
        """Add blocks until the next one has ``phase`` (in ``epoch``); keyword arguments go to each block."""
        for _ in range(500):
            if self.record.phase is phase and epoch in (None, self.record.epoch):
                return
            self.block(**{"after_ms": 500, **block})
        raise AssertionError(f"no {phase.name} within 500 blocks")

    def to_last_voting_block(self) -> None:
        """Add blocks until the next one, 1 s after its parent, ends voting."""
        self.to_phase(EpochPhase.VOTING)
        while self.elapsed_ms + 1_000 < self.parameters.voting_ms or self.record.phase_blocks < 1:
            self.block(after_ms=500)

    @property
    def elapsed_ms(self) -> int:
        """Chain time since the last block before the phase."""
        return self.record.chain_ms - self.record.phase_since_chain_ms

    # ------------------------------------------------------------ seats and groups

    def seats(self, height: int | None = None) -> SeatSet:
        """The set that decides ``height``, by default the next one."""
        return seat_set_at(self.state, self.height + 1 if height is None else height)

    def holders(self, height: int | None = None) -> list[bytes]:
        """Its holders in ranking order."""
        return [seat.holder for seat in self.seats(height).ranking]

    def delegate(self, rank: int) -> Key:
        """The key of the delegate of the next height at ``rank``."""
        return self.keys[self.holders()[rank]]

    def group(self, key: Key, epoch: int | None = None) -> list[Key]:
        """The members of the key's group, in address order."""
        grouping = self.state.epoch.grouping(self.record.epoch if epoch is None else epoch)
        return [self.keys[m.address] for m in grouping.groups[grouping.group_of[key.address]]]

    def mate(self, key: Key, epoch: int | None = None) -> Key:
        """Another member of the key's group, the first in address order."""
        return next(other for other in self.group(key, epoch) if other is not key)

    def stranger(self, key: Key, epoch: int | None = None) -> Key:
        """A member outside the key's group."""
        inside = self.group(key, epoch)
        return next(other for other in self.members if other not in inside)

    # ------------------------------------------------------------ members

    def set_account(self, key: Key, **fields: Any) -> None:
        """Give an account other figures, as a past that the test does not play would have; no block's doing."""
        account = msgspec.structs.replace(self.account(key), **fields)
        self.state.accounts.put(key.address, account)
        self.state.commit()

    def credit(self, key: Key) -> int:
        """T of ``key``."""
        return self.account(key).credit

    def conduct(self, key: Key) -> Conduct:
        """What faults left of ``key``."""
        return conduct_of(self.state, key.address)

    def vote(
        self, *votes: tuple[Key, Key], sequence: int = 1, epoch: int | None = None, **block: Any
    ) -> Receipt:
        """One block with ballots (voter, choice) for the epoch that voting is about; the receipt of the batch."""
        target = self.record.epoch + 1 if epoch is None else epoch
        cast = [self.ballot(voter, target, sequence, choice) for voter, choice in votes]
        return self.block(self.ballots(*cast), **block).receipts[0]

    def ballot_code(self, voter: Key, epoch: int, sequence: int, *choices: Key) -> ReasonCode:
        """The code of one ballot alone in a block."""
        return self.block(self.ballots(self.ballot(voter, epoch, sequence, *choices))).receipts[0].code

    # ------------------------------------------------------------ faults

    def miss(self, absent: Iterable[Key], blocks: int, after_ms: int = 500) -> list[BlockOutcome]:
        """Blocks whose certificates lack ``absent``."""
        addresses = tuple(key.address for key in absent)
        return [self.block(after_ms=after_ms, absent=addresses) for _ in range(blocks)]

    def miss_until_down(self, key: Key, limit: int = 200) -> BlockOutcome:
        """Leave ``key`` out of certificates until (c) is recorded; the block that records it."""
        for _ in range(limit):
            outcome = self.block(after_ms=500, absent=(key.address,))
            if self.faults(outcome):
                return outcome
        raise AssertionError("never judged down")

    def votes(
        self,
        key: Key,
        kind: type[PrePrepareVote] | type[Prepare] | type[Commit] = Prepare,
        height: int | None = None,
        view: int = 0,
        digests: tuple[bytes, bytes] = (DIGESTS[0], DIGESTS[1]),
    ) -> tuple[Vote, Vote]:
        """Two votes of ``key`` at ``height``, by default the last block's, for two digests."""
        at = self.height if height is None else height
        place = (self.chain_id, seat_set_at(self.state, at).epoch, at, view)
        if kind is PrePrepareVote:
            return tuple2(sign_vote(PrePrepareVote, *place, digest, key) for digest in digests)
        if kind is Prepare:
            return tuple2(sign_vote(Prepare, *place, digest, key) for digest in digests)
        return tuple2(sign_vote(Commit, *place, digest, key) for digest in digests)

    def equivocation(self, key: Key, height: int | None = None) -> Evidence:
        """Proof that ``key`` prepared two digests."""
        return Evidence(ConflictingVotes(*self.votes(key, height=height)))

    def prove(self, proof: Proof | Evidence, sender: Key | None = None, **block: Any) -> Receipt:
        """The receipt of the evidence alone in a block."""
        payload = proof if isinstance(proof, Evidence) else Evidence(proof)
        return self.receipt(self.members[0] if sender is None else sender, payload, **block)

    def pre_prepare(self, key: Key, header: Header, view: int | None = None) -> PrePrepareVote:
        """The pre-prepare of ``key`` for ``header``, in the header's view unless told."""
        at = header.view if view is None else view
        vote = sign_vote(PrePrepareVote, self.chain_id, header.epoch, header.height, at, header.digest(), key)
        assert isinstance(vote, PrePrepareVote)
        return vote

    def faults(self, outcome: BlockOutcome | None = None) -> list[FaultRecorded]:
        """Faults recorded in a block, or in all."""
        return self.events(FaultRecorded, outcome)

    def credit_changes(
        self, outcome: BlockOutcome | None = None, *reasons: CreditReason
    ) -> list[tuple[bytes, CreditReason, int]]:
        """(address, reason, delta) in order, of a block or of all; only of ``reasons`` if given."""
        return [
            (event.address, event.reason, event.delta)
            for event in self.events(CreditChanged, outcome)
            if not reasons or event.reason in reasons
        ]

"""What an honest member should submit now, read from the state after the last block; pure (PROTOCOL 3.2, 4.6, 5.5).

The node signs and sends. Asked after each block, these answers repeat until the ledger shows the deed done.
"""

from collections.abc import Mapping

from consensus.effects import Report, ReportProposal
from consensus.election import default_ballot
from consensus.encoding import Codec
from consensus.hashing import address_of
from consensus.messages import Commit, Prepare, PrePrepareVote, Vote
from consensus.parameters import Parameters
from consensus.types import Address, Value
from contracts.ballots import MAX_BALLOTS
from contracts.epoch_state import ballot_key, chain_of
from contracts.evidence import accused_vote, first_admissible_height, proven_key
from contracts.faults import fault_count, faults_in
from contracts.missed_commits import counter_of
from contracts.receipts import EpochPhase
from contracts.seats import candidates, delegate_set_at
from contracts.state import State
from contracts.transaction import (
    ConflictingVotes,
    Evidence,
    Heartbeat,
    InvalidHeaderProposed,
    InvalidTransactionProposed,
)

_vote_codec: Codec[Vote] = Codec(PrePrepareVote | Prepare | Commit, 512)


class BallotDuty(Value, frozen=True):
    """A ballot to sign: `contracts.ballots.sign_ballot` takes its fields."""

    epoch: int
    sequence: int
    choices: tuple[Address, ...]
    overdue: bool
    """A third of the voting time is over: send it to the delegates, not only to the bootstrap service (5.5)."""


def open_ballot_epoch(state: State) -> int:
    """The epoch whose seats a ballot signed now should fill: the next one's while voting lasts (PROTOCOL 5.2)."""
    chain = chain_of(state)
    return chain.epoch + 1 if chain.phase is EpochPhase.VOTING else chain.epoch


def next_ballot_sequence(state: State, epoch: int, voter: Address) -> int | None:
    """The sequence of the voter's next ballot for ``epoch``; None once it has cast all it may (PROTOCOL 5.2)."""
    record = state.epoch.ballots.get(ballot_key(epoch, voter))
    if record is None:
        return 1
    return None if record.accepted >= MAX_BALLOTS else record.sequence + 1


def ballot_due(state: State, parameters: Parameters, voter: Address) -> BallotDuty | None:
    """The default ballot, while voting lasts and none of ``voter`` is on the ledger (PROTOCOL 5.5)."""
    chain = chain_of(state)
    if chain.phase is not EpochPhase.VOTING:
        return None
    epoch = chain.epoch + 1
    account = state.accounts.get(voter)
    if account is None or account.left_height is not None:
        return None
    if voter not in state.epoch.grouping(epoch).group_of or ballot_key(epoch, voter) in state.epoch.ballots:
        return None
    waited_ms = chain.chain_ms - chain.phase_since_chain_ms
    choices = default_choices(state, epoch, voter)
    return BallotDuty(epoch, 1, choices, overdue=3 * waited_ms >= parameters.voting_ms)


def default_choices(state: State, epoch: int, voter: Address) -> tuple[Address, ...]:
    """Fewest faults in ten epochs, then the highest T, then H, among the voter's group (PROTOCOL 5.5).

    Who has left is passed over, since no vote for it counts, unless the whole group has.
    """
    grouping = state.epoch.grouping(epoch)
    members = candidates(state, grouping.groups[grouping.group_of[voter]], epoch)
    present = [member for member in members if not member.left] or list(members)
    latest = chain_of(state).epoch
    faults = {member.address: fault_count(state, member.address, latest) for member in present}
    return default_ballot(present, faults, grouping.seed)


def heartbeat_due(
    state: State, parameters: Parameters, member: Address, own_commits: Mapping[int, Commit]
) -> Heartbeat | None:
    """A delegate's heartbeat once half of either bound of (c) is left, another's when it would go dormant.

    ``own_commits`` are the delegate's commits by height; with none of a missed height there is nothing to show.
    """
    chain = chain_of(state)
    account = state.accounts.get(member)
    if account is None:
        return None
    counter = counter_of(state, member)
    if counter is not None:
        span_ms = chain.chain_ms - counter.since_chain_ms
        if 2 * counter.heights < parameters.missed_limit or 2 * span_ms < parameters.missed_ms:
            return None
        for height in range(counter.since_height + counter.heights - 1, counter.since_height - 1, -1):
            commit = own_commits.get(height)
            if commit is not None:
                return Heartbeat(chain.epoch, commit)
        return None
    idle_epochs = chain.epoch - account.active_epoch
    dormant = idle_epochs > 0 and idle_epochs >= parameters.dormant_epochs
    serves = delegate_set_at(state, chain.height + 1).position(member) is not None
    if account.left_height is not None or serves or not dormant:
        return None
    return Heartbeat(chain.epoch, None)


def evidence_due(state: State, report: Report | ReportProposal) -> Evidence | None:
    """The evidence transaction for a replica's report; None once it is known, too old, or about no delegate.

    Nor is there any while this epoch's record holds (b) of the accused: it has paid, and the exclusion of PROTOCOL 7.2
    stands. One that keeps its seat for want of another would otherwise earn a transaction at every height, and each of
    them wakes the idle chain for the next height.
    """
    evidence = evidence_of(report)
    vote = accused_vote(evidence.proof)
    accused = address_of(vote.signer)
    if not first_admissible_height(state) <= vote.height <= chain_of(state).height + 1:
        return None
    proven = proven_key(vote.height, accused) in state.epoch.proven
    if proven or faults_in(state, accused, chain_of(state).epoch).wrong_block:
        return None
    return evidence if delegate_set_at(state, vote.height).position(accused) is not None else None


def evidence_of(report: Report | ReportProposal) -> Evidence:
    """What a replica reported, as a payload; `MalformedInput` if the votes are not canonical."""
    if isinstance(report, Report):
        return Evidence(ConflictingVotes(_vote_codec.decode(report.first), _vote_codec.decode(report.second)))
    if report.path is None or report.transaction is None:
        return Evidence(InvalidHeaderProposed(report.pre_prepare, report.header))
    return Evidence(
        InvalidTransactionProposed(report.pre_prepare, report.header, report.path, report.transaction)
    )

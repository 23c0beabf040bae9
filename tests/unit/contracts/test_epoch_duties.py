"""contracts.duties: ballots, heartbeats and evidence that an honest member owes."""

import pytest

from consensus.effects import Report, ReportProposal
from consensus.encoding import encode
from consensus.errors import MalformedInput
from consensus.merkle import leaf_hash, merkle_path
from consensus.messages import Commit, sign_vote
from contracts.ballots import MAX_BALLOTS, sign_ballot
from contracts.duties import (
    ballot_due,
    evidence_due,
    evidence_of,
    heartbeat_due,
    next_ballot_sequence,
    open_ballot_epoch,
)
from contracts.receipts import EpochPhase, ReasonCode
from contracts.transaction import (
    Ballots,
    ConflictingVotes,
    Heartbeat,
    InvalidHeaderProposed,
    InvalidTransactionProposed,
    Leave,
)
from tests.support.chain import Key
from tests.support.epochs import EpochChain


def make(**parameters: object) -> EpochChain:
    return EpochChain(members=12, groups=4, missed_limit=6, **parameters)  # type: ignore[arg-type]


def commits(chain: EpochChain, key: Key, *heights: int) -> dict[int, Commit]:
    epoch, digest = chain.record.epoch, bytes(32)
    return {h: sign_vote(Commit, chain.chain_id, epoch, h, 0, digest, key) for h in heights}


def test_the_due_ballot_signed_is_accepted() -> None:
    chain = make()
    chain.to_phase(EpochPhase.VOTING)
    for voter in chain.members:
        duty = ballot_due(chain.state, chain.parameters, voter.address)
        assert duty is not None
        signed = sign_ballot(chain.chain_id, voter, duty.epoch, duty.sequence, duty.choices)
        assert chain.receipt(voter, Ballots((signed,))).code is ReasonCode.OK
        assert ballot_due(chain.state, chain.parameters, voter.address) is None


def test_a_vote_by_hand_goes_to_the_open_epoch_with_the_next_sequence() -> None:
    chain = make()
    voter = chain.members[0]
    assert open_ballot_epoch(chain.state) == 0
    chain.to_phase(EpochPhase.VOTING)
    assert open_ballot_epoch(chain.state) == 1
    for cast in range(MAX_BALLOTS):
        sequence = next_ballot_sequence(chain.state, 1, voter.address)
        assert sequence == cast + 1
        assert chain.ballot_code(voter, 1, sequence, voter) is ReasonCode.OK
    assert next_ballot_sequence(chain.state, 1, voter.address) is None


def test_a_delegate_halfway_to_being_judged_owes_a_heartbeat_with_its_newest_commit() -> None:
    chain = make(run_ms=20_000)
    key = chain.delegate(3)
    owed = []
    for _ in range(9):
        chain.miss([key], 1)
        own = commits(chain, key, *range(1, chain.height - 1))
        owed.append(heartbeat_due(chain.state, chain.parameters, key.address, own))
    assert [payload is not None for payload in owed] == [False] * 4 + [True] * 5
    last = owed[-1]
    assert last is not None
    assert last.commit is not None
    assert last.commit.height == chain.height - 2
    assert chain.receipt(key, last, absent=(key.address,)).code is ReasonCode.OK
    assert heartbeat_due(chain.state, chain.parameters, key.address, commits(chain, key, 1)) is None


def test_a_delegate_without_a_commit_of_a_missed_height_has_nothing_to_show() -> None:
    chain = make(run_ms=20_000)
    key = chain.delegate(3)
    chain.block()
    chain.miss([key], 8)
    assert heartbeat_due(chain.state, chain.parameters, key.address, commits(chain, key, 1)) is None
    assert heartbeat_due(chain.state, chain.parameters, key.address, commits(chain, key, 2)) is not None


def test_a_member_at_the_edge_of_dormancy_owes_a_heartbeat_once_an_epoch() -> None:
    chain = make(dormant_epochs=1)
    chain.block()
    silent = next(key for key in chain.members if key.address not in chain.holders())
    assert heartbeat_due(chain.state, chain.parameters, silent.address, {}) is None
    chain.to_phase(EpochPhase.RUNNING, 1)
    if silent.address in chain.holders():
        silent = next(key for key in chain.members if chain.account(key).active_epoch == 0)
    payload = heartbeat_due(chain.state, chain.parameters, silent.address, {})
    assert payload == Heartbeat(1, None)
    assert chain.receipt(silent, Heartbeat(1, None)).code is ReasonCode.OK
    assert heartbeat_due(chain.state, chain.parameters, silent.address, {}) is None


def test_strangers_and_leavers_owe_nothing() -> None:
    chain = make(dormant_epochs=0)
    assert heartbeat_due(chain.state, chain.parameters, Key(77).address, {}) is None
    chain.to_phase(EpochPhase.RUNNING, 1)
    idle = next(key for key in chain.members if key.address not in chain.holders())
    assert heartbeat_due(chain.state, chain.parameters, idle.address, {}) is not None
    chain.receipt(idle, Leave())
    assert heartbeat_due(chain.state, chain.parameters, idle.address, {}) is None


def test_a_report_of_conflicting_votes_becomes_evidence_until_it_is_known() -> None:
    chain = make()
    chain.block()
    first, second = chain.votes(chain.delegate(1))
    report = Report(encode(first), encode(second))
    evidence = evidence_due(chain.state, report)
    assert evidence is not None
    assert evidence.proof == ConflictingVotes(first, second)
    assert chain.prove(evidence).code is ReasonCode.OK
    assert evidence_due(chain.state, report) is None


def test_one_proven_fault_of_a_delegate_is_enough_for_an_epoch() -> None:
    """PROTOCOL 3.2, 7.2: it is charged once an epoch and excluded for two; more only keeps the chain busy."""
    chain = make()
    chain.block()
    accused, other = chain.delegate(1), chain.delegate(2)
    at_first = Report(*(encode(vote) for vote in chain.votes(accused)))
    chain.block()
    at_second = Report(*(encode(vote) for vote in chain.votes(accused)))
    of_other = Report(*(encode(vote) for vote in chain.votes(other)))
    evidence = evidence_due(chain.state, at_first)
    assert evidence is not None
    assert chain.prove(evidence).code is ReasonCode.OK
    assert evidence_due(chain.state, at_second) is None
    assert evidence_due(chain.state, of_other) is not None


def test_a_report_about_no_delegate_or_too_late_becomes_nothing() -> None:
    chain = make()
    chain.block()
    outsider = next(key for key in chain.members if key.address not in chain.holders())
    stranger = Report(*(encode(vote) for vote in chain.votes(outsider)))
    old = Report(*(encode(vote) for vote in chain.votes(chain.delegate(1), height=1)))
    ahead = Report(*(encode(vote) for vote in chain.votes(chain.delegate(1), height=chain.height + 2)))
    assert evidence_due(chain.state, stranger) is None
    assert evidence_due(chain.state, ahead) is None
    assert evidence_due(chain.state, old) is not None
    chain.to_phase(EpochPhase.RUNNING, 2)
    assert evidence_due(chain.state, old) is None


def test_a_report_of_a_wrong_proposal_becomes_evidence() -> None:
    chain = make()
    chain.block()
    header = chain.make_block().header
    vote = chain.pre_prepare(chain.keys[header.proposer], header)
    leaves = [leaf_hash(bytes(32))]
    path = merkle_path(leaves, 0)
    assert evidence_of(ReportProposal(vote, header, None, None)).proof == InvalidHeaderProposed(vote, header)
    assert evidence_of(ReportProposal(vote, header, path, b"x")).proof == InvalidTransactionProposed(
        vote, header, path, b"x"
    )


def test_votes_that_are_not_canonical_are_refused() -> None:
    with pytest.raises(MalformedInput):
        evidence_of(Report(b"\x90", b"\x90"))

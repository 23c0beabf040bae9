"""contracts.epoch_queries: what the API says about the epoch."""

from contracts.epoch_queries import (
    ballot_of,
    fault_status,
    group_of,
    groups_status,
    has_groups,
    phase_status,
    plan_status,
    serves_until,
)
from contracts.epoch_records import EpochFaults
from contracts.receipts import EpochPhase, ReasonCode
from tests.support.chain import Key
from tests.support.epochs import EpochChain


def test_the_phase_with_its_times() -> None:
    chain = EpochChain(members=8, groups=4)
    chain.block(after_ms=600)
    status = phase_status(chain.state, chain.parameters)
    assert (status.epoch, status.phase, status.epoch_first_height) == (0, EpochPhase.RUNNING, 1)
    assert (status.elapsed_ms, status.duration_ms, status.remaining_ms) == (600, 8_000, 7_400)
    durations = []
    for phase in EpochPhase:
        chain.to_phase(phase)
        durations.append(phase_status(chain.state, chain.parameters).duration_ms)
    assert durations == [8_000, 3_000, 5_000, 0]


def test_groups_with_members_sums_seats_and_ballots() -> None:
    chain = EpochChain(members=8, groups=4)
    chain.to_phase(EpochPhase.VOTING)
    voter = chain.members[0]
    chain.vote((voter, voter))
    current, following = groups_status(chain.state, 0), groups_status(chain.state, 1)
    assert [group.number for group in current] == [0, 1, 2, 3]
    assert all(group.seat is not None and group.credit == 100_000 for group in current)
    assert all(group.seat is None for group in following)
    number = group_of(chain.state, 1, voter.address)
    assert number is not None
    assert [group.ballots for group in following] == [int(n == number) for n in range(4)]
    record = ballot_of(chain.state, 1, voter.address)
    assert record is not None
    assert record.choices == (voter.address,)
    chain.to_phase(EpochPhase.CLOSING)
    elected = groups_status(chain.state, 1)[number].seat
    assert elected is not None
    assert (elected.holder, elected.votes) == (voter.address, 50_000)


def test_groups_are_known_from_the_end_of_planning_to_the_end_of_the_epoch() -> None:
    chain = EpochChain(members=8, groups=4)
    assert [has_groups(chain.state, epoch) for epoch in (0, 1)] == [True, False]
    assert group_of(chain.state, 1, chain.members[0].address) is None
    chain.to_phase(EpochPhase.RUNNING, 1)
    assert [has_groups(chain.state, epoch) for epoch in (0, 1)] == [False, True]


def test_plan_scores_while_planning_lasts() -> None:
    chain = EpochChain(members=8, groups=4)
    assert plan_status(chain.state, chain.parameters) is None
    chain.to_phase(EpochPhase.PLANNING)
    status = plan_status(chain.state, chain.parameters)
    assert status is not None
    assert (status.epoch, status.best, status.submitter) == (1, status.built_in, None)


def test_faults_of_a_member_and_what_they_mean() -> None:
    chain = EpochChain(members=8, groups=4)
    chain.block()
    key = chain.delegate(1)
    assert fault_status(chain.state, key.address).epochs == ()
    assert chain.prove(chain.equivocation(key)).code is ReasonCode.OK
    status = fault_status(chain.state, key.address)
    assert status.epochs == (EpochFaults(0, 0, 1, 0),)
    assert (status.streak, status.excluded_now, status.excluded_next) == (1, True, True)
    chain.to_phase(EpochPhase.RUNNING, 1)
    status = fault_status(chain.state, key.address)
    assert (status.excluded_now, status.excluded_next) == (True, False)


def test_serves_until_is_the_first_height_without_the_seat() -> None:
    chain = EpochChain(members=8, groups=4)
    chain.block()
    key = chain.delegate(1)
    assert serves_until(chain.state, key.address) is None
    chain.prove(chain.equivocation(key))
    assert serves_until(chain.state, key.address) == chain.height + 2
    assert serves_until(chain.state, Key(77).address) == chain.height + 1

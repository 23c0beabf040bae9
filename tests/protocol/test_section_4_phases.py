"""PROTOCOL 0.2 and 4.3-4.7 on the ledger: chain time, phases, snapshot, plans, eligibility, epoch 0."""

import msgspec
import pytest

from consensus.delegates import DelegateSet
from consensus.errors import InvalidGenesis
from consensus.grouping import GroupingMember, Score, group_sizes, score, seed_of
from consensus.parameters import DEMO, check_parameters, fault_bound_ms, resolved
from consensus.planner import plan
from contracts.epoch_records import BuiltInPlan
from contracts.plans import built_in_plan, grouping_members, provide_built_in_plan
from contracts.receipts import (
    CreditReason,
    DelegatesChanged,
    EpochPhase,
    GroupsFormed,
    GroupTallied,
    MemberJoined,
    PhaseChanged,
    ReasonCode,
)
from contracts.seats import delegate_set_at
from contracts.state import number_key
from contracts.transaction import Heartbeat, Join, Leave, Plan
from tests.support.chain import Key
from tests.support.epochs import EpochChain


def make(members: int = 12, groups: int = 4, **parameters: object) -> EpochChain:
    return EpochChain(members=members, groups=groups, **parameters)  # type: ignore[arg-type]


def snapshot_heights(chain: EpochChain) -> list[int]:
    return [snapshot.height for _, snapshot in chain.state.epoch.snapshots.items()]


# ------------------------------------------------------------------ 0.2


def test_0_2_chain_time_advances_with_block_time_but_at_most_two_empty_intervals_a_block() -> None:
    chain = make()
    chain.block(after_ms=300)
    assert chain.record.chain_ms == 300
    chain.block(after_ms=3_600_000)
    assert chain.record.chain_ms == 300 + 2 * 500


def test_0_2_phases_run_on_chain_time_so_a_halt_robs_nobody_of_a_vote() -> None:
    chain = make()
    chain.to_phase(EpochPhase.VOTING)
    chain.block(after_ms=3_600_000)
    chain.block(after_ms=3_600_000)
    assert chain.record.phase is EpochPhase.VOTING


# ------------------------------------------------------------------ 4.4


def test_4_4_running_ends_with_its_first_block_at_run_ms_and_that_block_is_the_snapshot() -> None:
    chain = make()
    while chain.record.chain_ms + 500 < 8_000:
        chain.block(after_ms=500)
    phases = [chain.record.phase]
    for step_ms in (499, 1):
        assert snapshot_heights(chain) == [0]
        chain.block(after_ms=step_ms)
        phases.append(chain.record.phase)
    assert phases == [EpochPhase.RUNNING, EpochPhase.RUNNING, EpochPhase.PLANNING]
    assert snapshot_heights(chain) == [0, chain.height]


def test_4_4_planning_lasts_planning_ms_from_the_snapshot_on() -> None:
    chain = make()
    chain.to_phase(EpochPhase.PLANNING)
    start = chain.record.chain_ms
    chain.to_phase(EpochPhase.VOTING, after_ms=100)
    assert chain.record.chain_ms == start + 3_000


def test_4_4_voting_lasts_voting_ms_from_the_end_of_planning_on() -> None:
    chain = make()
    chain.to_phase(EpochPhase.VOTING)
    start = chain.record.chain_ms
    chain.to_phase(EpochPhase.CLOSING, after_ms=100)
    assert chain.record.chain_ms == start + 5_000


def test_4_4_planning_has_at_least_one_block_and_voting_two_however_long_they_take() -> None:
    chain = make(empty_block_interval_ms=60_000)
    phases = []
    for _ in range(5):
        phases.append(chain.record.phase)
        chain.block(after_ms=100_000)
    assert phases == [
        EpochPhase.RUNNING,
        EpochPhase.PLANNING,
        EpochPhase.VOTING,
        EpochPhase.VOTING,
        EpochPhase.CLOSING,
    ]
    assert (chain.record.phase, chain.record.epoch) == (EpochPhase.RUNNING, 1)


def test_4_4_the_tally_is_the_last_step_of_the_last_voting_block() -> None:
    chain = make()
    chain.to_last_voting_block()
    voter = chain.members[0]
    favourite = chain.mate(voter, 1)
    seats = chain.state.epoch.seat_sets
    assert number_key(chain.height + 3) not in seats
    receipt = chain.vote((voter, favourite), after_ms=1_000)
    assert receipt.code is ReasonCode.OK
    assert chain.record.phase is EpochPhase.CLOSING
    assert favourite.address in chain.holders(chain.height + 2)
    assert len(chain.events(GroupTallied, chain.outcomes[-1])) == 4


def test_4_4_the_next_block_is_closing_and_carries_the_new_sets_hash() -> None:
    chain = make()
    chain.to_phase(EpochPhase.CLOSING)
    chain.block()
    closing = chain.blocks[-1].header
    assert closing.epoch == 0
    first = chain.context()
    assert closing.next_delegates_hash == first.delegates.hash()
    assert closing.next_delegates_hash != closing.delegates_hash


def test_4_4_the_closing_block_books_rewards_then_decay() -> None:
    chain = make()
    chain.to_phase(EpochPhase.CLOSING)
    reasons = [reason for _, reason, _ in chain.credit_changes(chain.block())]
    assert dict.fromkeys(reasons) == dict.fromkeys((CreditReason.DELEGATE_REWARD, CreditReason.DECAY))


def test_4_4_the_new_epoch_starts_with_the_block_after_closing() -> None:
    chain = make()
    chain.to_phase(EpochPhase.CLOSING)
    last_voting = chain.height
    chain.block()
    chain.block()
    assert [block.header.epoch for block in chain.blocks[-2:]] == [0, 1]
    assert chain.record.epoch_first_height == last_voting + 2
    assert chain.seats(chain.height).epoch == 1
    assert chain.seats(chain.height - 1).epoch == 0


def test_4_4_the_phase_of_a_block_is_fixed_by_the_state_before_it() -> None:
    chain = make()
    chain.to_phase(EpochPhase.PLANNING)
    while chain.elapsed_ms + 1_000 < chain.parameters.planning_ms:
        chain.block(after_ms=500)
    voter = chain.members[0]
    assert chain.vote((voter, voter), after_ms=1_000).code is ReasonCode.BALLOT_EPOCH_WRONG
    assert chain.record.phase is EpochPhase.VOTING
    assert chain.vote((voter, voter)).code is ReasonCode.OK


def test_4_4_every_change_of_phase_is_an_event() -> None:
    chain = make()
    chain.to_phase(EpochPhase.RUNNING, 1)
    assert [(event.epoch, event.phase) for event in chain.events(PhaseChanged)] == [
        (0, EpochPhase.PLANNING),
        (0, EpochPhase.VOTING),
        (0, EpochPhase.CLOSING),
        (1, EpochPhase.RUNNING),
    ]


@pytest.mark.parametrize("name", ["planning_ms", "voting_ms"])
def test_4_4_genesis_refuses_times_below_the_bound(name: str) -> None:
    parameters = resolved(DEMO, 8)
    bound = fault_bound_ms(parameters, 8)
    check_parameters(msgspec.structs.replace(parameters, **{name: bound}), 8)
    with pytest.raises(InvalidGenesis, match=name):
        check_parameters(msgspec.structs.replace(parameters, **{name: bound - 1}), 8)


# ------------------------------------------------------------------ 4.3, 4.5 plans


def to_planning(chain: EpochChain, *, with_bad_built_in: bool) -> list[GroupingMember]:
    """Planning with uneven energies; a worse plan may stand in for the built-in one, so that it can be beaten."""
    for number, key in enumerate(chain.members):
        chain.set_account(key, energy_wh=1_000 * number)
    chain.to_phase(EpochPhase.PLANNING)
    members = list(grouping_members(chain.state.epoch.snapshots.require(number_key(1))))
    if with_bad_built_in:
        bad = in_order(members)
        provide_built_in_plan(chain.state, BuiltInPlan(1, 4, bad, score(members, bad, 4, chain.parameters)))
    return members


def in_order(members: list[GroupingMember]) -> tuple[int, ...]:
    """The poorest in group 0, the richest in group 3."""
    return tuple(sorted([0, 1, 2, 3] * (len(members) // 4)))


def claim(
    chain: EpochChain, members: list[GroupingMember], assignment: tuple[int, ...], epoch: int = 1
) -> Plan:
    found = score(members, assignment, 4, chain.parameters)
    return Plan(epoch, assignment, found.energy_excess, found.credit_excess)


def swapped(assignment: tuple[int, ...], first: int, second: int) -> tuple[int, ...]:
    plan_list = list(assignment)
    plan_list[first], plan_list[second] = plan_list[second], plan_list[first]
    return tuple(plan_list)


def test_4_3_the_seed_is_the_hash_of_the_snapshot_blocks_hash() -> None:
    chain = make()
    chain.to_phase(EpochPhase.PLANNING)
    assert chain.header is not None
    assert chain.state.epoch.snapshots.require(number_key(1)).seed == seed_of(chain.header.digest())


def test_4_3_without_a_plan_the_built_in_one_makes_the_groups() -> None:
    chain = make()
    members = to_planning(chain, with_bad_built_in=False)
    snapshot = chain.state.epoch.snapshots.require(number_key(1))
    chain.to_phase(EpochPhase.VOTING)
    groups = chain.state.epoch.groups.require(number_key(1))
    assert groups.assignment == plan(members, 4, snapshot.seed, chain.parameters)
    assert groups.submitter is None
    event = chain.events(GroupsFormed)[0]
    assert event.members == tuple(member.address for member in members)
    assert (event.assignment, event.submitted) == (groups.assignment, False)


def test_4_3_a_built_in_plan_computed_beside_the_protocol_gives_the_same_state() -> None:
    plain, aided = make(), make()
    for chain in (plain, aided):
        chain.to_phase(EpochPhase.PLANNING)
    snapshot = aided.state.epoch.snapshots.require(number_key(1))
    provide_built_in_plan(aided.state, built_in_plan(snapshot, aided.parameters))
    for chain in (plain, aided):
        chain.to_phase(EpochPhase.RUNNING, 1)
    assert plain.outcomes[-1].state_root == aided.outcomes[-1].state_root


def test_4_5_anyone_may_commit_a_plan_and_a_strictly_smaller_score_replaces_the_built_in_one() -> None:
    chain = make()
    members = to_planning(chain, with_bad_built_in=True)
    better = swapped(in_order(members), 0, 11)
    submitter = Key(77)
    assert chain.receipt(submitter, claim(chain, members, better)).code is ReasonCode.OK
    chain.to_phase(EpochPhase.VOTING)
    groups = chain.state.epoch.groups.require(number_key(1))
    assert (groups.assignment, groups.submitter) == (better, submitter.address)
    assert chain.events(GroupsFormed)[0].submitted is True


def test_4_5_one_plan_per_sender_and_epoch() -> None:
    chain = make()
    members = to_planning(chain, with_bad_built_in=True)
    better = swapped(in_order(members), 0, 11)
    best = built_in_plan(chain.state.epoch.snapshots.require(number_key(1)), chain.parameters).assignment
    assert chain.receipt(Key(77), claim(chain, members, better)).code is ReasonCode.OK
    assert chain.receipt(Key(77), claim(chain, members, best)).code is ReasonCode.PLAN_ALREADY_COMMITTED
    assert chain.receipt(Key(78), claim(chain, members, best)).code is ReasonCode.OK


def test_4_5_equal_scores_go_to_the_built_in_plan_then_to_the_first_committed() -> None:
    chain = make()
    members = to_planning(chain, with_bad_built_in=True)
    same = in_order(members)
    assert chain.receipt(Key(77), claim(chain, members, same)).code is ReasonCode.PLAN_CLAIM_NOT_BETTER
    better = swapped(same, 0, 11)
    assert chain.receipt(Key(77), claim(chain, members, better)).code is ReasonCode.OK
    assert chain.receipt(Key(78), claim(chain, members, better)).code is ReasonCode.PLAN_CLAIM_NOT_BETTER


def test_4_5_a_claim_not_below_the_best_is_refused_unread() -> None:
    chain = make()
    members = to_planning(chain, with_bad_built_in=True)
    worst = score(members, in_order(members), 4, chain.parameters)
    unreadable = Plan(1, (9, 9), worst.energy_excess, worst.credit_excess)
    assert chain.receipt(Key(77), unreadable).code is ReasonCode.PLAN_CLAIM_NOT_BETTER


def test_4_5_a_plan_is_a_group_number_per_eligible_member_and_its_true_score() -> None:
    chain = make()
    members = to_planning(chain, with_bad_built_in=True)
    better = swapped(in_order(members), 0, 11)
    good = claim(chain, members, better)
    for assignment in (better[:-1], (*better[:-1], 4), (0,) * 12):
        broken = msgspec.structs.replace(good, assignment=assignment)
        assert chain.receipt(Key(77), broken).code is ReasonCode.PLAN_NO_PARTITION
    boasting = msgspec.structs.replace(good, energy_excess_wh=0)
    assert chain.receipt(Key(77), boasting).code is ReasonCode.PLAN_CLAIM_WRONG


def test_4_5_plans_are_taken_while_planning_lasts_and_for_the_next_epoch_only() -> None:
    chain = make()
    early = Plan(1, (), 0, 0)
    assert chain.receipt(Key(77), early).code is ReasonCode.PLAN_PHASE_WRONG
    members = to_planning(chain, with_bad_built_in=True)
    better = swapped(in_order(members), 0, 11)
    for epoch in (0, 2):
        assert (
            chain.receipt(Key(77), claim(chain, members, better, epoch)).code is ReasonCode.PLAN_PHASE_WRONG
        )
    chain.to_phase(EpochPhase.VOTING)
    assert chain.receipt(Key(77), claim(chain, members, better)).code is ReasonCode.PLAN_PHASE_WRONG


def test_4_5_while_the_built_in_plan_is_within_both_limits_nobody_can_change_the_groups() -> None:
    chain = make()
    chain.to_phase(EpochPhase.PLANNING)
    snapshot = chain.state.epoch.snapshots.require(number_key(1))
    built_in = built_in_plan(snapshot, chain.parameters)
    assert built_in.score == Score(0, 0)
    other = Plan(1, built_in.assignment, 0, 0)
    assert chain.receipt(Key(77), other).code is ReasonCode.PLAN_CLAIM_NOT_BETTER


# ------------------------------------------------------------------ 4.6 eligible


def vote_without(chain: EpochChain, silent: Key) -> None:
    """Everybody but ``silent`` votes for somebody else than ``silent``."""
    chain.to_phase(EpochPhase.VOTING)
    epoch = chain.record.epoch + 1
    grouped = chain.state.epoch.grouping(epoch).group_of
    voters = [key for key in chain.members if key is not silent and key.address in grouped]
    votes = [(key, next(k for k in chain.group(key, epoch) if k is not silent)) for key in voters]
    chain.vote(*votes)
    chain.to_phase(EpochPhase.RUNNING, epoch)


def non_delegate(chain: EpochChain) -> Key:
    return next(key for key in chain.members if key.address not in chain.holders())


def test_4_6_a_member_without_a_sign_for_dormant_epochs_is_not_grouped() -> None:
    chain = make(dormant_epochs=1)
    silent = non_delegate(chain)
    vote_without(chain, silent)
    assert silent.address in chain.state.epoch.grouping(1).group_of
    vote_without(chain, silent)
    assert silent.address in chain.state.epoch.grouping(2).group_of
    chain.to_phase(EpochPhase.VOTING)
    grouping = chain.state.epoch.grouping(3)
    assert silent.address not in grouping.group_of
    assert tuple(len(group) for group in grouping.groups) == group_sizes(11, 4)


def test_4_6_a_heartbeat_keeps_a_member_eligible() -> None:
    chain = make(dormant_epochs=1)
    silent = non_delegate(chain)
    vote_without(chain, silent)
    vote_without(chain, silent)
    assert chain.receipt(silent, Heartbeat(2, None)).code is ReasonCode.OK
    chain.to_phase(EpochPhase.VOTING)
    assert silent.address in chain.state.epoch.grouping(3).group_of


def test_4_6_who_joined_since_is_eligible_and_who_left_is_not() -> None:
    chain = make()
    newcomer, meter = Key(700), Key(701)
    chain.keys[newcomer.address] = newcomer
    join = Join(newcomer.public_key, chain.meter(newcomer, meter), None)
    assert chain.receipt(newcomer, join).code is ReasonCode.OK
    assert len(chain.events(MemberJoined)) == 1
    leaver = non_delegate(chain)
    assert chain.receipt(leaver, Leave()).code is ReasonCode.OK
    chain.to_phase(EpochPhase.VOTING)
    grouped = chain.state.epoch.grouping(1).group_of
    assert newcomer.address in grouped
    assert leaver.address not in grouped


def test_4_6_all_members_are_eligible_if_fewer_than_four_or_k_are() -> None:
    for active, grouped in ((0, 6), (1, 4)):
        chain = make(members=6, groups=3, allow_non_bft=True, dormant_epochs=1)
        chain.to_phase(EpochPhase.RUNNING, 2)
        others = [key for key in chain.members if key.address not in chain.holders()]
        for number, key in enumerate(others):
            chain.set_account(key, active_epoch=2 if number < active else 0)
        chain.to_phase(EpochPhase.VOTING)
        assert len(chain.state.epoch.grouping(3).group_of) == grouped


def test_4_6_with_fewer_than_k_members_each_is_its_own_group() -> None:
    chain = make(members=5, groups=7)
    assert [len(group) for group in chain.state.epoch.grouping(0).groups] == [1] * 5
    assert len(chain.holders()) == 5


def test_4_6_k_0_makes_every_member_a_delegate_at_each_snapshot() -> None:
    chain = make(members=5, groups=0)
    newcomer = Key(700)
    chain.keys[newcomer.address] = newcomer
    join = Join(newcomer.public_key, chain.meter(newcomer, Key(701)), None)
    assert chain.receipt(newcomer, join).code is ReasonCode.OK
    assert len(chain.holders()) == 5
    chain.to_phase(EpochPhase.RUNNING, 1)
    assert newcomer.address in chain.holders()
    assert len(chain.holders()) == 6


# ------------------------------------------------------------------ 4.7 epoch 0


def test_4_7_epoch_0_is_grouped_by_the_built_in_planner_with_the_genesis_hash_as_seed() -> None:
    chain = make()
    snapshot = chain.state.epoch.snapshots.require(number_key(0))
    assert snapshot.seed == chain.genesis.hash()
    members = grouping_members(snapshot)
    groups = chain.state.epoch.groups.require(number_key(0))
    assert groups.assignment == plan(members, 4, chain.chain_id, chain.parameters)


def test_4_7_epoch_0_has_delegates_as_for_groups_without_a_ballot_and_c_1_is_c_2() -> None:
    chain = make()
    assert delegate_set_at(chain.state, 1) == delegate_set_at(chain.state, 2)
    assert isinstance(delegate_set_at(chain.state, 1), DelegateSet)
    assert len(chain.holders(1)) == 4
    assert all(seat.votes == 0 and seat.supporters == () for seat in chain.seats(1).ranking)
    assert chain.context().head == chain.holders(1)[0]
    assert chain.events(DelegatesChanged) == []

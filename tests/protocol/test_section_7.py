"""PROTOCOL 7 and 1.7's seats on the ledger: replacement, recounts at heights, what excludes and for how long."""

from consensus.delegates import DelegateSet
from contracts.epoch_queries import serves_until
from contracts.receipts import DelegatesChanged, EpochPhase, FaultKind, GroupTallied, ReasonCode
from contracts.seats import delegate_set_at
from contracts.transaction import Join, Leave
from tests.support.chain import Key
from tests.support.epochs import EpochChain


def make(members: int = 12, **parameters: object) -> EpochChain:
    return EpochChain(members=members, groups=4, missed_limit=6, **parameters)  # type: ignore[arg-type]


def prove(chain: EpochChain, key: Key, height: int | None = None) -> None:
    assert chain.prove(chain.equivocation(key, height)).code is ReasonCode.OK


# ------------------------------------------------------------------ 7.1


def test_7_1_a_failed_primary_loses_its_role_to_the_next_backup_and_keeps_its_seat() -> None:
    chain = make()
    chain.block()
    before = chain.holders()
    assert chain.context().head == before[0]
    chain.block(view=1)
    chain.block()
    chain.block()
    assert chain.holders() == before
    assert chain.context().head == before[1]
    assert [fault.kind for fault in chain.faults()] == [FaultKind.NO_BLOCK]


def test_7_1_after_a_failed_delegate_its_group_gets_a_new_one_by_its_votes() -> None:
    chain = make()
    chain.to_phase(EpochPhase.VOTING)
    failing = chain.members[0]
    first, second, third = chain.group(failing, 1)
    chain.vote((first, failing), (second, failing), (third, failing))
    chain.to_phase(EpochPhase.RUNNING, 1)
    assert failing.address in chain.holders()
    heir = third if third is not failing else second
    voter = second if third is not failing else first
    chain.vote((voter, heir), (heir, heir), sequence=2, epoch=1)
    prove(chain, failing)
    chain.block()
    assert heir.address in chain.holders()
    assert failing.address not in chain.holders()


# ------------------------------------------------------------------ 7.2 what loses a seat


def test_7_2_a_seat_is_lost_by_b_by_c_and_by_leaving() -> None:
    for cause in ("b", "c", "leave"):
        chain = make()
        chain.block()
        key = chain.delegate(1)
        if cause == "b":
            prove(chain, key)
        elif cause == "c":
            chain.miss_until_down(key)
        else:
            assert chain.receipt(key, Leave()).code is ReasonCode.OK
        booked = chain.height
        assert key.address in chain.holders(booked + 1)
        assert key.address not in chain.holders(booked + 2)


def test_7_2_the_re_run_happens_inside_the_block_that_recorded_the_fault() -> None:
    chain = make()
    chain.block()
    prove(chain, chain.delegate(1))
    events = chain.events(GroupTallied, chain.outcomes[-1])
    assert [(event.epoch, event.recount) for event in events] == [(0, True)]
    changed = chain.events(DelegatesChanged, chain.outcomes[-1])[0]
    assert changed.height == chain.height + 2


def test_7_2_header_h_plus_1_carries_the_hashes_of_both_ordered_sets() -> None:
    chain = make()
    chain.block()
    prove(chain, chain.delegate(1))
    now, following = (delegate_set_at(chain.state, chain.height + step) for step in (1, 2))
    chain.block()
    header = chain.blocks[-1].header
    assert (header.delegates_hash, header.next_delegates_hash) == (now.hash(), following.hash())
    assert now.hash() != following.hash()


def test_7_2_a_new_delegate_goes_last_and_the_others_keep_their_order() -> None:
    chain = make()
    chain.block()
    before = chain.holders()
    prove(chain, chain.delegate(1))
    chain.block()
    after = chain.holders()
    assert after[:3] == [before[0], before[2], before[3]]
    assert chain.keys[after[3]] in chain.group(chain.keys[before[1]])


def test_7_2_the_recount_counts_the_newest_ballots_without_the_failed_member() -> None:
    chain = make()
    chain.to_phase(EpochPhase.VOTING)
    failing = chain.members[0]
    others = [key for key in chain.group(failing, 1) if key is not failing]
    chain.vote((failing, failing), (others[0], failing), (others[1], failing))
    chain.to_phase(EpochPhase.RUNNING, 1)
    assert chain.vote((others[0], others[1]), sequence=2, epoch=1).code is ReasonCode.OK
    prove(chain, failing)
    seat = next(s for s in chain.seats(chain.height + 2).ranking if s.holder == others[1].address)
    assert seat.supporters == (others[0].address,)


def test_7_2_a_ballot_in_the_same_block_counts_in_its_recount() -> None:
    chain = make()
    chain.block()
    failing = chain.delegate(1)
    others = [key for key in chain.group(failing) if key is not failing]
    for heir in others:
        fresh = make()
        fresh.block()
        evidence = fresh.transaction(fresh.members[0], fresh.equivocation(failing))
        ballots = fresh.ballots(*(fresh.ballot(voter, 0, 1, heir) for voter in others))
        fresh.block(evidence, ballots)
        assert fresh.holders(fresh.height + 2)[-1] == heir.address


# ------------------------------------------------------------------ 7.2 exclusions


def test_7_2_who_has_b_or_c_recorded_in_e_minus_1_or_e_holds_no_seat_of_e() -> None:
    chain = make()
    chain.block()
    guilty = chain.delegate(1)
    prove(chain, guilty)
    for epoch, elected in ((1, False), (2, True)):
        chain.to_phase(EpochPhase.VOTING)
        chain.vote(*((voter, guilty) for voter in chain.group(guilty, epoch)))
        chain.to_phase(EpochPhase.RUNNING, epoch)
        assert (guilty.address in chain.holders()) is elected


def test_7_2_a_fault_recorded_late_excludes_through_the_next_epoch() -> None:
    chain = make()
    chain.block()
    guilty = chain.delegate(1)
    chain.to_phase(EpochPhase.VOTING, 1)
    prove(chain, guilty, 1)
    chain.vote(*((voter, guilty) for voter in chain.group(guilty, 2)))
    chain.to_phase(EpochPhase.RUNNING, 2)
    assert guilty.address not in chain.holders()


def test_7_2_a_costs_credit_and_role_but_excludes_nobody() -> None:
    chain = make()
    chain.block()
    failed = chain.delegate(0)
    chain.block(view=1)
    chain.to_phase(EpochPhase.VOTING)
    chain.vote(*((voter, failed) for voter in chain.group(failed, 1)))
    chain.to_phase(EpochPhase.RUNNING, 1)
    assert failed.address in chain.holders()


# ------------------------------------------------------------------ 7.2 bounds and waivers


def test_7_2_at_most_f_seats_of_an_epoch_are_recounted() -> None:
    chain = make()
    chain.block()
    first, second = chain.delegate(1), chain.delegate(2)
    prove(chain, first, 1)
    prove(chain, second, 1)
    for _ in range(3):
        chain.block()
    assert first.address not in chain.holders()
    assert second.address in chain.holders()
    chain.to_phase(EpochPhase.RUNNING, 1)
    assert second.address not in chain.holders()


def test_7_2_excluded_holders_are_replaced_in_ranking_order() -> None:
    chain = make()
    chain.block()
    first, second = chain.delegate(1), chain.delegate(2)
    chain.block(*(chain.transaction(chain.members[0], chain.equivocation(key)) for key in (second, first)))
    assert first.address not in chain.holders(chain.height + 2)
    assert second.address in chain.holders(chain.height + 2)


def test_7_2_with_nobody_else_the_holder_keeps_the_seat_and_it_is_not_counted() -> None:
    chain = EpochChain(members=5, groups=4, missed_limit=6)
    chain.block()
    groups = chain.state.epoch.grouping(0).groups
    alone = [key for key in map(chain.keys.__getitem__, chain.holders()) if len(chain.group(key)) == 1]
    paired = next(key for key in map(chain.keys.__getitem__, chain.holders()) if key not in alone)
    assert sorted(len(group) for group in groups) == [1, 1, 1, 2]
    prove(chain, alone[0], 1)
    chain.block()
    assert alone[0].address in chain.holders()
    assert chain.seats().replacements == 0
    prove(chain, paired, 1)
    chain.block()
    assert paired.address not in chain.holders()
    assert chain.seats().replacements == 1


def test_7_2_in_a_recount_the_floor_is_waived_if_need_be() -> None:
    chain = make(members=8)
    for key in chain.members:
        chain.set_account(key, credit=29_999 if key.address not in chain.holders() else 50_000)
    chain.to_phase(EpochPhase.RUNNING, 1)
    chain.block()
    guilty = next(
        key
        for key in map(chain.keys.__getitem__, chain.holders())
        if chain.state.epoch.grouping(1).groups[chain.state.epoch.grouping(1).group_of[key.address]]
        and any(member.credit < 30_000 for member in _group(chain, key))
    )
    poor = chain.mate(guilty)
    prove(chain, guilty)
    assert poor.address in chain.holders(chain.height + 2)


def _group(chain: EpochChain, key: Key) -> tuple:  # type: ignore[type-arg]
    grouping = chain.state.epoch.grouping(chain.record.epoch)
    return grouping.groups[grouping.group_of[key.address]]


def test_7_2_in_a_tally_floor_c_b_and_left_are_waived_until_somebody_is_electable() -> None:
    chain = EpochChain(members=5, groups=4)
    chain.block()
    guilty = [chain.keys[address] for address in chain.holders()]
    innocent = next(key for key in chain.members if key not in guilty)
    for key in guilty:
        prove(chain, key, 1)
    chain.to_phase(EpochPhase.RUNNING, 1)
    assert innocent.address in chain.holders()
    assert sum(key.address in chain.holders() for key in guilty) == 3


# ------------------------------------------------------------------ 7.2 the ends of an epoch


def test_7_2_the_last_voting_block_derives_the_next_set_from_the_tally_alone() -> None:
    chain = make()
    chain.to_last_voting_block()
    guilty = chain.delegate(1)
    evidence = chain.transaction(chain.members[0], chain.equivocation(guilty))
    chain.block(evidence, after_ms=1_000)
    assert chain.record.phase is EpochPhase.CLOSING
    assert not [event for event in chain.events(GroupTallied, chain.outcomes[-1]) if event.recount]
    assert guilty.address in chain.holders(chain.height + 1)
    assert guilty.address not in chain.holders(chain.height + 2)
    assert chain.seats(chain.height + 2).replacements == 0


def test_7_2_the_closing_block_recounts_a_seat_of_the_new_set() -> None:
    chain = make()
    chain.to_phase(EpochPhase.CLOSING)
    elected = next(key for key in map(chain.keys.__getitem__, chain.holders(chain.height + 2)))
    served = elected.address in chain.holders()
    if not served:
        assert chain.receipt(elected, Leave()).code is ReasonCode.OK
    else:
        prove(chain, elected)
    assert chain.record.epoch == 1
    assert elected.address in chain.holders(chain.height + 1)
    assert elected.address not in chain.holders(chain.height + 2)
    seats = chain.seats(chain.height + 2)
    assert (seats.epoch, seats.replacements) == (1, 1)


def test_7_2_replacements_are_counted_anew_in_each_epoch() -> None:
    chain = make()
    chain.block()
    prove(chain, chain.delegate(1))
    chain.to_phase(EpochPhase.RUNNING, 1)
    chain.block()
    second = chain.delegate(1)
    prove(chain, second)
    assert second.address not in chain.holders(chain.height + 2)
    assert chain.seats(chain.height + 2).replacements == 1


def test_7_2_the_number_of_seats_changes_only_at_epoch_ends() -> None:
    chain = EpochChain(members=5, groups=7)
    newcomers = [Key(700 + number) for number in range(2)]
    for number, key in enumerate(newcomers):
        chain.keys[key.address] = key
        join = Join(key.public_key, chain.meter(key, Key(800 + number)), None)
        assert chain.receipt(key, join).code is ReasonCode.OK
    leaver = chain.delegate(1)
    assert chain.receipt(leaver, Leave()).code is ReasonCode.OK
    sizes = []
    while chain.record.epoch == 0:
        chain.block(after_ms=500)
        sizes.append(len(chain.holders(chain.height)))
    assert dict.fromkeys(sizes) == {5: None}
    assert len(chain.holders()) == 6
    assert isinstance(delegate_set_at(chain.state, chain.height + 1), DelegateSet)


def test_7_2_f_of_n_below_4_is_0_so_nothing_is_recounted() -> None:
    chain = EpochChain(members=6, groups=3, allow_non_bft=True)
    chain.block()
    guilty = chain.delegate(1)
    prove(chain, guilty)
    chain.block()
    assert guilty.address in chain.holders()


# ------------------------------------------------------------------ 1.7 leavers' seats


def test_1_7_a_leaver_serves_until_a_set_without_it_begins_and_that_height_is_known() -> None:
    chain = make()
    chain.block()
    leaver = chain.delegate(2)
    assert serves_until(chain.state, leaver.address) is None
    assert chain.receipt(leaver, Leave()).code is ReasonCode.OK
    assert serves_until(chain.state, leaver.address) == chain.height + 2
    assert leaver.address in chain.holders()
    assert chain.faults() == []
    assert chain.credit_changes() == []


def test_1_7_a_leaver_is_not_electable_from_then_on_and_absent_from_the_next_snapshot() -> None:
    chain = make()
    chain.to_phase(EpochPhase.VOTING)
    leaver = next(key for key in chain.members if key.address not in chain.holders())
    votes = [(voter, leaver) for voter in chain.group(leaver, 1) if voter is not leaver]
    chain.vote(*votes)
    assert chain.receipt(leaver, Leave()).code is ReasonCode.OK
    chain.to_phase(EpochPhase.VOTING, 1)
    assert leaver.address not in chain.holders()
    assert leaver.address in chain.state.epoch.grouping(1).group_of
    assert leaver.address not in chain.state.epoch.grouping(2).group_of


# ------------------------------------------------------------------ 7.3


def test_7_3_after_a_halt_the_chain_resumes_where_it_was_and_nobody_is_judged_for_the_halt() -> None:
    chain = make()
    chain.block()
    absent = tuple(chain.holders()[2:])
    chain.block(absent=absent)
    before = chain.holders()
    chain.block(after_ms=3_600_000, absent=absent)
    chain.block()
    assert chain.holders() == before
    assert chain.faults() == []

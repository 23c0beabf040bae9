"""PROTOCOL 3 on the ledger: rewards, faults and their caps, decay, the floor, and credit that anyone can replay."""

import msgspec
import pytest

from consensus.block import full_hash, transactions_root
from consensus.errors import InvalidGenesis, MalformedInput
from consensus.hashing import address_of
from consensus.merkle import leaf_hash, merkle_path
from consensus.messages import Commit, NewView, Prepare, PrePrepareVote, ViewChange, sign_vote
from consensus.parameters import DEMO, check_parameters, fault_bound_ms, resolved
from contracts.missed_commits import counter_of, counters
from contracts.receipts import CreditReason, EpochPhase, FaultKind, ReasonCode
from contracts.transaction import (
    ConflictingVotes,
    Evidence,
    Heartbeat,
    InvalidHeaderProposed,
    InvalidTransactionProposed,
    Leave,
    Transfer,
    decode_transaction,
    encode_body,
    sign_body,
)
from tests.support.chain import Key
from tests.support.epochs import DIGESTS, EpochChain


def make(members: int = 12, **parameters: object) -> EpochChain:
    return EpochChain(members=members, groups=4, **parameters)  # type: ignore[arg-type]


def vote_for(chain: EpochChain, *favourites: Key) -> None:
    """All members vote: for the favourite in their group, else for its first member."""
    chain.to_phase(EpochPhase.VOTING)
    epoch = chain.record.epoch + 1
    votes = []
    for voter in chain.members:
        group = chain.group(voter, epoch)
        choice = next((key for key in favourites if key in group), group[0])
        votes.append((voter, choice))
    assert chain.vote(*votes).code is ReasonCode.OK


def fail_primary(chain: EpochChain, key: Key) -> None:
    """Let primaries fail in view 0 until ``key`` is the primary, then let it fail too."""
    for _ in range(8):
        context = chain.context()
        failed = context.delegates.primary(context.head, 0).address
        chain.block(view=1)
        if failed == key.address:
            return
    raise AssertionError("never primary")


def own_commit(chain: EpochChain, key: Key, height: int) -> Commit:
    vote = sign_vote(Commit, chain.chain_id, chain.record.epoch, height, 0, DIGESTS[0], key)
    assert isinstance(vote, Commit)
    return vote


# ------------------------------------------------------------------ 3.1 rewards and penalties


def test_3_1_a_faultless_delegate_seated_at_the_last_height_gains_alpha() -> None:
    chain = make()
    chain.to_phase(EpochPhase.CLOSING)
    seated = sorted(chain.holders())
    closing = chain.block()
    assert chain.credit_changes(closing, CreditReason.DELEGATE_REWARD) == [
        (address, CreditReason.DELEGATE_REWARD, 1_000) for address in seated
    ]


def test_3_1_each_member_whose_ballot_counted_for_the_seat_gains_delta_its_own_ballot_aside() -> None:
    chain = make()
    vote_for(chain)
    chain.to_phase(EpochPhase.CLOSING, 1)
    seats = chain.seats().ranking
    assert all(seat.holder in seat.supporters for seat in seats)
    voters = sorted(voter for seat in seats for voter in seat.supporters if voter != seat.holder)
    assert len(voters) == 8
    for voter in voters:
        chain.set_account(chain.keys[voter], credit=40_000)
    closing = chain.block()
    assert chain.credit_changes(closing, CreditReason.VOTER_REWARD) == [
        (voter, CreditReason.VOTER_REWARD, 500) for voter in voters
    ]


def test_3_1_a_ballot_that_did_not_count_for_the_seat_earns_nothing() -> None:
    chain = make()
    chain.to_phase(EpochPhase.VOTING)
    group = chain.group(chain.members[0], 1)
    chain.vote((group[0], group[1]), (group[1], group[1]), (group[2], group[2]))
    chain.to_phase(EpochPhase.CLOSING, 1)
    rewarded = [address for address, _, _ in chain.credit_changes(chain.block(), CreditReason.VOTER_REWARD)]
    assert rewarded == [group[0].address]


def test_3_1_a_charged_fault_costs_the_delegate_beta_and_each_voter_that_seated_it_gamma() -> None:
    chain = make()
    vote_for(chain)
    chain.to_phase(EpochPhase.RUNNING, 1)
    failed = chain.delegate(0)
    voters = [key.address for key in chain.group(failed) if key is not failed]
    outcome = chain.block(view=1)
    assert chain.credit_changes(outcome) == [
        (failed.address, CreditReason.NO_BLOCK, -5_000),
        *((voter, CreditReason.VOTER_PENALTY, -2_000) for voter in voters),
    ]


def test_3_1_a_delegate_with_a_fault_in_the_epoch_gains_no_alpha_and_its_voters_no_delta() -> None:
    chain = make()
    vote_for(chain)
    chain.to_phase(EpochPhase.RUNNING, 1)
    failed = chain.delegate(0)
    group = [key.address for key in chain.group(failed)]
    chain.block(view=1)
    chain.to_phase(EpochPhase.CLOSING, 1)
    gains = chain.credit_changes(chain.block(), CreditReason.DELEGATE_REWARD, CreditReason.VOTER_REWARD)
    assert len(gains) == 9
    assert not [address for address, _, _ in gains if address in group]


def test_3_1_a_genesis_with_delta_not_below_gamma_or_alpha_not_below_beta_is_refused() -> None:
    for changed in ({"delta": 2_000}, {"alpha": 5_000}):
        with pytest.raises(InvalidGenesis, match=r"PROTOCOL 3\.1"):
            check_parameters(msgspec.structs.replace(resolved(DEMO, 8), **changed), 8)


def test_3_1_a_gain_shrinks_above_fifty_credits() -> None:
    chain = make()
    rich = chain.delegate(0)
    chain.set_account(rich, credit=80_000)
    chain.to_phase(EpochPhase.CLOSING)
    chain.block()
    assert chain.credit(rich) == 80_000 + 1_000 * 20_000 // 50_000


def test_3_1_the_next_fault_costs_twice_as_much_and_a_clean_epoch_takes_one_step_back() -> None:
    chain = make()
    key = chain.delegate(0)
    chain.block()
    fail_primary(chain, key)
    vote_for(chain, key)
    chain.to_phase(EpochPhase.RUNNING, 1)
    fail_primary(chain, key)
    for epoch in (2, 3):
        vote_for(chain, key)
        chain.to_phase(EpochPhase.RUNNING, epoch)
    assert chain.conduct(key).streak == 1
    fail_primary(chain, key)
    lost = [delta for a, _, delta in chain.credit_changes(None, CreditReason.NO_BLOCK) if a == key.address]
    assert lost == [-5_000, -10_000, -10_000]


# ------------------------------------------------------------------ 3.2 (a) no block


def test_3_2_a_the_primaries_of_all_views_below_the_first_one_are_charged() -> None:
    chain = EpochChain(members=7, groups=7)
    chain.block()
    context = chain.context()
    failed = [context.delegates.primary(context.head, view).address for view in (0, 1)]
    outcome = chain.block(view=2)
    recorded = [(fault.address, fault.kind, fault.height, fault.charged) for fault in chain.faults(outcome)]
    assert recorded == [(address, FaultKind.NO_BLOCK, 2, True) for address in failed]


def test_3_2_a_a_view_above_f_charges_nobody() -> None:
    chain = make()
    chain.block()
    assert chain.faults(chain.block(view=2)) == []


def test_3_2_a_never_at_height_1() -> None:
    chain = make()
    assert chain.faults(chain.block(view=1)) == []


# ------------------------------------------------------------------ 3.2 (b) wrong block or equivocation


@pytest.mark.parametrize("kind", [PrePrepareVote, Prepare, Commit])
def test_3_2_b_two_votes_of_one_kind_for_one_place_are_proof(
    kind: type[PrePrepareVote] | type[Prepare] | type[Commit],
) -> None:
    chain = make()
    chain.block()
    key = chain.delegate(2)
    receipt = chain.prove(ConflictingVotes(*chain.votes(key, kind)))
    assert receipt.code is ReasonCode.OK
    fault = chain.faults(chain.outcomes[-1])[0]
    assert (fault.address, fault.kind, fault.height, fault.charged) == (
        key.address,
        FaultKind.WRONG_BLOCK,
        1,
        True,
    )
    assert chain.credit(key) == 45_000


def test_3_2_b_votes_of_different_kinds_views_heights_or_one_digest_prove_nothing() -> None:
    chain = make()
    chain.block()
    chain.block()
    key, other = chain.delegate(2), chain.delegate(1)
    prepare, second = chain.votes(key)
    pairs = [
        (prepare, chain.votes(key, Commit)[1]),
        (prepare, chain.votes(key, view=1)[1]),
        (prepare, chain.votes(key, height=1)[1]),
        (prepare, chain.votes(other)[1]),
        (prepare, prepare),
    ]
    for first, last in pairs:
        assert chain.prove(ConflictingVotes(first, last)).code is ReasonCode.EVIDENCE_PROVES_NOTHING
    assert chain.prove(ConflictingVotes(prepare, second)).code is ReasonCode.OK


def wrong_proposal(chain: EpochChain, raw: bytes) -> InvalidTransactionProposed:
    """The next primary's fresh pre-prepare of a block with ``raw`` beside a good transaction."""
    sender = chain.members[0]
    good = chain.transaction(sender, Transfer(chain.members[1].address, 5))
    references = [good.reference, full_hash(raw)]
    header = msgspec.structs.replace(
        chain.make_block().header, transactions_root=transactions_root(references)
    )
    path = merkle_path([leaf_hash(reference) for reference in references], 1)
    return InvalidTransactionProposed(
        chain.pre_prepare(chain.keys[header.proposer], header), header, path, raw
    )


def test_3_2_b_a_fresh_pre_prepare_with_a_malformed_badly_signed_or_late_transaction_is_proof() -> None:
    for case in range(3):
        chain = make()
        chain.block()
        sender, payload = chain.members[0], Transfer(chain.members[1].address, 5)
        good = chain.transaction(sender, payload).raw
        late = chain.transaction(sender, payload, valid_from_ms=1, valid_until_ms=2).raw
        raw = (good[:-1], good[:-1] + bytes([good[-1] ^ 1]), late)[case]
        proof = wrong_proposal(chain, raw)
        accused = chain.keys[proof.header.proposer]
        assert chain.prove(proof).code is ReasonCode.OK
        assert [fault.address for fault in chain.faults()] == [accused.address]


def test_3_2_b_a_good_transaction_or_a_path_to_another_proves_nothing() -> None:
    chain = make()
    chain.block()
    good = chain.transaction(chain.members[0], Transfer(chain.members[1].address, 7)).raw
    proof = wrong_proposal(chain, good)
    elsewhere = msgspec.structs.replace(wrong_proposal(chain, good[:-1]), transaction=b"\x90")
    for innocent in (proof, elsewhere):
        assert chain.prove(innocent).code is ReasonCode.EVIDENCE_PROVES_NOTHING


def test_3_2_b_a_header_of_a_wrong_chain_version_or_epoch_is_proof() -> None:
    for changed in ({"chain_id": DIGESTS[0]}, {"version": 2}, {"epoch": 1}):
        chain = make()
        chain.block()
        header = msgspec.structs.replace(chain.make_block().header, **changed)
        vote = chain.pre_prepare(chain.keys[header.proposer], header)
        assert chain.prove(InvalidHeaderProposed(vote, header)).code is ReasonCode.OK


def test_3_2_b_a_right_header_or_a_proposal_that_is_not_fresh_proves_nothing() -> None:
    chain = make()
    chain.block()
    header = chain.make_block().header
    proposer = chain.keys[header.proposer]
    wrong = msgspec.structs.replace(header, version=2)
    other = next(chain.keys[address] for address in chain.holders() if address != header.proposer)
    innocent = (
        InvalidHeaderProposed(chain.pre_prepare(proposer, header), header),
        InvalidHeaderProposed(chain.pre_prepare(proposer, header), wrong),
        InvalidHeaderProposed(chain.pre_prepare(other, wrong, view=1), wrong),
        InvalidHeaderProposed(chain.pre_prepare(other, wrong), wrong),
    )
    for proof in innocent:
        assert chain.prove(proof).code is ReasonCode.EVIDENCE_PROVES_NOTHING


def test_3_2_b_evidence_is_admissible_for_the_current_and_the_previous_epoch() -> None:
    chain = make()
    chain.block()
    early = chain.equivocation(chain.delegate(1), height=1)
    late = chain.equivocation(chain.delegate(2), height=1)
    chain.to_phase(EpochPhase.CLOSING, 1)
    assert chain.prove(early).code is ReasonCode.OK
    chain.to_phase(EpochPhase.RUNNING, 2)
    assert chain.prove(late).code is ReasonCode.EVIDENCE_OLD


def test_3_2_b_known_evidence_a_non_delegate_and_a_height_to_come_are_refused() -> None:
    chain = make()
    chain.block()
    key = chain.delegate(1)
    outsider = next(member for member in chain.members if member.address not in chain.holders())
    assert chain.prove(chain.equivocation(key)).code is ReasonCode.OK
    again = ConflictingVotes(*chain.votes(key, Commit, height=1))
    assert chain.prove(again).code is ReasonCode.EVIDENCE_KNOWN
    assert chain.prove(chain.equivocation(outsider)).code is ReasonCode.EVIDENCE_NOT_A_DELEGATE
    height = chain.height + 2
    assert chain.prove(chain.equivocation(chain.delegate(2), height)).code is ReasonCode.EVIDENCE_TOO_EARLY
    assert chain.prove(chain.equivocation(chain.delegate(2), height - 1)).code is ReasonCode.OK


def test_3_2_b_view_changes_are_never_evidence() -> None:
    chain = make()
    chain.block()
    good = chain.transaction(chain.members[0], chain.equivocation(chain.delegate(1)))
    key = chain.delegate(1)
    asked = ViewChange(0, 1, 1, None, (), key.public_key, bytes(64))
    for kind in (asked, NewView(0, 1, 1, (), key.public_key, bytes(64))):
        body = encode_body(good.chain_id, good.sender, 0, 1, 1, Evidence(ConflictingVotes(kind, kind)))  # type: ignore[arg-type]
        with pytest.raises(MalformedInput):
            decode_transaction(sign_body(body, (chain.members[0],)))


def test_3_2_b_anyone_may_submit_evidence() -> None:
    chain = make()
    chain.block()
    assert chain.prove(chain.equivocation(chain.delegate(1)), Key(77)).code is ReasonCode.OK


# ------------------------------------------------------------------ 3.2 (c) down


def test_3_2_c_absence_from_missed_limit_heights_that_span_missed_ms_is_a_fault() -> None:
    chain = make(missed_limit=6, run_ms=20_000)
    key = chain.delegate(3)
    outcomes = chain.miss([key], 10)
    assert [len(chain.faults(outcome)) for outcome in outcomes] == [0] * 9 + [1]
    fault = chain.faults()[0]
    assert (fault.address, fault.kind, fault.height) == (key.address, FaultKind.DOWN, 9)


def test_3_2_c_many_heights_in_a_short_time_are_no_fault() -> None:
    chain = make(missed_limit=6, run_ms=20_000)
    chain.miss([chain.delegate(3)], 40, after_ms=100)
    assert chain.faults() == []


def test_3_2_c_a_long_time_with_few_heights_is_no_fault() -> None:
    chain = make(missed_limit=20, run_ms=20_000)
    chain.miss([chain.delegate(3)], 20)
    assert chain.faults() == []
    assert len(chain.faults(chain.miss([chain.delegate(3)], 1)[0])) == 1


def test_3_2_c_one_commit_among_the_last_ones_starts_the_count_anew() -> None:
    chain = make(missed_limit=6, run_ms=20_000)
    key = chain.delegate(3)
    chain.miss([key], 8)
    chain.block()
    chain.miss([key], 9)
    assert chain.faults() == []
    assert len(chain.faults(chain.miss([key], 1)[0])) == 1


def test_3_2_c_a_heartbeat_with_its_own_commit_restarts_the_count_even_in_the_judging_block() -> None:
    chain = make(missed_limit=6, run_ms=20_000)
    key = chain.delegate(3)
    chain.miss([key], 9)
    receipt = chain.receipt(key, Heartbeat(0, own_commit(chain, key, 4)), absent=(key.address,), after_ms=500)
    assert receipt.code is ReasonCode.OK
    assert chain.faults() == []
    assert counter_of(chain.state, key.address) is None
    chain.miss([key], 8)
    assert chain.faults() == []


def test_3_2_c_a_heartbeat_without_a_commit_or_for_another_height_or_epoch_is_refused() -> None:
    chain = make(missed_limit=6, run_ms=20_000)
    key = chain.delegate(3)
    chain.block()
    chain.miss([key], 3)
    later = own_commit(chain, key, 2)
    for payload in (
        Heartbeat(0, None),
        Heartbeat(0, own_commit(chain, key, 1)),
        Heartbeat(0, own_commit(chain, key, chain.height + 10)),
        Heartbeat(1, later),
        Heartbeat(0, msgspec.structs.replace(own_commit(chain, key, 2), epoch=1)),
    ):
        transaction = chain.transaction(key, payload)
        outcome = chain.block(transaction, absent=(key.address,), validate=False)
        assert outcome.receipts[0].code is ReasonCode.HEARTBEAT_WRONG
    assert chain.receipt(key, Heartbeat(0, later)).code is ReasonCode.OK


def test_3_2_c_a_delegate_that_missed_nothing_has_no_heartbeat_to_send() -> None:
    chain = make()
    chain.block()
    key = chain.delegate(0)
    assert chain.receipt(key, Heartbeat(0, None)).code is ReasonCode.HEARTBEAT_WRONG
    assert chain.receipt(key, Heartbeat(0, own_commit(chain, key, 1))).code is ReasonCode.HEARTBEAT_WRONG


def test_3_2_c_a_non_delegates_heartbeat_carries_no_commit() -> None:
    chain = make()
    chain.block()
    member = chain.mate(chain.delegate(0))
    assert (
        chain.receipt(member, Heartbeat(0, own_commit(chain, member, 1))).code is ReasonCode.HEARTBEAT_WRONG
    )
    assert chain.receipt(member, Heartbeat(0, None)).code is ReasonCode.OK
    assert chain.receipt(Key(77), Heartbeat(0, None)).code is ReasonCode.NOT_A_MEMBER


def test_3_2_c_genesis_refuses_missed_ms_below_the_bound() -> None:
    parameters = resolved(DEMO, 8)
    bound = fault_bound_ms(parameters, 8)
    check_parameters(msgspec.structs.replace(parameters, missed_ms=bound), 8)
    with pytest.raises(InvalidGenesis, match="missed_ms"):
        check_parameters(msgspec.structs.replace(parameters, missed_ms=bound - 1), 8)


def test_3_2_c_counters_start_at_zero_with_each_epoch() -> None:
    chain = make(missed_limit=6)
    chain.to_last_voting_block()
    absent = [chain.keys[address] for address in chain.holders()[3:]]
    chain.to_phase(EpochPhase.RUNNING, 1, absent=[key.address for key in absent])
    chain.block()
    assert counters(chain.state) == ()


def test_3_2_c_the_closing_blocks_last_commit_and_the_one_about_it_are_not_counted() -> None:
    chain = make(missed_limit=2)
    chain.to_last_voting_block()
    everybody_but = [address for address in chain.holders() if address != chain.holders()[0]]
    chain.block(after_ms=1_000, absent=everybody_but)
    before = counters(chain.state)
    chain.block(absent=everybody_but)
    assert chain.record.phase is EpochPhase.RUNNING
    assert counters(chain.state) == before
    chain.block()
    assert counters(chain.state) == ()
    chain.block(absent=chain.holders()[:1])
    chain.block()
    assert len(counters(chain.state)) == 1


def test_3_2_c_a_new_seats_counter_starts_at_zero() -> None:
    chain = make(missed_limit=6, run_ms=20_000)
    key = chain.delegate(3)
    chain.miss_until_down(key)
    chain.block(absent=(key.address,))
    chain.block(absent=(key.address,))
    new = chain.keys[chain.holders()[-1]]
    assert new in chain.group(key)
    assert counter_of(chain.state, new.address) is None
    chain.block(absent=(new.address,))
    chain.block()
    counter = counter_of(chain.state, new.address)
    assert counter is not None
    assert counter.heights == 1


# ------------------------------------------------------------------ 3.2 caps


def test_3_2_at_most_one_charge_per_epoch_for_a_or_c_and_one_for_b_though_all_are_recorded() -> None:
    chain = make(missed_limit=6, run_ms=60_000)
    key = chain.delegate(0)
    chain.block()
    chain.block(view=1)
    for _ in range(4):
        fail_primary(chain, chain.keys[chain.context().head])
    chain.prove(chain.equivocation(key, 1))
    chain.prove(chain.equivocation(key, 2))
    mine = [(fault.kind, fault.charged) for fault in chain.faults() if fault.address == key.address]
    assert mine == [
        (FaultKind.NO_BLOCK, True),
        (FaultKind.NO_BLOCK, False),
        (FaultKind.WRONG_BLOCK, True),
        (FaultKind.WRONG_BLOCK, False),
    ]
    assert chain.credit(key) == 50_000 - 5_000 - 10_000


def test_3_2_a_fault_of_a_and_one_of_c_share_one_charge() -> None:
    chain = make(missed_limit=6, run_ms=60_000)
    key = chain.delegate(0)
    chain.block()
    chain.block(view=1)
    chain.miss_until_down(key)
    charges = [(fault.kind, fault.charged) for fault in chain.faults()]
    assert charges == [(FaultKind.NO_BLOCK, True), (FaultKind.DOWN, False)]
    assert chain.credit(key) == 45_000


def test_3_2_a_voter_pays_gamma_at_most_once_an_epoch() -> None:
    chain = make()
    vote_for(chain)
    chain.to_phase(EpochPhase.RUNNING, 1)
    failed = chain.delegate(0)
    chain.block(view=1)
    chain.prove(chain.equivocation(failed))
    paid = chain.credit_changes(None, CreditReason.VOTER_PENALTY)
    assert sorted(address for address, _, _ in paid) == sorted(
        key.address for key in chain.group(failed) if key is not failed
    )


def test_3_2_the_voters_who_pay_are_those_whose_ballots_held_the_seat_at_the_faults_height() -> None:
    chain = make()
    vote_for(chain)
    chain.to_phase(EpochPhase.RUNNING, 1)
    accused = chain.delegate(1)
    voters = [key.address for key in chain.group(accused) if key is not accused]
    height = chain.height + 1
    vote_for(chain)
    chain.to_phase(EpochPhase.RUNNING, 2)
    chain.block()
    outcome_receipt = chain.prove(chain.equivocation(accused, height))
    assert outcome_receipt.code is ReasonCode.OK
    paid = chain.credit_changes(chain.outcomes[-1], CreditReason.VOTER_PENALTY)
    assert [address for address, _, _ in paid] == voters


def test_3_2_a_voter_that_paid_gamma_gains_no_delta_in_that_epoch() -> None:
    chain = make()
    vote_for(chain)
    chain.to_phase(EpochPhase.RUNNING, 1)
    accused = chain.delegate(1)
    voters = [key.address for key in chain.group(accused) if key is not accused]
    height = chain.height + 1
    vote_for(chain)
    chain.to_phase(EpochPhase.RUNNING, 2)
    chain.prove(chain.equivocation(accused, height))
    chain.to_phase(EpochPhase.CLOSING, 2)
    chain.block()
    gained = [a for a, _, _ in chain.credit_changes(chain.outcomes[-1], CreditReason.VOTER_REWARD)]
    assert gained
    assert not [voter for voter in voters if voter in gained]


def test_3_2_a_fault_is_recorded_in_the_epoch_of_the_block_that_books_it() -> None:
    chain = make()
    chain.block()
    key = chain.delegate(1)
    chain.to_phase(EpochPhase.RUNNING, 1)
    chain.prove(chain.equivocation(key, 1))
    assert [(faults.epoch, faults.wrong_block) for faults in chain.conduct(key).faults] == [(1, 1)]


# ------------------------------------------------------------------ 3.3 decay, 3.4 floor, 3.5 entries


def test_3_3_who_neither_voted_nor_served_loses_its_share_rounded_up() -> None:
    chain = make()
    chain.to_phase(EpochPhase.VOTING)
    served = chain.holders()
    idle, voter = [key for key in chain.members if key.address not in served][:2]
    chain.set_account(idle, credit=49_951)
    chain.vote((voter, chain.group(voter, 1)[0]))
    chain.to_phase(EpochPhase.CLOSING)
    decayed = {a: delta for a, _, delta in chain.credit_changes(chain.block(), CreditReason.DECAY)}
    assert decayed[idle.address] == -1_000
    assert voter.address not in decayed
    assert not [address for address in served if address in decayed]
    assert len(decayed) == 12 - 4 - 1


def test_3_3_rewards_are_booked_before_decay_each_in_address_order() -> None:
    chain = make()
    chain.to_phase(EpochPhase.CLOSING)
    changes = chain.credit_changes(chain.block())
    reasons = [reason for _, reason, _ in changes]
    assert reasons == [CreditReason.DELEGATE_REWARD] * 4 + [CreditReason.DECAY] * 8
    assert [a for a, _, _ in changes[:4]] == sorted(a for a, _, _ in changes[:4])
    assert [a for a, _, _ in changes[4:]] == sorted(a for a, _, _ in changes[4:])


def test_3_3_a_member_alone_in_its_group_does_not_decay() -> None:
    chain = EpochChain(members=5, groups=4)
    chain.to_phase(EpochPhase.CLOSING)
    grouping = chain.state.epoch.grouping(1)
    pair = [member.address for group in grouping.groups if len(group) == 2 for member in group]
    served = chain.holders(1)
    decayed = [a for a, _, _ in chain.credit_changes(chain.block(), CreditReason.DECAY)]
    assert decayed == [address for address in pair if address not in served]


def test_3_3_who_left_does_not_decay_and_who_is_not_eligible_does() -> None:
    chain = make(dormant_epochs=1)
    sleeper = next(key for key in chain.members if key.address not in chain.holders())
    for epoch in (1, 2):
        chain.to_phase(EpochPhase.VOTING)
        awake = [key for key in chain.members if key is not sleeper]
        choices = [next(k for k in chain.group(key, epoch) if k is not sleeper) for key in awake]
        chain.vote(*zip(awake, choices, strict=True))
        chain.to_phase(EpochPhase.RUNNING, epoch)
    chain.to_phase(EpochPhase.VOTING)
    assert sleeper.address not in chain.state.epoch.grouping(3).group_of
    leaver = next(key for key in chain.members if key.address not in chain.holders() and key is not sleeper)
    assert chain.receipt(leaver, Leave()).code is ReasonCode.OK
    chain.to_phase(EpochPhase.CLOSING)
    decayed = [a for a, _, _ in chain.credit_changes(chain.block(), CreditReason.DECAY)]
    assert sleeper.address in decayed
    assert leaver.address not in decayed


def test_3_4_below_the_floor_at_the_snapshot_a_member_is_not_electable() -> None:
    chain = make()
    poor = chain.members[0]
    chain.set_account(poor, credit=29_999)
    chain.to_phase(EpochPhase.VOTING)
    chain.set_account(poor, credit=50_000)
    chain.vote(*((voter, poor) for voter in chain.group(poor, 1)))
    chain.to_phase(EpochPhase.RUNNING, 1)
    assert poor.address not in chain.holders()


def test_3_4_unless_its_group_would_have_nobody() -> None:
    chain = make()
    for key in chain.members:
        chain.set_account(key, credit=29_999)
    chain.to_phase(EpochPhase.VOTING)
    poor = chain.members[0]
    chain.vote(*((voter, poor) for voter in chain.group(poor, 1)))
    chain.to_phase(EpochPhase.RUNNING, 1)
    assert poor.address in chain.holders()


def test_3_5_every_score_is_the_sum_of_its_entries_as_applied() -> None:
    chain = make(missed_limit=6)
    poor = chain.delegate(3)
    start = {key.address: 50_000 for key in chain.members}
    chain.set_account(poor, credit=3_000)
    start[poor.address] = 3_000
    chain.miss_until_down(poor)
    for epoch in (1, 2, 3):
        vote_for(chain)
        chain.to_phase(EpochPhase.RUNNING, epoch)
        chain.block(view=1)
    for address, _, delta in chain.credit_changes():
        start[address] += delta
        assert 0 <= start[address] <= 100_000
    assert start == {key.address: chain.credit(key) for key in chain.members}
    assert (poor.address, CreditReason.DOWN, -3_000) in chain.credit_changes()
    assert all(address_of(key.public_key) == key.address for key in chain.members)

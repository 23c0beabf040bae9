"""PROTOCOL 5 on the ledger: ballots, weights, the tally, the default ballot."""

import msgspec
import pytest

from consensus.grouping import member_hash
from contracts.duties import ballot_due, default_choices
from contracts.receipts import BallotAccepted, DelegatesChanged, EpochPhase, GroupTallied, ReasonCode
from contracts.transaction import Ballots, Leave
from contracts.validation import InvalidTransaction
from tests.support.chain import Key
from tests.support.epochs import EpochChain


def make(members: int = 12, **parameters: object) -> EpochChain:
    return EpochChain(members=members, groups=4, **parameters)  # type: ignore[arg-type]


def to_voting(chain: EpochChain) -> EpochChain:
    chain.to_phase(EpochPhase.VOTING)
    return chain


# ------------------------------------------------------------------ 5.1, 5.3, 5.4 the tally


def test_5_1_each_group_elects_its_delegate_and_the_delegates_form_the_set() -> None:
    chain = to_voting(make())
    favourites = [group[-1] for group in chain.state.epoch.grouping(1).groups]
    keys = [chain.keys[member.address] for member in favourites]
    chain.vote(*((voter, favourite) for favourite in keys for voter in chain.group(favourite, 1)))
    chain.to_phase(EpochPhase.RUNNING, 1)
    assert sorted(chain.holders()) == sorted(key.address for key in keys)


def test_5_3_rule_2_the_delegate_with_the_most_votes_is_the_system_primary() -> None:
    chain = to_voting(make())
    favourite = chain.members[0]
    chain.vote(*((voter, favourite) for voter in chain.group(favourite, 1)))
    chain.to_phase(EpochPhase.RUNNING, 1)
    assert chain.holders()[0] == favourite.address
    assert chain.context().head == favourite.address
    assert chain.seats().ranking[0].votes == 3 * 50_000


def test_5_4_the_ranking_follows_votes_then_energy_then_credit_then_hash() -> None:
    chain = make()
    chain.to_phase(EpochPhase.RUNNING, 1)
    grouping = chain.state.epoch.grouping(1)
    ranking = chain.seats().ranking
    keys = [
        (-seat.votes, -seat.energy_wh, -seat.credit, member_hash(grouping.seed, seat.holder))
        for seat in ranking
    ]
    assert keys == sorted(keys)


def test_5_3_the_result_of_every_group_is_on_the_ledger() -> None:
    chain = to_voting(make())
    voter = chain.members[0]
    chain.vote((voter, voter))
    chain.to_phase(EpochPhase.CLOSING)
    tallied = chain.events(GroupTallied)
    group = chain.state.epoch.grouping(1).group_of[voter.address]
    assert [event.group for event in tallied] == [0, 1, 2, 3]
    assert (tallied[group].delegate, tallied[group].votes, tallied[group].ballots) == (
        voter.address,
        50_000,
        1,
    )
    changed = chain.events(DelegatesChanged)[-1]
    assert list(changed.ranking) == chain.holders(changed.height)


# ------------------------------------------------------------------ 5.2 who, when, how often


def test_5_2_a_ballot_for_the_next_epoch_is_accepted_in_voting_blocks_only() -> None:
    chain = make()
    voter = chain.members[0]
    codes = {}
    for phase in (EpochPhase.RUNNING, EpochPhase.PLANNING, EpochPhase.VOTING, EpochPhase.CLOSING):
        chain.to_phase(phase)
        codes[phase] = chain.ballot_code(voter, 1, 1, voter)
    assert codes == {
        EpochPhase.RUNNING: ReasonCode.BALLOT_EPOCH_WRONG,
        EpochPhase.PLANNING: ReasonCode.BALLOT_EPOCH_WRONG,
        EpochPhase.VOTING: ReasonCode.OK,
        EpochPhase.CLOSING: ReasonCode.BALLOT_EPOCH_WRONG,
    }


def test_5_2_a_ballot_for_the_current_epoch_is_accepted_in_every_block_of_it_first_or_newest() -> None:
    chain = make()
    voter = chain.members[0]
    for sequence, phase in enumerate(EpochPhase, start=1):
        chain.to_phase(phase)
        assert chain.ballot_code(voter, 0, sequence, voter) is ReasonCode.OK
    chain.to_phase(EpochPhase.RUNNING, 1)
    assert chain.ballot_code(voter, 0, 9, voter) is ReasonCode.BALLOT_EPOCH_WRONG


def test_5_2_choices_stand_in_the_voters_group_and_are_distinct() -> None:
    chain = to_voting(make())
    voter = chain.members[0]
    mate, stranger = chain.mate(voter, 1), chain.stranger(voter, 1)
    outside = ReasonCode.BALLOT_CHOICE_OUTSIDE_GROUP
    assert chain.ballot_code(voter, 1, 1, stranger) is outside
    assert chain.ballot_code(voter, 1, 1, voter, stranger) is outside
    assert chain.ballot_code(voter, 1, 1, voter, voter) is outside
    assert chain.ballot_code(voter, 1, 1, Key(77)) is outside
    assert chain.ballot_code(voter, 1, 1, voter, mate) is ReasonCode.OK


def test_5_2_a_ballot_is_signed_by_its_voter_whoever_carries_it() -> None:
    chain = to_voting(make())
    voter, other = chain.members[:2]
    signed = chain.ballot(voter, 1, 1, voter)
    forged = (
        msgspec.structs.replace(signed, sequence=2),
        msgspec.structs.replace(signed, public_key=other.public_key),
    )
    for ballot in forged:
        with pytest.raises(InvalidTransaction):
            chain.block(chain.transaction(other, Ballots((ballot,))))
    assert chain.receipt(other, Ballots((signed,))).code is ReasonCode.OK


def test_5_2_a_voter_that_is_not_grouped_is_refused() -> None:
    chain = to_voting(make())
    outsider = Key(77)
    assert chain.ballot_code(outsider, 1, 1, chain.members[0]) is ReasonCode.BALLOT_VOTER_UNKNOWN


def test_5_2_who_has_left_votes_no_more() -> None:
    chain = to_voting(make())
    leaver = next(key for key in chain.members if key.address not in chain.holders())
    assert chain.receipt(leaver, Leave()).code is ReasonCode.OK
    assert chain.ballot_code(leaver, 1, 1, leaver) is ReasonCode.MEMBER_HAS_LEFT


def test_5_2_the_highest_sequence_counts_and_an_old_ballot_cannot_be_brought_back() -> None:
    chain = to_voting(make())
    voter = chain.members[0]
    mate = chain.mate(voter, 1)
    old = chain.ballot(voter, 1, 1, mate)
    assert chain.block(chain.ballots(old)).receipts[0].code is ReasonCode.OK
    assert chain.ballot_code(voter, 1, 5, voter) is ReasonCode.OK
    relayed = Ballots((old,))
    assert chain.receipt(chain.members[5], relayed).code is ReasonCode.BALLOT_SEQUENCE_OLD
    assert chain.ballot_code(voter, 1, 5, mate) is ReasonCode.BALLOT_SEQUENCE_OLD
    chain.to_phase(EpochPhase.RUNNING, 1)
    assert voter.address in chain.holders()


def test_5_2_at_most_four_ballots_per_voter_and_epoch() -> None:
    chain = to_voting(make())
    voter = chain.members[0]
    for sequence in range(1, 5):
        assert chain.ballot_code(voter, 1, sequence, voter) is ReasonCode.OK
    assert chain.ballot_code(voter, 1, 5, voter) is ReasonCode.BALLOT_TOO_MANY
    assert chain.ballot_code(voter, 0, 1, voter) is ReasonCode.OK
    assert len(chain.events(BallotAccepted)) == 5


def test_5_2_a_batch_counts_as_far_as_its_ballots_do() -> None:
    chain = to_voting(make())
    voter, other = chain.members[:2]
    good = chain.ballot(voter, 1, 1, voter)
    bad = chain.ballot(other, 1, 1, chain.stranger(other, 1))
    again = chain.ballot(voter, 1, 1, voter)
    receipt = chain.block(chain.ballots(bad, good, again)).receipts[0]
    assert receipt.code is ReasonCode.OK
    assert [(part.index, part.code) for part in receipt.rejections] == [
        (0, ReasonCode.BALLOT_CHOICE_OUTSIDE_GROUP),
        (2, ReasonCode.BALLOT_SEQUENCE_OLD),
    ]
    refused = chain.block(chain.ballots(again, bad)).receipts[0]
    assert refused.code is ReasonCode.BALLOT_SEQUENCE_OLD
    assert len(refused.rejections) == 2


def test_5_2_the_whole_weight_goes_to_the_first_choice_that_is_electable() -> None:
    chain = make()
    chain.block()
    guilty = chain.members[0] if chain.members[0].address in chain.holders() else chain.delegate(0)
    chain.prove(chain.equivocation(guilty, 1))
    to_voting(chain)
    second = chain.mate(guilty, 1)
    for voter in chain.group(guilty, 1):
        assert chain.ballot_code(voter, 1, 1, guilty, second) is ReasonCode.OK
    chain.to_phase(EpochPhase.RUNNING, 1)
    seat = next(seat for seat in chain.seats().ranking if seat.holder == second.address)
    assert len(seat.supporters) == 3
    assert guilty.address not in chain.holders()


def test_5_2_t_and_n_are_the_snapshots_everywhere() -> None:
    chain = make()
    rich = chain.members[0]
    chain.set_account(rich, credit=90_000)
    to_voting(chain)
    chain.set_account(rich, credit=10_000)
    chain.vote((rich, rich))
    chain.to_phase(EpochPhase.RUNNING, 1)
    seat = next(seat for seat in chain.seats().ranking if seat.holder == rich.address)
    assert (seat.votes, seat.credit) == (90_000, 90_000)


def test_5_2_weight_is_capped_by_twice_the_groups_lower_median() -> None:
    chain = make()
    for key in chain.members:
        chain.set_account(key, credit=35_000)
    rich = chain.members[0]
    chain.set_account(rich, credit=90_000)
    to_voting(chain)
    chain.vote((rich, rich))
    chain.to_phase(EpochPhase.RUNNING, 1)
    seat = next(seat for seat in chain.seats().ranking if seat.holder == rich.address)
    assert seat.votes == 70_000


# ------------------------------------------------------------------ 5.5 the default ballot


def test_5_5_the_default_is_fewest_faults_then_the_highest_t_then_the_hash() -> None:
    chain = make()
    chain.block()
    guilty = chain.delegate(0)
    rich = chain.members[1] if chain.members[1] is not guilty else chain.members[2]
    chain.set_account(rich, credit=60_000)
    chain.prove(chain.equivocation(guilty, 1))
    chain.set_account(guilty, credit=90_000)
    to_voting(chain)
    seed = chain.state.epoch.grouping(1).seed
    for voter in chain.members:
        choices = default_choices(chain.state, 1, voter.address)
        group = [key.address for key in chain.group(voter, 1)]
        snapshot_credit = {
            member.address: member.credit
            for members in chain.state.epoch.grouping(1).groups
            for member in members
        }
        expected = sorted(
            group,
            key=lambda a: (a == guilty.address, -snapshot_credit[a], member_hash(seed, a)),
        )
        assert list(choices) == expected[:3]


def test_5_5_honest_nodes_of_a_group_agree() -> None:
    chain = to_voting(make())
    voter = chain.members[0]
    choices = [default_choices(chain.state, 1, key.address) for key in chain.group(voter, 1)]
    assert choices[0] == choices[1] == choices[2]


def test_5_5_after_a_third_of_the_voting_time_an_unseen_ballot_is_submitted_to_the_delegates() -> None:
    chain = to_voting(make())
    voter = chain.members[0].address
    parameters = chain.parameters
    duty = ballot_due(chain.state, parameters, voter)
    assert duty is not None
    assert (duty.epoch, duty.sequence, duty.overdue) == (1, 1, False)
    chain.block(after_ms=1_000)
    chain.block(after_ms=parameters.voting_ms // 3 - 1_000)
    assert chain.elapsed_ms == parameters.voting_ms // 3
    chain.block(after_ms=1)
    duty = ballot_due(chain.state, parameters, voter)
    assert duty is not None
    assert duty.overdue


def test_5_5_a_ballot_on_the_ledger_ends_the_duty_and_outside_voting_there_is_none() -> None:
    chain = make()
    voter = chain.members[0]
    assert ballot_due(chain.state, chain.parameters, voter.address) is None
    to_voting(chain)
    assert ballot_due(chain.state, chain.parameters, Key(77).address) is None
    chain.vote((voter, voter))
    assert ballot_due(chain.state, chain.parameters, voter.address) is None
    leaver = next(key for key in chain.members if key.address not in chain.holders() and key is not voter)
    assert ballot_due(chain.state, chain.parameters, leaver.address) is not None
    chain.receipt(leaver, Leave())
    assert ballot_due(chain.state, chain.parameters, leaver.address) is None

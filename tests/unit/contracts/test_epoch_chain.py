"""contracts.chain and the epoch's bookkeeping: what is kept, what is forgotten, and that a restart changes nothing."""

import random

import msgspec
import pytest

from consensus.block import Block
from consensus.errors import InvariantViolation
from consensus.parameters import DEMO, resolved
from consensus.types import ZERO_ADDRESS
from contracts.chain import Chain, ends_phase, first_chain, next_chain_ms
from contracts.engine import apply_block
from contracts.epoch_state import seat_set_at
from contracts.faults import FAULT_EPOCHS, fault_count
from contracts.receipts import CreditReason, EpochPhase, ReasonCode
from contracts.transaction import Heartbeat, Leave, decode_transaction
from tests.support.chain import VERIFIER
from tests.support.epochs import EpochChain

RULES = resolved(DEMO, 8)


def record(phase: EpochPhase, since_ms: int = 1_000, blocks: int = 0) -> Chain:
    start = first_chain(bytes(32), 5_000, ZERO_ADDRESS)
    return msgspec.structs.replace(start, phase=phase, phase_since_chain_ms=since_ms, phase_blocks=blocks)


@pytest.mark.parametrize(
    ("phase", "duration_ms"),
    [
        (EpochPhase.RUNNING, RULES.run_ms),
        (EpochPhase.PLANNING, RULES.planning_ms),
        (EpochPhase.VOTING, RULES.voting_ms),
    ],
)
def test_a_phase_ends_at_its_duration_to_the_millisecond(phase: EpochPhase, duration_ms: int) -> None:
    chain = record(phase, blocks=1)
    assert not ends_phase(chain, 1_000 + duration_ms - 1, RULES)
    assert ends_phase(chain, 1_000 + duration_ms, RULES)


def test_voting_never_ends_with_its_first_block_and_closing_always_does() -> None:
    assert not ends_phase(record(EpochPhase.VOTING), 10**9, RULES)
    assert ends_phase(record(EpochPhase.CLOSING), 1_000, RULES)


def test_chain_time_follows_block_time_up_to_its_step() -> None:
    chain = record(EpochPhase.RUNNING)
    assert next_chain_ms(chain, 5_001, RULES) == 1
    assert next_chain_ms(chain, 5_000 + 10**7, RULES) == 2 * RULES.empty_block_interval_ms


def test_state_grows_by_no_epoch_that_is_over() -> None:
    chain = EpochChain(members=8, groups=4)
    sizes = []
    for epoch in range(1, 5):
        chain.to_phase(EpochPhase.VOTING)
        target = chain.record.epoch + 1
        chain.vote(*((key, chain.group(key, target)[0]) for key in chain.members))
        chain.to_phase(EpochPhase.RUNNING, epoch)
        tables = chain.state.epoch
        sizes.append((len(tables.seat_sets), len(tables.snapshots), len(tables.groups), len(tables.ballots)))
    assert sizes == [(2, 1, 1, 8)] * 4


def test_evidence_and_sets_are_kept_for_two_epochs() -> None:
    chain = EpochChain(members=8, groups=4)
    chain.block()
    assert chain.prove(chain.equivocation(chain.delegate(1))).code is ReasonCode.OK
    chain.to_phase(EpochPhase.RUNNING, 1)
    assert len(chain.state.epoch.proven) == 1
    assert seat_set_at(chain.state, 1).epoch == 0
    chain.to_phase(EpochPhase.RUNNING, 2)
    assert len(chain.state.epoch.proven) == 0
    with pytest.raises(InvariantViolation):
        seat_set_at(chain.state, 1)


def test_faults_are_counted_over_ten_epochs_and_then_forgotten() -> None:
    chain = EpochChain(members=8, groups=4)
    chain.block()
    key = chain.delegate(0)
    chain.block(view=1)
    for epoch in range(1, FAULT_EPOCHS):
        chain.to_phase(EpochPhase.RUNNING, epoch)
    assert fault_count(chain.state, key.address, FAULT_EPOCHS - 1) == 1
    assert fault_count(chain.state, key.address, FAULT_EPOCHS) == 0
    chain.to_phase(EpochPhase.RUNNING, FAULT_EPOCHS)
    assert chain.conduct(key).faults == ()


def test_conduct_with_nothing_to_tell_leaves_the_state() -> None:
    chain = EpochChain(members=8, groups=4)
    chain.to_phase(EpochPhase.VOTING)
    chain.vote(*((key, chain.group(key, 1)[0]) for key in chain.members))
    chain.to_phase(EpochPhase.RUNNING, 1)
    chain.block(view=1)
    assert len(chain.state.epoch.conduct) == 2
    chain.to_phase(EpochPhase.RUNNING, 2)
    assert len(chain.state.epoch.conduct) == 1


def test_a_block_of_another_height_epoch_or_phase_stops_the_node() -> None:
    chain = EpochChain(members=8, groups=4)
    block = chain.make_block()
    for changed in ({"height": 2}, {"epoch": 1}):
        wrong = msgspec.structs.replace(block, header=msgspec.structs.replace(block.header, **changed))
        with pytest.raises(InvariantViolation):
            _apply(EpochChain(members=8, groups=4), wrong)


def _apply(chain: EpochChain, block: Block) -> None:
    apply_block(chain.state, block, (), genesis=chain.genesis, chain_id=chain.chain_id, verifier=VERIFIER)


def _random_block(chain: EpochChain, draw: random.Random) -> None:
    """One block with absences, failed views, ballots, heartbeats, evidence and leavers, as luck will have it."""
    transactions = []
    if chain.record.phase is EpochPhase.VOTING and draw.random() < 0.7:
        epoch = chain.record.epoch + 1
        grouped = [key for key in chain.members if key.address in chain.state.epoch.grouping(epoch).group_of]
        voters = draw.sample(grouped, 3)
        ballots = [
            chain.ballot(key, epoch, draw.randrange(9), *draw.sample(chain.group(key, epoch), 2))
            for key in voters
        ]
        transactions.append(chain.ballots(*ballots))
    if draw.random() < 0.1:
        transactions.append(
            chain.transaction(draw.choice(chain.members), Heartbeat(chain.record.epoch, None))
        )
    if chain.height and draw.random() < 0.04:
        height = draw.randint(max(1, chain.height - 60), chain.height)
        if height >= min(s.from_height for _, s in chain.state.epoch.seat_sets.items()):
            guilty = chain.keys[draw.choice(chain.holders(height))]
            transactions.append(chain.transaction(chain.members[0], chain.equivocation(guilty, height)))
    if draw.random() < 0.004:
        transactions.append(chain.transaction(draw.choice(chain.members), Leave()))
    absent = draw.sample(chain.holders(), draw.choice((0, 0, 1)))
    chain.block(
        *transactions,
        after_ms=draw.choice((100, 500, 1_500)),
        view=draw.choice((0,) * 9 + (1,)),
        absent=absent,
    )


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_seats_stay_whole_scores_add_up_and_a_restart_changes_nothing(seed: int) -> None:
    draw = random.Random(seed)
    chain = EpochChain(members=14, groups=4, missed_limit=4)
    score = {key.address: 50_000 for key in chain.members}
    replaced: dict[int, int] = {}
    while chain.record.epoch < 6:
        _random_block(chain, draw)
        for step in (1, 2):
            seats = seat_set_at(chain.state, chain.height + step)
            grouping = chain.state.epoch.grouping(seats.epoch)
            assert sorted(seat.group for seat in seats.ranking) == [0, 1, 2, 3]
            for seat in seats.ranking:
                assert grouping.group_of[seat.holder] == seat.group
                assert all(grouping.group_of[voter] == seat.group for voter in seat.supporters)
            replaced[seats.epoch] = max(replaced.get(seats.epoch, 0), seats.replacements)
        for address, _, delta in chain.credit_changes(chain.outcomes[-1]):
            score[address] += delta
        if draw.random() < 0.05:
            root = chain.state.tree.root
            chain.reload()
            assert chain.state.tree.root == root
            assert root == chain.outcomes[-1].state_root
    assert score == {key.address: chain.credit(key) for key in chain.members}
    assert max(replaced.values()) == 1
    reasons = dict.fromkeys(reason for _, reason, _ in chain.credit_changes())
    assert CreditReason.WRONG_BLOCK in reasons
    assert CreditReason.NO_BLOCK in reasons


def test_a_replay_from_genesis_gives_the_same_roots() -> None:
    draw = random.Random(9)
    chain = EpochChain(members=10, groups=4, missed_limit=4)
    while chain.record.epoch < 2:
        _random_block(chain, draw)
    again = EpochChain(members=10, groups=4, missed_limit=4)
    for block, outcome in zip(chain.blocks, chain.outcomes, strict=True):
        decoded = [decode_transaction(raw) for raw in block.transactions]
        replayed = apply_block(
            again.state, block, decoded, genesis=again.genesis, chain_id=again.chain_id, verifier=VERIFIER
        )
        assert (replayed.state_root, replayed.receipts_root) == (outcome.state_root, outcome.receipts_root)

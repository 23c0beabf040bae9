"""PROTOCOL 6.7, 6.9: progress, back-off, complaints, empty blocks and batching."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest

from consensus.complaint import (
    MAX_COMPLAINED,
    Complaints,
    PoolEntry,
    ProposedBlock,
    overlooked,
    proposal_wait_ms,
)
from consensus.effects import BuildBatch, CancelTimer, SetTimer
from consensus.inputs import Overlooked, PoolChanged, Timer, TimerFired
from consensus.messages import Prepare, Proposal, ViewChange
from consensus.parameters import DEMO, Parameters
from consensus.timers import Backoff
from tests.unit.consensus.bench import Bench, Cluster
from tests.unit.consensus.support import (
    commit,
    events,
    make_proposal,
    of_kind,
    prepare,
    sent_of,
    transaction,
    view_change,
)

PRIMARY = bytes(20)
OTHER = bytes([1]) * 20


# ---------------------------------------------------------------------- the progress timer


def test_6_7_an_idle_chain_times_nobody() -> None:
    """6.7: progress runs while something waits, and only then."""
    assert set(Bench().node.timers) == {"empty"}


def test_6_7_a_proposal_that_waits_is_timed() -> None:
    """6.7: while a proposal waits."""
    bench = Bench()
    bench.node.answers = False
    bench.node.receive(make_proposal(bench.context, bench.signers[0], transaction(1)).proposal)
    assert bench.node.delays["view"] == 2_000


def test_6_7_a_pending_transaction_that_waits_is_timed_until_it_is_gone() -> None:
    """6.7: while a relayed pending transaction waits; when none does any more, nothing is timed."""
    bench = Bench()
    bench.node.submit(transaction(1))
    assert bench.node.delays["view"] == 2_000
    assert CancelTimer("view") in bench.node.step(PoolChanged(bench.node.at, 0, None))


def test_6_7_more_waiting_does_not_prolong_the_timer() -> None:
    """6.7: it is reset on commit, not by what arrives."""
    bench = Bench()
    bench.node.submit(transaction(1))
    first = bench.node.timers["view"]
    bench.node.submit(transaction(2))
    assert bench.node.timers["view"] == first


def test_6_7_an_overdue_empty_block_is_timed() -> None:
    """6.7: while an overdue empty block waits."""
    bench = Bench()
    bench.node.fire("empty")
    assert "view" in bench.node.timers


def test_6_7_the_timer_is_reset_on_commit() -> None:
    """6.7: the next height has a timer of its own, and the old one fires into nothing."""
    bench = Bench()
    made = bench.propose(transaction(1))
    bench.node.receive(made.proposal)
    old = bench.node.timers["view"]
    bench.commits(made, [0, 2, 3])
    bench.node.submit(transaction(2))
    assert bench.node.timers["view"].height == 2
    assert not sent_of(bench.node.step(TimerFired(bench.node.at, old)), ViewChange)


def test_6_7_a_timer_of_another_generation_is_ignored() -> None:
    """ARCHITECTURE: a timeout is a value with identity."""
    bench = Bench()
    bench.node.submit(transaction(1))
    running = bench.node.timers["view"]
    stale = msgspec.structs.replace(running, generation=running.generation + 1)
    for timer in (stale, Timer("view", 1, 3, running.generation), Timer("nonsense", 1, 0, 1)):
        assert not sent_of(bench.node.step(TimerFired(bench.node.at, timer)), ViewChange)
    assert sent_of(bench.node.step(TimerFired(bench.node.at, running)), ViewChange)


def test_6_7_a_timeout_makes_it_sign_a_view_change_for_the_next_view() -> None:
    """6.7: view 0's timer leads to view 1."""
    bench = Bench()
    bench.node.submit(transaction(1))
    assert [message.view for message in sent_of(bench.node.fire("view"), ViewChange)] == [1]


def test_6_7_signing_a_view_change_ends_the_view_0_timer() -> None:
    """6.7: by joining as by timing out."""
    bench = Bench(7, rank=3)
    bench.node.submit(transaction(1))
    effects = bench.view_changes(8, [0, 2, 4])
    assert bench.replica.view == 8
    assert CancelTimer("view") in effects
    assert "view" not in bench.replica._core.timers


def test_6_7_view_w_is_timed_from_q_view_changes_of_views_at_least_w_on() -> None:
    """6.7: held from q delegates, itself included; before that no timeout leads beyond w."""
    bench = Bench(rank=3)
    bench.node.submit(transaction(1))
    bench.node.fire("view")
    assert "view" not in bench.node.timers
    bench.node.receive(view_change(bench.signers[0], 1, 1))
    assert "view" not in bench.node.timers
    effects = bench.node.receive(view_change(bench.signers[1], 1, 6))
    assert of_kind(effects, SetTimer)[0].timer.view == 1
    assert bench.node.delays["view"] == 3_000
    assert [message.view for message in sent_of(bench.node.fire("view"), ViewChange)] == [2]


def test_6_7_a_delegate_moved_by_a_new_view_is_timed_too() -> None:
    """6.7: the new-view itself shows the q view-changes."""
    bench = Bench(rank=3)
    bench.enter(1, [0, 1, 2])
    assert bench.node.delays["view"] == 3_000


def test_6_7_the_timeout_grows_by_3_halves_per_view_up_to_the_cap() -> None:
    """6.7: base view_timeout_ms, times 3/2 per view, capped at view_timeout_max_ms."""
    backoff = Backoff(2_000, 60_000)
    assert [backoff.timeout_ms(view) for view in range(10)] == [
        2_000,
        3_000,
        4_500,
        6_750,
        10_125,
        15_187,
        22_780,
        34_170,
        51_255,
        60_000,
    ]
    assert backoff.timeout_ms(2**62) == 60_000


def test_6_7_a_commit_lowers_the_timeout_by_one_step_not_to_the_base() -> None:
    """6.7: after a height that took views 0..3 the next begins two steps up, and so on down."""
    backoff = Backoff(2_000, 60_000)
    backoff.committed(3)
    assert backoff.timeout_ms(0) == 4_500
    backoff.committed(0)
    assert backoff.timeout_ms(0) == 3_000
    backoff.committed(2**62)
    assert backoff.timeout_ms(0) == 51_255
    for _ in range(20):
        backoff.committed(0)
    assert backoff.timeout_ms(0) == 2_000


def test_6_7_the_smallest_base_still_grows() -> None:
    """6.7: 1 * 3 // 2 is 1: the step is never zero."""
    assert Backoff(1, 4).timeout_ms(9) == 4


def test_6_7_a_view_above_0_that_fails_is_timed_longer_in_a_cluster() -> None:
    """6.7: the timer of view 1 is 3/2 of the base in every replica."""
    cluster = Cluster(7)
    cluster.down |= {0, 1}
    cluster.submit(transaction(1))
    cluster.deliver()
    cluster.fire("view")
    cluster.deliver()
    assert {node.delays["view"] for node in cluster.nodes[2:]} == {3_000}


# ---------------------------------------------------------------------- empty blocks and batches


def test_6_9_with_nothing_to_decide_an_empty_block_comes_after_the_interval() -> None:
    """6.9: empty_block_interval_ms after the parent's time."""
    bench = Bench(rank=0)
    assert bench.node.delays["empty"] == 4_999
    proposal = sent_of(bench.node.fire("empty"), Proposal)[0]
    assert proposal.references == ()
    assert proposal.header.time_ms == bench.context.parent_time_ms + 5_000


def test_6_9_time_passes_on_an_idle_chain() -> None:
    """6.9: an idle cluster decides empty blocks, one an interval."""
    cluster = Cluster(4)
    for _ in range(3):
        delay = cluster.nodes[0].delays["empty"]
        for node in cluster.nodes:
            node.pass_ms(delay)
            node.step(TimerFired(node.at, node.timers["empty"]))
        cluster.deliver()
    times = [item.block.header.time_ms for item in cluster.nodes[1].decided]
    assert len(times) == 3
    assert all(later - earlier == 5_000 for earlier, later in pairwise(times))


def test_6_9_the_first_transaction_wakes_an_idle_chain_at_once() -> None:
    """6.9: no timer stands between the first transaction and the batch."""
    bench = Bench(rank=0)
    effects = bench.node.submit(transaction(1))
    assert len(of_kind(effects, BuildBatch)) == 1
    assert sent_of(effects, Proposal)


def test_6_9_a_busy_primary_lets_a_batch_gather_for_batch_wait_ms() -> None:
    """11: batch wait at most 20 ms, none when idle."""
    bench = Bench(rank=0)
    bench.node.submit(transaction(1))
    bench.node.submit(transaction(2))
    digest = bench.node.sent(Proposal)[0].vote.digest
    for signer in bench.signers[1:3]:
        bench.node.receive(prepare(signer, 1, 0, digest))
        bench.node.receive(commit(signer, 1, 0, digest))
    assert bench.replica.height == 2
    assert len(bench.node.sent(Proposal)) == 1
    assert bench.node.delays["batch"] == 20
    assert len(sent_of(bench.node.fire("batch"), Proposal)) == 1


def test_6_9_a_full_batch_does_not_wait() -> None:
    """11: a block's worth of transactions goes at once."""
    parameters = Parameters(max_block_transactions=2)
    bench = Bench(rank=0, parameters=parameters)
    bench.replica._core.height.busy = True
    assert not sent_of(bench.node.submit(transaction(1)), Proposal)
    assert sent_of(bench.node.submit(transaction(2)), Proposal)


def test_6_9_an_old_transaction_does_not_wait_again() -> None:
    """11: at most batch_wait_ms after its arrival."""
    bench = Bench(rank=0)
    bench.replica._core.height.busy = True
    bench.node.pool.update({bytes(32): transaction(1)})
    old = PoolChanged(bench.node.at, 1, bench.node.at.monotonic_ms - 20)
    assert of_kind(bench.node.step(old), BuildBatch)


def test_6_9_an_empty_pool_makes_no_early_empty_block() -> None:
    """6.8: a block without transactions comes at least empty_block_interval_ms after its parent."""
    bench = Bench(rank=0)
    effects = bench.node.step(PoolChanged(bench.node.at, 1, 0))
    assert len(of_kind(effects, BuildBatch)) == 1
    assert not sent_of(effects, Proposal)


def test_6_9_a_new_primary_without_transactions_proposes_within_the_accepted_drift() -> None:
    """6.7, 3.2a: the others' timers run in view 1; an honest primary is not charged for an empty pool."""
    bench = Bench(rank=1)
    bench.view_changes(1, [0, 2])
    proposal = bench.node.sent(Proposal)[0]
    assert proposal.references == ()
    assert proposal.header.time_ms == bench.context.parent_time_ms + 5_000
    follower = Bench(rank=3)
    follower.enter(1, [0, 1, 2])
    assert sent_of(follower.node.receive(proposal), Prepare)


def test_6_9_beyond_the_drift_it_waits_for_the_empty_blocks_time() -> None:
    """6.8: never so far ahead that the others would withhold their prepares."""
    parameters = Parameters(max_drift_ms=1_000, empty_block_interval_ms=5_000)
    bench = Bench(rank=1, parameters=parameters)
    bench.view_changes(1, [0, 2])
    assert not bench.node.sent(Proposal)
    assert sent_of(bench.node.fire("empty"), Proposal)


def test_6_9_a_clock_far_behind_does_not_delay_empty_blocks() -> None:
    """6.9: the wait is at most one interval, whatever the clock says."""
    bench = Bench(rank=0)
    context = msgspec.structs.replace(bench.context, parent_time_ms=bench.node.at.wall_ms + 3_600_000)
    bench.node.boot(context)
    assert bench.node.delays["empty"] == 5_000


# ---------------------------------------------------------------------- what a complaint is about


def entry(number: int = 1, **changes: Any) -> PoolEntry:
    """A transaction that arrived at 0 and is valid at block time 1 000."""
    base = PoolEntry(bytes([number]) * 32, 0, True, 500, 2_000, 300, False)
    return msgspec.structs.replace(base, **changes)


ROOMY = ProposedBlock(time_ms=1_000, transaction_count=10, size_bytes=4_000, newest_received_ms=None)
FULL = ProposedBlock(time_ms=1_000, transaction_count=4_096, size_bytes=900_000, newest_received_ms=100)


def test_6_7_a_transaction_left_out_of_a_block_with_room_is_overlooked() -> None:
    """6.7: held for request_timeout_ms and left out of a block with room."""
    found = overlooked([entry()], ROOMY, 4_000, Parameters())
    assert found == (Overlooked(bytes([1]) * 32, 4_000),)


@pytest.mark.parametrize(
    ("changes", "now_ms"),
    [
        ({}, 3_999),
        ({"relayed_to_all": False}, 9_000),
        ({"valid_from_ms": 1_001}, 9_000),
        ({"valid_until_ms": 999}, 9_000),
        ({"received_ms": 6_000}, 9_000),
    ],
)
def test_6_7_only_relayed_includable_and_long_held_transactions_count(
    changes: dict[str, Any], now_ms: int
) -> None:
    """6.7: relayed to all delegates, includable at the header's time, held for request_timeout_ms."""
    assert overlooked([entry(**changes)], ROOMY, now_ms, Parameters()) == ()


def test_6_7_a_full_block_may_leave_out() -> None:
    """6.7: by count or by bytes."""
    by_bytes = msgspec.structs.replace(ROOMY, size_bytes=1_048_576 - 299)
    assert overlooked([entry()], FULL, 9_000, Parameters()) == ()
    assert overlooked([entry()], by_bytes, 9_000, Parameters()) == ()
    assert overlooked([entry(size_bytes=299)], by_bytes, 9_000, Parameters()) != ()


@pytest.mark.parametrize(("newest_ms", "found"), [(3_999, False), (4_000, True)])
def test_6_7_a_full_block_with_a_much_younger_transaction_may_not(newest_ms: int, found: bool) -> None:
    """6.7: of a full one holding a transaction received request_timeout_ms after it."""
    block = msgspec.structs.replace(FULL, newest_received_ms=newest_ms)
    assert bool(overlooked([entry()], block, 9_000, Parameters())) == found


def test_6_7_for_heartbeats_ballots_and_evidence_every_block_has_room() -> None:
    """6.7: they cannot be crowded out."""
    assert overlooked([entry(always_room=True)], FULL, 9_000, Parameters())


def test_6_7_the_judgement_is_bounded() -> None:
    """Everything has a limit: a block's worth of complaints is enough."""
    entries = [entry(1, received_ms=-number) for number in range(MAX_COMPLAINED + 9)]
    assert len(overlooked(entries, ROOMY, 9_000, Parameters())) == MAX_COMPLAINED


@pytest.mark.parametrize(("entered", "held", "now", "wait"), [(5, 9, 20, 11), (9, 5, 20, 11), (30, 5, 20, 0)])
def test_6_7_latency_counts_from_the_later_of_entering_and_holding(
    entered: int, held: int, now: int, wait: int
) -> None:
    """6.7: from the later of entering the height and holding an includable transaction to holding the proposal."""
    assert proposal_wait_ms(entered, held, now) == wait


# ---------------------------------------------------------------------- what follows from one

LEFT_OUT = (Overlooked(bytes([7]) * 32, 5_000),)


def complaints(now_ms: int = 0) -> Complaints:
    """Under `PRIMARY` since ``now_ms``, default parameters."""
    made = Complaints(Parameters())
    made.enter(PRIMARY, 0, now_ms)
    return made


def test_6_7_each_new_primary_first_gets_one_view_timeout() -> None:
    """6.7: what it leaves out before that is no complaint."""
    book = complaints()
    assert not book.judge(PRIMARY, LEFT_OUT, None, 1_999)
    assert not book.active(PRIMARY, 1_999)
    assert book.judge(PRIMARY, LEFT_OUT, None, 2_000)
    assert book.active(PRIMARY, 2_000)


def test_6_7_a_complaint_ends_when_the_transaction_is_proposed() -> None:
    """6.7: until the transaction is proposed."""
    book = complaints()
    book.judge(PRIMARY, LEFT_OUT, None, 5_000)
    book.judge(PRIMARY, (), None, 5_100)
    assert not book.active(PRIMARY, 5_100)


def test_6_7_a_complaint_ends_when_another_is_primary() -> None:
    """6.7: or another is primary, also if the old one comes back."""
    book = complaints()
    book.judge(PRIMARY, LEFT_OUT, None, 5_000)
    book.enter(OTHER, 0, 5_100)
    assert not book.active(OTHER, 5_100)
    book.enter(PRIMARY, 0, 5_200)
    assert not book.active(PRIMARY, 5_200)


def test_6_7_a_complaint_without_effect_is_dropped_for_good() -> None:
    """6.7: after missed_ms // 2; the same transaction is no complaint against this primary again."""
    book = complaints()
    book.judge(PRIMARY, LEFT_OUT, None, 5_000)
    assert book.active(PRIMARY, 19_999)
    assert not book.active(PRIMARY, 20_000)
    assert not book.judge(PRIMARY, LEFT_OUT, None, 20_100)
    assert book.judge(PRIMARY, (Overlooked(bytes([8]) * 32, 5_000),), None, 20_200)


def test_6_7_only_the_head_primary_is_judged() -> None:
    """6.7: a proposal of another view's primary says nothing about the one at the head."""
    book = complaints()
    assert not book.judge(OTHER, LEFT_OUT, 9_000, 9_000)
    assert not book.active(PRIMARY, 9_000)


@pytest.mark.parametrize(("wait_ms", "slow"), [(1_000, False), (1_001, True)])
def test_6_7_a_median_above_half_the_view_timeout_is_a_complaint(wait_ms: int, slow: bool) -> None:
    """6.7: a median above view_timeout_ms / 2 over the last 20 non-empty blocks of this primary."""
    book = complaints()
    raised = [book.judge(PRIMARY, (), wait_ms, 9_000) for _ in range(20)]
    assert not any(raised[:19])
    assert raised[19] == slow


def test_6_7_empty_blocks_are_no_samples_and_half_the_blocks_may_be_slow() -> None:
    """6.7: non-empty blocks only; the median, not the mean."""
    book = complaints()
    for _ in range(30):
        assert not book.judge(PRIMARY, (), None, 9_000)
    for wait_ms in [60_000] * 9 + [0] * 11:
        assert not book.judge(PRIMARY, (), wait_ms, 9_000)


def test_6_7_slowness_is_complained_about_once_per_primary_and_epoch() -> None:
    """6.7: once per primary and epoch."""
    book = complaints()
    for _ in range(20):
        book.judge(PRIMARY, (), 5_000, 9_000)
    assert book.active(PRIMARY, 9_000)
    book.enter(OTHER, 0, 9_500)
    book.enter(PRIMARY, 0, 10_000)
    for _ in range(40):
        assert not book.judge(PRIMARY, (), 5_000, 19_000)
    book.enter(PRIMARY, 1, 20_000)
    assert book.judge(PRIMARY, (), 5_000, 29_000)


def _complain(bench: Bench) -> None:
    """Height 1 is decided; its proposal overlooked a transaction, long after the primary's first view timeout."""
    bench.node.pass_ms(3_000)
    bench.node.overlooked = LEFT_OUT
    made = bench.propose(transaction(1), time_ms=bench.node.at.wall_ms)
    bench.node.receive(made.proposal)
    assert bench.node.sent(Prepare)
    assert not bench.node.sent(ViewChange)
    bench.commits(made, [0, 2, 3])


def test_6_7_from_a_complaint_on_a_view_change_is_signed_at_each_height_entered() -> None:
    """6.7: the block itself is valid and prepared; the next height is entered with a view-change."""
    bench = Bench()
    _complain(bench)
    assert [(m.height, m.view) for m in bench.node.sent(ViewChange)] == [(2, 1)]
    assert "complaint" in events(bench.node.effects)


def test_6_7_who_complains_still_holds_the_block_and_sees_what_it_contains() -> None:
    """6.7: in the primary's view it gathers and checks the proposal, signs nothing, and so learns that it may stop."""
    bench = Bench()
    _complain(bench)
    bench.node.overlooked = ()
    context = bench.replica.context
    made = make_proposal(context, bench.signers[0], transaction(2))
    bench.node.pool.update(zip(made.proposal.references, made.block.transactions, strict=True))
    bench.node.receive(made.proposal)
    assert [vote.height for vote in bench.node.sent(Prepare)] == [1]
    assert bench.replica.undecided_block(made.digest) == made.block
    assert not bench.replica._core.complaints.active(context.head, bench.node.at.monotonic_ms)


def test_6_7_f_plus_1_complaints_replace_the_primary() -> None:
    """6.7, **[S]** latency and censorship: the backup takes over and stays."""
    cluster = Cluster(4, msgspec.structs.replace(DEMO, groups=4))
    for node in cluster.nodes[1:3]:
        node.overlooked = LEFT_OUT
    cluster.pass_ms(600)
    cluster.submit(transaction(1))
    cluster.deliver()
    cluster.submit(transaction(2))
    cluster.deliver()
    for node in cluster.nodes[1:]:
        assert node.decided[1].block.header.view == 1
        assert node.replica.context.head == cluster.delegates.ranking[1].address


def test_6_7_one_complaint_alone_changes_nothing_for_the_others() -> None:
    """6.7: f liars cannot depose a primary, and the chain goes on without their prepares."""
    cluster = Cluster(4, DEMO)
    cluster.nodes[1].overlooked = LEFT_OUT
    cluster.pass_ms(600)
    for number in range(3):
        cluster.submit(transaction(number))
        cluster.deliver()
    assert [item.block.header.view for item in cluster.nodes[2].decided] == [0, 0, 0]
    assert len(cluster.nodes[1].decided) == 3
